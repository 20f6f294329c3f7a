//! Opening a file: at once if all that it takes is in memory, else where it may wait for the disk.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};
use smol::unblock;

use super::{
    chunks::Chunks,
    denied::{self, Wish},
    download::read_cached,
    made::{self, Made},
    place::Place,
    refuse, refuse_denied,
    trace::Trace,
};
use crate::{error::Refusal, source::Plain};

/// Up to this many, files that nobody reads any more may stay in the table.
const FEW: usize = 64;

/// A file that was modified this long ago will not be modified again without a change of its version: the time of a
/// file moves in steps, of 2 s at most.
const SETTLED: Duration = Duration::from_secs(3);
/// The same where times are told in parts of a second: then they move with the clock of the system, in steps of 10 ms at
/// most.
const SETTLED_FINE: Duration = Duration::from_millis(50);
/// Bytes at the end of a file by which one that has grown is told from another.
const TAIL: u64 = 16;

/// A regular file, open for reading by any number of transfers.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) version: Version,
    /// Its path, for people.
    pub(super) origin: Arc<str>,
    /// All of it, if one read brought all and no other content has this version.
    whole: OnceLock<Bytes>,
    /// What was read of it last.
    pub(super) chunks: Chunks,
    /// What the system makes up when it is read, whose size it does not tell.
    pub(super) made: Option<Made>,
    /// Its last bytes, where they were in memory.
    tail: Option<Vec<u8>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, u32),
    /// The same of its inode, which nobody can set back; zeros where it is not known.
    changed: (i64, u32),
    /// Device and inode; zeros where there are none, and then nothing is shared.
    pub(super) identity: (u64, u64),
    is_file: bool,
}

/// By their names as text, which is hashed faster than what is a path.
type Known = HashMap<OsString, (Instant, Weak<Opened>), foldhash::quality::RandomState>;

/// The files that are being read. A room of machines that boots from one file takes one descriptor.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// With the time before each was last opened.
    known: Mutex<Known>,
    /// Each reader has a clone.
    pub(super) readers: Arc<()>,
}

impl Files {
    /// The file of a request that came at this time, if that is known.
    pub(super) async fn open(
        &self,
        place: &Arc<Place>,
        path: PathBuf,
        (received, user): (Option<Instant>, &Arc<str>),
    ) -> Result<Arc<Opened>, Refusal> {
        if let Some(known) = self.opened_since(&path, received) {
            return Ok(known);
        }
        let now = Instant::now();
        let file = match open_cached(&place.dir, &path) {
            Some(opened) => opened.map_err(refuse)?,
            None => {
                let (place, path, user) = (place.clone(), path.clone(), user.clone());
                unblock(move || {
                    let why =
                        |error| refuse_denied(error, refuse, || denied::explain(&place, &path, Wish::Read, &user));
                    place.beneath(&path, open_waiting).map_err(why)
                })
                .await?
            }
        };
        let version = version(&file)?;
        if !version.is_file {
            return Err(Refusal::not_found().because("not a regular file"));
        }
        let origin = place.text(&path).into();
        let (file, made) = made::find(file, &version).await?;
        let tail = tail(&file, version.size);
        let opened = Opened { file, version, origin, whole: OnceLock::new(), chunks: Chunks::default(), made, tail };
        Ok(if opened.made.is_some() { Arc::new(opened) } else { self.share(path, now, opened) })
    }

    /// A file that was opened after the request had come is what opening it once more would give. A storm of requests
    /// costs one opening for each batch of them.
    fn opened_since(&self, path: &Path, received: Option<Instant>) -> Option<Arc<Opened>> {
        let known = self.known();
        let (at, opened) = known.get(path.as_os_str())?;
        opened.upgrade().filter(|_| received.is_some_and(|received| received <= *at))
    }

    /// The same file in the same state, if it is open already.
    fn share(&self, path: PathBuf, at: Instant, opened: Opened) -> Arc<Opened> {
        if opened.version.identity == (0, 0) {
            return Arc::new(opened);
        }
        let mut known = self.known();
        if known.len() >= FEW {
            known.retain(|_, (_, opened)| opened.strong_count() > 0);
        }
        let same = known.get(path.as_os_str()).and_then(|(_, opened)| opened.upgrade());
        let opened = same.filter(|same| same.version == opened.version).unwrap_or_else(|| Arc::new(opened));
        known.insert(path.into(), (at, Arc::downgrade(&opened)));
        opened
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// A file that was written to while it was read is neither the old one nor the new one, unless it only has grown: then
    /// what was sent, and where it ended, is as before.
    pub(super) async fn check_unchanged(self: &Arc<Self>, sent: &Trace) -> Result<(), Refusal> {
        let now = version(&self.file)?;
        if self.is_same(now) {
            return Ok(());
        }
        if self.has_grown(now) {
            let (opened, again) = (self.clone(), sent.again());
            let again = unblock(move || again.of_file(&opened.file, opened.version.size)).await?;
            if again == *sent {
                return Ok(());
            }
        }
        Err(changed())
    }

    /// A file that is renamed over is sent to its end, though that changes its inode.
    fn is_same(&self, now: Version) -> bool {
        now == (Version { changed: now.changed, ..self.version })
    }

    fn has_grown(&self, now: Version) -> bool {
        now.size > self.version.size && self.tail.is_some() && tail(&self.file, self.version.size) == self.tail
    }

    /// All of it, if it is small and another one has read it.
    pub(super) fn whole(&self) -> Option<Bytes> {
        self.whole.get().cloned()
    }

    /// Keeps all of it, checked, for those who read the same version. Like a chunk, it must be of a settled file.
    pub(super) fn keep(&self, whole: &Bytes) {
        self.whole.get_or_init(|| whole.clone());
    }

    /// Keeps a part of it for those who read the same version, and will check it, if there are any.
    pub(super) fn keep_chunk(self: &Arc<Self>, at: u64, chunk: &Bytes) {
        let readers = Arc::strong_count(self);
        if readers > 1 {
            self.chunks.keep(at, chunk, readers);
        }
    }
}

impl Plain for Opened {
    fn file(&self) -> &File {
        &self.file
    }

