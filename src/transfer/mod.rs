//! A transfer: a coroutine that yields [`Step`]s and is resumed with [`Event`]s.
//!
//! It does no I/O and reads no clock. The same two coroutines, sender and receiver, make up the server, the client, the
//! simulator and every test. The example `blocking` drives them over one plain socket.
//!
//! # The driver's contract
//!
//! Whoever drives a transfer
//!
//! 1. calls [`Transfer::resume`] with [`Event::Go`] and the time,
//! 2. does what the step says: sends the packet, hands the chunk to the sink, or waits,
//! 3. resumes with what happened and the time it happened, until the step is [`Step::Done`].
//!
//! - [`Step::Send`] and [`Step::Push`] are done at once, without waiting, and answered with [`Event::Go`].
//! - [`Step::Wait`] is answered with whichever comes first: a packet of the peer, the deadline, or what the step
//!   [`Want`]s. Of several that are there, packets come first, in their order, and a timeout comes last: a peer that was
//!   heard is not late.
//! - The deadline of a wait replaces the one before it.
//! - Time never goes back from one resume to the next.
//! - Only packets of the transfer's peer are handed over: those of its address and port. A client learns the server's port
//!   from the first answer (RFC 1350 section 4); packets of other ports are for the driver to answer with ERROR 5.
//! - A server hands a repeated request over as [`Event::Repeat`], and whatever else it decides as [`Event::Replaced`],
//!   [`Event::Gone`] or [`Event::Stop`].
//! - A transfer that is dropped is over; it holds nothing that needs an end.
//!
//! # What is sent to who is silent
//! An address may be forged, and so may an ACK. A server sends no more than this to an address that is not heard from
//! again, whatever the patience:
//!
//! | the last that was heard | what is sent |
//! |---|---|
//! | RRQ without options | DATA 1, three times |
//! | RRQ with options, WRQ | the OACK, or ACK 0 for a WRQ without options, three times |
//! | the request again | the same once more |
//! | ACK 0, which answers the OACK | the window once, and its first block three times more |
//! | an ACK of DATA | the next window, three times more the same, and then its first block, at the retransmit timeout, which doubles up to the `timeout` that was agreed, until patience ends |
//! | DATA of an upload | its ACK at the retransmit timeout, until patience ends |
//!
//! Where [`Timing::amplification`] is set, as a server does, blocks are sent again only as far as the packets of the peer
//! pay for them: an ACK, which has 32 bytes with its headers, for 32 times as many bytes as that says.
//!
//! ACKs that say nothing new bring no more than that, one copy in a round trip and in 50 ms. An ACK inside a window brings
//! the rest of it once in a round trip at most, and only if no other ACK goes further. 16 ACKs of blocks that were never
//! sent end a transfer with ERROR 4 ([`Outcome::Refused`]): nobody sends them but who guesses.

mod coroutine;
mod line;
mod opening;
mod receiver;
mod rto;
mod sender;
mod window;

use std::{
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    error::{ErrorCode, Refusal},
    options::Agreed,
    packet::{self, Options, Packet},
    shown,
};
use coroutine::Coroutine;
use line::{Heard, Line};

/// What the transfer wants done.
#[derive(Debug)]
#[must_use = "a step that is not taken stalls the transfer"]
// No promise to anybody: see `coroutine::Resumed`.
#[cfg_attr(not(doc), repr(u64))]
pub enum Step {
    /// Send this to the peer; then [`Event::Go`].
    Send(Packet),
    /// Hand this chunk to the sink; then [`Event::Go`].
    Push(Bytes),
    /// Wait for a packet, for what is wanted, or until the deadline.
    Wait(Want, Instant),
    /// It is over. Every further resume says the same.
    Done(Outcome),
}

