//! The six packets of RFC 1350 and RFC 2347 on the wire, parsed and built.
//!
//! [`Packet::decode`] is total: for any bytes it returns a packet or says what is wrong with them.
//!
//! ```
//! use tuffet::packet::Packet;
//!
//! let ack = Packet::decode(&[0, 4, 0, 7])?;
//! assert_eq!(ack, Packet::Ack(7));
//! assert_eq!(ack.encode(), [0, 4, 0, 7]);
//! # Ok::<(), tuffet::packet::Malformed>(())
//! ```

use std::{fmt, net::SocketAddr};

use bytes::Bytes;

use crate::{error_code::ErrorCode, name, shown};

/// The size of an ACK on the wire, and of a DATA packet without its payload, in bytes: the headers of IP, UDP and
/// TFTP.
pub(crate) const HEADERS_V4: u32 = 20 + 8 + 4;
const HEADERS_V6: u32 = 40 + 8 + 4;

/// The headers of a DATA packet to this peer, in bytes.
pub(crate) fn headers(peer: &SocketAddr) -> u32 {
    if peer.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 }
}

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// One TFTP packet.
///
/// The large packets are rare and boxed, because a packet is passed by value for each block.
///
/// ```
/// use tuffet::packet::{Mode, Options, Packet, Request};
///
/// let options = Options::from_iter([("tsize", "0")]);
/// let request = Request { filename: b"menu".into(), mode: Mode::Octet, options };
/// let packet = Packet::Rrq(request.into());
/// assert_eq!(packet.encode(), b"\0\x01menu\0octet\0tsize\x000\0");
/// assert_eq!(Packet::decode(&packet.encode())?, packet);
/// # Ok::<(), tuffet::packet::Malformed>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Read request: the peer wants a file.
    Rrq(Box<Request>),
    /// Write request: the peer has a file.
    Wrq(Box<Request>),
    /// One block of the file.
    Data {
        /// The block number on the wire; it rolls over.
        block: u16,
        /// 0 to blksize bytes; fewer than blksize end the transfer.
        payload: Bytes,
    },
    /// Acknowledgement of all blocks up to this one.
    Ack(u16),
    /// The end of the transfer, and the reason.
    Error {
        /// See [`ErrorCode`].
        code: ErrorCode,
        /// A text for people.
        message: String,
    },
    /// Option acknowledgement (RFC 2347).
    Oack(Options),
}

/// The contents of an RRQ or a WRQ.
///
/// ```
/// use tuffet::packet::{Mode, Packet, Request};
///
/// let Packet::Rrq(request) = Packet::decode(b"\0\x01menu\0NETASCII\0blksize\x001468\0")? else { panic!() };
/// assert_eq!((&*request.filename, request.mode), (&b"menu"[..], Mode::Netascii));
/// assert_eq!(request.options.value("blksize"), Some("1468"));
/// # Ok::<(), tuffet::packet::Malformed>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The name of the file as the client sent it: any bytes but NUL.
    pub filename: Vec<u8>,
    /// How the bytes of the file travel.
    pub mode: Mode,
    /// The options, in the client's order.
    pub options: Options,
}

/// Transfer mode (RFC 1350 section 1). `mail` is obsolete and refused.
///
/// ```
/// use tuffet::packet::Mode;
///
/// assert_eq!(Mode::default().as_str(), "octet");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Text: line ends travel as CR LF, a lone CR as CR NUL.
    Netascii,
    /// Octets: the bytes travel unchanged.
    #[default]
    Octet,
}

/// Options by name (RFC 2347), in the order in which they were sent.
///
/// They are stored as they travel, a NUL after each name and each value. A transfer holds them until it ends, so they
/// should take little memory.
///
/// ```
/// use tuffet::packet::Options;
///
/// let mut options = Options::from_iter([("blksize", "1432")]);
/// options.push("tsize", "0");
/// assert_eq!(options.value("BLKSIZE"), Some("1432"));
/// assert_eq!(options.to_string(), "blksize=1432 tsize=0");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Options(String);

/// Why bytes are not a TFTP packet.
///
/// ```
/// use tuffet::packet::{Malformed, Packet};
///
/// assert_eq!(Packet::decode(b"\0"), Err(Malformed::Truncated));
/// assert_eq!(Packet::decode(b"\0\x09"), Err(Malformed::Opcode(9)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The datagram is shorter than the fixed part of its packet.
    Truncated,
    /// The first two bytes are no TFTP opcode.
    Opcode(u16),
    /// The file name is empty or has no NUL at its end.
    Filename,
    /// The mode is unknown or has no NUL at its end.
    Mode,
}

