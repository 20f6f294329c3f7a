//! Faults of a server.

use std::{fmt, net::IpAddr};

use crate::{
    options::DEFAULT_BLKSIZE,
    packet::{Options, Packet},
};

/// Checks the packets of one transfer, as the client sees them.
///
/// ```
/// use tuffet::{packet::{Mode, Options, Packet, Request}, probe::{Judge, Warning}};
///
/// let mut judge = Judge::default();
/// let options = Options::from_iter([("blksize", "1024")]);
/// judge.sent(&Packet::Rrq(Request { filename: b"menu".into(), mode: Mode::Octet, options }.into()));
/// judge.received(&Packet::Oack(Options::from_iter([("tsize", "9")])));
/// assert_eq!(judge.warnings(0), [Warning::Unasked("tsize".into())]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Judge {
    asked: Options,
    blksize: Option<usize>,
    windowsize: u64,
    tsize: Option<u64>,
    /// The client's last packet.
    last_packet: Option<Packet>,
    over: bool,
    /// The last block in order.
    last_block: u16,
    bytes: u64,
    /// How many packets the client repeated.
    pub(super) repeats: u64,
    pub(super) copies: u64,
    late: u64,
    warnings: Vec<Warning>,
}

/// A fault of the server. This client may have tolerated it; another may not.
///
/// ```
/// use tuffet::probe::Warning;
///
/// let warning = Warning::WrongSize { told: 9, came: 8 };
/// assert_eq!(warning.to_string(), "the server announced 9 bytes and sent 8");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The OACK has an option that the client did not ask for (RFC 2347).
    Unasked(String),
    /// The OACK has an option with a value that is too large, differs where it must be equal, or is not a number.
    BadValue {
        /// The name of the option.
        name: String,
        /// The requested value.
        asked: String,
        /// The granted value.
        granted: String,
    },
    /// A block was longer than the agreed blksize.
    LongBlock {
        /// Its length in bytes.
        len: usize,
        /// The blksize.
        blksize: usize,
    },
    /// The `tsize` of the OACK is not the size of the file.
    WrongSize {
        /// The size in the OACK.
        told: u64,
        /// The received size.
        came: u64,
    },
    /// More copies of DATA than losses and silence explain: the Sorcerer's Apprentice syndrome, which doubles every
    /// block.
    Flood {
        /// How many received DATA packets the client had already.
        copies: u64,
    },
    /// The server answered an ERROR with an ERROR.
    ErrorToError,
    /// The server answered from another address than that of the request. Firewalls and iPXE drop such packets.
    OtherAddress(IpAddr),
    /// A datagram is not a TFTP packet.
    Malformed,
}

impl Judge {
    /// Takes a packet of the client.
    ///
    /// ```
    /// use tuffet::{packet::{Packet, Request}, probe::Judge};
    ///
    /// let mut judge = Judge::default();
    /// judge.sent(&Packet::Rrq(Request::new("menu").into()));
    /// assert!(judge.warnings(0).is_empty());
    /// ```
    pub fn sent(&mut self, packet: &Packet) {
        if let Packet::Rrq(request) = packet {
            self.asked = request.options.clone();
        }
        self.repeats += u64::from(self.last_packet.as_ref() == Some(packet));
        self.over |= matches!(packet, Packet::Error { .. });
        self.last_packet = Some(packet.clone());
    }

    /// Takes a packet of the server.
    ///
    /// ```
    /// use tuffet::{packet::Packet, probe::{Judge, Warning}};
    ///
    /// let mut judge = Judge::default();
    /// judge.received(&Packet::Data { block: 1, payload: vec![0; 600].into() });
    /// assert_eq!(judge.warnings(0), [Warning::LongBlock { len: 600, blksize: 512 }]);
    /// ```
    pub fn received(&mut self, packet: &Packet) {
        let left = matches!(self.last_packet, Some(Packet::Error { .. }));
        match packet {
            Packet::Error { .. } if left => self.warn(Warning::ErrorToError),
            _ if self.over => self.late += 1,
            Packet::Oack(oack) => self.look_at(oack),
            Packet::Data { block, payload } => {
                let blksize = self.blksize.unwrap_or(DEFAULT_BLKSIZE.into());
                if payload.len() > blksize {
                    self.warn(Warning::LongBlock { len: payload.len(), blksize });
                }
                if *block == self.last_block.wrapping_add(1) {
                    self.last_block = *block;
                    self.bytes += payload.len() as u64;
                    self.over = payload.len() < blksize;
                } else {
                    self.copies += 1;
                }
            }
            _ => {}
        }
    }

    /// Adds a warning that the packets do not show.
    ///
    /// ```
    /// use tuffet::probe::{Judge, Warning};
    ///
    /// let mut judge = Judge::default();
    /// judge.warn(Warning::Malformed);
    /// judge.warn(Warning::Malformed);
    /// assert_eq!(judge.warnings(0), [Warning::Malformed], "once");
    /// ```
    pub fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// All warnings, at the end. `excuses` is the number of packets that were lost, doubled or delayed on purpose, of
    /// long silences of the client, and of its repeats after a timeout. Repeats because of a copy do not count, because
    /// they cause the Sorcerer's Apprentice syndrome.
    ///
    /// ```
    /// use tuffet::{packet::Packet, probe::Judge};
    ///
    /// let mut judge = Judge::default();
    /// for _ in 0..10 {
    ///     judge.received(&Packet::Data { block: 1, payload: vec![0; 512].into() });
    /// }
    /// assert!(judge.clone().warnings(9).is_empty(), "nine of them were doubled on purpose");
    /// assert_eq!(judge.warnings(0).len(), 1);
    /// ```
    pub fn warnings(mut self, excuses: u64) -> Vec<Warning> {
        if let Some(told) = self.tsize.filter(|&told| told != self.bytes && self.over && self.bytes > 0) {
            self.warn(Warning::WrongSize { told, came: self.bytes });
        }
        // Each excuse may bring a window again, or two.
        if self.copies > (excuses + 2) * 2 * self.windowsize.max(1) {
            self.warn(Warning::Flood { copies: self.copies });
        }
        self.warnings
    }

