//! The file of a running upload. It has no name where the file system can do that, and otherwise a hidden one.
//!
//! A file without a name disappears with the server, however the server ends. A file with a name is locked. By the
//! lock, the next server tells it from a file that a killed server left behind: see `leftovers`.
//!
//! Where the system lets no other file take the place of one that may be written to, the bytes go into that file: its
//! directory is not writable or has the sticky bit, or a file system is mounted on it, as containers do. The bytes also
//! go into the file that is there if another one could not have its owner and group.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Seek},
    path::Path,
    sync::Arc,
};

use cap_std::fs::{Dir, OpenOptions};

use super::{
    system::{
        create_nameless, for_all_to_read, hold, is_held, is_unchangeable, link, mode, open_without_waiting, rename_new,
        reserve, set_mode, sync, take_after,
    },
    versions,
};

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
    /// The mode of a new file. `None`: the file is an older one, which is written over.
    mode: Option<u32>,
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
            mode: Some(umask.map_or(made, |umask| 0o666 & !umask)),
        };
        // Other users must not read a possible secret.
        set_mode(&partial.file, 0o600)?;
        hold(&partial.file);
        Ok(partial)
    }

    /// The file that has this name already.
    pub(super) fn in_place(dir: Arc<Dir>, name: &OsStr) -> io::Result<Self> {
        let file = open_there(&dir, name)?.into();
        Ok(Self { dir, name: name.to_owned(), file, hidden: None, mode: None })
    }

    /// The file, to be written by any thread. The transfer keeps `self`, so its end is also the end of the file.
    pub(super) fn bytes(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Syncs the bytes and gives the file its name. `keep` is how many replaced versions are kept. Returns whether
    /// there was a file of this name.
    pub(super) fn commit(mut self, overwrite: bool, keep: usize) -> io::Result<bool> {
        let Some(mode) = self.mode else {
            finish(&self.file)?;
            return Ok(true);
        };
        let there = if overwrite { self.dir.symlink_metadata(&self.name).ok() } else { None };
        let replaces = there.is_some();
        let keeps_owner = match there {
            Some(replaced) => take_after(&self.file, &self.dir, &self.name, &replaced)?,
            None => set_mode(&self.file, mode).map(|()| true)?,
        };
        self.file.sync_all()?;
        if overwrite {
            let hidden = self.hide()?.to_owned();
            let replace = || self.dir.rename(&hidden, &self.dir, &self.name);
            let write_over = || {
                let mut there = open_there(&self.dir, &self.name)?;
                reserve(&there, self.file.metadata()?.len())?;
                io::copy(&mut self.dir.open(&hidden)?, &mut there)?;
                finish(&there)
            };
            match keep {
                // Its owner may lose the right to read a file that is replaced.
                0 if !keeps_owner && write_over().is_ok() => {}
                0 => match replace() {
                    Err(error) if matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::PermissionDenied) => {
                        write_over()?;
                    }
                    replaced => replaced?,
                },
                most => versions::keep(&self.dir, &self.name, most, replace).map_err(no_version)?,
            }
        } else {
            match &self.hidden {
                // A name that is left behind is removed when this is dropped.
                Some(hidden) => rename_new(&self.dir, hidden, &self.name)?,
                None => {
                    link(&self.file, &self.dir, &self.name)?;
                    // Programs that watch a directory wait until a file with a name is closed after a write.
                    _ = open_to_write(&self.dir, &self.name);
                }
            }
        }
        // The bytes are safe and have their name. Without a journal the name is not safe yet: the inode counts it.
        self.file.sync_all()?;
        sync(&self.dir);
        Ok(replaces)
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

/// The error of an upload that cannot replace a file and keep it.
fn no_version(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::ResourceBusy | ErrorKind::PermissionDenied => {
            let why =
                format!("{error}: the file cannot be renamed, so no version of it is kept: see `--keep-versions`");
            io::Error::new(ErrorKind::PermissionDenied, why)
        }
        _ => error,
    }
}

/// Opens the file of this name to write over it. It is locked, so that no two uploads mix their bytes.
fn open_there(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let file = open_to_write(dir, name).map_err(|error| match is_unchangeable(&error) {
        true => {
            let what = "the file is immutable or append-only: `lsattr` shows that, and `chattr -ia` changes it";
            io::Error::new(ErrorKind::PermissionDenied, what)
        }
        false => error,
    })?;
    match is_held(&file) {
        true => Err(io::Error::new(ErrorKind::PermissionDenied, "another upload is writing to this file")),
        false => Ok(file.into_std()),
    }
}

/// Opens the file of this name. A FIFO may have taken its place, and nobody waits for the reader of one.
fn open_to_write(dir: &Dir, name: &OsStr) -> io::Result<cap_std::fs::File> {
    let mut options = OpenOptions::new();
    open_without_waiting(options.write(true));
    dir.open_with(name, &options)
}

/// Cuts off what an older file had behind the bytes that are written, and syncs it.
fn finish(mut file: &File) -> io::Result<()> {
    file.set_len(file.stream_position()?)?;
    file.sync_all()
}

fn create_hidden(dir: &Dir) -> io::Result<(File, String)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    for_all_to_read(&mut options);
    let (name, file) = with_new_name(|name| dir.open_with(name, &options))?;
    Ok((file.into_std(), name))
}

fn with_new_name<T>(mut make: impl FnMut(&str) -> io::Result<T>) -> io::Result<(String, T)> {
    loop {
        let name = format!("{PREFIX}{:0DIGITS$x}", RandomState::new().hash_one(PREFIX));
        match make(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return Ok((name, made?)),
        }
    }
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

    /// Somebody may put one into the place of a file during an upload.
    #[cfg(target_os = "linux")]
    #[test]
    fn nobody_waits_for_the_reader_of_a_fifo() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let temp = tempfile::tempdir().unwrap();
        mknodat(CWD, temp.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), cap_std::ambient_authority()).unwrap();
        assert!(Partial::in_place(dir.into(), OsStr::new("fifo")).is_err());
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
            assert_eq!(begin("second").commit(false, 0).unwrap_err().kind(), ErrorKind::AlreadyExists);
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

    #[test]
    fn a_file_is_written_over_by_one_upload_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open_ambient_dir(temp.path(), cap_std::ambient_authority()).unwrap());
        fs::write(temp.path().join("name"), "a longer text").unwrap();
        let begin = || Partial::in_place(dir.clone(), OsStr::new("name"));
        let partial = begin().unwrap();
        partial.bytes().write_all(b"short").unwrap();
        if cfg!(unix) {
            assert_eq!(begin().err().unwrap().to_string(), "another upload is writing to this file");
        }
        assert!(partial.commit(true, 0).unwrap());
        assert_eq!((names(temp.path()), begin().is_ok()), (vec!["name".into()], true));
        assert_eq!(fs::read(temp.path().join("name")).unwrap(), b"short");
    }
}