impl Packet {
    /// Parses one datagram.
    ///
    /// ```
    /// use tuffet::packet::Packet;
    ///
    /// assert_eq!(Packet::decode(b"\0\x03\0\x07bytes"), Ok(Packet::Data { block: 7, payload: "bytes".into() }));
    /// assert!(Packet::decode(b"\0\x03").is_err());
    /// ```
    ///
    /// # Errors
    /// See [`Malformed`]. Odd options are no error: a pair without a value or without its last NUL counts as far as it
    /// goes. An empty name is left out, with its value or as padding, and the options after it count.
    pub fn decode(datagram: &[u8]) -> Result<Self, Malformed> {
        let (opcode, body) = split_u16(datagram)?;
        match opcode {
            RRQ => Ok(Self::Rrq(Request::decode(body)?.into())),
            WRQ => Ok(Self::Wrq(Request::decode(body)?.into())),
            DATA => {
                let (block, payload) = split_u16(body)?;
                let payload = Bytes::copy_from_slice(payload);
                Ok(Self::Data { block, payload })
            }
            ACK => Ok(Self::Ack(split_u16(body)?.0)),
            ERROR => {
                let (code, text) = split_u16(body)?;
                let text = text.split(|&b| b == 0).next().unwrap_or_default();
                let message = name::text(text);
                Ok(Self::Error { code: ErrorCode(code), message })
            }
            OACK => Ok(Self::Oack(Options::decode(body))),
            other => Err(Malformed::Opcode(other)),
        }
    }

    /// Encodes the packet as one datagram.
    ///
    /// ```
    /// assert_eq!(tuffet::packet::Packet::Ack(258).encode(), [0, 4, 1, 2]);
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Rrq(request) => request.encode(RRQ, &mut out),
            Self::Wrq(request) => request.encode(WRQ, &mut out),
            Self::Data { block, payload } => {
                out.extend_from_slice(&data_header(*block));
                out.extend_from_slice(payload);
            }
            Self::Ack(block) => out.extend_from_slice(&ack(*block)),
            Self::Error { code, message } => {
                out.extend_from_slice(&ERROR.to_be_bytes());
                out.extend_from_slice(&code.0.to_be_bytes());
                put_string(&mut out, message.as_bytes());
            }
            Self::Oack(options) => {
                out.extend_from_slice(&OACK.to_be_bytes());
                options.encode(&mut out);
            }
        }
        out
    }
}

/// The four bytes before the payload of a DATA packet, for code that gathers instead of copying.
///
/// ```
/// assert_eq!(tuffet::packet::data_header(7), [0, 3, 0, 7]);
/// ```
pub const fn data_header(block: u16) -> [u8; 4] {
    numbered(DATA, block)
}

/// A complete ACK packet.
///
/// ```
/// assert_eq!(tuffet::packet::ack(7), [0, 4, 0, 7]);
/// ```
pub const fn ack(block: u16) -> [u8; 4] {
    numbered(ACK, block)
}

const fn numbered(opcode: u16, block: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (opcode.to_be_bytes(), block.to_be_bytes());
    [a, b, c, d]
}

impl Request {
    /// A request for this file in octet mode, without options.
    ///
    /// ```
    /// use tuffet::packet::{Packet, Request};
    ///
    /// assert_eq!(Packet::Rrq(Request::new("menu").into()).encode(), b"\0\x01menu\0octet\0");
    /// ```
    pub fn new(filename: impl Into<Vec<u8>>) -> Self {
        Self { filename: filename.into(), mode: Mode::Octet, options: Options::new() }
    }

    fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (filename, rest) = split_nul(body).ok_or(Malformed::Filename)?;
        if filename.is_empty() {
            return Err(Malformed::Filename);
        }
        // Firmware that reads option 67 of DHCP with the NUL at its end sends two NULs, or DHCP's end mark between
        // them. No mode is empty, and none begins with the end mark.
        let (mode, rest) = split_nul(after_option(rest)).ok_or(Malformed::Mode)?;
        Ok(Self {
            filename: filename.to_vec(),
            mode: Mode::decode(mode).ok_or(Malformed::Mode)?,
            options: Options::decode(rest),
        })
    }

    fn encode(&self, opcode: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(&opcode.to_be_bytes());
        put_string(out, &self.filename);
        put_string(out, self.mode.as_str().as_bytes());
        self.options.encode(out);
    }
}

