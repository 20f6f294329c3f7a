//! Options: what the client asks for, what the server allows, and what both agree on (RFC 2347, 2348, 2349, 7440).
//!
//! [`answer`] is the server's part, [`accept`] the client's. Only these two make an [`Agreed`], so it holds no illegal
//! value.
//!
//! Beyond the RFCs there are `blksize2` (a power of two), `utimeout` (microseconds) and `rollover` (0 or 1), as in
//! tftp-hpa and the BSDs.

mod asked;
mod name;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use crate::packet::{Mode, Options};
pub(crate) use asked::AskedOptions;
pub use name::OptionName;

/// Block size without the blksize option, in bytes (RFC 1350).
pub const DEFAULT_BLKSIZE: u16 = 512;

/// A blksize whose blocks fit the least MTU of IPv6, 1280 bytes with headers. They fit most tunnels too.
pub(crate) const TUNNEL_BLKSIZE: u16 = 1228;

/// Block sizes that the blksize option allows, in bytes (RFC 2348).
pub const BLKSIZE: RangeInclusive<u16> = 8..=65464;

/// Windows that the windowsize option allows, in blocks (RFC 7440 section 3).
pub const WINDOWSIZE: RangeInclusive<u16> = 1..=65535;

/// Half of the block numbers: in a wider window an old ACK could be taken for a new one.
const WIDEST: u16 = 32767;
pub(crate) const TIMEOUT_S: RangeInclusive<u64> = 1..=255;
/// The bounds of tftp-hpa: 10 ms to 255 s.
const UTIMEOUT_US: RangeInclusive<u64> = 10_000..=255_000_000;

/// The options of one transfer that both sides have agreed on.
///
/// ```
/// use tuffet::{options::{Direction, Limits, answer}, packet::{Mode, Options}};
///
/// let asked = Options::from_iter([("blksize", "1468"), ("windowsize", "100")]);
/// let (agreed, _) = answer(&asked, Direction::Read, Mode::Octet, &Limits::default(), None);
/// assert_eq!((agreed.blksize(), agreed.windowsize(), agreed.timeout()), (1468, 64, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    mode: Mode,
    blksize: u16,
    windowsize: u16,
    timeout: Option<Duration>,
    tsize: Option<u64>,
    tsize_asked: bool,
    rollover: Rollover,
}

/// The number of the block after 65535.
///
/// ```
/// use tuffet::options::Rollover;
///
/// assert_eq!((Rollover::Zero.number(65536), Rollover::One.number(65536)), (0, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollover {
    /// 0, as every boot client expects.
    #[default]
    Zero,
    /// 1, for clients that ask for it.
    One,
}

/// The most that a server grants.
///
/// ```
/// use tuffet::options::{Limits, OptionName};
///
/// let mut limits = Limits::default();
/// limits.blksize = 1024;
/// limits.only = Some([OptionName::Blksize, OptionName::Tsize].into());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest blksize, in bytes. Defaults to 65464, the largest of RFC 2348. Less than 8, the least of RFC 2348,
    /// counts as 8.
    pub blksize: u16,
    /// Largest windowsize, in blocks. Defaults to 64; 0 counts as 1. More than 32767 is never granted.
    pub windowsize: u16,
    /// Whether the server answers options at all. Defaults to `true`. Some firmware asks for options and cannot take
    /// an OACK.
    pub answer: bool,
    /// The only options that the server grants; it ignores others as if they were unknown, but for the size that a WRQ
    /// tells. Defaults to `None`, which allows all.
    pub only: Option<Arc<[OptionName]>>,
}

/// The direction of a transfer.
///
/// ```
/// assert_eq!(tuffet::options::Direction::Read.to_string(), "read");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// RRQ: from the server to the client.
    Read,
    /// WRQ: from the client to the server.
    Write,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { blksize: *BLKSIZE.end(), windowsize: 64, answer: true, only: None }
    }
}

impl Limits {
    /// Limits that grant only what both of these grant.
    pub(crate) fn at_most(self, most: &Self) -> Self {
        let only = match (self.only, &most.only) {
            (Some(only), Some(most)) => Some(only.iter().copied().filter(|name| most.contains(name)).collect()),
            (only, most) => only.or_else(|| most.clone()),
        };
        Self {
            blksize: self.blksize.min(most.blksize),
            windowsize: self.windowsize.min(most.windowsize),
            answer: self.answer && most.answer,
            only,
        }
    }
}

