//! A file that is there when it is whole, and not before.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::{Dir, OpenOptions};
use smol::unblock;

use super::refuse;
use crate::{error::Refusal, source::Source};

const PREFIX: &str = ".tuffet-";

#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) overwrite: bool,
    pub(super) make_directories: bool,
    pub(super) most: u64,
}

/// Whether this is the name of an upload on its way.
pub(super) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // Some file systems do not tell upper case from lower.
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// Takes all of `data`, moving some `chunk` bytes to the disk at a time. Nothing is asked of `data` before all that can
/// be known beforehand is right.
pub(super) async fn receive(
    root: Arc<Dir>,
    path: PathBuf,
    policy: Policy,
    chunk: usize,
    mut data: Source,
) -> Result<(), Refusal> {
    let too_big = || Refusal::too_big().because(format_args!("more than {} bytes", policy.most));
    if data.size().is_some_and(|size| size > policy.most) {
        return Err(too_big());
    }
    let partial = unblock(move || Partial::create(root, &path, policy)).await?;
    let mut buffer = Vec::new();
    let mut room = policy.most;
    while let Some(bytes) = data.next().await {
        let bytes = bytes?;
        room = room.checked_sub(bytes.len() as u64).ok_or_else(too_big)?;
        buffer.extend_from_slice(&bytes);
        // One trip to another thread for many blocks.
        if buffer.len() >= chunk {
            buffer = partial.append(buffer).await?;
        }
    }
    unblock(move || partial.commit(&buffer, policy.overwrite)).await
}

/// The file under its hidden name, which is removed when this is dropped.
struct Partial {
    /// Where both names are.
    dir: Arc<Dir>,
    hidden: String,
    name: OsString,
    file: Arc<File>,
}

impl Partial {
    fn create(root: Arc<Dir>, path: &Path, policy: Policy) -> Result<Self, Refusal> {
        let name = path.file_name().ok_or(Refusal::not_found())?.to_owned();
        if is_partial(path) {
            return Err(Refusal::denied().because("the name is kept for uploads on their way"));
        }
        let dir = match path.parent() {
            Some(parent) if parent != Path::new("") => Arc::new(open_parent(&root, parent, policy.make_directories)?),
            _ => root,
        };
        check_free(&dir, &name, policy.overwrite)?;
        let (file, hidden) = create_hidden(&dir)?;
        Ok(Self { dir, hidden, name, file: Arc::new(file) })
    }

    /// Writes these bytes and gives the buffer back.
    async fn append(&self, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let file = self.file.clone();
        unblock(move || {
            (&*file).write_all(&buffer)?;
            buffer.clear();
            Ok(buffer)
        })
        .await
    }

    /// Writes the last bytes and gives the file its name.
    fn commit(self, rest: &[u8], overwrite: bool) -> Result<(), Refusal> {
        (&*self.file).write_all(rest)?;
        self.file.sync_all()?;
        if overwrite {
            self.dir.rename(&self.hidden, &self.dir, &self.name)?;
        } else {
            rename_new(&self.dir, &self.hidden, &self.name)?;
        }
        // The bytes are safe and have their name. Not every file system can make the name as safe as that.
        #[cfg(unix)]
        if let Err(error) = self.dir.open(".").and_then(|dir| dir.sync_all()) {
            log::debug!("cannot sync the directory of an upload: {error}");
        }
        Ok(())
    }
}

impl Drop for Partial {
    /// On the thread of the transfer: it is quick, and a server that ends at once leaves nothing behind.
    fn drop(&mut self) {
        // After a commit there is no such name any more.
        _ = self.dir.remove_file(&self.hidden);
    }
}

fn open_parent(root: &Dir, path: &Path, make: bool) -> Result<Dir, Refusal> {
    match root.open_dir(path) {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            root.create_dir_all(path).and_then(|()| root.open_dir(path))
        }
        opened => opened,
    }
    .map_err(refuse)
}

/// Whether there may be a new file of this name.
fn check_free(dir: &Dir, name: &OsStr, overwrite: bool) -> Result<(), Refusal> {
    match dir.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(error)),
        Ok(_) if !overwrite => Err(Refusal::exists()),
        Ok(there) if !there.is_file() => Err(Refusal::denied().because("not a regular file")),
        Ok(there) if there.permissions().readonly() => Err(Refusal::denied().because("the file is read-only")),
        Ok(_) => Ok(()),
    }
}

fn create_hidden(dir: &Dir) -> io::Result<(File, String)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(&mut options, 0o644);
    loop {
        let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(PREFIX));
        match dir.open_with(&name, &options) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((file?.into_std(), name)),
        }
    }
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
