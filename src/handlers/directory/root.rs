//! The root: the directory that is at its path now, which may be another one than before.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use cap_std::{ambient_authority, fs::Dir};
use smol::unblock;

use super::{
    place::Place,
    system::{cached_identity, identity, is_kept_from_us, path_identity},
};
use crate::sync::Mutex;

/// The device and the inode; zeros if unknown, and then another directory is never noticed.
pub(super) type Identity = (u64, u64);

/// The hook for a new directory at the path that the sandbox keeps out of reach.
type Hook = Box<dyn Fn(&Path) + Send + Sync>;

/// The error for such a directory.
#[derive(Debug)]
struct OutOfReach;

impl std::error::Error for OutOfReach {}

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was replaced by another directory, and the sandbox allows only the previous one")
    }
}

pub(super) struct Root {
    /// The path, absolute if the system can tell.
    path: Arc<Path>,
    seen: Mutex<Seen>,
    pub(super) out_of_reach: OnceLock<Hook>,
    /// Whether the log already says that the path cannot be looked at.
    is_blind: AtomicBool,
    /// Whether uploads go to this root.
    pub(super) is_written: AtomicBool,
}

struct Seen {
    /// While it is open, no other directory can get its inode.
    dir: Arc<Dir>,
    /// Its path without links.
    real: Arc<Path>,
    identity: Identity,
    /// Whether it replaced another directory.
    is_other: bool,
    /// The start of the last look at the path.
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

    /// The directory that is there now, for a request that was received at this time, if it is known. A storm of
    /// requests needs one look for each batch.
    pub(super) async fn now(
        self: &Arc<Self>,
        also: &Arc<[PathBuf]>,
        received: Option<Instant>,
    ) -> io::Result<Arc<Place>> {
        if received.is_none_or(|received| received > self.seen.lock().at) {
            self.look_again().await?;
        }
        let seen = self.seen.lock();
        let (dir, path, real) = (seen.dir.clone(), self.path.clone(), seen.real.clone());
        Ok(Arc::new(Place { dir, path, real, also: also.clone(), at: seen.at }))
    }

    /// Its path, if there was no link in it at the last look.
    pub(super) fn plain_path(&self) -> Option<&Path> {
        let is_plain = !self.is_blind.load(Relaxed) && self.seen.lock().real.as_os_str() == self.path.as_os_str();
        is_plain.then_some(&*self.path)
    }

    /// The directory that is there now. It waits for the disk.
    pub(super) fn dir(&self) -> io::Result<Arc<Dir>> {
        self.look(Instant::now())?;
        Ok(self.seen.lock().dir.clone())
    }

    /// Whether this error means that a new process will take over.
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

    /// Whether the directory is still the same, given the identity that is now at the path.
    fn is_still(&self, identity: Identity, now: Instant) -> bool {
        let mut seen = self.seen.lock();
        let is_still = seen.identity == identity;
        if is_still {
            seen.at = now;
        }
        is_still
    }

    /// Looks at the path, which may wait for the disk.
    pub(super) fn look(&self, now: Instant) -> io::Result<()> {
        let identity = match fs::metadata(&self.path) {
            Ok(found) => path_identity(&found),
            // The path may be out of reach for the user that the server has changed to.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if !self.is_blind.swap(true, Relaxed) {
                    log::warn!(
                        "if {} is replaced by another directory, the server will not notice: {error}",
                        self.path.display()
                    );
                }
                self.seen.lock().at = now;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if self.is_still(identity, now) {
            return Ok(());
        }
        let dir = Arc::new(Dir::open_ambient_dir(&self.path, ambient_authority())?);
        if is_kept_from_us(&dir, self.is_written.load(Relaxed)) {
            return Err(self.report_out_of_reach());
        }
        log::info!("{} was replaced by another directory, which is served from now on", self.path.display());
        *self.seen.lock() = Seen { dir, real: real(&self.path), identity, is_other: true, at: now };
        Ok(())
    }

    /// Checks a directory that replaced another one, after access to something in it was denied: the last look may have
    /// come before the directory got its owner and mode.
    pub(super) async fn check_reach(self: &Arc<Self>) -> io::Result<()> {
        let dir = Some(self.seen.lock()).filter(|seen| seen.is_other).map(|seen| seen.dir.clone());
        let (Some(dir), root) = (dir, self.clone()) else { return Ok(()) };
        unblock(move || match is_kept_from_us(&dir, root.is_written.load(Relaxed)) {
            true => Err(root.report_out_of_reach()),
            false => Ok(()),
        })
        .await
    }

    /// Calls the hook, and returns the error.
    fn report_out_of_reach(&self) -> io::Error {
        if let Some(out_of_reach) = self.out_of_reach.get() {
            out_of_reach(&self.path);
        }
        io::Error::new(io::ErrorKind::PermissionDenied, OutOfReach)
    }
}

fn real(path: &Path) -> Arc<Path> {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into()
}
