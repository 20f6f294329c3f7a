//! One direction of a network.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The faults and delays of a network, in probabilities and times.
///
/// ```
/// use std::time::Duration;
/// use tuffet::sim::LinkConditions;
///
/// let conditions = LinkConditions { reorder: 0.01, ..LinkConditions::lossy(Duration::from_millis(5), 0.02) };
/// assert_eq!((conditions.loss, conditions.duplicate), (0.02, 0.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConditions {
    /// A packet does not arrive.
    pub loss: f64,
    /// A packet arrives twice, the second time up to four latencies later.
    pub duplicate: f64,
    /// Later packets overtake a packet, which is up to four latencies late.
    pub reorder: f64,
    /// The time that a packet takes.
    pub latency: Duration,
    /// The most that is added to the latency. It delays packets and keeps their order.
    pub jitter: Duration,
}

/// A fault of one chosen packet, see [`Wire::with_fault`].
///
/// ```
/// use std::time::{Duration, Instant};
/// use tuffet::sim::{Fault, LinkConditions, Wire};
///
/// let mut wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7).with_fault(1, Fault::Lose);
/// let arrived: Vec<usize> = (0..3).map(|n| wire.send(Instant::now(), vec![n])).collect();
/// assert_eq!(arrived, [1, 0, 1]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The packet does not arrive.
    Lose,
    /// A second copy arrives, this much after the first.
    Double(Duration),
}

/// The packets that were sent and have not arrived: datagrams, or other values in their place.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tuffet::sim::{LinkConditions, Wire};
///
/// let (now, latency) = (Instant::now(), Duration::from_millis(5));
/// let mut wire = Wire::new(LinkConditions::lossless(latency), 42);
/// wire.send(now, b"ping".to_vec());
/// assert_eq!(wire.next_at(), Some(now + latency));
/// assert_eq!(wire.receive().unwrap(), b"ping");
/// ```
#[derive(Debug)]
pub struct Wire<Datagram = Vec<u8>> {
    conditions: LinkConditions,
    random: fastrand::Rng,
    /// The fault of the packet with this index. The first packet has index 0.
    fault: Option<(usize, Fault)>,
    on_the_way: BTreeMap<(Instant, usize), Datagram>,
    last_arrival: Option<Instant>,
    arrivals: usize,
    /// The packets that were sent.
    pub sent: usize,
    /// The packets that were lost.
    pub lost: usize,
    /// The packets that arrive twice.
    pub doubled: usize,
    /// The packets that others may overtake.
    pub overtaken: usize,
}

impl LinkConditions {
    /// A network without faults.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(tuffet::sim::LinkConditions::lossless(Duration::from_millis(5)).loss, 0.0);
    /// ```
    pub const fn lossless(latency: Duration) -> Self {
        Self { loss: 0.0, duplicate: 0.0, reorder: 0.0, latency, jitter: Duration::ZERO }
    }

    /// A network that loses packets, and has no other faults.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(tuffet::sim::LinkConditions::lossy(Duration::from_millis(5), 0.1).loss, 0.1);
    /// ```
    pub const fn lossy(latency: Duration, loss: f64) -> Self {
        Self { loss, ..Self::lossless(latency) }
    }
}

impl<Datagram: Clone> Wire<Datagram> {
    /// A wire with these faults, which are drawn from the seed.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tuffet::sim::{Fault, LinkConditions, Wire};
    ///
    /// let mut dead: Wire = Wire::new(LinkConditions::lossy(Duration::ZERO, 1.0), 7);
    /// assert_eq!(dead.send(Instant::now(), b"ping".to_vec()), 0);
    /// ```
    pub fn new(conditions: LinkConditions, seed: u64) -> Self {
        Self {
            conditions,
            random: fastrand::Rng::with_seed(seed),
            fault: None,
            on_the_way: BTreeMap::new(),
            last_arrival: None,
            arrivals: 0,
            sent: 0,
            lost: 0,
            doubled: 0,
            overtaken: 0,
        }
    }