/// What a transfer waits for besides a packet and the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing else.
    Packet,
    /// The next chunk of the source: [`Event::Chunk`], [`Event::End`] or [`Event::Failed`].
    Chunk,
    /// Room for more in the sink: [`Event::Ready`] or [`Event::Failed`].
    Room,
    /// The file has ended; its bytes are to be made safe: [`Event::Ready`] or [`Event::Failed`].
    Verdict,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The step was taken.
    Go,
    /// A packet of the peer.
    Packet(Packet),
    /// The peer repeated its request: it has seen nothing of us yet.
    Repeat,
    /// The deadline has passed.
    Timeout,
    /// Nobody listens at the peer's port any more, as its system says by ICMP: patience is over.
    Gone,
    /// The next chunk of the source. It may be empty.
    Chunk(Bytes),
    /// The source has no more chunks.
    End,
    /// The sink is ready: for more, or with all.
    Ready,
    /// The source or the sink has failed.
    Failed(Refusal),
    /// Another takes the transfer's place, for this reason; the peer is told nothing.
    Replaced(&'static str),
    /// This side ends, and its transfers with it.
    Stop,
}

/// How a transfer ended.
///
/// ```
/// use tuffet::{Refusal, transfer::Outcome};
///
/// assert!(Outcome::ProbablyComplete.is_success());
/// assert_eq!(Outcome::Refused(Refusal::not_found()).name(), "refused");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Everything arrived: all was acknowledged, or all but the last block, to which the peer said ERROR 0.
    Complete,
    /// Everything was sent, and all but the last window acknowledged; then the peer fell silent, as clients do that
    /// leave right after their last ACK.
    ProbablyComplete,
    /// The peer asked for the size and left: with any ERROR in answer to the OACK, or with ERROR 0 or 8 before it
    /// acknowledged a block. UEFI firmware, GRUB and iPXE do so.
    Probe,
    /// The peer ended the transfer with an ERROR.
    Aborted {
        /// The code it sent.
        code: ErrorCode,
        /// The text it sent.
        message: String,
    },
    /// The peer was silent for as long as patience lasts.
    TimedOut,
    /// This side said no.
    Refused(Refusal),
    /// The source or the sink failed, before the first block or in the middle: a disk, a handler, or, with
    /// [`Refusal::upstream`], the server behind this one.
    Failed(Refusal),
    /// Another took its place: the same client began anew, or others waited while nobody answered.
    Replaced(&'static str),
    /// This side was stopped before the transfer had ended.
    Stopped,
}

/// The clocks of a transfer.
///
/// ```
/// use std::time::Duration;
/// use tuffet::transfer::Timing;
///
/// let mut timing = Timing::default();
/// timing.patience = Duration::from_secs(10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Longest time between two retransmits where the client did not ask for a `timeout`. Defaults to 5 s. The actual
    /// time follows the measured round trip and is far less on a LAN.
    pub timeout: Duration,
    /// How long the peer may be silent, or the source without a chunk, before the transfer ends. Defaults to 30 s.
    pub patience: Duration,
    /// The round trip to this peer, if an earlier transfer measured it. Defaults to `None`: the first packet is sent again
    /// after 1 s.
    pub round_trip: Option<Duration>,
    /// How many bytes may be sent for each byte that came from the peer, IP and UDP headers counted: blocks are sent again
    /// only as far as that goes. A server that does not know whether an address is forged says so. Defaults to `None`, no
    /// limit.
    pub amplification: Option<u32>,
}

/// What a transfer has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the file that the receiving side has.
    pub bytes: u64,
    /// DATA blocks that the receiving side has.
    pub blocks: u64,
    /// Packets sent, retransmits included.
    pub sent: u64,
    /// DATA or ACK packets received that brought the transfer forward.
    pub acked: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// The round trip, smoothed, if it was measured.
    pub round_trip: Option<Duration>,
    /// Times that the peer repeated its request before it heard an answer.
    pub requests: u64,
    /// The options in force.
    pub agreed: Agreed,
}

/// The way a transfer begins.
#[derive(Debug)]
enum Opening {
    /// The server's: an OACK with these options, or none if there are none.
    Answer(Options),
    /// The client's: this request, and what the server makes of it.
    Ask(packet::Request),
}

