//! A transfer: a coroutine that yields [`Step`]s and is resumed with [`Event`]s.
//!
//! It does no I/O and reads no clock. The same two coroutines, sender and receiver, make up the server, the client, the
//! simulator and every test. The example `blocking` drives them over one plain socket.
//!
//! # The driver's contract
//!
//! The driver of a transfer
//!
//! 1. calls [`Transfer::resume`] with [`Event::Continue`] and the time,
//! 2. carries out the step: sends the packet, hands the chunk to the sink, or waits,
//! 3. resumes the transfer with the event and its time, until the step is [`Step::Done`].
//!
//! - [`Step::Send`] and [`Step::Push`] are done at once, without waiting, and answered with [`Event::Continue`].
//! - [`Step::Wait`] is answered with whichever comes first: a packet of the peer, the deadline, or what the step
//!   [`Want`]s. Of several that are there, packets come first, in their order, and a timeout comes last: a peer that
//!   was heard is not late.
//! - The deadline of a wait replaces the one before it.
//! - Time never goes back from one resume to the next.
//! - Only packets of the transfer's peer are handed over: those of its address and port. A client learns the server's
//!   port from the first answer (RFC 1350 section 4); packets of other ports are for the driver to answer with ERROR 5.
//! - A server hands a repeated request over as [`Event::Repeat`], and whatever else it decides as [`Event::Replaced`],
//!   [`Event::Unreachable`] or [`Event::Stop`].
//! - A transfer that is dropped is over; it holds nothing that needs an end.
//!
//! # What a server sends to a silent address
//! An address may be forged, and so may an ACK. If no further packet comes from an address, the server sends it no
//! more than this, whatever the patience:
//!
//! | the last packet from the address | what the server sends |
//! |---|---|
//! | RRQ without options | DATA 1, three times |
//! | RRQ with options, WRQ | the OACK, or ACK 0 for a WRQ without options, three times |
//! | the request again | the same once more |
//! | ACK 0, which answers the OACK | the window once, its last block once more, and its first block twice more |
//! | ACK 0 again | the first block at once, in place of one of these three |
//! | an ACK of DATA | the next window, and then that window and its two ends in turns, until patience ends |
//! | DATA of an upload | its ACK at the retransmit timeout, until patience ends |
//!
//! The repetitions of a window come at the retransmit timeout, which doubles up to the agreed `timeout`.
//!
//! A server sets [`Timing::amplification`]. Then blocks are sent again only as far as the packets of the peer pay for
//! them. An ACK has 32 bytes with its headers and pays for 32 bytes times the amplification.
//!
//! A repeated ACK brings the window, and without progress its first block, at most once in a round trip and in 50 ms.
//! An ACK inside a window brings the rest of the window and what follows it, at most once in a round trip and in 5 ms:
//! at once if the peer has reported a gap before, and otherwise only if no other ACK goes further. 16 ACKs of blocks
//! that were never sent end a transfer with ERROR 4 ([`Outcome::Refused`]): only a peer that guesses sends them.

mod connection;
mod coroutine;
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
    error::{Error, ErrorCode, Refusal},
    options::Agreed,
    packet::{self, Options, Packet},
    shown,
};
use connection::{Connection, WaitEnd};
use coroutine::Coroutine;

/// The next step that the transfer asks of its driver. [`Transfer`] has an example.
#[derive(Debug)]
#[must_use = "a step that is not taken stalls the transfer"]
// The layout is no promise; `coroutine::Resumed` says what it is for.
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::{Packet, Request}, transfer::{Event, Step, Timing, Transfer}};
///
/// let mut transfer = Transfer::get(Request::new("menu"), Timing::default());
/// let step = transfer.resume(Instant::now(), Event::Continue);
/// assert!(matches!(step, Step::Send(Packet::Rrq(request)) if request.filename == b"menu"));
/// ```
#[cfg_attr(not(doc), repr(u64))]
pub enum Step {
    /// Send this packet to the peer; then resume with [`Event::Continue`].
    Send(Packet),
    /// Hand this chunk to the sink; then resume with [`Event::Continue`].
    Push(Bytes),
    /// Wait for a packet, for what the transfer wants, or until the deadline.
    Wait(Want, Instant),
    /// The transfer is over. Every further resume returns the same step.
    Done(Outcome),
}

