//! Limits that follow from the number of descriptors.

/// How many transfers of one shard may have clients that have sent nothing but their requests. It is half of the
/// descriptors: each transfer may have one open, and forged requests must leave some for others.
pub(super) fn max_half_open(shards: usize) -> usize {
    (max_open_files() / 2 / shards).max(1)
}

/// How many descriptors the system lets this process have.
pub(super) fn max_open_files() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};

        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
    #[cfg(not(unix))]
    usize::MAX
}
