//! The file of an upload on its way: without a name where the file system can do that, else under a hidden one.
//!
//! What has no name is gone with the server, however that ends.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    path::Path,
    sync::Arc,
};

use cap_std::fs::{Dir, OpenOptions};

use super::versions;
use crate::error::Refusal;

const PREFIX: &str = ".tuffet-";

/// Whether this is the name of an upload on its way.
pub(super) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // Some file systems do not tell upper case from lower.
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

pub(super) struct Partial {
    /// Where it is, and will be.
    dir: Arc<Dir>,
    name: OsString,
    file: Arc<File>,
    /// The name that it has meanwhile. It is removed when this is dropped.
    hidden: Option<String>,
}

impl Partial {
    pub(super) fn create(dir: Arc<Dir>, name: &OsStr) -> io::Result<Self> {
        match create_nameless(&dir) {
            Some(file) => Ok(Self { dir, name: name.to_owned(), file: file.into(), hidden: None }),
            None => Self::hidden(dir, name),
        }
    }

    fn hidden(dir: Arc<Dir>, name: &OsStr) -> io::Result<Self> {
        let (file, hidden) = create_hidden(&dir)?;
        Ok(Self { dir, name: name.to_owned(), file: file.into(), hidden: Some(hidden) })
    }

    /// To be written to, by any thread: this stays with the transfer, so that its end is the end of it.
    pub(super) fn bytes(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Makes the bytes safe and gives the file its name. `keep`: versions of what is replaced.
    pub(super) fn commit(mut self, overwrite: bool, keep: usize) -> Result<(), Refusal> {
        self.file.sync_all()?;
        if overwrite {
            let hidden = self.hide()?.to_owned();
            let replace = || self.dir.rename(&hidden, &self.dir, &self.name);
            match keep {
                0 => replace()?,
                most => versions::keep(&self.dir, &self.name, most, replace)?,
            }
        } else {
            match &self.hidden {
                Some(hidden) => rename_new(&self.dir, hidden, &self.name)?,
                None => link(&self.file, &self.dir, &self.name)?,
            }
        }
        // The bytes are safe and have their name. Not every file system can make the name as safe as that.
        #[cfg(unix)]
        if let Err(error) = self.dir.open(".").and_then(|dir| dir.sync_all()) {
            log::debug!("cannot sync the directory of an upload: {error}");
        }
        Ok(())
    }

    /// The hidden name; the file gets one if it has none, because only a name can replace another.
    fn hide(&mut self) -> io::Result<&str> {
        if self.hidden.is_none() {
            let (name, ()) = with_new_name(|name| link(&self.file, &self.dir, OsStr::new(name)))?;
            self.hidden = Some(name);
        }
        Ok(self.hidden.as_deref().unwrap_or_default())
    }
}

impl Drop for Partial {
    /// On the thread of the transfer: it is quick, and a server that ends at once leaves nothing behind.
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // After a commit there is no such name any more.
            _ = self.dir.remove_file(hidden);
        }
    }
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
        let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(PREFIX));
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((name, made?)),
        }
    }
}

/// `None` where the file system cannot, and where there would be no way to give it a name later.
#[cfg(target_os = "linux")]
fn create_nameless(dir: &Dir) -> Option<File> {
    use rustix::fs::{Mode, OFlags, openat};
    static HAS_PROC: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| Path::new("/proc/self/fd").exists());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::from_raw_mode(0o644)).ok().filter(|_| *HAS_PROC).map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn create_nameless(_: &Dir) -> Option<File> {
    None
}

/// Gives a file that has no name a new one.
#[cfg(target_os = "linux")]
fn link(file: &File, dir: &Dir, name: &OsStr) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    // To do it without /proc takes a capability.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    Ok(linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Dir, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Renames, but not over a file that is there.
fn rename_new(dir: &Dir, from: &str, to: &OsStr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs, io::Errno};
        match fs::renameat_with(dir, from, dir, to, fs::RenameFlags::NOREPLACE) {
            // Not all file systems can, and not all kernels.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            done => return Ok(done?),
        }
    }
    // The other name goes when the partial file is dropped.
    dir.hard_link(from, dir, to)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    type Create = fn(Arc<Dir>, &OsStr) -> io::Result<Partial>;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn with_and_without_a_name_on_the_way() {
        let kinds: [(Create, usize); 2] = [(Partial::create, 0), (Partial::hidden, 1)];
        for (create, hidden) in kinds {
            let temp = tempfile::tempdir().unwrap();
            let dir = Arc::new(Dir::open_ambient_dir(temp.path(), cap_std::ambient_authority()).unwrap());
            let begin = |bytes: &str| {
                let partial = create(dir.clone(), OsStr::new("name")).unwrap();
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