/// The event that a transfer waits for, besides a packet and the deadline.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::Request, transfer::{Event, Step, Timing, Transfer, Want}};
///
/// let (now, mut transfer) = (Instant::now(), Transfer::get(Request::new("menu"), Timing::default()));
/// transfer.resume(now, Event::Continue);
/// let Step::Wait(want, deadline) = transfer.resume(now, Event::Continue) else { panic!() };
/// assert!(want == Want::Packet && deadline > now, "the answer of the server");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing else.
    Packet,
    /// The next chunk of the source: [`Event::Chunk`], [`Event::End`] or [`Event::Failed`].
    Chunk,
    /// Room for more in the sink: [`Event::Ready`] or [`Event::Failed`].
    Room,
    /// The sink's result after the end of the file, when its bytes are safe: [`Event::Ready`] or [`Event::Failed`].
    Commit,
}

/// The event with which a transfer is resumed.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::{Packet, Request}, transfer::{Event, Step, Timing, Transfer}};
///
/// let (now, mut transfer) = (Instant::now(), Transfer::get(Request::new("menu"), Timing::default()));
/// transfer.resume(now, Event::Continue);
/// let Step::Wait(_, deadline) = transfer.resume(now, Event::Continue) else { panic!() };
/// let again = transfer.resume(deadline, Event::Timeout);
/// assert!(matches!(again, Step::Send(Packet::Rrq(_))), "the request was lost");
/// ```
#[derive(Debug)]
pub enum Event {
    /// The transfer continues: the driver has done the step, or this is the first resume.
    Continue,
    /// A packet has come from the peer.
    Packet(Packet),
    /// The peer has repeated its request: it has received no answer yet.
    Repeat,
    /// The deadline has passed.
    Timeout,
    /// ICMP says that the peer's port is closed: patience is over.
    Unreachable,
    /// The next chunk of the source. It may be empty.
    Chunk(Bytes),
    /// The source has no more chunks.
    End,
    /// The sink is ready: for more, or with the whole file.
    Ready,
    /// The source or the sink has failed.
    Failed(Refusal),
    /// Another transfer replaces this one, for this reason. The peer gets no ERROR.
    Replaced(&'static str),
    /// This server or client stops, and its transfers end.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The whole file arrived: the peer acknowledged all blocks, or all but the last one, which it answered
    /// with ERROR 0.
    Complete,
    /// All blocks were sent, and the peer acknowledged all but the last window. Then it fell silent, like clients that
    /// leave right after their last ACK.
    ProbablyComplete,
    /// The peer asked for the size and left: it answered the OACK with any ERROR, or sent ERROR 0 or 8 before it
    /// acknowledged a block. UEFI firmware, GRUB and iPXE do so.
    Probe,
    /// The peer ended the transfer with an ERROR.
    Aborted {
        /// The code of the ERROR.
        code: ErrorCode,
        /// The text of the ERROR.
        message: String,
    },
    /// The peer was silent for longer than the patience.
    TimedOut,
    /// This server or client refused the transfer.
    Refused(Refusal),
    /// The source or the sink failed, before the first block or in the middle: a disk, a handler, or, with
    /// [`Refusal::upstream`], an upstream server.
    Failed(Refusal),
    /// Another transfer replaced this one: the same client began anew, or others waited while the client did not
    /// answer.
    Replaced(&'static str),
    /// This server or client was stopped before the transfer had ended.
    Stopped,
}

/// The times and limits of a transfer.
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
    /// The longest time between two retransmits if the client did not ask for a `timeout`. Defaults to 5 s. The actual
    /// time follows the measured round trip and is far less on a LAN.
    pub timeout: Duration,
    /// How long the peer may be silent, or the source without a chunk, before the transfer ends. Defaults to 30 s.
    pub patience: Duration,
    /// The round trip to this peer, if an earlier transfer measured it. Defaults to `None`: the first packet is sent
    /// again after 1 s.
    pub round_trip: Option<Duration>,
    /// How many bytes this side may send for each byte from the peer, IP and UDP headers included. It limits only
    /// blocks that are sent again. A server sets it, because the peer's address may be forged. Defaults to `None`, no
    /// limit.
    pub amplification: Option<u32>,
}

/// What a transfer has done so far.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::Request, transfer::{Event, Timing, Transfer}};
///
/// let mut transfer = Transfer::get(Request::new("menu"), Timing::default());
/// transfer.resume(Instant::now(), Event::Continue);
/// let progress = transfer.progress();
/// assert_eq!((progress.sent, progress.bytes), (1, 0));
/// ```
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
    /// The smoothed round trip, if it was measured.
    pub round_trip: Option<Duration>,
    /// How often the peer repeated its request before it received an answer.
    pub requests: u64,
    /// The options in force.
    pub agreed: Agreed,
}

