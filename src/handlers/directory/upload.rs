//! Uploads. A file appears only when it is whole.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::Dir;
use smol::unblock;

use super::{
    partial::{self, Partial},
    place::Place,
    policy::Policy,
    refuse_denied, refuse_upload,
    system::{Wish, sync, why_denied},
    versions,
};
use crate::{error::Refusal, handler::Request, name, operator::setting, source::Source};

/// Takes all of `data`, and writes about `chunk` bytes to the disk at a time. It checks all that can be checked before
/// it polls `data`.
pub(super) async fn receive(
    (place, user): (Arc<Place>, Arc<str>),
    (request, name): (&Request, PathBuf),
    (policy, case_sensitive): (&Arc<Policy>, bool),
    chunk: usize,
    mut data: Source,
) -> Result<(), Refusal> {
    let too_big = || Refusal::above_max_upload(policy.most);
    let size = data.size();
    if size.is_some_and(|size| size > policy.most) {
        return Err(too_big());
    }
    let shorter = place.without_root(&name);
    let (own_policy, own_request, own_place, own_user) = (policy.clone(), request.clone(), place.clone(), user.clone());
    let overwrite = policy.overwrite && !request.must_be_new();
    let (partial, path) = unblock(move || {
        // If there is such a directory, the name is taken literally.
        let is_there = |name: &Path| own_place.dir.is_dir(name.parent().unwrap_or(name));
        let name = shorter.filter(|_| !is_there(&name)).unwrap_or(name);
        own_policy.check_name(&name.to_string_lossy(), case_sensitive)?;
        let path = own_policy.path(&own_request, name);
        let partial = create((&own_place, &path), (&own_policy, overwrite), (size.unwrap_or(0), true), &own_user)?;
        Ok::<_, Refusal>((partial, path))
    })
    .await?;
    let mut buffer = Vec::new();
    let mut room = policy.most;
    while let Some(bytes) = data.next().await {
        let bytes = bytes?;
        room = room.checked_sub(bytes.len() as u64).ok_or_else(too_big)?;
        buffer.extend_from_slice(&bytes);
        // Many blocks share one trip to another thread.
        if buffer.len() >= chunk {
            let (bytes, policy) = (partial.bytes(), policy.clone());
            buffer = unblock(move || append(&bytes, buffer, &policy)).await?;
        }
    }
    let policy = policy.clone();
    let committed = unblock(move || {
        append(&partial.bytes(), buffer, &policy)?;
        match partial.commit(overwrite, policy.keep) {
            Ok(replaced) => Ok((replaced, place.text(&path))),
            Err(error) => Err(refuse(error, (&place, &path), &user)),
        }
    });
    let (replaced, target) = committed.await?;
    if replaced {
        request.note_replaced();
    }
    request.note_target(target);
    Ok(())
}

fn create(
    (place, path): (&Place, &Path),
    (policy, overwrite): (&Policy, bool),
    (size, may_follow): (u64, bool),
    user: &str,
) -> Result<Partial, Refusal> {
    let name = path.file_name().ok_or(Refusal::not_found())?;
    if partial::is_partial(path) {
        return Err(Refusal::denied().because("the name is reserved for unfinished uploads"));
    }
    if policy.keep > 0 && versions::is_version(name) {
        return Err(Refusal::denied().because("the name is reserved for kept versions"));
    }
    let why = |error| refuse(error, (place, path), user);
    let dir = match path.parent() {
        Some(parent) if parent != Path::new("") => {
            let opened = place.beneath_root(parent, |root, parent| open_parent(root, parent, policy));
            Arc::new(opened.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound if !policy.mkdir => {
                    let parent = name::text(parent.as_os_str().as_encoded_bytes());
                    let mkdir = setting("mkdir", "--mkdir");
                    Refusal::not_found().because(format_args!("no directory {parent}: `{mkdir}` lets uploads make it"))
                }
                _ => why(error),
            })?)
        }
        _ => place.dir.clone(),
    };
    if may_follow && dir.symlink_metadata(name).is_ok_and(|there| there.is_symlink()) {
        // The link stays, and the upload goes to its target.
        let target = place.target(path).map_err(why)?;
        return create((place, &target), (policy, overwrite), (size, false), user);
    }
    let is_there = check_free(&dir, name, (policy, overwrite), why)?;
    let partial = match Partial::create(dir.clone(), name, policy.umask) {
        Err(error) if is_there && policy.keep == 0 && error.kind() == io::ErrorKind::PermissionDenied => {
            Partial::in_place(dir, name)
        }
        made => made,
    };
    let partial = partial.map_err(why)?;
    policy.check_space(&partial.bytes(), size)?;
    Ok(partial)
}