impl Agreed {
    /// The defaults of RFC 1350, which hold without options.
    ///
    /// ```
    /// use tuffet::{options::Agreed, packet::Mode};
    ///
    /// let agreed = Agreed::plain(Mode::Octet);
    /// assert_eq!((agreed.blksize(), agreed.windowsize(), agreed.tsize()), (512, 1, None));
    /// ```
    pub const fn plain(mode: Mode) -> Self {
        Self {
            mode,
            blksize: DEFAULT_BLKSIZE,
            windowsize: 1,
            timeout: None,
            tsize: None,
            tsize_asked: false,
            rollover: Rollover::Zero,
        }
    }

    /// The transfer mode.
    ///
    /// ```
    /// use tuffet::{options::Agreed, packet::Mode};
    ///
    /// assert_eq!(Agreed::plain(Mode::Netascii).mode(), Mode::Netascii);
    /// ```
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes in a full block: 8 to 65464. 512 without the blksize option.
    ///
    /// ```
    /// use tuffet::{options::accept, packet::{Mode, Options}};
    ///
    /// let asked = Options::from_iter([("blksize", "1468")]);
    /// let granted = Options::from_iter([("blksize", "1428")]);
    /// assert_eq!(accept(&asked, &granted, Mode::Octet).unwrap().blksize(), 1428);
    /// ```
    pub const fn blksize(&self) -> u16 {
        self.blksize
    }

    /// Blocks on the way before an ACK is due: 1 to 65535. 1 without the windowsize option.
    ///
    /// ```
    /// use tuffet::{options::accept, packet::{Mode, Options}};
    ///
    /// let asked = Options::from_iter([("windowsize", "16")]);
    /// assert_eq!(accept(&asked, &asked, Mode::Octet).unwrap().windowsize(), 16);
    /// assert_eq!(accept(&asked, &Options::new(), Mode::Octet).unwrap().windowsize(), 1, "it was not granted");
    /// ```
    pub const fn windowsize(&self) -> u16 {
        self.windowsize
    }

    /// The longest time between two retransmits, if agreed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tuffet::{options::accept, packet::{Mode, Options}};
    ///
    /// let asked = Options::from_iter([("timeout", "3")]);
    /// assert_eq!(accept(&asked, &asked, Mode::Octet).unwrap().timeout(), Some(Duration::from_secs(3)));
    /// ```
    pub const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The size of the file in bytes, if the `tsize` option tells it.
    ///
    /// ```
    /// use tuffet::{options::accept, packet::{Mode, Options}};
    ///
    /// let (asked, oack) = (Options::from_iter([("tsize", "0")]), Options::from_iter([("tsize", "1000")]));
    /// assert_eq!(accept(&asked, &oack, Mode::Octet).unwrap().tsize(), Some(1000));
    /// ```
    pub const fn tsize(&self) -> Option<u64> {
        self.tsize
    }

    /// Whether the client sent the `tsize` option, answered or not.
    ///
    /// ```
    /// use tuffet::{options::{Direction, Limits, answer}, packet::{Mode, Options}};
    ///
    /// let asked = Options::from_iter([("tsize", "0")]);
    /// // The size of the source is not known.
    /// let (agreed, oack) = answer(&asked, Direction::Read, Mode::Octet, &Limits::default(), None);
    /// assert!(agreed.tsize_asked() && oack.is_empty());
    /// ```
    pub const fn tsize_asked(&self) -> bool {
        self.tsize_asked
    }

    /// The number of the block after 65535.
    ///
    /// ```
    /// use tuffet::{options::{Agreed, Rollover}, packet::Mode};
    ///
    /// assert_eq!(Agreed::plain(Mode::Octet).rollover(), Rollover::Zero);
    /// ```
    pub const fn rollover(&self) -> Rollover {
        self.rollover
    }

    /// The same, but the peer has rolled over to 1 without an option for it.
    pub(crate) const fn rolled_to_one(self) -> Self {
        Self { rollover: Rollover::One, ..self }
    }
}

impl Rollover {
    /// The number on the wire of the block with this index; the first block of a file has index 1.
    ///
    /// ```
    /// use tuffet::options::Rollover;
    ///
    /// assert_eq!([65535, 65536, 65537].map(|index| Rollover::Zero.number(index)), [65535, 0, 1]);
    /// ```
    pub const fn number(self, index: u64) -> u16 {
        match self {
            Self::Zero => index as u16,
            Self::One if index == 0 => 0,
            Self::One => ((index - 1) % 65535 + 1) as u16,
        }
    }

    /// How many blocks a number on the wire is ahead of the block with index `base`. For `base` itself it is 0.
    ///
    /// ```
    /// use tuffet::options::Rollover;
    ///
    /// assert_eq!(Rollover::Zero.distance(65535, 0), 1, "the block after 65535");
    /// ```
    pub const fn distance(self, base: u64, number: u16) -> u64 {
        match self {
            Self::Zero => number.wrapping_sub(base as u16) as u64,
            Self::One => (number as u64 + 65535 - base % 65535) % 65535,
        }
    }
}

