//! One machine that boots.

use std::{hash::DefaultHasher, net::SocketAddr, time::Instant};

use tuffet::probe::{BootClient, Habits, habits};

const CLIENTS: [Habits; 6] =
    [habits::IPXE, habits::EDK2, habits::PXELINUX, habits::UBOOT, habits::UBOOT_WINDOWS, habits::BUSYBOX];

pub(super) struct Machine {
    pub(super) habits: Habits,
    pub(super) client: Option<BootClient>,
    /// The address and port of the machine's current transfer.
    pub(super) addr: SocketAddr,
    /// The server's port of the current transfer, once the server has answered.
    pub(super) peer: Option<SocketAddr>,
    /// The server's port of the previous transfer.
    pub(super) before: Option<SocketAddr>,
    pub(super) step: usize,
    /// The number of the last alarm. Earlier alarms do not wake the machine.
    pub(super) alarms: u64,
    pub(super) at: Option<Instant>,
    pub(super) hash: DefaultHasher,
    pub(super) hashes: Vec<u64>,
    pub(super) tries: u32,
    /// When an attacker last forged a datagram of this machine.
    pub(super) forged: Option<Instant>,
    /// When the machine last received a packet of the server.
    pub(super) last_packet_at: Option<Instant>,
}

impl Machine {
    pub(super) fn new(n: usize, random: &mut fastrand::Rng) -> Self {
        let [_, high, mid, low] = (n as u32).to_be_bytes();
        Self {
            habits: CLIENTS[random.usize(..CLIENTS.len())],
            client: None,
            addr: ([10, high, mid, low], 49152).into(),
            peer: None,
            before: None,
            step: 0,
            alarms: 0,
            at: None,
            hash: DefaultHasher::new(),
            hashes: Vec::new(),
            tries: 0,
            forged: None,
            last_packet_at: None,
        }
    }

    pub(super) fn state(&self, n: usize, now: Instant) -> String {
        let Self { habits, addr, peer, step, tries, .. } = self;
        let last_packet_at = self.last_packet_at.map(|at| now - at);
        format!(
            "machine {n}, {}, {addr}, talks to {peer:?}, last packet {last_packet_at:?} ago, step {step}, try {tries}",
            habits.name
        )
    }
}
