//! Waits for the sockets of a shard, on Linux.
//!
//! The reactor that smol brings arms a socket anew for each wait and sets a timer descriptor besides: with one client
//! that makes six system calls a block where three do. Here the sockets stay armed and the deadline goes with the wait.

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
};

use super::Port;

/// Stands for the bell among the numbers of the ports.
const BELL: u64 = u64::MAX;
/// Sockets reported by one wait, at most. There are hardly more.
const EVENTS: usize = 64;

pub(crate) struct Reactor {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    events: Vec<epoll::Event>,
}

/// Ends a wait from elsewhere: from another thread, or from this one before it waits.
struct Bell {
    event: OwnedFd,
    /// Whether it was rung since it was last asked.
    rung: AtomicBool,
    /// Whether the thread waits, and only a system call can reach it.
    waiting: AtomicBool,
}

/// A port that something can be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ready {
    pub(crate) port: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Reactor {
    pub(crate) fn new(ports: &[Port]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &event, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
        for (port, i) in ports.iter().zip(0..) {
            epoll::add(&epoll, &port.socket, epoll::EventData::new_u64(i), epoll::EventFlags::IN)?;
        }
        let (rung, waiting) = (AtomicBool::new(true), AtomicBool::new(false));
        Ok(Self { epoll, bell: Arc::new(Bell { event, rung, waiting }), events: Vec::with_capacity(EVENTS) })
    }

    /// Rings the bell.
    pub(crate) fn waker(&self) -> Waker {
        self.bell.clone().into()
    }

    /// Whether the bell was rung since this was last asked; it begins rung.
    pub(crate) fn was_rung(&self) -> bool {
        self.bell.rung.swap(false, SeqCst)
    }

    /// Whether to be told when this port takes datagrams again.
    pub(crate) fn watch_writable(&self, ports: &[Port], port: usize, watch: bool) -> io::Result<()> {
        let writable = if watch { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(port as u64);
        Ok(epoll::modify(&self.epoll, &ports[port].socket, data, epoll::EventFlags::IN | writable)?)
    }

    /// Waits until a port is ready, the bell rings or the deadline passes.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<impl Iterator<Item = Ready> + '_> {
        self.bell.waiting.store(true, SeqCst);
        let left = match self.bell.rung.load(SeqCst) {
            true => Some(Duration::ZERO),
            false => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        };
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        self.events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref());
        self.bell.waiting.store(false, SeqCst);
        match waited {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.events.iter().any(|event| event.data.u64() == BELL) {
            let _ = read(&self.bell.event, &mut [0; 8]);
        }
        let of_ports = self.events.iter().filter(|event| event.data.u64() != BELL);
        Ok(of_ports.map(|event| {
            let (port, flags) = (event.data.u64() as usize, event.flags);
            // What else there is, an error, is found out by receiving.
            let writable = flags.contains(epoll::EventFlags::OUT);
            Ready { port, readable: flags != epoll::EventFlags::OUT, writable }
        }))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, SeqCst) && self.waiting.load(SeqCst) {
            // It can only fail by being full, and then it rings already.
            let _ = write(&self.event, &1u64.to_ne_bytes());
        }
    }
}
