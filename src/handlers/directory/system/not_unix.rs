//! In the place of `unix` on other systems: files have no owner, no mode and no identity.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use cap_std::fs::{Dir, Metadata, OpenOptions};

use super::{
    super::{place::Place, root::Identity},
    Wish,
};
use crate::handler::Request;

pub fn relative_path(request: &Request) -> &Path {
    request.path().as_ref()
}

pub fn effective_user() -> Arc<str> {
    "of this process".into()
}

pub fn why_denied(place: &Place, path: &Path, _: Wish, user: &str) -> String {
    format!("user {user} has no access to {}", place.text(path))
}

pub fn is_no_file(_: &io::Error) -> bool {
    false
}

pub fn open_without_waiting(_: &mut OpenOptions) {}

/// No other reader uses the position: files are shared only on systems that tell a file's identity.
pub fn read_at(mut file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(at))?;
    file.read(buffer)
}

pub fn read_waiting(mut file: &File, at: u64, chunk: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(chunk)
}

pub fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

pub fn path_identity(_: &fs::Metadata) -> Identity {
    (0, 0)
}

pub fn is_same(_: &Dir, _: &OsStr, _: &OsStr) -> bool {
    false
}

pub fn is_ours(_: &Metadata) -> bool {
    true
}

pub fn is_kept_from_us(_: &Dir, _: bool) -> bool {
    false
}

pub fn sync(_: &Dir) {}

pub fn hold(_: &File) {}

pub fn is_held(_: &cap_std::fs::File) -> bool {
    false
}

pub fn for_all_to_read(_: &mut OpenOptions) {}

pub fn mode(_: &File) -> io::Result<u32> {
    Ok(0)
}

pub fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

pub fn take_after(_: &File, _: &Dir, _: &OsStr, _: &Metadata) -> io::Result<bool> {
    Ok(true)
}
