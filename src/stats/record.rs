//! One transfer: its record at the end, and its state while it runs.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    endpoint::CloseReason,
    hint::Hint,
    options::Direction,
    packet::Options,
    shown,
    transfer::{Outcome, Progress},
};

/// The protocol of a transfer.
///
/// ```
/// assert_eq!(tuffet::stats::Protocol::default().name(), "tftp");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// TFTP (RFC 1350).
    #[default]
    Tftp,
    /// HTTP (RFC 9110), where the feature `web` serves it.
    Http,
}

/// One transfer that has ended.
///
/// It displays as one line of less than 2 KiB, whatever the client sent:
///
/// ```text
/// 10.0.0.7:2070 read pxelinux.0 complete 42430 bytes 0.013 s 3187 KiB/s retransmits 0 from /srv/tftp/pxelinux.0 asked
/// tsize=0 granted tsize=42430
/// ```
///
/// Serialized (feature `serde`) it is flat except for the options, so that a line of JSON is easy to search:
///
/// ```json
/// {"time": "2026-11-21T03:00:00.000Z", "id": 7, "client": "10.0.0.7:2070", "server": "10.0.0.1:69",
///  "direction": "read", "filename": "/pxelinux.0", "path": "pxelinux.0", "origin": "/srv/tftp/pxelinux.0",
///  "target": null,
///  "outcome": "complete", "code": null, "reason": null, "bytes": 42430, "size": 42430, "seconds": 0.013,
///  "bytes_per_second": 3263846, "sent": 84, "acked": 84, "retransmits": 0, "blksize": 512, "windowsize": 1,
///  "asked": {"tsize": "0"}, "granted": {"tsize": "42430"}, "hint": null, "protocol": "tftp", "status": null}
/// ```
///
/// Over HTTP, `status` is the status code of the answer, and the line has `over HTTP 200` instead of `retransmits 0`.
/// There are no packets to count then: `sent`, `acked`, `retransmits`, `blksize` and `windowsize` are 0.
///
/// In both forms, the middle is left out of names of more than 200 characters and of texts of more than 300.
///
/// `time` is when the request arrived. `code` and `reason` are those of the ERROR that ended the transfer, whoever
/// sent it. The detail for the operator follows in brackets. A transfer that was `stopped` has neither.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The number of its [`Snapshot`]; 0 in a client's record.
    pub id: u64,
    /// The client; in a client's record, the server.
    pub peer: SocketAddr,
    /// The server's address that the request was sent to; in a client's record, the address that the client sent it
    /// from.
    pub local: SocketAddr,
    /// The name of the file as the client sent it, in a form that can be shown: a byte that is not UTF-8 becomes
    /// `\xff`, a backslash `\\`, and a control character or one that changes the order of the text `\u{202e}`. Of more
    /// than 4 KiB the middle is left out.
    pub filename: String,
    /// The name of the file in normal form, as it can be shown.
    pub path: String,
    /// The file or URL of the bytes, if [the source names it](crate::Source::with_origin).
    pub origin: Option<Arc<str>>,
    /// Where the bytes of an upload are stored, if it is complete and a handler of this crate stored it: a file, a URL.
    pub target: Option<Arc<str>>,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// How the transfer ended.
    pub outcome: Outcome,
    /// Whether the transfer ended because ICMP said that the client's port is closed. Then [`outcome`](Self::outcome)
    /// is [`Outcome::TimedOut`] before patience is over. Always `false` in a client's record.
    pub port_closed: bool,
    /// Bytes of the file that the receiving side has, as they travelled.
    pub bytes: u64,
    /// The size of the file, if it was known at the beginning.
    pub size: Option<u64>,
    /// When the request arrived.
    pub started: SystemTime,
    /// The time from the request to the end.
    pub duration: Duration,
    /// The options that the client asked for.
    pub asked: Options,
    /// The options that the server granted, those of the OACK.
    pub granted: Options,
    /// Packets sent, retransmits included.
    pub sent: u64,
    /// DATA or ACK packets received that brought the transfer forward.
    pub acked: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// Bytes in a full block.
    pub blksize: u16,
    /// Blocks between two ACKs.
    pub windowsize: u16,
    /// The likely cause of a failure and what may help, if they are known. Always `None` in a client's record.
    pub hint: Option<Hint>,
    /// The protocol of the request.
    pub protocol: Protocol,
    /// Over HTTP, the status code of the answer, if there was one.
    pub status: Option<u16>,
}

