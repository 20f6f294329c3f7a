//! The URLs of RFC 3617: `tftp://host[:port]/name[;mode=octet]`.

use std::{ffi::OsString, path::Path, str::FromStr};

use clap::builder::{OsStringValueParser, TypedValueParser};
use percent_encoding::{CONTROLS, percent_decode_str, percent_encode};
use tuffet::packet::Mode;

use super::values::Remote;

/// A server, or a file on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Server(Remote),
    File(Url),
}

/// A file on a server, and its transfer mode, if the URL has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub server: Remote,
    /// Its bytes.
    pub name: Vec<u8>,
    pub mode: Option<Mode>,
}

/// Parses a word of the command line. The name in a URL may be bytes that are not UTF-8.
pub fn location() -> impl TypedValueParser<Value = Location> {
    OsStringValueParser::new().try_map(|word| match OsString::into_string(word) {
        Ok(text) => text.parse(),
        Err(word) => percent_encode(word.as_encoded_bytes(), CONTROLS).to_string().parse::<Location>(),
    })
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None => text.parse().map(Self::Server),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tftp") => rest.parse().map(Self::File),
            Some(_) => Err("not a TFTP URL, such as tftp://192.0.2.1/pxelinux.0".into()),
        }
    }
}

/// Whether a local path is a URL in the wrong place.
pub fn is_url(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"tftp://")
}

/// Parses the text after `tftp://`.
impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (server, path) = text.split_once('/').unwrap_or((text, ""));
        if server.contains('@') {
            return Err("TFTP has no users; leave out the part before the @".into());
        }
        let (path, mode) = match path.rsplit_once(';') {
            Some((path, mode)) if mode.len() >= 5 && mode.as_bytes()[..5].eq_ignore_ascii_case(b"mode=") => {
                (path, Some(self::mode(&mode[5..])?))
            }
            _ => (path, None),
        };
        let name = percent_decode_str(path).collect();
        // In a URL the % before an interface is encoded (RFC 6874).
        let server = server.replacen("%25", "%", 1).parse()?;
        Ok(Self { server, name, mode })
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    let known = [Mode::Octet, Mode::Netascii].into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text));
    known.ok_or_else(|| format!("the mode {text:?} is neither octet nor netascii"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_rfc_3617() {
        for (text, server, name, mode) in [
            ("tftp://h/pxelinux.0", "h:69", "pxelinux.0", None),
            ("TFTP://10.0.0.1:6969/a/b;mode=octet", "10.0.0.1:6969", "a/b", Some(Mode::Octet)),
            ("tftp://h/a;MODE=NetASCII", "h:69", "a", Some(Mode::Netascii)),
            ("tftp://[::1]:70/x", "[::1]:70", "x", None),
            ("tftp://[fe80::1%25eth0]/x", "[fe80::1%eth0]:69", "x", None),
            ("tftp://[fe80::1%eth0]:70/x", "[fe80::1%eth0]:70", "x", None),
            ("tftp://h//srv/a%20b;c?d", "h:69", "/srv/a b;c?d", None),
            ("tftp://h/%C3%A9", "h:69", "\u{e9}", None),
            ("tftp://h/dir/", "h:69", "dir/", None),
            ("tftp://h", "h:69", "", None),
        ] {
            let Ok(Location::File(url)) = text.parse() else { panic!("{text}") };
            let found = (url.server.to_string(), url.name, url.mode);
            assert_eq!(found, (server.into(), name.into(), mode), "{text}");
        }
        for bad in ["http://h/x", "tftp:///x", "tftp://h:x/y", "tftp://me@h/x", "tftp://h/x;mode=mail"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
        assert!(matches!("10.0.0.1:70".parse(), Ok(Location::Server(_))));
    }
}