impl Mode {
    /// The name of the mode on the wire.
    ///
    /// ```
    /// assert_eq!(tuffet::packet::Mode::Netascii.as_str(), "netascii");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netascii => "netascii",
            Self::Octet => "octet",
        }
    }

    fn decode(word: &[u8]) -> Option<Self> {
        [Self::Octet, Self::Netascii].into_iter().find(|mode| word.eq_ignore_ascii_case(mode.as_str().as_bytes()))
    }
}

impl Options {
    /// An empty list of options.
    ///
    /// ```
    /// assert!(tuffet::packet::Options::new().is_empty());
    /// ```
    pub const fn new() -> Self {
        Self(String::new())
    }

    /// Adds an option at the end. NULs in it are left out, because an option cannot hold them.
    ///
    /// ```
    /// let mut options = tuffet::packet::Options::new();
    /// options.push("windowsize", "16");
    /// assert_eq!(options.to_string(), "windowsize=16");
    /// ```
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.0.reserve(name.len() + value.len() + 2);
        for text in [name, value] {
            match text.bytes().all(|byte| byte != 0) {
                true => self.0.push_str(text),
                false => self.0.extend(text.chars().filter(|&char| char != '\0')),
            }
            self.0.push('\0');
        }
    }

    /// The value of the first option with this name, in upper or lower case.
    ///
    /// ```
    /// let options = tuffet::packet::Options::from_iter([("TSize", "0")]);
    /// assert_eq!((options.value("tsize"), options.value("blksize")), (Some("0"), None));
    /// ```
    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values, in the order of the packet.
    ///
    /// ```
    /// let options = tuffet::packet::Options::from_iter([("tsize", "0"), ("blksize", "1468")]);
    /// assert_eq!(options.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["tsize", "blksize"]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.as_str();
        // For short texts like these, `split` would spend most of its time on preparation.
        let mut text = move || {
            let (text, after) = rest.split_at(rest.bytes().position(|b| b == 0)?);
            rest = &after[1..];
            Some(text)
        };
        std::iter::from_fn(move || Some((text()?, text()?)))
    }

    /// Whether there are no options.
    ///
    /// ```
    /// let mut options = tuffet::packet::Options::new();
    /// assert!(options.is_empty());
    /// options.push("tsize", "0");
    /// assert!(!options.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn decode(bytes: &[u8]) -> Self {
        let (text, mut rest) = pairs(bytes);
        let mut options = Self(text);
        while let Some((_, after)) = split_nul(rest) {
            let (more, left) = pairs(after_empty_name(after));
            options.0 += &more;
            rest = left;
        }
        options
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut options = Self::new();
        options.extend(pairs);
        options
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Extend<(N, V)> for Options {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(name, value)| self.push(name, value));
    }
}

/// `{"blksize": "1432", "tsize": "0"}`
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// `blksize=1432 tsize=0`
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}={}", shown::text(name), shown::text(value))?;
        }
        Ok(())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("truncated packet"),
            Self::Opcode(opcode) => write!(f, "unknown opcode {opcode}"),
            Self::Filename => f.write_str("file name is empty or without its NUL"),
            Self::Mode => f.write_str("mode is unknown or without its NUL"),
        }
    }
}

impl std::error::Error for Malformed {}

fn split_u16(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    Ok((u16::from_be_bytes(*number), rest))
}

/// The options up to the next empty name, as they are stored, and the bytes from that name on.
fn pairs(bytes: &[u8]) -> (String, &[u8]) {
    let (mut rest, mut missing) = (bytes, "");
    while let Some((_, value)) = split_nul(rest).filter(|(name, _)| !name.is_empty()) {
        (rest, missing) = split_nul(value).map_or((&bytes[..0], "\0"), |(_, after)| (after, ""));
    }
    (name::text(&bytes[..bytes.len() - rest.len()]) + missing, rest)
}

/// The bytes after an empty name and its value. If a number comes second, which is no name, the empty name is padding
/// before an option.
fn after_empty_name(bytes: &[u8]) -> &[u8] {
    let (_, next) = split_nul(bytes).unwrap_or((bytes, &[]));
    let is_number = |(word, _): (&[u8], _)| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    if split_nul(next).is_some_and(is_number) { bytes } else { next }
}

fn split_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The bytes after the end of an option of DHCP: that is padding (RFC 2132 section 3.1) and the end mark.
fn after_option(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|&&b| b == 0 || b == name::END_MARK).count()..]
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|&&b| b != 0));
    out.push(0);
}

#[cfg(test)]
mod tests;
