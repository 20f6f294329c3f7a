//! Faults of the network, packet by packet.

use std::time::Duration;

use crate::{options::DEFAULT_BLKSIZE, packet::Packet};

/// The direction of a packet, as the client sees it.
///
/// ```
/// use tuffet::{packet::Packet, probe::{Fault, Faults, Way}};
///
/// let mut faults = Faults::new().with(Way::Received, 1, Fault::Lose);
/// assert_eq!(faults.pass(Way::Sent, &Packet::Ack(1)).len(), 1, "the other direction");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Sent,
    /// From the server to the client.
    Received,
}

/// The fate of one packet.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{packet::Packet, probe::{Fault, Faults, Way}};
///
/// let late = Duration::from_secs(1);
/// assert_eq!(Faults::new().with(Way::Sent, 1, Fault::Delay(late)).pass(Way::Sent, &Packet::Ack(1)), [late]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The packet does not arrive.
    Lose,
    /// The packet arrives twice.
    Duplicate,
    /// The packet arrives this much later.
    Delay(Duration),
}

/// A network that mistreats some packets, chosen by number.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{packet::Packet, probe::{Fault, Faults, Way}};
///
/// let mut faults = Faults::new().with(Way::Sent, 2, Fault::Lose).with(Way::Sent, 3, Fault::Duplicate);
/// let copies: Vec<usize> = (0..4).map(|n| faults.pass(Way::Sent, &Packet::Ack(n)).len()).collect();
/// assert_eq!(copies, [1, 0, 2, 1]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<(Way, i64, Fault)>,
    passed: [i64; 2],
    blksize: Option<usize>,
    /// The number of the last block of the file.
    last: Option<u16>,
}

impl Faults {
    /// No faults.
    ///
    /// ```
    /// assert!(tuffet::probe::Faults::new().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no faults, or none are left.
    ///
    /// ```
    /// use tuffet::{packet::Packet, probe::{Fault, Faults, Way}};
    ///
    /// let mut faults = Faults::new().with(Way::Sent, 1, Fault::Lose);
    /// faults.pass(Way::Sent, &Packet::Ack(1));
    /// assert!(faults.is_empty(), "it is used up");
    /// ```
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Adds a fault for the packet with this number among those of this direction, copies included. The first packet
    /// has number 1. -1 is the packet that ends the transfer: the last DATA, its ACK, or an ERROR. The same number
    /// again means the next packet; -1 again means the same packet when it is repeated.
    ///
    /// ```
    /// use tuffet::{packet::Packet, probe::{Fault, Faults, Way}};
    ///
    /// let mut faults = Faults::new().with(Way::Received, -1, Fault::Lose);
    /// let last = Packet::Data { block: 1, payload: "short".into() };
    /// assert!(faults.pass(Way::Received, &last).is_empty());
    /// ```
    #[must_use]
    pub fn with(mut self, way: Way, number: i64, fault: Fault) -> Self {
        self.rules.push((way, number, fault));
        self
    }

    /// Passes a packet on. Returns the delay of each copy that arrives; none if the packet is lost.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tuffet::{packet::Packet, probe::{Faults, Way}};
    ///
    /// assert_eq!(Faults::new().pass(Way::Sent, &Packet::Ack(1)), [Duration::ZERO]);
    /// ```
    pub fn pass(&mut self, way: Way, packet: &Packet) -> Vec<Duration> {
        let passed = &mut self.passed[way as usize];
        *passed += 1;
        let passed = *passed;
        let is_last = self.look(packet);
        let meant = |(w, n, _): &&mut (Way, i64, Fault)| *w == way && (*n == passed || (*n == -1 && is_last));
        let Some(rule) = self.rules.iter_mut().find(meant) else { return vec![Duration::ZERO] };
        let (number, fault) = (rule.1, rule.2);
        // The fault is used up.
        rule.1 = 0;
        for (w, n, _) in &mut self.rules {
            if *w == way && *n == number && number > 0 {
                *n += 1;
            }
        }
        self.rules.retain(|(_, number, _)| *number != 0);
        match fault {
            Fault::Lose => Vec::new(),
            Fault::Duplicate => vec![Duration::ZERO; 2],
            Fault::Delay(time) => vec![time],
        }
    }

    /// Whether the packet ends the transfer.
    fn look(&mut self, packet: &Packet) -> bool {
        match packet {
            Packet::Oack(oack) => {
                self.blksize = oack.value("blksize").and_then(|size| size.parse().ok());
                false
            }
            Packet::Data { block, payload } => {
                let is_last = payload.len() < self.blksize.unwrap_or(DEFAULT_BLKSIZE.into());
                if is_last {
                    self.last = Some(*block);
                }
                is_last
            }
            Packet::Ack(block) => self.last == Some(*block),
            Packet::Error { .. } => true,
            Packet::Rrq(_) | Packet::Wrq(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(block: u16, len: usize) -> Packet {
        Packet::Data { block, payload: vec![0; len].into() }
    }

    #[test]
    fn the_last_packet_is_the_one_that_ends_the_transfer() {
        let mut faults = Faults::new().with(Way::Received, -1, Fault::Lose).with(Way::Received, -1, Fault::Lose);
        faults = faults.with(Way::Sent, -1, Fault::Delay(Duration::from_secs(1)));
        let oack = Packet::Oack([("blksize", "1000")].into_iter().collect());
        assert_eq!(faults.pass(Way::Received, &oack).len(), 1);
        assert_eq!(faults.pass(Way::Received, &data(1, 1000)).len(), 1);
        assert_eq!(faults.pass(Way::Sent, &Packet::Ack(1)), [Duration::ZERO]);
        assert_eq!([(); 3].map(|()| faults.pass(Way::Received, &data(2, 999)).len()), [0, 0, 1]);
        assert_eq!(faults.pass(Way::Sent, &Packet::Ack(2)), [Duration::from_secs(1)]);
        assert!(faults.is_empty());
    }

    #[test]
    fn a_number_again_is_the_next_packet() {
        let mut faults = Faults::new().with(Way::Sent, 2, Fault::Lose).with(Way::Sent, 2, Fault::Lose);
        assert_eq!([(); 4].map(|()| faults.pass(Way::Sent, &Packet::Ack(7)).len()), [1, 0, 0, 1]);
        assert_eq!(faults.pass(Way::Received, &Packet::Ack(7)).len(), 1);
    }
}
