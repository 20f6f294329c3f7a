//! The file of a running upload. It has no name where the file system can do that, and otherwise a hidden one.
//!
//! A file without a name disappears with the server, however the server ends. A file with a name is locked. By the
//! lock, the next server tells it from a file that a killed server left behind: see `leftovers`.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    path::Path,
    sync::Arc,
};

use cap_std::fs::{Dir, OpenOptions};

#[cfg(target_os = "linux")]
use super::acl;
use super::{refuse_upload, versions};
use crate::error::Refusal;

const PREFIX: &str = ".tuffet-";
/// The number of hexadecimal digits after the prefix.
const DIGITS: usize = 16;

/// Whether this is the name of a running upload.
pub(super) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // Some file systems ignore case.
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// Whether this name has the form that a server makes for an upload.
pub(super) fn is_hidden_name(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

pub(super) struct Partial {
    /// The directory of the file.
    dir: Arc<Dir>,
    name: OsString,
    file: Arc<File>,
    /// The temporary name. It is removed when this is dropped.
    hidden: Option<String>,
    /// The mode of a new file.
    mode: u32,
}

impl Partial {
    pub(super) fn create(dir: Arc<Dir>, name: &OsStr, umask: Option<u32>) -> io::Result<Self> {
        match create_nameless(&dir) {
            Some(file) => Self::new(dir, name, umask, file, None),
            None => Self::hidden(dir, name, umask),
        }
    }

    fn hidden(dir: Arc<Dir>, name: &OsStr, umask: Option<u32>) -> io::Result<Self> {
        let (file, hidden) = create_hidden(&dir)?;
        Self::new(dir, name, umask, file, Some(hidden))
    }

    fn new(dir: Arc<Dir>, name: &OsStr, umask: Option<u32>, file: File, hidden: Option<String>) -> io::Result<Self> {
        let made = mode(&file)?;
        let partial = Self {
            dir,
            name: name.to_owned(),
            file: file.into(),
            hidden,
            mode: umask.map_or(made, |umask| 0o666 & !umask),
        };
        // Other users must not read a possible secret.
        set_mode(&partial.file, 0o600)?;
        #[cfg(unix)]
        hold(&partial.file).unwrap_or_else(|error| log::debug!("cannot lock the file of an upload: {error}"));
        Ok(partial)
    }

    /// The file, to be written by any thread. The transfer keeps `self`, so its end is also the end of the file.
    pub(super) fn bytes(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Syncs the bytes and gives the file its name. `keep` is how many replaced versions are kept. Returns whether
    /// there was a file of this name.
    pub(super) fn commit(mut self, overwrite: bool, keep: usize) -> Result<bool, Refusal> {
        let there = if overwrite { self.dir.symlink_metadata(&self.name).ok() } else { None };
        let replaces = there.is_some();
        self.take_after(there)?;
        self.file.sync_all()?;
        if overwrite {
            let hidden = self.hide()?.to_owned();
            let replace = || self.dir.rename(&hidden, &self.dir, &self.name);
            match keep {
                0 => replace()?,
                most => versions::keep(&self.dir, &self.name, most, replace).map_err(refuse_upload)?,
            }
        } else {
            match &self.hidden {
                Some(hidden) => rename_new(&self.dir, hidden, &self.name)?,
                None => link(&self.file, &self.dir, &self.name)?,
            }
        }
        // The bytes are safe and have their name. Without a journal the name is not safe yet: the inode counts it.
        self.file.sync_all()?;
        sync(&self.dir);
        Ok(replaces)
    }

    /// Takes the mode, the access list and the owner of the file that it replaces, or the mode of a new file.
    #[cfg(unix)]
    fn take_after(&self, replaced: Option<cap_std::fs::Metadata>) -> io::Result<()> {
        use cap_std::fs::MetadataExt;
        let Some(replaced) = replaced else { return set_mode(&self.file, self.mode) };
        // A user other than root can only set one of its own groups.
        let to_group = || std::os::unix::fs::fchown(&*self.file, None, Some(replaced.gid()));
        let given =
            std::os::unix::fs::fchown(&*self.file, Some(replaced.uid()), Some(replaced.gid())).or_else(|_| to_group());
        given.unwrap_or_else(|error| log::debug!("cannot keep the owner of a file that is replaced: {error}"));
        // As the kernel does on a write: content from another user must not run with the owner's rights.
        let mode = replaced.mode() & 0o7777 & !0o4000;
        let mode = if mode & 0o010 != 0 { mode & !0o2000 } else { mode };
        #[cfg(target_os = "linux")]
        let mode = acl::of(&self.dir, &self.name).give_to(&self.file, mode);
        set_mode(&self.file, mode)
    }

    #[cfg(not(unix))]
    fn take_after(&self, _: Option<cap_std::fs::Metadata>) -> io::Result<()> {
        set_mode(&self.file, self.mode)
    }

    /// The hidden name. A file without one gets one, because only a named file can replace another.
    fn hide(&mut self) -> io::Result<&str> {
        if self.hidden.is_none() {
            let (name, ()) = with_new_name(|name| link(&self.file, &self.dir, OsStr::new(name)))?;
            self.hidden = Some(name);
        }
        Ok(self.hidden.as_deref().unwrap_or_default())
    }
}

impl Drop for Partial {
    /// Runs on the thread of the transfer: it is quick, and a server that ends at once leaves nothing behind.
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // After a commit this name no longer exists.
            _ = self.dir.remove_file(hidden);
        }
    }
}