    /// Adds a fault for the packet with this index. The first packet has index 0.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use tuffet::sim::{Fault, LinkConditions, Wire};
    ///
    /// let twice = Fault::Double(Duration::from_millis(1));
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7).with_fault(0, twice);
    /// assert_eq!(wire.send(Instant::now(), b"ping".to_vec()), 2);
    /// ```
    #[must_use]
    pub fn with_fault(self, index: usize, fault: Fault) -> Self {
        Self { fault: Some((index, fault)), ..self }
    }

    /// How many faults there were so far.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tuffet::sim::{Fault, LinkConditions, Wire};
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7).with_fault(0, Fault::Lose);
    /// wire.send(Instant::now(), b"ping".to_vec());
    /// assert_eq!((wire.incidents(), wire.lost), (1, 1));
    /// ```
    pub fn incidents(&self) -> usize {
        self.lost + self.doubled + self.overtaken
    }

    /// Changes the faults for the packets that are sent from now on.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tuffet::sim::{Fault, LinkConditions, Wire};
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7);
    /// wire.set_conditions(LinkConditions::lossy(Duration::ZERO, 1.0));
    /// assert_eq!(wire.send(Instant::now(), b"ping".to_vec()), 0);
    /// ```
    pub fn set_conditions(&mut self, conditions: LinkConditions) {
        self.conditions = conditions;
    }

    /// Sends a datagram, and returns how many copies of it will arrive.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tuffet::sim::{Fault, LinkConditions, Wire};
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7);
    /// assert_eq!((wire.send(Instant::now(), b"ping".to_vec()), wire.sent), (1, 1));
    /// ```
    pub fn send(&mut self, now: Instant, datagram: Datagram) -> usize {
        let fault = self.fault.filter(|(index, _)| *index == self.sent).map(|(_, fault)| fault);
        self.sent += 1;
        if self.happens(self.conditions.loss) || matches!(fault, Some(Fault::Lose)) {
            self.lost += 1;
            return 0;
        }
        let at = self.arrival(now);
        let copy = match fault {
            Some(Fault::Double(later)) => Some(at + later),
            _ if self.happens(self.conditions.duplicate) => Some(at + self.up_to(self.conditions.latency * 4)),
            _ => None,
        };
        if let Some(at) = copy {
            self.doubled += 1;
            self.carry(at, datagram.clone());
        }
        self.carry(at, datagram);
        1 + usize::from(copy.is_some())
    }

    /// When the next packet arrives.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tuffet::sim::{Fault, LinkConditions, Wire};
    /// let (now, latency) = (Instant::now(), Duration::from_millis(5));
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(latency), 7);
    /// wire.send(now, b"ping".to_vec());
    /// assert_eq!(wire.next_at(), Some(now + latency));
    /// ```
    pub fn next_at(&self) -> Option<Instant> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The packet whose arrival [`next_at`](Self::next_at) announced.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tuffet::sim::{Fault, LinkConditions, Wire};
    /// let mut wire: Wire = Wire::new(LinkConditions::lossless(Duration::ZERO), 7);
    /// wire.send(Instant::now(), b"ping".to_vec());
    /// assert_eq!((wire.receive(), wire.receive()), (Some(b"ping".to_vec()), None));
    /// ```
    pub fn receive(&mut self) -> Option<Datagram> {
        self.on_the_way.pop_first().map(|(_, datagram)| datagram)
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let at = now + self.conditions.latency + self.up_to(self.conditions.jitter);
        if self.happens(self.conditions.reorder) {
            self.overtaken += 1;
            return at + self.up_to(self.conditions.latency * 4);
        }
        let at = self.last_arrival.map_or(at, |last| at.max(last));
        self.last_arrival = Some(at);
        at
    }

    fn carry(&mut self, at: Instant, datagram: Datagram) {
        self.arrivals += 1;
        self.on_the_way.insert((at, self.arrivals), datagram);
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.f64() < probability
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.random.u64(0..=most.as_nanos() as u64))
    }
}
