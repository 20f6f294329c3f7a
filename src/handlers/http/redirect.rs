//! Which redirects are followed.

use std::net::{IpAddr, SocketAddr};

use reqwest::{
    Url,
    redirect::{Action, Attempt},
};

use super::answer;

/// Why a redirect is not followed, or its answer is not taken.
pub(super) const INSIDE: &str = "redirected to this machine, or to a link-local address";

pub(super) fn follow(attempt: Attempt, most: usize) -> Action {
    let (next, previous) = (attempt.url(), attempt.previous());
    let Some(last) = previous.last() else { return attempt.stop() };
    if last.scheme() == "https" && next.scheme() != "https" {
        attempt.error("redirected from https to http")
    } else if is_inside(next) && !previous.first().is_some_and(is_inside) {
        attempt.error(INSIDE)
    } else if answer::is_directory(last, next) {
        attempt.stop()
    } else if previous.len() > most {
        attempt.error(format!("more than {most} redirects"))
    } else {
        attempt.follow()
    }
}

/// Whether the answer comes from an address to which no redirect may lead: the name of its host looked like any other.
/// `peer` is the sender of the answer. A proxy has another port than the URL, and decides itself where it leads.
pub(super) fn led_inside(asked: &Url, answered: &Url, peer: Option<SocketAddr>) -> bool {
    let Some(peer) = peer.filter(|peer| Some(peer.port()) == answered.port_or_known_default()) else { return false };
    asked.host() != answered.host() && is_inside_ip(peer.ip()) && !is_inside(asked)
}

/// Whether a host is this machine, or has a link-local address. An upstream elsewhere has no business there: virtual
/// machines of clouds get their credentials from such an address.
pub(super) fn is_inside(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("");
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = bare.strip_suffix('.').unwrap_or(bare);
    bare.parse().is_ok_and(is_inside_ip) || name == "localhost" || name.ends_with(".localhost")
}

fn is_inside_ip(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_lead_inside() {
        for (url, expected) in [
            ("http://169.254.169.254/latest/meta-data/", true),
            ("http://0xa9.254.43518/latest/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://[fe80::1]:8080/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]/", true),
            ("http://0/", true),
            ("http://[::]/", true),
            ("http://LocalHost:8080/", true),
            ("http://localhost.:8080/", true),
            ("http://u:p@x.localhost/", true),
            ("http://mirror/", false),
            ("http://10.0.0.1/", false),
            ("http://169.253.1.1/", false),
            ("http://[2001:db8::1]/", false),
            ("http://localhost.example/", false),
            ("http://localhost.example./", false),
        ] {
            assert_eq!(is_inside(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_name_does_not_lead_inside() {
        let led = |asked: &str, answered: &str, peer: &str| {
            led_inside(&asked.parse().unwrap(), &answered.parse().unwrap(), peer.parse().ok())
        };
        for peer in ["169.254.169.254:80", "127.0.1.1:80", "[::1]:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(led("http://mirror/x", "http://other/x", peer), "{peer}");
            assert!(!led("http://mirror/x", "http://mirror/y", peer), "the operator names this host");
            assert!(!led("http://localhost/x", "http://other/x", peer));
        }
        for peer in ["192.0.2.1:80", "127.0.0.1:3128", ""] {
            assert!(!led("http://mirror/x", "http://other/x", peer), "{peer}");
        }
        assert!(led("https://mirror/x", "https://other:8443/x", "127.0.0.1:8443"));
    }
}
