//! Unix: owners, modes, locks, and the identity of a file.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, fchown},
    },
    path::Path,
    sync::Arc,
};

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt};
use rustix::{
    fs::{Access, AtFlags, FlockOperation, Mode, OFlags, accessat, flock, openat, statat},
    io::Errno,
    process::geteuid,
};

use super::{super::root::Identity, cannot_write, keep_labels};
use crate::handler::Request;

/// The path of the file of a request, relative to the root.
pub fn relative_path(request: &Request) -> &Path {
    OsStr::from_bytes(request.path_bytes()).as_ref()
}

/// The user of this process, for people.
pub fn effective_user() -> Arc<str> {
    geteuid().as_raw().to_string().into()
}

/// Whether the error is about a name that leads to no file: a loop of links, or a socket.
pub fn is_no_file(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// A FIFO is opened without a wait for its writer.
pub fn open_without_waiting(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
}

/// Reads at most as much as the buffer holds. Many transfers may share the file, so its position is not used.
pub fn read_at(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    FileExt::read_at(file, buffer, at)
}

/// The same, until the buffer is full.
pub fn read_waiting(file: &File, at: u64, chunk: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(chunk, at)
}

pub fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

pub fn path_identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// Whether two names are of one file.
pub fn is_same(dir: &Dir, one: &OsStr, other: &OsStr) -> bool {
    let identity = |name| dir.symlink_metadata(name).map(|found| identity(&found));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Whether the file belongs to the user of this process.
pub fn is_ours(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}

/// Whether a sandbox denies access: the mode of the directory allows what the system denies. In a sandbox made of
/// mounts, an unknown directory is read-only, and so is its parent.
pub fn is_kept_from_us(dir: &Dir, is_written: bool) -> bool {
    let may = |access| accessat(dir, ".", access | Access::EXEC_OK, AtFlags::empty()).is_ok();
    if is_written {
        match cannot_write(dir) {
            Some(Errno::ROFS) if !is_mounted(dir) => return true,
            Some(Errno::ACCESS) if may(Access::WRITE_OK) => return true,
            _ => {}
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::empty()).err() == Some(Errno::ACCESS) && may(Access::READ_OK)
}

/// Whether another file system than that of its parent is mounted on the directory.
fn is_mounted(dir: &Dir) -> bool {
    let device = |name| statat(dir, name, AtFlags::empty()).map(|found| found.st_dev);
    device(".") != device("..")
}

/// Makes the entries of a directory survive a power failure. Not every file system can do that.
pub fn sync(dir: &Dir) {
    if let Err(error) = dir.open(".").and_then(|dir| dir.sync_all()) {
        log::debug!("cannot sync the directory of an upload: {error}");
    }
}

/// Locks the file as a running upload, for as long as it is open.
pub fn hold(file: &File) {
    lock(file).unwrap_or_else(|error| log::debug!("cannot lock the file of an upload: {error}"));
}

/// Whether an upload to this file is running in any process.
pub fn is_held(file: &cap_std::fs::File) -> bool {
    lock(file).is_err_and(|error| error == Errno::WOULDBLOCK)
}

fn lock(file: impl std::os::fd::AsFd) -> rustix::io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Others may read a new file, unless its mode is changed later.
pub fn for_all_to_read(options: &mut OpenOptions) {
    options.mode(0o644);
}

pub fn mode(file: &File) -> io::Result<u32> {
    Ok(file.metadata()?.mode() & 0o7777)
}

pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let set = |mode| file.set_permissions(PermissionsExt::from_mode(mode));
    // A sandbox may forbid the bits above.
    match set(mode).or_else(|_| set(mode & 0o777)) {
        // FAT and similar file systems have one mode for all files.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// Gives a file the mode, the labels and the owner of the one that it replaces. Returns whether it has the same owner
/// and group.
pub fn take_after(file: &File, dir: &Dir, name: &OsStr, replaced: &Metadata) -> io::Result<bool> {
    let made = file.metadata()?;
    // Not every file system can change an owner, or be asked to set the one that is there.
    let given = match (made.uid(), made.gid()) == (replaced.uid(), replaced.gid()) {
        true => Ok(()),
        false => fchown(file, Some(replaced.uid()), Some(replaced.gid())),
    };
    if let Err(error) = &given {
        log::debug!("cannot keep the owner of a file that is replaced: {error}");
        // A user other than root can only set one of its own groups.
        _ = fchown(file, None, Some(replaced.gid()));
    }
    // As the kernel does on a write: content from another user must not run with the owner's rights.
    let mode = replaced.mode() & 0o7777 & !0o4000;
    let mode = if mode & 0o010 != 0 { mode & !0o2000 } else { mode };
    set_mode(file, keep_labels(dir, name, file, mode))?;
    Ok(given.is_ok())
}
