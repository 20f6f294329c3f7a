//! Hints: the likely causes of failed transfers, and what helps.
//!
//! A client that fails does not say why, but how it fails shows the cause. The server logs the [`Hint`] that it finds,
//! and puts it into the [`Record`](crate::stats::Record) for [`on_end`](crate::ServerBuilder::on_end).

use std::fmt;

use crate::{
    error::ErrorCode,
    operator::setting,
    options::{self, BLKSIZE, DEFAULT_BLKSIZE, Direction, TUNNEL_BLKSIZE},
    packet::Options,
    transfer::{Outcome, Progress},
};

#[doc(hidden)]
pub use crate::operator::name_options;

/// The last block number before the rollover.
const LAST_NUMBER: u64 = 65535;
/// The largest blksize of RFC 2348.
const LARGEST: u64 = *BLKSIZE.end() as u64;
/// A blksize that fits every client and every link.
const FITS_ALL: u16 = DEFAULT_BLKSIZE;

/// A likely cause, and what helps. The text has a setting or a key of a rule between backticks. In the program `tuffet`
/// the setting is the option to type.
///
/// ```
/// use tuffet::hint::Hint;
///
/// let hint = Hint::SmallerBlocks { blksize: 1468, better: 1228 };
/// assert!(hint.to_string().contains("`blksize 1228`"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// The client cannot take an OACK, or not this one.
    NoOptions,
    /// No block of this size reaches the client, though smaller packets do; a smaller block may.
    SmallerBlocks {
        /// The granted blksize, in bytes.
        blksize: u16,
        /// The blksize to try, in bytes.
        better: u16,
    },
    /// The client knows no block number after 65535.
    NoRollover {
        /// The least blksize that needs no more blocks, if the size is known and there is such a blksize.
        needed: Option<u16>,
        /// Whether the client asked for that blksize, and this server did not grant it.
        asked: bool,
    },
    /// No answer reaches the client, which repeats its request.
    SinglePort,
}

/// The facts about an ended transfer that a hint depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// RRQ or WRQ.
    pub(crate) direction: Direction,
    /// How the transfer ended.
    pub(crate) outcome: &'a Outcome,
    /// How far the transfer came.
    pub(crate) progress: &'a Progress,
    /// The options that the client asked for.
    pub(crate) asked: &'a Options,
    /// The options of the OACK.
    pub(crate) granted: &'a Options,
    /// The size of the file in bytes, if it is known.
    pub(crate) size: Option<u64>,
    /// Whether the answers come from the port that received the request.
    pub(crate) single_port: bool,
}

impl Hint {
    /// The likely cause, if it is a known one.
    pub(crate) fn find(seen: &Seen) -> Option<Self> {
        let Progress { bytes, acked, requests, .. } = *seen.progress;
        let blksize = seen.progress.agreed.blksize();
        // If the client sent nothing after its request, the cause is unknown: the client may have been switched off,
        // or its address may be forged.
        if acked == 0 && requests == 0 && *seen.outcome == Outcome::TimedOut {
            return None;
        }
        let silent = match seen.outcome {
            Outcome::TimedOut => true,
            Outcome::Aborted { .. } => false,
            _ => return None,
        };
        if seen.direction == Direction::Read && stopped_at_rollover(seen) {
            return Some(Self::no_rollover(seen));
        }
        // A client that receives nothing repeats its request.
        if silent && acked == 0 {
            return (!seen.single_port).then_some(Self::SinglePort);
        }
        let refused = matches!(seen.outcome, Outcome::Aborted { code: ErrorCode::OPTION_NEGOTIATION, .. });
        if !seen.granted.is_empty() && bytes == 0 && refused {
            return Some(Self::NoOptions);
        }
        let full = seen.size.is_none_or(|size| size >= blksize.into());
        if seen.direction == Direction::Read && silent && bytes == 0 && full && blksize > FITS_ALL {
            let better = if blksize > TUNNEL_BLKSIZE { TUNNEL_BLKSIZE } else { FITS_ALL };
            return Some(Self::SmallerBlocks { blksize, better });
        }
        None
    }

    fn no_rollover(seen: &Seen) -> Self {
        let needed = seen.size.map(|size| size / LAST_NUMBER + 1).filter(|needed| *needed <= LARGEST);
        let asked = u64::from(options::asked(seen.asked).blksize());
        Self::NoRollover {
            needed: needed.map(|needed| needed as u16),
            asked: needed.is_some_and(|needed| needed <= asked),
        }
    }
}

/// Whether the client took all blocks that have a number, or lost a part of their last window.
fn stopped_at_rollover(seen: &Seen) -> bool {
    let agreed = &seen.progress.agreed;
    let (blksize, windowsize) = (u64::from(agreed.blksize()), u64::from(agreed.windowsize()));
    let blocks = seen.progress.bytes / blksize;
    blocks <= LAST_NUMBER + 1 && blocks + windowsize > LAST_NUMBER
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOptions => {
                f.write_str("the client rejected the options: a rule with `options = []` for it grants none")
            }
            Self::SmallerBlocks { blksize, better } => write!(
                f,
                "no block of {blksize} bytes was acknowledged, perhaps because of the MTU of a link: try `{} \
                 {better}`",
                setting("blksize", "--blksize")
            ),
            Self::NoRollover { needed, asked } => {
                f.write_str("the client stopped at block 65535, so its block number may not roll over: ")?;
                match needed {
                    Some(needed) if *asked => {
                        write!(f, "`{} {needed}` needs no rollover", setting("blksize", "--blksize"))
                    }
                    Some(needed) => write!(f, "have it ask for a blksize of {needed} or more"),
                    None => f.write_str("have it ask for a larger blksize, or for a smaller file"),
                }
            }
            Self::SinglePort => write!(
                f,
                "no answer reached the client: if address translation, a container or a firewall is on the way, try \
                 `{}`",
                setting("single_port", "--single-port")
            ),
        }
    }
}
