//! The clients that the server answers.

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;
use tuffet::{ServerBuilder, rules::Clients};

#[derive(Args, Debug)]
pub struct Access {
    /// Answer only clients in this network; may be repeated [default: all]
    #[arg(long, value_name = "NETWORK", env = "TUFFET_ALLOW", value_delimiter = ',', value_parser = network)]
    #[arg(help_heading = "Clients")]
    pub allow: Vec<IpNet>,

    /// Never answer clients in this network, whatever --allow says; may be repeated
    #[arg(long, value_name = "NETWORK", env = "TUFFET_DENY", value_delimiter = ',', value_parser = network)]
    #[arg(help_heading = "Clients")]
    pub deny: Vec<IpNet>,
}

impl Access {
    pub fn apply(&self, builder: ServerBuilder) -> ServerBuilder {
        if self.allow.is_empty() && self.deny.is_empty() {
            return builder;
        }
        let (allow, deny) = (self.allow.clone(), self.deny.clone());
        builder.admit(move |client| admits(&allow, &deny, client))
    }

    pub fn admits(&self, client: IpAddr) -> bool {
        admits(&self.allow, &self.deny, client.to_canonical())
    }
}

fn admits(allow: &[IpNet], deny: &[IpNet], client: IpAddr) -> bool {
    let is_of = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
    (allow.is_empty() || is_of(allow)) && !is_of(deny)
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    match text.parse() {
        Ok(Clients::Network(network)) => Ok(network),
        // A MAC address is no network, and requests come without one.
        _ => Err("not a network or an address, such as 10.0.0.0/8 or ::1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_and_deny_choose_the_clients() {
        let access = |allow: &[&str], deny: &[&str]| {
            let networks = |texts: &[&str]| texts.iter().map(|text| network(text).unwrap()).collect();
            Access { allow: networks(allow), deny: networks(deny) }
        };
        for (access, client, expected) in [
            (access(&[], &[]), "10.0.0.1", true),
            (access(&["10.0.0.0/8", "::1"], &[]), "10.0.0.1", true),
            (access(&["10.0.0.0/8", "::1"], &[]), "::ffff:10.0.0.1", true),
            (access(&["10.0.0.0/8", "::1"], &[]), "::1", true),
            (access(&["10.0.0.0/8", "::1"], &[]), "11.0.0.1", false),
            (access(&["10.0.0.0/8"], &["10.0.0.1"]), "10.0.0.1", false),
            (access(&[], &["10.0.0.1", "fe80::/10"]), "10.0.0.2", true),
            (access(&[], &["10.0.0.1", "fe80::/10"]), "fe80::2", false),
        ] {
            assert_eq!(access.admits(client.parse().unwrap()), expected, "{access:?} {client}");
        }
        assert!(network("10.0.0.0/33").is_err() && network("host").is_err() && network("52:54:00").is_err());
        assert!(network("::ffff:10.0.0.0/104").is_err(), "it would be of nobody");
    }
}
