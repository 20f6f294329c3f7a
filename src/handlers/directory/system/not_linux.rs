//! In the place of `linux` on other systems: every file is opened and read with a wait for the disk.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, ErrorKind},
    path::Path,
    time::UNIX_EPOCH,
};

use cap_std::fs::Dir;

use super::super::{file_version::Version, root::Identity};

pub fn open_cached(_: &Dir, _: &Path) -> Option<io::Result<File>> {
    None
}

pub fn version_at(_: &Path) -> Option<Version> {
    None
}

pub fn read_cached(_: &File, _: u64, _: &mut [u8]) -> Result<usize, ErrorKind> {
    Err(ErrorKind::Unsupported)
}

pub fn version(file: &File) -> io::Result<Version> {
    let found = file.metadata()?;
    let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Version {
        size: found.len(),
        modified: (modified.as_secs() as i64, modified.subsec_nanos()),
        changed: (0, 0),
        identity: (0, 0),
        is_file: found.is_file(),
    })
}

pub fn directory_version(dir: &Dir) -> io::Result<Version> {
    version(&dir.try_clone()?.into_std_file())
}

pub fn cached_identity(_: &Path) -> Option<Identity> {
    None
}

pub fn is_in_sys(_: &File) -> bool {
    false
}

pub fn create_nameless(_: &Dir) -> Option<File> {
    None
}

pub fn link(_: &File, _: &Dir, _: &OsStr) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

pub fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// A link does not replace a file either.
pub fn rename_new(dir: &Dir, from: &str, to: &OsStr) -> io::Result<()> {
    dir.hard_link(from, dir, to)
}

pub fn is_unchangeable(_: &io::Error) -> bool {
    false
}

#[cfg(unix)]
pub fn cannot_write(_: &Dir) -> Option<rustix::io::Errno> {
    None
}

#[cfg(unix)]
pub fn keep_labels(_: &Dir, _: &OsStr, _: &File, mode: u32) -> u32 {
    mode
}
