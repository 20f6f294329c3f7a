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

impl Agreed {
    /// The defaults of RFC 1350, which hold without options.
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
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes in a full block: 8 to 65464. 512 without the blksize option.
    pub const fn blksize(&self) -> u16 {
        self.blksize
    }

    /// Blocks on the way before an ACK is due: 1 to 65535. 1 without the windowsize option.
    pub const fn windowsize(&self) -> u16 {
        self.windowsize
    }

    /// The longest time between two retransmits, if agreed.
    pub const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The size of the file in bytes, if the `tsize` option tells it.
    pub const fn tsize(&self) -> Option<u64> {
        self.tsize
    }

    /// Whether the client sent the `tsize` option, answered or not.
    pub const fn tsize_asked(&self) -> bool {
        self.tsize_asked
    }

    /// The number of the block after 65535.
    pub const fn rollover(&self) -> Rollover {
        self.rollover
    }
}

impl Rollover {
    /// The number on the wire of the block with this index; the first block of a file has index 1.
    pub const fn number(self, index: u64) -> u16 {
        match self {
            Self::Zero => index as u16,
            Self::One if index == 0 => 0,
            Self::One => ((index - 1) % 65535 + 1) as u16,
        }
    }

    /// How many blocks a number on the wire is ahead of the block with index `base`. For `base` itself it is 0.
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
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect()
    }

    fn read(asked: &str, limits: &Limits, size: Option<u64>) -> (Agreed, String) {
        let (agreed, oack) = answer(&options(asked), Direction::Read, Mode::Octet, limits, size);
        (agreed, oack.to_string())
    }

    fn oack(asked: &str) -> String {
        read(asked, &Limits::default(), Some(1000)).1
    }

    #[test]
    fn requested_and_supported_in_request_order() {
        assert_eq!(oack("tsize=0 blksize=1468 windowsize=4"), "tsize=1000 blksize=1468 windowsize=4");
        assert_eq!(oack("blksize=1432 multicast= tsize=0"), "blksize=1432 tsize=1000");
        assert_eq!(oack("BlkSize=1024 TSIZE=5"), "BlkSize=1024 TSIZE=1000", "any case, any question");
        assert_eq!(oack("msftwindow=31416"), "");
        assert_eq!(oack("blksize=512 blksize=1024 blksize2=2048"), "blksize=512", "the first counts");
    }

    #[test]
    fn bad_values_drop_their_option_only() {
        assert_eq!(oack("blksize=7 tsize=0"), "tsize=1000");
        assert_eq!(oack("blksize=7 windowsize=0 timeout=3000 rollover=2 utimeout=9999 tsize=x"), "tsize=1000");
        assert_eq!(oack("blksize=+512"), "");
        assert_eq!(oack("timeout=5"), "timeout=5", "an exact echo");
        assert_eq!(oack("utimeout=20000"), "utimeout=20000");
        assert_eq!(oack("rollover=1"), "rollover=1");
    }

    #[test]
    fn every_value_has_one_right_answer_and_our_own_client_takes_it() {
        let mut limits = Limits { windowsize: 65535, ..Limits::default() };
        let long = "9".repeat(400);
        let bad = ["", " ", "-1", "+8", " 8", "8 ", "0x8", "8.0", "1e3", "eight", "\u{ff18}", "8\n"];
        for (name, answers) in [
            (
                "blksize",
                &[
                    ("0", ""),
                    ("7", ""),
                    ("8", "8"),
                    ("0512", "512"),
                    ("65464", "65464"),
                    ("65465", "65464"),
                    ("65535", "65464"),
                    ("65536", "65464"),
                    ("18446744073709551616", "65464"),
                    (&long, "65464"),
                ][..],
            ),
            (
                "blksize2",
                &[("7", ""), ("8", "8"), ("0009", "8"), ("1500", "1024"), ("65536", "32768"), (&long, "32768")],
            ),
            (
                "windowsize",
                &[("0", ""), ("1", "1"), ("007", "7"), ("65535", "32767"), ("65536", "32767"), (&long, "32767")],
            ),
            ("timeout", &[("0", ""), ("1", "1"), ("005", "5"), ("255", "255"), ("256", ""), (&long, "")]),
            (
                "utimeout",
                &[
                    ("9999", ""),
                    ("10000", "10000"),
                    ("0020000", "20000"),
                    ("255000000", "255000000"),
                    ("255000001", ""),
                ],
            ),
            ("rollover", &[("0", "0"), ("1", "1"), ("01", "1"), ("2", ""), (&long, "")]),
        ] {
            for (value, right) in answers.iter().copied().chain(bad.map(|value| (value, ""))) {
                let asked: Options = [(name, value)].into_iter().collect();
                for direction in [Direction::Read, Direction::Write] {
                    let (agreed, oack) = answer(&asked, direction, Mode::Octet, &limits, Some(9));
                    let granted = oack.value(name).unwrap_or_default();
                    assert_eq!(granted, right, "{name}={value}");
                    let taken = accept(&asked, &oack, Mode::Octet).expect("the client asked for it");
                    assert_eq!(taken, agreed, "{name}={value}");
                }
            }
        }
        limits.blksize = 1468;
        assert_eq!(read("blksize=65536", &limits, None).1, "blksize=1468");
        // An upload whose size has too many digits is too big for every server.
        let asked = options(&format!("tsize={long}"));
        let (agreed, _) = answer(&asked, Direction::Write, Mode::Octet, &limits, None);
        assert_eq!(agreed.tsize(), Some(u64::MAX));
        // A second value of an option does not count: the client would not know which of them was granted.
        assert_eq!(oack("timeout=0 timeout=5 TIMEOUT=6 blksize=x blksize=512 blksize2=512"), "blksize2=512");
    }

    #[test]
    fn limits_lower_what_is_granted() {
        let limits = Limits { blksize: 1468, windowsize: 8, ..Limits::default() };
        let (agreed, oack) = read("blksize=8192 windowsize=64", &limits, None);
        assert_eq!((agreed.blksize(), agreed.windowsize()), (1468, 8));
        assert_eq!(oack, "blksize=1468 windowsize=8");
        assert_eq!(read("blksize2=65536", &limits, None).1, "blksize2=1024", "a power of two");
        let (agreed, oack) = read("blksize=1024 tsize=0", &Limits { answer: false, ..limits }, None);
        assert_eq!((agreed.blksize(), agreed.tsize_asked(), oack.as_str()), (512, true, ""));
    }

    #[test]
    fn only_some_options_may_be_granted() {
        let only = |names: &[OptionName]| Limits { only: Some(names.into()), ..Limits::default() };
        assert_eq!(read("TSize=0 blksize=1468", &only(&[OptionName::Tsize]), Some(9)).1, "TSize=9");
        let (agreed, oack) = read("tsize=0 blksize=1468", &only(&[]), Some(9));
        assert_eq!((agreed.blksize(), agreed.tsize(), oack.as_str()), (512, None, ""));
        let all: Vec<String> = OptionName::ALL.iter().map(|name| format!("{name}=1")).collect();
        let ignored = ["blksize", "blksize2", "utimeout"]; // 1 is out of their range.
        let granted = read(&all.join(" "), &Limits::default(), Some(9)).1;
        assert_eq!(granted.split(' ').count(), OptionName::ALL.len() - ignored.len(), "{granted}");
    }

    #[test]
    fn the_size_is_granted_where_it_is_known() {
        let limits = Limits::default();
        assert_eq!(read("tsize=0", &limits, None).1, "");
        assert_eq!(read("tsize=0", &limits, Some(0)).1, "", "curl takes tsize 0 for an error");
        let (_, oack) = answer(&options("tsize=0"), Direction::Read, Mode::Netascii, &limits, Some(9));
        assert!(oack.is_empty());
        let (agreed, oack) = answer(&options("tsize=77"), Direction::Write, Mode::Netascii, &limits, None);
        assert_eq!((agreed.tsize(), oack.to_string().as_str()), (Some(77), "tsize=77"));
    }

    #[test]
    fn the_client_takes_no_more_than_it_asked_for() {
        let asked = options("blksize=1428 tsize=0 windowsize=16 timeout=3");
        let judged = |oack: &str| accept(&asked, &options(oack), Mode::Octet);
        let agreed = judged("blksize=1024 tsize=9 windowsize=4 timeout=3").unwrap();
        assert_eq!((agreed.blksize(), agreed.windowsize(), agreed.tsize()), (1024, 4, Some(9)));
        for bad in ["blksize=1429", "blksize=4", "windowsize=17", "windowsize=0", "timeout=2", "rollover=0", "blksize="]
        {
            assert_eq!(judged(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_roll_over_both_ways() {
        for rollover in [Rollover::Zero, Rollover::One] {
            for base in (0..400_000).step_by(977).chain(65_500..65_600).chain(131_000..131_200) {
                for ahead in [0, 1, 63, 30_000] {
                    let number = rollover.number(base + ahead);
                    assert_eq!(rollover.distance(base, number), ahead, "{rollover:?} {base} {ahead}");
                }
            }
        }
        assert_eq!([65535, 65536].map(|i| Rollover::Zero.number(i)), [65535, 0]);
        assert_eq!([65535, 65536].map(|i| Rollover::One.number(i)), [65535, 1]);
    }
}
