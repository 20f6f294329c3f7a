//! The root: the directory that is at its path now, which need not be the one of a while ago.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use cap_std::{ambient_authority, fs::Dir};
use smol::unblock;

use super::place::Place;

/// Device and inode; zeros where there are none, and then no other directory is ever noticed.
type Identity = (u64, u64);

/// What is done when another directory has come that a sandbox keeps from this process.
type Hook = Box<dyn Fn(&Path) + Send + Sync>;

/// The error of that.
#[derive(Debug)]
struct OutOfReach;

impl std::error::Error for OutOfReach {}

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another directory is in its place, and the sandbox of this process is for the one before")
    }
}

pub(super) struct Root {
    /// Absolute, as far as the system can tell.
    path: Arc<Path>,
    seen: Mutex<Seen>,
    pub(super) out_of_reach: OnceLock<Hook>,
    /// Whether it was said that the path cannot be looked at.
    is_blind: AtomicBool,
    /// Whether uploads go there.
    pub(super) is_written: AtomicBool,
}

struct Seen {
    /// As long as it is open, no other directory has its inode.
    dir: Arc<Dir>,
    /// Its path without links.
    real: Arc<Path>,
    identity: Identity,
    /// Whether it came in the place of another one.
    is_other: bool,
    /// When somebody began to look at the path last.
    at: Instant,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let at = Instant::now();
        let dir = Arc::new(Dir::open_ambient_dir(path, ambient_authority())?);
        let identity = identity(&dir.dir_metadata()?);
        // A server may change its working directory.
        let path: Arc<Path> = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into();
        let seen = Mutex::new(Seen { dir, real: real(&path), identity, is_other: false, at });
        let (out_of_reach, is_blind, is_written) = Default::default();
        Ok(Self { path, seen, out_of_reach, is_blind, is_written })
    }

    /// The directory that is there now, for a request that came at this time, if that is known: a storm of requests costs
    /// one look for each batch of them.
    pub(super) async fn now(
        self: &Arc<Self>,
        also: &Arc<[PathBuf]>,
        received: Option<Instant>,
    ) -> io::Result<Arc<Place>> {
        if received.is_none_or(|received| received > self.seen().at) {
            self.look_again().await?;
        }
        let seen = self.seen();
        let (dir, path, real) = (seen.dir.clone(), self.path.clone(), seen.real.clone());
        Ok(Arc::new(Place { dir, path, real, also: also.clone() }))
    }

    /// The directory that is there now. It waits for the disk.
    pub(super) fn dir(&self) -> io::Result<Arc<Dir>> {
        self.look(Instant::now())?;
        Ok(self.seen().dir.clone())
    }

    /// Whether this is the error of a process that is about to begin anew.
    pub(super) fn has_ended_by(&self, error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<OutOfReach>()) && self.out_of_reach.get().is_some()
    }

    async fn look_again(self: &Arc<Self>) -> io::Result<()> {
        let now = Instant::now();
        if cached_identity(&self.path).is_some_and(|identity| self.is_still(identity, now)) {
            return Ok(());
        }
        let root = self.clone();
        unblock(move || root.look(now)).await
    }

    /// Whether the directory is the one of before, if this is what it is.
    fn is_still(&self, identity: Identity, now: Instant) -> bool {
        let mut seen = self.seen();
        let is_still = seen.identity == identity;
        if is_still {
            seen.at = now;
        }
        is_still
    }

    /// Looks at the path, which may take the time of a disk.
    pub(super) fn look(&self, now: Instant) -> io::Result<()> {
        let identity = match fs::metadata(&self.path) {
            Ok(found) => path_identity(&found),
            // What was opened may be out of sight for the user that the server became.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if !self.is_blind.swap(true, Relaxed) {
                    log::warn!(
                        "if another directory comes in the place of {}, it will not be seen: {error}",
                        self.path.display()
                    );
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.is_still(identity, now) {
            return Ok(());
        }
        let dir = Arc::new(Dir::open_ambient_dir(&self.path, ambient_authority())?);
        if is_kept_from_us(&dir, self.is_written.load(Relaxed)) {
            return Err(self.is_out_of_reach());
        }
        log::info!("{} is another directory now, which is served from now on", self.path.display());
        *self.seen() = Seen { dir, real: real(&self.path), identity, is_other: true, at: now };
        Ok(())
    }

    /// Looks again at what came in the place of another one, when it turns out that something in it is denied: it may have
    /// been looked at before it was given its owner and mode.
    pub(super) async fn check_reach(self: &Arc<Self>) -> io::Result<()> {
        let dir = Some(self.seen()).filter(|seen| seen.is_other).map(|seen| seen.dir.clone());
        let (Some(dir), root) = (dir, self.clone()) else { return Ok(()) };
        unblock(move || match is_kept_from_us(&dir, root.is_written.load(Relaxed)) {
            true => Err(root.is_out_of_reach()),
            false => Ok(()),
        })
        .await
    }

    /// Says so to who can do something about it.
    fn is_out_of_reach(&self) -> io::Error {
        if let Some(out_of_reach) = self.out_of_reach.get() {
            out_of_reach(&self.path);
        }
        io::Error::new(io::ErrorKind::PermissionDenied, OutOfReach)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn real(path: &Path) -> Arc<Path> {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into()
}

/// What is at the path, if that can be told without a wait for a disk.
#[cfg(target_os = "linux")]
fn cached_identity(path: &Path) -> Option<Identity> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = fstat(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?).ok()?;
    Some((found.st_dev, found.st_ino))
}

#[cfg(not(target_os = "linux"))]
fn cached_identity(_: &Path) -> Option<Identity> {
    None
}

#[cfg(unix)]
fn identity(found: &cap_std::fs::Metadata) -> Identity {
    use cap_std::fs::MetadataExt;
    (found.dev(), found.ino())
}

#[cfg(unix)]
fn path_identity(found: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

#[cfg(not(unix))]
fn identity(_: &cap_std::fs::Metadata) -> Identity {
    (0, 0)
}

#[cfg(not(unix))]
fn path_identity(_: &fs::Metadata) -> Identity {
    (0, 0)
}

/// Whether its mode would allow what the system does not: then it is a sandbox that says no. To one of mounts, what it does
/// not know is read-only.
#[cfg(unix)]
fn is_kept_from_us(dir: &Dir, is_written: bool) -> bool {
    use rustix::{
        fs::{Access, AtFlags, Mode, OFlags, accessat, openat},
        io::Errno,
    };
    let fails = |flags| openat(dir, ".", flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR).err();
    let may = |access| accessat(dir, ".", access | Access::EXEC_OK, AtFlags::empty()).is_ok();
    #[cfg(target_os = "linux")]
    if is_written {
        // A file without a name.
        match fails(OFlags::TMPFILE | OFlags::WRONLY) {
            Some(Errno::ROFS) => return true,
            Some(Errno::ACCESS) if may(Access::WRITE_OK) => return true,
            _ => {}
        }
    }
    let _ = is_written;
    fails(OFlags::RDONLY | OFlags::DIRECTORY) == Some(Errno::ACCESS) && may(Access::READ_OK)
}

#[cfg(not(unix))]
fn is_kept_from_us(_: &Dir, _: bool) -> bool {
    false
}