/// The refusal for an error about the file at this path.
fn refuse(error: io::Error, (place, path): (&Place, &Path), user: &str) -> Refusal {
    refuse_denied(error, refuse_upload, || why_denied(place, path, Wish::Write, user))
}

/// Writes these bytes and returns the buffer.
fn append(mut file: &File, mut buffer: Vec<u8>, policy: &Policy) -> Result<Vec<u8>, Refusal> {
    policy.check_space(file, buffer.len() as u64)?;
    file.write_all(&buffer)?;
    buffer.clear();
    Ok(buffer)
}

fn open_parent(root: &Dir, path: &Path, policy: &Policy) -> io::Result<Dir> {
    match root.open_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if policy.mkdir {
                make_all(root, path, policy)?;
            } else if let Some(own) = path.iter().next().filter(|_| policy.per_client) {
                make(root, Path::new(own), policy)?;
            }
            root.open_dir(path)
        }
        opened => opened,
    }
}

fn make_all(root: &Dir, path: &Path, policy: &Policy) -> io::Result<()> {
    let mut ways: Vec<_> = path.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
    ways.reverse();
    ways.into_iter().try_for_each(|way| make(root, way, policy))
}

/// Makes one directory, if it does not exist, and syncs it.
fn make(root: &Dir, path: &Path, policy: &Policy) -> io::Result<()> {
    match make_with_mode(root, path, policy.umask) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(&root.open_dir(parent)?);
    Ok(())
}

#[cfg(unix)]
fn make_with_mode(root: &Dir, path: &Path, umask: Option<u32>) -> io::Result<()> {
    use cap_std::fs::{DirBuilder, DirBuilderExt, MetadataExt, PermissionsExt};
    let wanted = 0o777 & !umask.unwrap_or(0);
    let mut builder = DirBuilder::new();
    root.create_dir_with(path, builder.mode(wanted))?;
    let made = root.metadata(path)?.mode() & 0o7777;
    if umask.is_some() && made & 0o777 != wanted {
        // The umask of the process was stricter. A setgid bit from the parent stays: by it new files get the
        // directory's group. A sandbox may forbid to set that bit.
        let set = root.set_permissions(path, PermissionsExt::from_mode(made & 0o7000 | wanted));
        set.unwrap_or_else(|error| log::debug!("a new directory has mode {made:o} and not {wanted:o}: {error}"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_with_mode(root: &Dir, path: &Path, _: Option<u32>) -> io::Result<()> {
    root.create_dir(path)
}

/// Checks that a new file may have this name. Returns whether there is one to replace.
fn check_free(
    dir: &Dir,
    name: &OsStr,
    (policy, overwrite): (&Policy, bool),
    why: impl Fn(io::Error) -> Refusal,
) -> Result<bool, Refusal> {
    if policy.keep > 0 {
        versions::check_name(dir, name).map_err(&why)?;
    }
    match dir.symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(why(error)),
        Ok(_) if !policy.overwrite => Err(Refusal::no_overwrite()),
        Ok(_) if !overwrite => Err(Refusal::exists()),
        Ok(there) if !there.is_file() => Err(Refusal::denied().because("not a regular file")),
        Ok(there) if there.permissions().readonly() => Err(Refusal::denied().because("the file is read-only")),
        Ok(_) => Ok(true),
    }
}
