//! Limits on the requests and transfers that an endpoint admits.

use std::{fmt, net::IpAddr, sync::Arc};

/// The limits of an endpoint. They can be changed while it runs.
///
/// ```
/// use tuffet::endpoint::Policy;
///
/// let mut policy = Policy::default();
/// policy.max_transfers = 100;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Policy {
    /// Largest blksize, in bytes. Defaults to `None`: the largest that needs no IP fragments.
    pub blksize: Option<u16>,
    /// Largest windowsize, in blocks. Defaults to `None`: the one of [`Limits`](crate::options::Limits), or less where
    /// a larger window would let a forger exceed [`AMPLIFICATION`](super::AMPLIFICATION).
    pub windowsize: Option<u16>,
    /// Running transfers in total. Defaults to 10000.
    pub max_transfers: usize,
    /// Running transfers whose clients have sent nothing but their requests. Beyond the limit, the oldest of them
    /// is evicted. Defaults to no limit but `max_transfers`.
    pub max_half_open: usize,
    /// Running transfers of one client address. Defaults to `None`: half of `max_transfers`, and 100 at least.
    pub max_transfers_per_client: Option<usize>,
    /// Requests of one client address in a second; ten times as many may come at once. 0 is no limit. Defaults to
    /// 1000.
    pub max_requests_per_client: u32,
    /// Says which client addresses are served. Defaults to all.
    pub admits: Option<Admits>,
}

/// Whether this client address is served.
pub type Admits = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Why a datagram is not answered.
///
/// ```
/// use std::time::Instant;
/// use tuffet::endpoint::{Action, DropReason, Endpoint, Envelope, Policy, Pool};
///
/// let mut endpoint = Endpoint::new(Policy::default(), vec![Pool { listener: 0, ports: vec![1, 2] }], 7);
/// let nobody = Envelope::new(([255, 255, 255, 255], 1069).into());
/// let action = endpoint.handle(Instant::now(), 0, &nobody, b"\0\x01menu\0octet\0");
/// assert!(matches!(action, Action::LeaveUnanswered(DropReason::Source)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// No client can have its source address.
    Source,
    /// The server is stopping.
    Stopping,
    /// The policy does not admit its sender.
    Denied,
    /// Its sender has sent too many requests.
    Requests,
    /// Its sender has too many transfers.
    Client,
    /// The server has too many transfers.
    Full,
    /// The server has sent too many ERRORs.
    Errors,
    /// It was a broadcast, and its answer would be an ERROR.
    Broadcast,
    /// It belongs to a transfer that has just ended.
    Late,
    /// It belongs to no transfer.
    UnknownTid,
    /// It is a request that came to the port of a transfer.
    Misdirected,
    /// It is no TFTP packet.
    Malformed,
}

impl Policy {
    /// How many transfers one address may have by default, if half of all is less.
    const LEAST: usize = 100;

    pub(crate) fn admit(&self, client: IpAddr) -> bool {
        self.admits.as_ref().is_none_or(|admits| admits(client.to_canonical()))
    }

    /// How many transfers one address may have, so that others find room. Many machines may share one address.
    pub(crate) fn transfers_per_client(&self) -> usize {
        self.max_transfers_per_client.unwrap_or((self.max_transfers / 2).max(Self::LEAST))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            blksize: None,
            windowsize: None,
            max_transfers: 10_000,
            max_half_open: usize::MAX,
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
            .field("max_half_open", &self.max_half_open)
            .field("max_transfers_per_client", &self.max_transfers_per_client)
            .field("max_requests_per_client", &self.max_requests_per_client)
            .finish_non_exhaustive()
    }
}

impl DropReason {
    /// The reason, in a few words.
    ///
    /// ```
    /// assert_eq!(tuffet::endpoint::DropReason::Full.to_string(), "too many transfers");
    /// ```
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Source => "no client has this address",
            Self::Stopping => "stopping",
            Self::Denied => "the client is not admitted",
            Self::Requests => "too many requests from this address",
            Self::Client => "too many transfers from this address",
            Self::Full => "too many transfers",
            Self::Errors => "too many errors",
            Self::Broadcast => "the request was a broadcast",
            Self::Late => "its transfer has just ended",
            Self::UnknownTid => "unknown transfer ID",
            Self::Misdirected => "a request to the port of a transfer",
            Self::Malformed => "not a TFTP packet",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}