/// The first exchange of a transfer.
#[derive(Debug)]
enum Opening {
    /// The server's side: an OACK with these options, or no OACK if there are none.
    Answer(Options),
    /// The client's side: this request, and the server's answer.
    Ask(packet::Request),
}

/// One side of a transfer.
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
/// assert!(matches!(transfer.resume(now, Event::Continue), Step::Wait(Want::Chunk, _)));
/// assert!(matches!(transfer.resume(now, Event::Chunk("hello".into())), Step::Wait(Want::Chunk, _)));
/// assert!(matches!(transfer.resume(now, Event::End), Step::Send(Packet::Data { block: 1, .. })));
/// assert!(matches!(transfer.resume(now, Event::Continue), Step::Wait(Want::Packet, _)));
/// let step = transfer.resume(now, Event::Packet(Packet::Ack(1)));
/// assert!(matches!(step, Step::Done(Outcome::Complete)));
/// ```
pub struct Transfer {
    coroutine: Coroutine,
}

impl Transfer {
    /// The server's side of an RRQ: `oack` and `agreed` come from [`options::answer`](crate::options::answer).
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{
    ///     options::{Direction, Limits, answer},
    ///     packet::{Mode, Options, Packet},
    ///     transfer::{Event, Step, Timing, Transfer},
    /// };
    ///
    /// let asked = Options::from_iter([("blksize", "1468")]);
    /// let (agreed, oack) = answer(&asked, Direction::Read, Mode::Octet, &Limits::default(), None);
    /// let mut transfer = Transfer::send(oack, agreed, Timing::default());
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Send(Packet::Oack(_))));
    /// ```
    pub fn send(oack: Options, agreed: Agreed, timing: Timing) -> Self {
        Self::sender(Opening::Answer(oack), agreed, timing)
    }

    /// The server's side of a WRQ.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{
    ///     options::Agreed,
    ///     packet::{Mode, Options, Packet},
    ///     transfer::{Event, Step, Timing, Transfer},
    /// };
    ///
    /// let mut transfer = Transfer::receive(Options::new(), Agreed::plain(Mode::Octet), Timing::default());
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Send(Packet::Ack(0))));
    /// ```
    pub fn receive(oack: Options, agreed: Agreed, timing: Timing) -> Self {
        Self::receiver(Opening::Answer(oack), agreed, timing)
    }

    /// The client's side of a WRQ.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{packet::{Packet, Request}, transfer::{Event, Step, Timing, Transfer}};
    ///
    /// let mut transfer = Transfer::put(Request::new("switch.cfg"), Timing::default());
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Send(Packet::Wrq(_))));
    /// ```
    pub fn put(request: packet::Request, timing: Timing) -> Self {
        let agreed = Agreed::plain(request.mode);
        Self::sender(Opening::Ask(request), agreed, timing)
    }

    /// The client's side of an RRQ.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{packet::{Packet, Request}, transfer::{Event, Step, Timing, Transfer}};
    ///
    /// let mut transfer = Transfer::get(Request::new("menu"), Timing::default());
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Send(Packet::Rrq(_))));
    /// ```
    pub fn get(request: packet::Request, timing: Timing) -> Self {
        let agreed = Agreed::plain(request.mode);
        Self::receiver(Opening::Ask(request), agreed, timing)
    }

    fn sender(opening: Opening, agreed: Agreed, timing: Timing) -> Self {
        let serves = matches!(opening, Opening::Answer(_));
        let body = move |co, now| sender::run(Connection::new(co, now, timing, serves), opening);
        Self { coroutine: Coroutine::new(Progress::new(agreed), body) }
    }

    fn receiver(opening: Opening, agreed: Agreed, timing: Timing) -> Self {
        let serves = matches!(opening, Opening::Answer(_));
        let body = move |co, now| receiver::run(Connection::new(co, now, timing, serves), opening);
        Self { coroutine: Coroutine::new(Progress::new(agreed), body) }
    }

    /// Resumes the transfer with an event and returns its next step.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{packet::Request, transfer::{Event, Step, Timing, Transfer}};
    ///
    /// let mut transfer = Transfer::get(Request::new("menu"), Timing::default());
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Send(_)));
    /// assert!(matches!(transfer.resume(Instant::now(), Event::Continue), Step::Wait(..)));
    /// ```
    pub fn resume(&mut self, now: Instant, event: Event) -> Step {
        self.coroutine.resume(now, event)
    }

    /// What the transfer has done so far.
    ///
    /// ```
    /// use tuffet::{packet::Request, transfer::{Timing, Transfer}};
    ///
    /// let transfer = Transfer::get(Request::new("menu"), Timing::default());
    /// assert_eq!(transfer.progress().agreed.blksize(), 512, "nothing else is agreed yet");
    /// ```
    pub fn progress(&self) -> Progress {
        *self.coroutine.progress()
    }
}

