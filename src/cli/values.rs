//! The values of options: addresses, sizes, times, ranges.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

/// The longest time, which can be added to any other: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The port of RFC 1350.
const PORT: u16 = 69;

/// Addresses to listen on. A port alone means all addresses of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen(pub Vec<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(port) = alone(text) {
            let port = self::port(port)?;
            return Ok(Self(vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]));
        }
        let ip = unbracketed(text);
        let address = match ip.parse::<IpAddr>() {
            Ok(ip) => (ip, PORT).into(),
            Err(_) if is_scoped(ip) => on_link(ip, PORT)?,
            Err(_) => address(text, "192.0.2.1, 192.0.2.1:6969 or :6969")?,
        };
        match address.ip() {
            ip if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
                Err("no server answers from this address; use one of this machine, or :69 for all of them".into())
            }
            _ => Ok(Self(vec![address])),
        }
    }
}

/// The port of `:69`.
pub fn alone(text: &str) -> Option<&str> {
    text.strip_prefix(':').filter(|port| !port.contains(':'))
}

/// Whether this is a link-local address with the name or the number of its interface, as `fe80::1%eth0`.
fn is_scoped(text: &str) -> bool {
    text.split_once('%').is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok())
}

/// The address of such a text.
fn on_link(text: &str, port: u16) -> Result<SocketAddr, String> {
    let (_, interface) = text.split_once('%').unwrap_or_default();
    // The system knows the numbers of its interfaces. An address needs no resolver.
    let found = (text, port).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| format!("there is no interface {interface}; `ip link` lists them"))
}

/// An address with a port.
pub fn address(text: &str, example: &str) -> Result<SocketAddr, String> {
    if let Some((ip, last)) = text.strip_prefix('[').and_then(|text| text.split_once("]:")) {
        if is_scoped(ip) {
            return on_link(ip, port(last)?);
        }
    }
    if let Some((_, last)) = text.rsplit_once(':').filter(|(ip, _)| unbracketed(ip).parse::<IpAddr>().is_ok()) {
        port(last)?;
    }
    let all = ["*:", ":::"].iter().find_map(|all| text.strip_prefix(all)).filter(|port| port.parse::<u16>().is_ok());
    let colon = match text.parse::<u16>() {
        Ok(_) => format!("; a port alone is :{text}"),
        Err(_) if all.is_some() => format!("; all addresses are :{}", all.unwrap_or_default()),
        Err(_) if text.starts_with("localhost") => "; this machine alone is 127.0.0.1 or ::1".into(),
        // A word of letters and digits is neither an address nor a host name with a port.
        Err(_) if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()) => {
            "; a network interface is --interface".into()
        }
        Err(_) => String::new(),
    };
    text.parse().map_err(|_| format!("not an address, such as {example}{colon}"))
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "the port is not a number from 0 to 65535".into())
}

/// A server, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub host: String,
    pub port: u16,
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // An IPv6 address without a port has more than one colon and no brackets.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, self::port(port)?),
            _ => (text, PORT),
        };
        match unbracketed(host) {
            host if host.contains(['[', ']']) => {
                Err("an IPv6 address has both brackets, as in [2001:db8::1]:69".into())
            }
            "" => Err("the host is missing, as in 192.0.2.1:69".into()),
            _ if port == 0 => Err("no server has port 0".into()),
            host => Ok(Self { host: host.into(), port }),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A header's name and value, in the form of `curl -H`.
#[cfg(feature = "http")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header(pub String, pub String);

#[cfg(feature = "http")]
impl FromStr for Header {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').ok_or("not a header, such as 'Authorization: Bearer 1234'")?;
        Ok(Self(name.trim().into(), value.trim().into()))
    }
}

/// A number of bytes, such as `64M`, with units of 1024 as in `dd` and most servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = parse_size::Config::new().with_binary().parse_size(text);
        size.map(Self).map_err(|_| "not a size, such as 512K, 64M or 2G, or a number of bytes")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit =
            [(30, "G"), (20, "M"), (10, "K")].into_iter().find(|(bits, _)| self.0 != 0 && self.0 % (1 << bits) == 0);
        let (bits, unit) = unit.unwrap_or((0, ""));
        write!(f, "{}{unit}", self.0 >> bits)
    }
}

/// A number in this range.
pub fn number<T: FromStr + PartialOrd + fmt::Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone
where
    RangeInclusive<T>: Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("not a number from {} to {}", range.start(), range.end()))
    }
}

/// Whether a flag is set by its variable. Containers set empty variables for flags that are off.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Ok(true),
        "false" | "no" | "off" | "0" | "f" | "n" | "" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// A time such as `500ms` or `1m 30s`, longer than 0. A number alone is in seconds, as in the RFCs and other servers.
pub fn duration(text: &str) -> Result<humantime::Duration, String> {
    match any_duration(text)? {
        none if none.is_zero() => Err("it must be longer than 0".into()),
        some => Ok(some),
    }
}

