//! Waits for the sockets of a shard, on Linux.
//!
//! smol's reactor arms a socket anew for each wait and also sets a timer descriptor. With one client that is six
//! system calls a block, where three are enough. In this reactor the sockets stay armed. The timer also stays armed,
//! for the earliest deadline so far: a timeout with each wait makes a block a tenth dearer with one client.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::{Errno, read, write},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use super::Port;

/// The bell's number in epoll's events; the other numbers are indices of ports.
const BELL: u64 = u64::MAX;
/// The timer's number in epoll's events.
const TIMER: u64 = u64::MAX - 1;
/// A timeout of zero, or the interval of a timer that does not repeat.
const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub(crate) struct Reactor {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    timer: OwnedFd,
    /// When the timer ends a wait, if it is armed.
    armed: Option<Instant>,
    events: Vec<epoll::Event>,
}

/// Ends a wait from another thread, or from this thread before it waits.
struct Bell {
    event: OwnedFd,
    /// Whether the bell was rung since the last call of [`Reactor::was_rung`].
    rung: AtomicBool,
    /// Whether the thread waits, so that only a system call can reach it.
    waiting: AtomicBool,
}

/// A port that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ready {
    pub(crate) port: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Whether the socket has an error to receive.
    pub(crate) failed: bool,
}

impl Reactor {
    pub(crate) fn new(ports: &[Port]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &event, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // The timer is reported once for each expiry, so it need not be read.
        let once = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), once)?;
        let (rung, waiting) = (AtomicBool::new(true), AtomicBool::new(false));
        // One wait reports all ports, because the order in which they are reported matters.
        let events = Vec::with_capacity(ports.len() + 2);
        let bell = Arc::new(Bell { event, rung, waiting });
        let reactor = Self { epoll, bell, timer, armed: None, events };
        (0..ports.len()).try_for_each(|i| reactor.watch(ports, i))?;
        Ok(reactor)
    }

    /// Makes waits end when this port has received a datagram. A closed port needs no call.
    pub(crate) fn watch(&self, ports: &[Port], port: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(port as u64);
        Ok(epoll::add(&self.epoll, &ports[port].socket, data, epoll::EventFlags::IN)?)
    }

    /// A waker that rings the bell.
    pub(crate) fn waker(&self) -> Waker {
        self.bell.clone().into()
    }

    /// Whether the bell was rung since the previous call. At the beginning it is rung.
    pub(crate) fn was_rung(&self) -> bool {
        self.bell.rung.swap(false, SeqCst)
    }

    /// Whether waits end when this port accepts datagrams again.
    pub(crate) fn watch_writable(&self, ports: &[Port], port: usize, watch: bool) -> io::Result<()> {
        let writable = if watch { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(port as u64);
        Ok(epoll::modify(&self.epoll, &ports[port].socket, data, epoll::EventFlags::IN | writable)?)
    }

    /// Waits until a port is ready, the bell rings or the deadline passes. It may also end early, without any of
    /// these.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<impl Iterator<Item = Ready> + '_> {
        if let Some(deadline) = deadline {
            self.arm(deadline)?;
        }
        self.bell.waiting.store(true, SeqCst);
        let timeout = self.bell.rung.load(SeqCst).then_some(&ZERO);
        self.events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout);
        self.bell.waiting.store(false, SeqCst);
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.events.iter().any(|event| event.data.u64() == BELL) {
            let _ = read(&self.bell.event, &mut [0; 8]);
        }
        if self.events.iter().any(|event| event.data.u64() == TIMER) {
            self.armed = None;
        }
        let of_ports = self.events.iter().filter(|event| event.data.u64() < TIMER);
        Ok(of_ports.map(|event| {
            let (port, flags) = (event.data.u64() as usize, event.flags);
            let [writable, failed] = [epoll::EventFlags::OUT, epoll::EventFlags::ERR].map(|flag| flags.contains(flag));
            Ready { port, readable: flags != epoll::EventFlags::OUT, writable, failed }
        }))
    }

    /// Arms the timer, so that it ends a wait at this time or before.
    fn arm(&mut self, deadline: Instant) -> io::Result<()> {
        if self.armed.is_none_or(|armed| deadline < armed) {
            // A time of zero would stop the timer.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
            let once = Itimerspec { it_interval: ZERO, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.armed = Some(deadline);
        }
        Ok(())
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, SeqCst) && self.waiting.load(SeqCst) {
            // The write can fail only if the event is full, and then the bell rings already.
            let _ = write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_the_earliest_of_its_deadlines() {
        let (mut reactor, start) = (Reactor::new(&[]).unwrap(), Instant::now());
        assert!(reactor.was_rung());
        let far = start + Duration::from_secs(60);
        for ms in [30, 20, 0, 40] {
            reactor.arm(far).unwrap();
            let (deadline, mut waits) = (start + Duration::from_millis(ms), 0);
            while waits == 0 || Instant::now() < deadline {
                assert_eq!(reactor.wait(Some(deadline)).unwrap().count(), 0);
                waits += 1;
            }
            assert!(Instant::now() < far, "the deadline before, which was later, counted instead");
            assert!(waits <= 2, "{waits} waits for one deadline");
        }
    }
}