    /// The packets after the end: a server repeats them if it did not receive the last ACK.
    ///
    /// ```
    /// use tuffet::{packet::Packet, probe::Judge};
    ///
    /// let mut judge = Judge::default();
    /// let last = Packet::Data { block: 1, payload: "short".into() };
    /// judge.received(&last);
    /// judge.received(&last);
    /// assert_eq!(judge.late(), 1, "the last ACK was lost");
    /// ```
    pub fn late(&self) -> u64 {
        self.late
    }

    fn look_at(&mut self, oack: &Options) {
        let asked = self.asked.clone();
        for (name, granted) in oack.iter() {
            let Some(asked) = asked.value(name) else {
                self.warn(Warning::Unasked(name.into()));
                continue;
            };
            let (name, number) = (name.to_ascii_lowercase(), granted.parse::<u64>().ok());
            let is_plain = granted.bytes().all(|b| b.is_ascii_digit());
            let most = match name.as_str() {
                "blksize" | "windowsize" | "msftwindow" => asked.parse().ok(),
                _ => Some(u64::MAX),
            };
            let must_echo = ["timeout", "utimeout", "rollover"].contains(&name.as_str());
            if !is_plain || number.is_none() || number > most || (must_echo && asked != granted) {
                self.warn(Warning::BadValue { name: name.clone(), asked: asked.into(), granted: granted.into() });
            }
            match name.as_str() {
                "blksize" => self.blksize = number.map(|size| size as usize),
                "windowsize" => self.windowsize = number.unwrap_or(1),
                "tsize" => self.tsize = number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked(name) => write!(f, "the server sent the option {name}, which was not asked for"),
            Self::BadValue { name, asked, granted } => {
                write!(f, "the server granted {name}={granted} where {name}={asked} was asked for")
            }
            Self::LongBlock { len, blksize } => write!(f, "a block of {len} bytes where {blksize} were agreed"),
            Self::WrongSize { told, came } => write!(f, "the server announced {told} bytes and sent {came}"),
            Self::Flood { copies } => {
                write!(f, "{copies} blocks came again without need: the server answers repeated ACKs")
            }
            Self::ErrorToError => f.write_str("the server answered an ERROR with an ERROR"),
            Self::OtherAddress(ip) => write!(f, "the server answered from another address, {ip}"),
            Self::Malformed => f.write_str("the server sent a datagram that is not a TFTP packet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Mode, Request};

    fn options(text: &str) -> Options {
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect()
    }

    fn judged(asked: &str, granted: &str) -> Vec<String> {
        let mut judge = Judge::default();
        let options_asked = options(asked);
        let request = Request { filename: b"x".to_vec(), mode: Mode::Octet, options: options_asked };
        judge.sent(&Packet::Rrq(request.into()));
        judge.received(&Packet::Oack(options(granted)));
        judge.warnings(0).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_oack_grants_what_was_asked_or_less() {
        let asked = "tsize=0 blksize=1468 windowsize=4 timeout=5";
        assert!(judged(asked, "tsize=9 blksize=1024 windowsize=1 timeout=5").is_empty());
        assert_eq!(judged("blksize=1468", "blksize=1468 tsize=9").len(), 1);
        for bad in ["blksize=1469", "windowsize=5", "timeout=4", "timeout=5.0", "tsize=+9"] {
            assert_eq!(judged(asked, bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn every_block_twice_is_a_flood_and_a_few_are_not() {
        for (copies, floods) in [(4, false), (50, true)] {
            let mut judge = Judge::default();
            for block in 1..=50 {
                let data = Packet::Data { block, payload: vec![0; 512].into() };
                judge.received(&data);
                if block <= copies {
                    judge.received(&data);
                }
                judge.sent(&Packet::Ack(block));
            }
            assert_eq!(judge.warnings(0), [Warning::Flood { copies: copies.into() }][..usize::from(floods)]);
        }
    }

    #[test]
    fn sizes_and_good_byes() {
        let mut judge = Judge { asked: options("tsize=0"), ..Judge::default() };
        judge.received(&Packet::Oack(options("tsize=9")));
        judge.received(&Packet::Data { block: 1, payload: vec![0; 8].into() });
        judge.received(&Packet::Data { block: 1, payload: vec![0; 8].into() });
        assert_eq!(judge.late(), 1);
        let error = Packet::Error { code: crate::ErrorCode::NOT_DEFINED, message: String::new() };
        judge.sent(&error);
        judge.received(&error);
        assert_eq!(judge.warnings(0), [Warning::ErrorToError, Warning::WrongSize { told: 9, came: 8 }]);
    }
}
