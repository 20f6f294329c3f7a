//! The spellings of a value: `${mac:hexhyp}`, `${client:hexraw:upper}`.

use std::{fmt::Write, net::IpAddr};

use super::Uuid;

/// One word after a `:`. The words for bytes are those of iPXE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Upper,
    Lower,
    /// `52:54:00:12:34:56`
    Hex,
    /// `52-54-00-12-34-56`
    HexHyp,
    /// `525400123456`; for an IPv4 address, the name that PXELINUX requests, in lower case.
    HexRaw,
    /// A UUID with the bytes of its first three groups in reverse order, because firmware differs in that.
    Guid,
}

pub(super) const SPELLINGS: [(&str, Spelling); 6] = [
    ("upper", Spelling::Upper),
    ("lower", Spelling::Lower),
    ("hex", Spelling::Hex),
    ("hexhyp", Spelling::HexHyp),
    ("hexraw", Spelling::HexRaw),
    ("guid", Spelling::Guid),
];

impl Spelling {
    pub(super) fn named(name: &str) -> Option<Self> {
        SPELLINGS.iter().find(|(known, _)| *known == name).map(|(_, spelling)| *spelling)
    }

    /// The text in this spelling; `None` if the text cannot be spelled so.
    pub(super) fn of(self, text: &str) -> Option<String> {
        match self {
            Self::Upper => Some(text.to_uppercase()),
            Self::Lower => Some(text.to_lowercase()),
            Self::Hex => Some(joined(&bytes(text)?, ":")),
            Self::HexHyp => Some(joined(&bytes(text)?, "-")),
            Self::HexRaw => Some(joined(&bytes(text)?, "")),
            Self::Guid => {
                let bytes: [u8; 16] = bytes(text)?.try_into().ok()?;
                Some(Uuid(bytes).turned().to_string())
            }
        }
    }
}

/// The bytes of an IP address, or of hexadecimal digits with `:` or `-` between them.
fn bytes(text: &str) -> Option<Vec<u8>> {
    match text.parse() {
        Ok(IpAddr::V4(ip)) => return Some(ip.octets().into()),
        Ok(IpAddr::V6(ip)) => return Some(ip.octets().into()),
        Err(_) => {}
    }
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b'-')).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}

/// The bytes in hexadecimal, with this between them.
pub(super) fn joined(bytes: &[u8], separator: &str) -> String {
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        _ = write!(text, "{}{byte:02x}", if i > 0 { separator } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, spelling, expected) in [
            ("52-54-00-AB-34-56", "hex", Some("52:54:00:ab:34:56")),
            ("52:54:00:ab:34:56", "hexhyp", Some("52-54-00-ab-34-56")),
            ("52-54-00-ab-34-56", "hexraw", Some("525400ab3456")),
            ("525400ab3456", "hexhyp", Some("52-54-00-ab-34-56")),
            ("192.168.2.91", "hexraw", Some("c0a8025b")),
            ("2001:db8::1", "hexraw", Some("20010db8000000000000000000000001")),
            ("01234567-89ab-cdef-0123-456789abcdef", "guid", Some("67452301-ab89-efcd-0123-456789abcdef")),
            ("01234567-89ab-cdef-0123-456789abcdef", "hexraw", Some("0123456789abcdef0123456789abcdef")),
            ("c0a8025b", "upper", Some("C0A8025B")),
            ("Boot/BCD", "lower", Some("boot/bcd")),
            ("Boot/BCD", "hexraw", None),
            ("abc", "hex", None),
            ("", "hex", None),
            ("10.0.0.1", "guid", None),
        ] {
            assert_eq!(Spelling::named(spelling).unwrap().of(text).as_deref(), expected, "{text} {spelling}");
        }
        assert_eq!(Spelling::named("hexa"), None);
    }
}