/// The server's answer to a request: the agreed options, and the OACK (if it is empty, there is no OACK).
///
/// The server grants no option that the client did not ask for, and no more than it asked for. A bad value drops its
/// option and not the request. Numbers are plain decimals: leading zeros do no harm and are not echoed. A blksize or
/// windowsize above the largest counts as the largest. If an option stands twice, the first counts. `size` is the size
/// of the source on a read; on a write the client tells the size.
///
/// ```
/// use tuffet::{options::{Direction, Limits, answer}, packet::{Mode, Options}};
///
/// let asked = Options::from_iter([("tsize", "0"), ("blksize", "9000"), ("multicast", "")]);
/// let (agreed, oack) = answer(&asked, Direction::Read, Mode::Octet, &Limits::default(), Some(1000));
/// assert_eq!(oack.to_string(), "tsize=1000 blksize=9000");
/// assert_eq!(agreed.tsize(), Some(1000));
/// ```
pub fn answer(
    asked: &Options,
    direction: Direction,
    mode: Mode,
    limits: &Limits,
    size: Option<u64>,
) -> (Agreed, Options) {
    AskedOptions::of(asked).answer(asked, direction, mode, limits, size)
}

/// The options of a request, as far as any server can grant them.
pub(crate) fn asked(options: &Options) -> Agreed {
    let limits = Limits { windowsize: WIDEST, ..Limits::default() };
    AskedOptions::of(options).agree(Direction::Read, Mode::Octet, &limits, None)
}

/// The client's check of an OACK. Returns the agreed options, or `None` if the server granted more than the client
/// asked for.
///
/// ```
/// use tuffet::{options::accept, packet::{Mode, Options}};
///
/// let asked = Options::from_iter([("blksize", "1468")]);
/// let granted = |value| accept(&asked, &Options::from_iter([("blksize", value)]), Mode::Octet);
/// assert_eq!(granted("1024").unwrap().blksize(), 1024);
/// assert!(granted("8192").is_none(), "more than was asked for");
/// ```
pub fn accept(asked: &Options, oack: &Options, mode: Mode) -> Option<Agreed> {
    let mut agreed = Agreed { tsize_asked: asked.value("tsize").is_some(), ..Agreed::plain(mode) };
    for (name, value) in oack.iter() {
        let asked: &str = asked.value(name)?;
        let no_more_than_asked = |range: RangeInclusive<u64>| {
            let most = up_to(asked, range.clone())?;
            within(value, *range.start()..=most)
        };
        let as_asked = |range| within(value, range).filter(|granted| number(asked) == Some(*granted));
        match OptionName::of(name)? {
            OptionName::Blksize => agreed.blksize = no_more_than_asked(wide(BLKSIZE))? as u16,
            OptionName::Blksize2 => {
                let granted = no_more_than_asked(8..=u64::MAX)?;
                agreed.blksize = Some(granted).filter(|n| n.is_power_of_two() && wide(BLKSIZE).contains(n))? as u16;
            }
            OptionName::Windowsize => agreed.windowsize = no_more_than_asked(wide(WINDOWSIZE))? as u16,
            OptionName::Timeout => agreed.timeout = Some(Duration::from_secs(as_asked(TIMEOUT_S)?)),
            OptionName::Utimeout => agreed.timeout = Some(Duration::from_micros(as_asked(UTIMEOUT_US)?)),
            OptionName::Rollover if as_asked(0..=1)? == 1 => agreed.rollover = Rollover::One,
            OptionName::Rollover => {}
            OptionName::Tsize => agreed.tsize = Some(within(value, 0..=u64::MAX)?),
        }
    }
    Some(agreed)
}

/// A plain decimal number, of digits only. A number that is too long for 64 bits counts as the largest.
fn number(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The same range in 64 bits, for numbers that may be too large for it.
pub(crate) fn wide(range: RangeInclusive<u16>) -> RangeInclusive<u64> {
    u64::from(*range.start())..=u64::from(*range.end())
}

/// A number in the range.
fn within(value: &str, range: RangeInclusive<u64>) -> Option<u64> {
    number(value).filter(|number| range.contains(number))
}

/// A number in the range. A number above it counts as the end of the range.
fn up_to(value: &str, range: RangeInclusive<u64>) -> Option<u64> {
    number(value).filter(|number| number >= range.start()).map(|number| number.min(*range.end()))
}

#[cfg(test)]
mod tests;
