//! A file that is there when it is whole, and not before.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use cap_std::fs::Dir;
use smol::unblock;

use super::{
    partial::{self, Partial},
    policy::Policy,
    refuse, versions,
};
use crate::{error::Refusal, handler::Request, source::Source};

/// Takes all of `data`, moving some `chunk` bytes to the disk at a time. Nothing is asked of `data` before all that can
/// be known beforehand is right.
pub(super) async fn receive(
    root: Arc<Dir>,
    request: &Request,
    policy: &Arc<Policy>,
    chunk: usize,
    mut data: Source,
) -> Result<(), Refusal> {
    let too_big = || Refusal::too_big().because(format_args!("more than {} bytes", policy.most));
    let size = data.size();
    if size.is_some_and(|size| size > policy.most) {
        return Err(too_big());
    }
    policy.check_name(request)?;
    let path = policy.path(request);
    let asked = policy.clone();
    let partial = unblock(move || create(root, &path, &asked, size.unwrap_or(0))).await?;
    let mut buffer = Vec::new();
    let mut room = policy.most;
    while let Some(bytes) = data.next().await {
        let bytes = bytes?;
        room = room.checked_sub(bytes.len() as u64).ok_or_else(too_big)?;
        buffer.extend_from_slice(&bytes);
        // One trip to another thread for many blocks.
        if buffer.len() >= chunk {
            let (bytes, policy) = (partial.bytes(), policy.clone());
            buffer = unblock(move || append(&bytes, buffer, &policy)).await?;
        }
    }
    let policy = policy.clone();
    unblock(move || {
        append(&partial.bytes(), buffer, &policy)?;
        partial.commit(policy.overwrite, policy.keep)
    })
    .await
}

fn create(root: Arc<Dir>, path: &Path, policy: &Policy, size: u64) -> Result<Partial, Refusal> {
    let name = path.file_name().ok_or(Refusal::not_found())?;
    if partial::is_partial(path) {
        return Err(Refusal::denied().because("the name is kept for uploads on their way"));
    }
    if policy.keep > 0 && versions::is_version(name) {
        return Err(Refusal::denied().because("the name is kept for versions"));
    }
    let dir = match path.parent() {
        Some(parent) if parent != Path::new("") => Arc::new(open_parent(&root, parent, policy)?),
        _ => root,
    };
    check_free(&dir, name, policy.overwrite)?;
    let partial = Partial::create(dir, name)?;
    policy.check_space(&partial.bytes(), size)?;
    Ok(partial)
}

/// Writes these bytes and gives the buffer back.
fn append(mut file: &File, mut buffer: Vec<u8>, policy: &Policy) -> Result<Vec<u8>, Refusal> {
    policy.check_space(file, buffer.len() as u64)?;
    file.write_all(&buffer)?;
    buffer.clear();
    Ok(buffer)
}

fn open_parent(root: &Dir, path: &Path, policy: &Policy) -> Result<Dir, Refusal> {
    match root.open_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if policy.make_directories {
                root.create_dir_all(path).map_err(refuse)?;
            } else if let Some(own) = path.iter().next().filter(|_| policy.per_client) {
                make_one(root, own).map_err(refuse)?;
            }
            root.open_dir(path)
        }
        opened => opened,
    }
    .map_err(refuse)
}

fn make_one(root: &Dir, name: &OsStr) -> io::Result<()> {
    match root.create_dir(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
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
