//! Linux: calls that do not wait for the disk, and files without a name.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, ErrorKind, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::LazyLock,
};

use cap_std::fs::Dir;
use rustix::{
    fs::{
        AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags, fallocate, fstat,
        fstatfs, linkat, major, minor, openat, openat2, renameat_with, statx,
    },
    io::{Errno, ReadWriteFlags, pread, preadv2},
};

use super::{
    super::{file_version::Version, root::Identity},
    acl,
    attributes::There,
};

/// Opens a file without a wait for the disk, or reports that it does not exist. After any other failure the caller
/// opens it with a wait, which reports the error.
pub fn open_cached(root: &Dir, path: &Path) -> Option<io::Result<File>> {
    match open_in_memory(root, path, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => Some(Ok(file)),
        Err(Errno::NOENT) => Some(Err(ErrorKind::NotFound.into())),
        Err(_) => None,
    }
}

/// The version of the file at a full path without a link in it, without a wait for the disk.
pub fn version_at(path: &Path) -> Option<Version> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
    let file = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?;
    version(file).ok()
}

fn open_in_memory(base: impl AsFd, path: &Path, resolve: ResolveFlags) -> rustix::io::Result<File> {
    // Without O_NONBLOCK a FIFO would wait here for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat2(base, path, flags, Mode::empty(), resolve | ResolveFlags::CACHED)?.into())
}

/// Reads from the page cache, which needs no other thread. After any failure the caller reads with a wait for the disk,
/// which reports the error. `Unsupported`: the file system cannot do that, as FUSE.
pub fn read_cached(file: &File, at: u64, chunk: &mut [u8]) -> Result<usize, ErrorKind> {
    let read = match preadv2(file, &mut [IoSliceMut::new(chunk)], at, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP) if is_in_memory(file) => pread(file, chunk, at),
        read => read,
    };
    match read {
        Ok(0) => Err(ErrorKind::UnexpectedEof),
        // The standard library of Rust 1.85 has no kind for it.
        Err(Errno::OPNOTSUPP) => Err(ErrorKind::Unsupported),
        read => read.map_err(|error| error.kind()),
    }
}

/// Reads the version from memory. For a network file system this is the last state that this machine knows.
pub fn version(file: impl AsFd) -> io::Result<Version> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = match statx(&file, c"", flags, StatxFlags::BASIC_STATS) {
        // Old profiles of containers forbid this call, and old kernels lack it.
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
fn plain_version(file: impl AsFd) -> io::Result<Version> {
    let found = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    let nanoseconds = |part| u32::try_from(part).unwrap_or_default();
    let (major, minor) = (major(found.dev()), minor(found.dev()));
    Ok(Version {
        size: found.len(),
        modified: (found.mtime(), nanoseconds(found.mtime_nsec())),
        changed: (found.ctime(), nanoseconds(found.ctime_nsec())),
        identity: (u64::from(major) << 32 | u64::from(minor), found.ino()),
        is_file: found.is_file(),
    })
}

/// The version of a directory.
pub fn directory_version(dir: &Dir) -> io::Result<Version> {
    version(dir)
}

/// The identity of the directory at the path, if no wait for the disk is needed.
pub fn cached_identity(path: &Path) -> Option<Identity> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = fstat(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok()?).ok()?;
    Some((found.st_dev, found.st_ino))
}

/// Whether the file system has no disk: tmpfs or ramfs, where routers keep what they serve.
fn is_in_memory(file: &File) -> bool {
    /// See statfs(2).
    const MAGIC: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    fstatfs(file).is_ok_and(|found| MAGIC.contains(&(found.f_type as u64)))
}

/// Whether the file is in /sys, which gives some users less of a file than it reports, such as 64 bytes of a PCI
/// device's configuration.
pub fn is_in_sys(file: &File) -> bool {
    /// See statfs(2).
    const SYSFS_MAGIC: u64 = 0x6265_6572;
    fstatfs(file).is_ok_and(|found| found.f_type as u64 == SYSFS_MAGIC)
}

/// A new file without a name. `None` if the file system has none, or if the file could not get a name later.
pub fn create_nameless(dir: &Dir) -> Option<File> {
    static CAN_LINK: LazyLock<bool> = LazyLock::new(|| Path::new("/proc/self/fd").exists() && may_link());
    // An access list for new files says who may write to them, in place of the umask.
    let mode = if acl::has_default(dir) { 0o666 } else { 0o644 };
    open_nameless(dir, mode).ok().filter(|_| *CAN_LINK)
}

fn open_nameless(dir: &Dir, mode: u32) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(dir, ".", flags, Mode::from_raw_mode(mode)).map(File::from)
}

/// Why no file can be made in the directory.
pub fn cannot_write(dir: &Dir) -> Option<Errno> {
    open_nameless(dir, 0o600).err()
}

/// Whether the process may make links at all: profiles of services and containers can forbid the call. Where it is
/// allowed, the error is that there is no such file.
fn may_link() -> bool {
    linkat(CWD, c"", CWD, c"", AtFlags::empty()) == Err(Errno::NOENT)
}

/// Gives a name to a file without one.
pub fn link(file: &File, dir: &Dir, name: &OsStr) -> io::Result<()> {
    // Without /proc, this needs a capability.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// Has the disk hold space for so many bytes, before any of them is written over an older file. Not every file system
/// can do that.
pub fn reserve(file: &File, size: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Renames, but does not replace a file. It may leave the other name behind.
pub fn rename_new(dir: &Dir, from: &str, to: &OsStr) -> io::Result<()> {
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // Not all file systems and kernels support this, and a profile may forbid it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) if may_link() => dir.hard_link(from, dir, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
            let why = "the system calls linkat and renameat2 are forbidden: new files need one of them";
            Err(io::Error::new(ErrorKind::PermissionDenied, why))
        }
        done => Ok(done?),
    }
}

/// Whether a file could not be opened for a write because of its attributes, and not of its mode or owner.
pub fn is_unchangeable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// Gives a file the extended attributes and the access list of the one that it replaces. Returns the mode that the file
/// may have then.
pub fn keep_labels(dir: &Dir, replaced: &OsStr, file: &File, mode: u32) -> u32 {
    let there = There::open(dir, replaced);
    let there = there.as_ref().map_err(|error| *error);
    if let Ok(there) = there {
        there.give_to(file);
    }
    acl::of(there).give_to(file, mode)
}
