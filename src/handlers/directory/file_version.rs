//! The facts of a file system about a file, by which a change of the file shows.

use std::time::{Duration, SystemTime};

/// A file that was modified this long ago gets a new version with its next modification: the time of a file moves in
/// steps, of 2 s at most.
const SETTLED: Duration = Duration::from_secs(3);
/// The same for times with parts of a second: they move with the clock of the system, in steps of 10 ms at most.
const SETTLED_FINE: Duration = Duration::from_millis(50);
/// A time that is further ahead than this is as good as an old one: the clock of the system does not reach it soon. A
/// machine may begin with a clock of 1970. The clock of a file server may be ahead by less.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) size: u64,
    /// The time of modification, in seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    /// The same for its inode, which nobody can set back; zeros if unknown.
    pub(super) changed: (i64, u32),
    /// The device and the inode; zeros if unknown, and then the file is not shared.
    pub(super) identity: (u64, u64),
    pub(super) is_file: bool,
}

impl Version {
    /// The time of modification, if it can be expressed.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        let (seconds, nanoseconds) = self.modified;
        let since = Duration::new(seconds.unsigned_abs(), 0);
        let second = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(since)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(since)
        };
        second?.checked_add(Duration::from_nanos(nanoseconds.into()))
    }

    /// Whether any later change gives the file a new version, so that all that is read now belongs to this one.
    pub(super) fn is_settled(&self) -> bool {
        self.is_far_from_now(SETTLED)
    }

    /// The same for a directory. Its time cannot be set back without a trace in its inode.
    pub(super) fn is_settled_directory(&self) -> bool {
        self.identity != (0, 0) && self.is_far_from_now(if self.modified.1 == 0 { SETTLED } else { SETTLED_FINE })
    }

    fn is_far_from_now(&self, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.modified;
        let modified = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanoseconds)).unwrap_or_default();
        let is_far = |now: Duration| now.saturating_sub(modified) > age || modified.saturating_sub(now) > AHEAD;
        SystemTime::UNIX_EPOCH.elapsed().is_ok_and(is_far)
    }
}
