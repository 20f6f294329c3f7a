//! Boot clients that read.

use std::time::Instant;

use tuffet::{
    packet::Packet,
    probe::{BootClient, Ending, habits},
};

use super::{Cue, Peer};

pub use tuffet::probe::Habits;

pub use habits::{EDK2, GRUB, IPXE, PXELINUX, UBOOT, UBOOT_WINDOWS};

/// The models of boot clients, and the clients that boot loaders call.
pub const ALL: [Habits; 8] = [IPXE, EDK2, PXELINUX, GRUB, UBOOT, UBOOT_WINDOWS, habits::BUSYBOX, habits::PHONE];

/// One client, and the bytes that it has received.
pub struct Client {
    client: BootClient,
    pub file: Vec<u8>,
}

impl Client {
    pub fn new(habits: Habits) -> Self {
        Self { client: BootClient::new(habits, "file"), file: Vec::new() }
    }

    /// How often the client repeated a packet after the first answer.
    pub fn timeouts(&self) -> usize {
        self.client.timeouts()
    }

    /// From the first answer until it had the file.
    pub fn took(&self) -> Option<std::time::Duration> {
        self.client.took().filter(|_| self.client.ending() == Some(&Ending::Complete))
    }
}

impl Peer for Client {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        let said = match cue {
            Cue::Begin => self.client.start(now),
            Cue::Packet(packet) => self.client.receive(now, packet),
            Cue::Wake => self.client.wake(now),
        };
        self.client.take_blocks().iter().for_each(|block| self.file.extend_from_slice(block));
        if let Some(Ending::Refused { code, message }) = self.client.ending() {
            panic!("ERROR {code} {message}");
        }
        said
    }

    fn wake_at(&self) -> Option<Instant> {
        self.client.wake_at()
    }
}