/// Makes the entries of a directory survive a power failure. Not every file system can do that.
pub(super) fn sync(dir: &Dir) {
    #[cfg(unix)]
    if let Err(error) = dir.open(".").and_then(|dir| dir.sync_all()) {
        log::debug!("cannot sync the directory of an upload: {error}");
    }
    #[cfg(not(unix))]
    let _ = dir;
}

/// Locks the file as a running upload, for as long as it is open. It fails if another process has the lock.
#[cfg(unix)]
pub(super) fn hold(file: impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

#[cfg(unix)]
fn mode(file: &File) -> io::Result<u32> {
    Ok(std::os::unix::fs::MetadataExt::mode(&file.metadata()?) & 0o7777)
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let set = |mode| file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    // A sandbox may forbid the bits above.
    match set(mode).or_else(|_| set(mode & 0o777)) {
        // FAT and similar file systems have one mode for all files.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
fn mode(_: &File) -> io::Result<u32> {
    Ok(0)
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

fn create_hidden(dir: &Dir) -> io::Result<(File, String)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(&mut options, 0o644);
    let (name, file) = with_new_name(|name| dir.open_with(name, &options))?;
    Ok((file.into_std(), name))
}

fn with_new_name<T>(mut make: impl FnMut(&str) -> io::Result<T>) -> io::Result<(String, T)> {
    loop {
        let name = format!("{PREFIX}{:0DIGITS$x}", RandomState::new().hash_one(PREFIX));
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((name, made?)),
        }
    }
}

/// `None` if the file system has no files without a name, or if the file could not get a name later.
#[cfg(target_os = "linux")]
fn create_nameless(dir: &Dir) -> Option<File> {
    use rustix::fs::{Mode, OFlags, openat};
    static CAN_LINK: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| Path::new("/proc/self/fd").exists() && may_link());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::from_raw_mode(0o644)).ok().filter(|_| *CAN_LINK).map(File::from)
}

/// Whether the process may make links at all: profiles of services and containers can forbid the call. Where it is
/// allowed, the error is that there is no such file.
#[cfg(target_os = "linux")]
fn may_link() -> bool {
    use rustix::{
        fs::{AtFlags, CWD, linkat},
        io::Errno,
    };
    linkat(CWD, c"", CWD, c"", AtFlags::empty()) == Err(Errno::NOENT)
}

#[cfg(not(target_os = "linux"))]
fn create_nameless(_: &Dir) -> Option<File> {
    None
}

/// Gives a name to a file without one.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Dir, name: &OsStr) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    // Without /proc, this needs a capability.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    Ok(linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Dir, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Renames, but does not replace a file.
fn rename_new(dir: &Dir, from: &str, to: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs, io::Errno};
        match fs::renameat_with(dir, from, dir, to, fs::RenameFlags::NOREPLACE) {
            // Not all file systems and kernels support this, and a profile may forbid it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
            done => return Ok(done?),
        }
        if !may_link() {
            let why = "the system calls linkat and renameat2 are forbidden: new files need one of them";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    // The other name is removed when the partial file is dropped.
    dir.hard_link(from, dir, to)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    type Create = fn(Arc<Dir>, &OsStr, Option<u32>) -> io::Result<Partial>;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn partial_files_with_and_without_a_name() {
        let kinds: [(Create, usize); 2] = [(Partial::create, 0), (Partial::hidden, 1)];
        for (create, hidden) in kinds {
            let temp = tempfile::tempdir().unwrap();
            let dir = Arc::new(Dir::open_ambient_dir(temp.path(), cap_std::ambient_authority()).unwrap());
            let begin = |bytes: &str| {
                let partial = create(dir.clone(), OsStr::new("name"), None).unwrap();
                partial.bytes().write_all(bytes.as_bytes()).unwrap();
                partial
            };
            let stored = |name| fs::read_to_string(temp.path().join(name)).unwrap();

            let dropped = begin("dropped");
            if cfg!(target_os = "linux") {
                assert_eq!(names(temp.path()).len(), hidden);
            }
            drop(dropped);
            assert_eq!(names(temp.path()), [""; 0]);

            begin("first").commit(false, 0).unwrap();
            assert_eq!(begin("second").commit(false, 0), Err(Refusal::exists()));
            assert_eq!((names(temp.path()), stored("name")), (vec!["name".into()], "first".into()));
            begin("third").commit(true, 0).unwrap();
            assert_eq!((names(temp.path()), stored("name")), (vec!["name".into()], "third".into()));
            begin("fourth").commit(true, 1).unwrap();
            assert_eq!((stored("name"), stored("name.~1~")), ("fourth".into(), "third".into()));
            begin("fifth").commit(true, 1).unwrap();
            assert_eq!(names(temp.path()), ["name", "name.~2~"]);
            assert_eq!((stored("name"), stored("name.~2~")), ("fifth".into(), "fourth".into()));
        }
    }
}
