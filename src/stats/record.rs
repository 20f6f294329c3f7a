//! One transfer: when it has ended, and while it runs.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{endpoint::Closed, hint::Hint, options::Direction, packet::Options, shown, transfer::Outcome};

/// The protocol of a transfer.
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
/// It displays as one line, of less than 2 KiB whatever the client sent: `10.0.0.7:2070 read pxelinux.0 complete 42430 bytes 0.013 s 3187 KiB/s retransmits 0 from
/// /srv/tftp/pxelinux.0 asked tsize=0 granted tsize=42430`.
///
/// Serialized (feature `serde`) it is flat but for the options, so that a line of JSON is easy to search:
///
/// ```json
/// {"time": "2026-11-21T03:00:00.000Z", "id": 7, "client": "10.0.0.7:2070", "server": "10.0.0.1:69",
///  "direction": "read", "filename": "/pxelinux.0", "path": "pxelinux.0", "origin": "/srv/tftp/pxelinux.0",
///  "outcome": "complete", "code": null, "reason": null, "bytes": 42430, "size": 42430, "seconds": 0.013,
///  "bytes_per_second": 3263846, "sent": 84, "acked": 84, "retransmits": 0, "blksize": 512, "windowsize": 1,
///  "asked": {"tsize": "0"}, "granted": {"tsize": "42430"}, "hint": null, "protocol": "tftp", "status": null}
/// ```
///
/// Over HTTP, `status` is that of the answer, and the line has `over HTTP 200` instead of `retransmits 0`. There are no
/// packets to count then: `sent`, `acked`, `retransmits`, `blksize` and `windowsize` are 0.
///
/// Of names of more than 200 characters and of texts of more than 300 the middle is left out, in both.
///
/// `time` is when the request came. `code` and `reason` are those of the ERROR that ended it, whoever sent it, with
/// what only the operator is told in brackets; a transfer that was `stopped` has none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The number of its [`Snapshot`]; 0 for a client's.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// The address of ours that it asked; for a client, the one it asked from.
    pub local: SocketAddr,
    /// The name of the file as it was sent, as it can be shown: a byte that is not UTF-8 is `\xff`, a control character
    /// or one that changes the order of the text `\u{202e}`, a backslash `\\`. Of more than 4 KiB the middle is left
    /// out.
    pub filename: String,
    /// The name of the file, made comparable, as it can be shown.
    pub path: String,
    /// Where the bytes came from, if [the source told](crate::Source::with_origin): a file, a URL.
    pub origin: Option<Arc<str>>,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it ended because the client's system said by ICMP that nobody has the client's port: then
    /// [`outcome`](Self::outcome) is [`Outcome::TimedOut`], before patience was over. Always `false` on a client.
    pub port_closed: bool,
    /// Bytes of the file that the receiving side has, as they travelled.
    pub bytes: u64,
    /// The size of the file, if it was known at the beginning.
    pub size: Option<u64>,
    /// When the request came.
    pub started: SystemTime,
    /// From the request to the end.
    pub duration: Duration,
    /// The options that were asked for.
    pub asked: Options,
    /// The options that were granted: what stood in the OACK.
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
    /// What may help where it failed in a way that is known. Always `None` on a client.
    pub hint: Option<Hint>,
    /// What it came by.
    pub protocol: Protocol,
    /// Over HTTP, the status code of the answer, if there was one.
    pub status: Option<u16>,
}

/// One transfer that is running.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Unique among the transfers of this server. It counts from 1.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// The name of the file, made comparable, as it can be shown; of more than 200 characters, the middle is left out.
    pub path: String,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// Bytes of the file that the receiving side has so far.
    pub bytes: u64,
    /// The size of the file, if it is known.
    pub size: Option<u64>,
    /// Time since the request.
    pub since: Duration,
    /// What it came by.
    pub protocol: Protocol,
}

impl Protocol {
    /// Its name in logs and metrics: one lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tftp => "tftp",
            Self::Http => "http",
        }
    }
}

impl Record {
    /// Bytes per second, from the request to the end; 0 if there were none.
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
            write!(f, ": {}", Closed::Unreachable.reason())?;
        }
        write!(f, " {bytes} bytes {seconds:.3} s")?;
        write!(f, " {} KiB/s ", self.rate() / 1024)?;
        match (self.protocol, self.status) {
            (Protocol::Tftp, _) => write!(f, "retransmits {retransmits}")?,
            (Protocol::Http, Some(status)) => write!(f, "over HTTP {status}")?,
            (Protocol::Http, None) => f.write_str("over HTTP")?,
        }
        if let Some(origin) = &self.origin {
            write!(f, " from {}", shown::cut(&shown::text(origin), shown::TEXT))?;
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