/// One transfer, seen from one end.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{
///     options::Agreed,
///     packet::{Mode, Options, Packet},
///     transfer::{Event, Outcome, Step, Timing, Transfer, Want},
/// };
///
/// // A server sends "hello" to a client that acknowledges it.
/// let now = Instant::now();
/// let mut transfer = Transfer::send(Options::new(), Agreed::plain(Mode::Octet), Timing::default());
/// assert!(matches!(transfer.resume(now, Event::Go), Step::Wait(Want::Chunk, _)));
/// assert!(matches!(transfer.resume(now, Event::Chunk("hello".into())), Step::Wait(Want::Chunk, _)));
/// assert!(matches!(transfer.resume(now, Event::End), Step::Send(Packet::Data { block: 1, .. })));
/// assert!(matches!(transfer.resume(now, Event::Go), Step::Wait(Want::Packet, _)));
/// let step = transfer.resume(now, Event::Packet(Packet::Ack(1)));
/// assert!(matches!(step, Step::Done(Outcome::Complete)));
/// ```
pub struct Transfer {
    coroutine: Coroutine,
}

impl Transfer {
    /// The server's end of an RRQ: `oack` and `agreed` come from [`options::answer`](crate::options::answer).
    pub fn send(oack: Options, agreed: Agreed, timing: Timing) -> Self {
        Self::sender(Opening::Answer(oack), agreed, timing)
    }

    /// The server's end of a WRQ.
    pub fn receive(oack: Options, agreed: Agreed, timing: Timing) -> Self {
        Self::receiver(Opening::Answer(oack), agreed, timing)
    }

    /// The client's end of a WRQ.
    pub fn put(request: packet::Request, timing: Timing) -> Self {
        let agreed = Agreed::plain(request.mode);
        Self::sender(Opening::Ask(request), agreed, timing)
    }

    /// The client's end of an RRQ.
    pub fn get(request: packet::Request, timing: Timing) -> Self {
        let agreed = Agreed::plain(request.mode);
        Self::receiver(Opening::Ask(request), agreed, timing)
    }

    fn sender(opening: Opening, agreed: Agreed, timing: Timing) -> Self {
        let serves = matches!(opening, Opening::Answer(_));
        let body = move |co, now| sender::run(Line::new(co, now, timing, serves), opening);
        Self { coroutine: Coroutine::new(Progress::new(agreed), body) }
    }

    fn receiver(opening: Opening, agreed: Agreed, timing: Timing) -> Self {
        let serves = matches!(opening, Opening::Answer(_));
        let body = move |co, now| receiver::run(Line::new(co, now, timing, serves), opening);
        Self { coroutine: Coroutine::new(Progress::new(agreed), body) }
    }

    /// Goes on until the next step.
    pub fn resume(&mut self, now: Instant, event: Event) -> Step {
        self.coroutine.resume(now, event)
    }

    /// What was done so far.
    pub fn progress(&self) -> Progress {
        *self.coroutine.progress()
    }
}

/// Short enough to be added to any time.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Default for Timing {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            round_trip: None,
            amplification: None,
        }
    }
}

impl Progress {
    pub(crate) const fn new(agreed: Agreed) -> Self {
        Self { bytes: 0, blocks: 0, sent: 0, acked: 0, retransmits: 0, round_trip: None, requests: 0, agreed }
    }
}

impl Outcome {
    /// The outcome's name, as it stands in logs and metrics: one lower-case word, which stays as it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ProbablyComplete => "probably_complete",
            Self::Probe => "probe",
            Self::Aborted { .. } => "aborted",
            Self::TimedOut => "timed_out",
            Self::Refused(_) => "refused",
            Self::Failed(refusal) if refusal.is_upstream() => "upstream_failed",
            Self::Failed(_) => "failed",
            Self::Replaced(_) => "replaced",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the file arrived, as far as can be known.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Complete | Self::ProbablyComplete)
    }
}

/// The name, and what more is known: `aborted: ERROR 8 "User aborted the transfer"`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Aborted { code, message } => {
                write!(f, ": ERROR {code} \"{}\"", shown::cut(&shown::text(message), shown::TEXT))
            }
            Self::Replaced(why) => write!(f, ": {why}"),
            Self::Refused(refusal) | Self::Failed(refusal) => write!(f, ": {refusal}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
