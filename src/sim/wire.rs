//! One direction of a network.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What the network does to packets, in probabilities and times.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A packet does not arrive.
    pub loss: f64,
    /// A packet arrives twice, the second time up to four latencies later.
    pub duplicate: f64,
    /// A packet that is late for this reason is overtaken by others, up to four latencies' worth of them.
    pub reorder: f64,
    /// The time that a packet takes.
    pub latency: Duration,
    /// What is added to the latency at most. It delays and keeps the order.
    pub jitter: Duration,
}

/// What happens to one packet that was picked out.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It does not arrive.
    Lose,
    /// A second copy, this much after the first.
    Double(Duration),
}

/// What was sent and has not arrived: datagrams, or whatever stands for them.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tuffet::sim::{Weather, Wire};
///
/// let (now, latency) = (Instant::now(), Duration::from_millis(5));
/// let mut wire = Wire::new(Weather::fine(latency), 42);
/// wire.send(now, b"ping".to_vec());
/// assert_eq!(wire.next_at(), Some(now + latency));
/// assert_eq!(wire.receive().unwrap(), b"ping");
/// ```
#[derive(Debug)]
pub struct Wire<Datagram = Vec<u8>> {
    weather: Weather,
    random: fastrand::Rng,
    /// The fault of the packet with this index; the first that is sent has index 0.
    fault: Option<(usize, Fault)>,
    on_the_way: BTreeMap<(Instant, usize), Datagram>,
    last_arrival: Option<Instant>,
    arrivals: usize,
    /// Packets that were sent.
    pub sent: usize,
    /// Those of them that were lost.
    pub lost: usize,
    /// Those that arrive twice.
    pub doubled: usize,
    /// Those that others may overtake.
    pub overtaken: usize,
}

impl Weather {
    /// Nothing goes wrong.
    pub const fn fine(latency: Duration) -> Self {
        Self { loss: 0.0, duplicate: 0.0, reorder: 0.0, latency, jitter: Duration::ZERO }
    }

    /// Packets are lost, and nothing else goes wrong.
    pub const fn lossy(latency: Duration, loss: f64) -> Self {
        Self { loss, ..Self::fine(latency) }
    }
}

impl<Datagram: Clone> Wire<Datagram> {
    /// A wire in this weather. What goes wrong is drawn from the seed.
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
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

    /// Something happens to the packet with this index besides; the first has index 0.
    #[must_use]
    pub fn with_fault(self, index: usize, fault: Fault) -> Self {
        Self { fault: Some((index, fault)), ..self }
    }

    /// Everything that went wrong so far.
    pub fn incidents(&self) -> usize {
        self.lost + self.doubled + self.overtaken
    }

    /// The weather changes, for packets that are sent from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Takes a datagram and returns how many copies of it will arrive.
    pub fn send(&mut self, now: Instant, datagram: Datagram) -> usize {
        let fault = self.fault.filter(|(index, _)| *index == self.sent).map(|(_, fault)| fault);
        self.sent += 1;
        if self.happens(self.weather.loss) || matches!(fault, Some(Fault::Lose)) {
            self.lost += 1;
            return 0;
        }
        let at = self.arrival(now);
        let copy = match fault {
            Some(Fault::Double(later)) => Some(at + later),
            _ if self.happens(self.weather.duplicate) => Some(at + self.up_to(self.weather.latency * 4)),
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
    pub fn next_at(&self) -> Option<Instant> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The packet that [`next_at`](Self::next_at) announced.
    pub fn receive(&mut self) -> Option<Datagram> {
        self.on_the_way.pop_first().map(|(_, datagram)| datagram)
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let at = now + self.weather.latency + self.up_to(self.weather.jitter);
        if self.happens(self.weather.reorder) {
            self.overtaken += 1;
            return at + self.up_to(self.weather.latency * 4);
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
