//! What is admitted, and how much of it.

use std::{fmt, net::IpAddr, sync::Arc};

/// Limits of an endpoint. They can be exchanged while it runs.
#[derive(Clone)]
#[non_exhaustive]
pub struct Policy {
    /// Largest blksize, in bytes. Defaults to `None`: what travels in one piece.
    pub blksize: Option<u16>,
    /// Largest windowsize, in blocks. Defaults to `None`: that of [`Limits`](crate::options::Limits), or less where a
    /// forger would reach more than [`AMPLIFICATION`](super::AMPLIFICATION) by it.
    pub windowsize: Option<u16>,
    /// Transfers at once. Defaults to 10000.
    pub max_transfers: usize,
    /// Transfers at once whose client was never heard; beyond, the oldest of them gives way. Defaults to no limit but
    /// `max_transfers`.
    pub max_unheard: usize,
    /// Transfers at once of one client address. Defaults to `None`: half of `max_transfers`, and 100 at least.
    pub max_transfers_per_client: Option<usize>,
    /// Requests of one client address in a second, and ten times as many at once; 0 is no limit. Defaults to 1000.
    pub max_requests_per_client: u32,
    /// Which addresses are served. Defaults to all.
    pub admits: Option<Admits>,
}

/// Whether a client is answered at all.
pub type Admits = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Why a datagram is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dropped {
    /// Its source is no address that a client can have.
    Source,
    /// The server stops.
    Stopping,
    /// Its sender is not served.
    Denied,
    /// Too many requests of this address.
    Requests,
    /// Too many transfers of this address.
    Client,
    /// Too many transfers.
    Full,
    /// Too many ERRORs.
    Errors,
    /// The file is not there, and everybody was asked for it.
    Broadcast,
    /// It belongs to a transfer that has just ended.
    Late,
    /// It belongs to no transfer.
    Stranger,
    /// A request came to a port of a transfer.
    Misdirected,
    /// It is no packet.
    Malformed,
}

impl Policy {
    /// Transfers that one address may have by default, whatever half of all is.
    const LEAST: usize = 100;

    pub(crate) fn admit(&self, client: IpAddr) -> bool {
        self.admits.as_ref().is_none_or(|admits| admits(client.to_canonical()))
    }

    /// One address, be it that of many machines, leaves room for the others.
    pub(crate) fn of_one(&self) -> usize {
        self.max_transfers_per_client.unwrap_or((self.max_transfers / 2).max(Self::LEAST))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            blksize: None,
            windowsize: None,
            max_transfers: 10_000,
            max_unheard: usize::MAX,
            max_transfers_per_client: None,
            max_requests_per_client: 1000,
            admits: None,
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("blksize", &self.blksize)
            .field("windowsize", &self.windowsize)
            .field("max_transfers", &self.max_transfers)
            .field("max_unheard", &self.max_unheard)
            .field("max_transfers_per_client", &self.max_transfers_per_client)
            .field("max_requests_per_client", &self.max_requests_per_client)
            .finish_non_exhaustive()
    }
}

impl Dropped {
    /// The reason, in a few words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Source => "no client has this address",
            Self::Stopping => "stopping",
            Self::Denied => "it is not admitted",
            Self::Requests => "too many requests of this address",
            Self::Client => "too many transfers of this address",
            Self::Full => "too many transfers",
            Self::Errors => "too many errors",
            Self::Broadcast => "everybody was asked",
            Self::Late => "its transfer has just ended",
            Self::Stranger => "it has no transfer",
            Self::Misdirected => "a request to the port of a transfer",
            Self::Malformed => "no TFTP packet",
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