/// The longest wait, short enough to be added to any time.
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
    /// The outcome of a transfer that a handler refused before it began. ERROR 0 stands for a failure.
    pub(crate) fn of(refusal: Refusal) -> Self {
        if refusal.code() == ErrorCode::NOT_DEFINED && refusal.packet().is_some() {
            Self::Failed(refusal)
        } else {
            Self::Refused(refusal)
        }
    }

    /// The result of a client's transfer with this outcome.
    pub(crate) fn result(&self) -> Result<(), Error> {
        match self.clone() {
            Self::Complete | Self::ProbablyComplete => Ok(()),
            Self::Aborted { code, message } => Err(Error::Peer { code, message }),
            Self::Refused(refusal) | Self::Failed(refusal) => Err(Error::Refused(refusal)),
            Self::Probe | Self::TimedOut | Self::Replaced(_) | Self::Stopped => Err(Error::TimedOut),
        }
    }

    /// The outcome's name in logs and metrics: one lower-case word, which does not change.
    ///
    /// ```
    /// assert_eq!(tuffet::transfer::Outcome::TimedOut.name(), "timed_out");
    /// ```
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

    /// Whether the file arrived, as far as this side can know.
    ///
    /// ```
    /// use tuffet::transfer::Outcome;
    ///
    /// assert!(Outcome::Complete.is_success() && !Outcome::Probe.is_success());
    /// ```
    pub const fn is_success(&self) -> bool {
        match self {
            Self::Complete | Self::ProbablyComplete => true,
            Self::Probe | Self::Aborted { .. } | Self::TimedOut | Self::Refused(_) => false,
            Self::Failed(_) | Self::Replaced(_) | Self::Stopped => false,
        }
    }
}

/// The name and the details: `aborted: ERROR 8 "User aborted the transfer"`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Aborted { code, message } => {
                write!(f, ": ERROR {code} \"{}\"", shown::cut(&shown::text(message), shown::TEXT))
            }
            Self::Replaced(why) => write!(f, ": {why}"),
            Self::Refused(refusal) | Self::Failed(refusal) => write!(f, ": {refusal}"),
            Self::Complete | Self::ProbablyComplete | Self::Probe | Self::TimedOut | Self::Stopped => Ok(()),
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