/// As [`duration`], or 0.
pub fn any_duration(text: &str) -> Result<humantime::Duration, String> {
    let is_number = text.ends_with(|last: char| last.is_ascii_digit());
    let text = if is_number { format!("{text}s") } else { text.to_owned() };
    match humantime::parse_duration(&text) {
        Ok(duration) if duration <= LONGEST => Ok(duration.into()),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err("longer than 100 years".into()),
        Err(_) => Err("not a time, such as 500ms, 5s or 1m".into()),
    }
}

/// A range of ports such as `50000-50099`, or one port alone.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.trim().parse(), high.trim().parse()) {
        (Ok(0), _) => Err("port 0 is not allowed"),
        (Ok(low), Ok(high)) if low <= high => Ok(low..=high),
        (Ok(_), Ok(_)) => Err("the first port is above the last"),
        _ => Err("not two ports from 1 to 65535, such as 50000-50099"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Vec<String> {
        text.parse::<Listen>().unwrap().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(listen("10.0.0.1"), ["10.0.0.1:69"]);
        assert_eq!(listen("10.0.0.1:6969"), ["10.0.0.1:6969"]);
        assert_eq!(listen("127.0.0.1:0"), ["127.0.0.1:0"]);
        assert_eq!(listen(":6969"), ["0.0.0.0:6969", "[::]:6969"]);
        assert_eq!(listen("::1"), ["[::1]:69"]);
        assert_eq!(listen("[::1]"), ["[::1]:69"]);
        assert_eq!(listen("[::1]:70"), ["[::1]:70"]);
        for bad in ["", ":", "6969", ":65536", "localhost:69", "10.0.0.1:", "10.0.0:69", "[::1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
        for on_link in ["fe80::1%1", "[fe80::1%1]", "[fe80::1%1]:69"] {
            assert_eq!(listen(on_link), ["[fe80::1%1]:69"], "{on_link}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(listen("[fe80::1%lo]:70"), listen("[fe80::1%1]:70"), "the first interface of each Linux");
        for bad in ["fe80::1%nowhere", "[fe80::1%nowhere]:69"] {
            assert!(bad.parse::<Listen>().unwrap_err().contains("no interface nowhere"), "{bad}");
        }
        assert!("[fe80::1%1]:x".parse::<Listen>().unwrap_err().contains("65535"));
        assert!("eth9".parse::<Listen>().unwrap_err().contains("--interface"));
    }

    #[test]
    fn servers() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 69),
            ("10.0.0.1:6969", "10.0.0.1", 6969),
            ("boot.example", "boot.example", 69),
            ("boot.example:70", "boot.example", 70),
            ("[::1]:70", "::1", 70),
            ("[::1]", "::1", 69),
            ("::1", "::1", 69),
            ("fe80::1%eth0", "fe80::1%eth0", 69),
        ] {
            assert_eq!(text.parse(), Ok(Remote { host: host.into(), port }), "{text}");
        }
        for bad in ["", ":69", "host:", "host:x", "host:65536", "[]:69", "[::1", "[::1:69", "::1]"] {
            assert!(bad.parse::<Remote>().is_err(), "{bad}");
        }
        assert_eq!("::1".parse::<Remote>().unwrap().to_string(), "[::1]:69");
    }

    #[cfg(feature = "http")]
    #[test]
    fn headers() {
        assert_eq!("X-A: b: c ".parse(), Ok(Header("X-A".into(), "b: c".into())));
        assert!("X-A".parse::<Header>().is_err());
    }

    #[test]
    fn sizes() {
        for (text, size, shown) in [
            ("0", 0, "0"),
            ("1500", 1500, "1500"),
            ("64M", 64 << 20, "64M"),
            ("2 GiB", 2 << 30, "2G"),
            ("1.5K", 1536, "1536"),
        ] {
            let read: Size = text.parse().unwrap();
            assert_eq!((read.0, read.to_string().as_str()), (size, shown));
        }
        for bad in ["", "-1", "99999999999G"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn switches() {
        for (text, on) in [("true", true), ("1", true), ("Yes", true), ("", false), ("0", false), ("OFF", false)] {
            assert_eq!(switch(text), Ok(on), "{text}");
        }
        // A word that an operator writes to forbid uploads must not allow them.
        for text in ["disabled", "never", "none", "maybe"] {
            assert!(switch(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let duration = |text| duration(text).map(|duration| Duration::from(duration).as_millis());
        assert_eq!(duration("5"), Ok(5000));
        assert_eq!(duration("0.5"), Ok(500));
        assert_eq!(duration("250ms"), Ok(250));
        assert_eq!(duration("1m 30s"), Ok(90_000));
        assert!(duration("100y").is_ok());
        for bad in ["", "0", "0s", "-1", "soon", "102y", "99999999999", "99999999999999999999"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for zero in ["0", "0ms"] {
            assert!(any_duration(zero).unwrap().is_zero(), "{zero}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("50000-50099"), Ok(50000..=50099));
        assert_eq!(port_range("50000"), Ok(50000..=50000));
        for bad in ["", "-", "0-5", "2-1", "1-65536", "1-2-3", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }
}