    fn check(&self) -> Result<(), Refusal> {
        let now = version(&self.file)?;
        if self.is_same(now) || self.has_grown(now) { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Refusal {
    Refusal::internal().because("the file changed while it was sent")
}

impl Version {
    /// When it was written to, if that can be said.
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

    /// Whether what is read from now on is all of this version, or the file will have another.
    pub(super) fn is_settled(&self) -> bool {
        self.is_older_than(SETTLED)
    }

    /// The same for a directory, whose time nobody sets back unseen: its inode tells.
    pub(super) fn is_settled_directory(&self) -> bool {
        self.identity != (0, 0) && self.is_older_than(if self.modified.1 == 0 { SETTLED } else { SETTLED_FINE })
    }

    fn is_older_than(&self, age: Duration) -> bool {
        let (seconds, nanoseconds) = self.modified;
        let modified = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanoseconds)).unwrap_or_default();
        SystemTime::UNIX_EPOCH.elapsed().is_ok_and(|now| now.saturating_sub(modified) > age)
    }
}

/// The last bytes of a file that is so long, if they need no wait for the disk: those of a file that grows do not.
fn tail(file: &File, size: u64) -> Option<Vec<u8>> {
    let at = size.saturating_sub(TAIL);
    let mut tail = vec![0; (size - at) as usize];
    (read_cached(file, at, &mut tail)? == tail.len()).then_some(tail)
}

/// Opens what can be opened without a wait for the disk, or is known not to be there. Any other trouble is left to who
/// can wait, and tell what it is.
#[cfg(target_os = "linux")]
fn open_cached(root: &Dir, path: &Path) -> Option<io::Result<File>> {
    use rustix::{
        fs::{Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };
    // Without O_NONBLOCK a FIFO would wait here for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Some(Ok(file.into())),
        Err(Errno::NOENT) => Some(Err(io::ErrorKind::NotFound.into())),
        Err(_) => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_cached(_: &Dir, _: &Path) -> Option<io::Result<File>> {
    None
}

fn open_waiting(root: &Dir, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    Ok(root.open_with(path, &options)?.into_std())
}

/// From what is in memory: of a file on a network, what this machine last heard of it.
#[cfg(target_os = "linux")]
pub(super) fn version(file: impl std::os::fd::AsFd) -> io::Result<Version> {
    use rustix::{
        fs::{AtFlags, FileType, StatxFlags, statx},
        io::Errno,
    };
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = match statx(&file, c"", flags, StatxFlags::BASIC_STATS) {
        // Profiles of containers that are older than the call forbid it, and kernels have not had it for ever.
        Err(Errno::NOSYS | Errno::PERM) => return plain_version(file),
        found => found?,
    };
    Ok(Version {
        size: found.stx_size,
        modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        identity: (u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor), found.stx_ino),
        is_file: FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile,
    })
}

/// The same by a call that all kernels and profiles allow.
#[cfg(target_os = "linux")]
fn plain_version(file: impl std::os::fd::AsFd) -> io::Result<Version> {
    use std::os::unix::fs::MetadataExt;
    let found = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    let nanoseconds = |part| u32::try_from(part).unwrap_or_default();
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    Ok(Version {
        size: found.len(),
        modified: (found.mtime(), nanoseconds(found.mtime_nsec())),
        changed: (found.ctime(), nanoseconds(found.ctime_nsec())),
        identity: (u64::from(major) << 32 | u64::from(minor), found.ino()),
        is_file: found.is_file(),
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn version(file: &File) -> io::Result<Version> {
    let found = file.metadata()?;
    let modified = found.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Version {
        size: found.len(),
        modified: (modified.as_secs() as i64, modified.subsec_nanos()),
        changed: (0, 0),
        identity: (0, 0),
        is_file: found.is_file(),
    })
}