/// One transfer that is running, of [`ServerHandle::transfers`](crate::ServerHandle::transfers) or
/// [`ServerBuilder::on_begin`](crate::ServerBuilder::on_begin).
///
/// ```
/// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
/// for transfer in server.handle().transfers() {
///     println!("{} has {} bytes of {}", transfer.peer, transfer.bytes, transfer.path);
/// }
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// A number that is unique among the transfers of this server, counted from 1.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// The name of the file in normal form, as it can be shown. Of more than 200 characters the middle is left out.
    pub path: String,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// Bytes of the file that the receiving side has so far.
    pub bytes: u64,
    /// The size of the file, if it is known.
    pub size: Option<u64>,
    /// The time since the request.
    pub since: Duration,
    /// The protocol of the request.
    pub protocol: Protocol,
}

impl Protocol {
    /// The protocol's name in logs and metrics: one lower-case word.
    ///
    /// ```
    /// assert_eq!(tuffet::stats::Protocol::Http.name(), "http");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tftp => "tftp",
            Self::Http => "http",
        }
    }
}

impl Record {
    /// The record of a transfer that begins. Until it ends otherwise, it counts as stopped.
    pub(crate) fn new(
        (peer, local): (SocketAddr, SocketAddr),
        direction: Direction,
        (filename, path): (String, String),
        started: SystemTime,
        asked: Options,
    ) -> Self {
        Self {
            id: 0,
            peer,
            local,
            filename,
            path,
            origin: None,
            target: None,
            direction,
            outcome: Outcome::Stopped,
            port_closed: false,
            bytes: 0,
            size: None,
            started,
            duration: Duration::ZERO,
            asked,
            granted: Options::new(),
            sent: 0,
            acked: 0,
            retransmits: 0,
            blksize: 0,
            windowsize: 0,
            hint: None,
            protocol: Protocol::Tftp,
            status: None,
        }
    }

    /// The same, with the counts of the transfer.
    pub(crate) fn with_progress(self, progress: &Progress) -> Self {
        let &Progress { bytes, sent, acked, retransmits, agreed, .. } = progress;
        let (blksize, windowsize) = (agreed.blksize(), agreed.windowsize());
        Self { bytes, sent, acked, retransmits, blksize, windowsize, ..self }
    }

    /// Bytes per second, from the request to the end; 0 if no bytes were transferred.
    ///
    /// ```
    /// # #[cfg(feature = "sim")]
    /// # futures_lite::future::block_on(async {
    /// use std::time::Duration;
    /// use tuffet::{handlers::Memory, sim};
    ///
    /// let files = Memory::new();
    /// files.insert("linux", vec![1; 100_000]).unwrap();
    /// let slow = sim::get(&files, "linux").latency(Duration::from_millis(50)).await?;
    /// assert!(slow.record.rate() < 512 * 10, "ten blocks in a second");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn rate(&self) -> u64 {
        let seconds = self.duration.as_secs_f64();
        if self.bytes == 0 || seconds == 0.0 { 0 } else { (self.bytes as f64 / seconds) as u64 }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, direction, outcome, bytes, retransmits, .. } = self;
        let (path, seconds) = (shown::cut(&self.path, shown::NAME), self.duration.as_secs_f64());
        write!(f, "{peer} {direction} {path} {outcome}")?;
        if self.port_closed {
            write!(f, ": {}", CloseReason::Unreachable.reason())?;
        }
        write!(f, " {bytes} bytes {seconds:.3} s")?;
        write!(f, " {} KiB/s ", self.rate() / 1024)?;
        match (self.protocol, self.status) {
            (Protocol::Tftp, _) => write!(f, "retransmits {retransmits}")?,
            (Protocol::Http, Some(status)) => write!(f, "over HTTP {status}")?,
            (Protocol::Http, None) => f.write_str("over HTTP")?,
        }
        for (word, place) in [("from", &self.origin), ("to", &self.target)] {
            if let Some(place) = place {
                write!(f, " {word} {}", shown::cut(&shown::text(place), shown::TEXT))?;
            }
        }
        for (word, options) in [("asked", &self.asked), ("granted", &self.granted)] {
            if !options.is_empty() {
                write!(f, " {word} {}", shown::cut(&options.to_string(), shown::TEXT))?;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, " hint: {hint}"),
            None => Ok(()),
        }
    }
}
