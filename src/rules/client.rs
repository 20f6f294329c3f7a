//! The clients of a condition: IP addresses, networks, and MAC addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::spelling::joined;
use crate::Error;

/// The address of a network card (MAC address).
///
/// It is parsed from `52:54:00:12:34:56`, or with `-` for `:`, and shown with `-`, as in the file names of boot
/// loaders.
///
/// ```
/// use tuffet::rules::Mac;
///
/// let mac: Mac = "52:54:00:12:34:56".parse()?;
/// assert_eq!(mac.to_string(), "52-54-00-12-34-56");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// A prefix of MAC addresses: a vendor's, such as `52:54:00`, or a whole address.
///
/// ```
/// use tuffet::rules::{Mac, MacPrefix};
///
/// let vendor: MacPrefix = "52:54:00".parse()?;
/// assert!(vendor.contains(Mac([0x52, 0x54, 0, 1, 2, 3])));
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MacPrefix(Vec<u8>);

/// The clients of a condition: `10.0.0.0/8`, `2001:db8::1`, `52:54:00`.
///
/// ```
/// use tuffet::rules::{Clients, Mac};
///
/// let lab: Clients = "10.9.0.0/16".parse()?;
/// assert!(lab.contains("10.9.0.7".parse().unwrap(), None));
/// let vendor: Clients = "52:54:00".parse()?;
/// assert!(vendor.contains("10.9.0.7".parse().unwrap(), Some(Mac([0x52, 0x54, 0, 1, 2, 3]))));
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clients {
    /// The clients of a network. A single address is a network of one.
    Network(IpNet),
    /// The clients with such a MAC address.
    Card(MacPrefix),
}

impl Clients {
    /// Whether these addresses belong to one of the clients.
    ///
    /// ```
    /// let lab: tuffet::rules::Clients = "10.9.0.0/16".parse()?;
    /// assert!(!lab.contains("10.8.0.7".parse().unwrap(), None));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn contains(&self, ip: IpAddr, mac: Option<Mac>) -> bool {
        match self {
            Self::Network(network) => network.contains(&ip.to_canonical()),
            Self::Card(prefix) => mac.is_some_and(|mac| prefix.contains(mac)),
        }
    }
}

impl MacPrefix {
    /// Whether the address has this prefix.
    ///
    /// ```
    /// use tuffet::rules::{Mac, MacPrefix};
    ///
    /// let card: MacPrefix = "52:54:00:12:34:56".parse()?;
    /// assert!(!card.contains(Mac([0x52, 0x54, 0, 1, 2, 3])));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn contains(&self, mac: Mac) -> bool {
        mac.0.starts_with(&self.0)
    }
}

impl FromStr for Clients {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| ip.to_canonical().into()));
        // Clients are compared by their IPv4 addresses, so a network of mapped addresses would match no client.
        let network = network.ok().filter(|network: &IpNet| network.addr().to_canonical() == network.addr());
        network.map(Self::Network).or_else(|| text.parse().map(Self::Card).ok()).ok_or_else(|| {
            let known =
                "not a network, an address or the beginning of a MAC address, such as 10.0.0.0/8, ::1 or 52:54:00";
            Error::Config(known.into())
        })
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = octets(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| Error::Config("not a MAC address, such as 52:54:00:12:34:56".into()))
    }
}

impl FromStr for MacPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = octets(text).filter(|bytes| (2..=6).contains(&bytes.len()));
        bytes.map(Self).ok_or_else(|| Error::Config("not the beginning of a MAC address, such as 52:54:00".into()))
    }
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let is_hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = text.split([':', '-']);
    parts.map(|part| Some(part).filter(is_hex).and_then(|part| u8::from_str_radix(part, 16).ok())).collect()
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.0, "-"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.0, ":"))
    }
}

impl fmt::Debug for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Card(prefix) => prefix.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients() {
        let mac = Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        let contains =
            |clients: &str, ip: &str, mac| clients.parse::<Clients>().unwrap().contains(ip.parse().unwrap(), mac);
        for (clients, ip, mac, expected) in [
            ("10.0.0.0/8", "10.1.2.3", None, true),
            ("10.0.0.0/8", "11.1.2.3", mac, false),
            ("10.1.2.3", "10.1.2.3", None, true),
            ("10.1.2.3", "10.1.2.4", None, false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", None, true),
            ("::ffff:10.1.2.3", "10.1.2.3", None, true),
            ("2001:db8::/32", "2001:db8::1", None, true),
            ("0.0.0.0/0", "2001:db8::1", None, false),
            ("52:54:00", "10.1.2.3", mac, true),
            ("52-54-00-12-34-56", "10.1.2.3", mac, true),
            ("52:54:01", "10.1.2.3", mac, false),
            ("52:54:00", "10.1.2.3", None, false),
        ] {
            assert_eq!(contains(clients, ip, mac), expected, "{clients} {ip}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0", "host", "52", "5:4:0", "52:54:00:12:34:56:78", "52:5g"] {
            assert!(bad.parse::<Clients>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_of_cards() {
        let mac: Mac = "52:54:00:AB:cd:ef".parse().unwrap();
        assert_eq!(mac.to_string(), "52-54-00-ab-cd-ef");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert!("52:54:00".parse::<Mac>().is_err());
    }
}
