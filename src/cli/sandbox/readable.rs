//! Reports which served files the server cannot read, before a client asks for them.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use log::warn;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::user::Identity;

/// The most names that are examined, from the top: enough for a tree that people make by hand.
const MOST: usize = 2000;

/// Warns about the first file or directory that this user may not read, with the number of further ones. Call it as
/// that user. `or_user` is further advice.
pub fn check(root: &Path, identity: &Identity, or_user: &str) {
    let denied = denied(root);
    if let Some(first) = denied.first() {
        let more = match denied.len() - 1 {
            0 => String::new(),
            1 => " and 1 more".into(),
            more => format!(" and {more} more"),
        };
        let path = first.display();
        warn!("user {identity} may not read {path}{more}: `chmod -R o+rX {path}`{or_user}");
    }
}

/// The unreadable paths, by depth.
fn denied(root: &Path) -> Vec<PathBuf> {
    let (mut denied, mut seen) = (Vec::new(), 0);
    let mut directories = VecDeque::from([root.to_owned()]);
    while let Some(directory) = directories.pop_front() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST {
                return denied;
            }
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            let wanted = match () {
                // Clients need not list the names in a directory.
                () if kind.is_dir() => Access::EXEC_OK,
                () if kind.is_file() => Access::READ_OK,
                () => continue,
            };
            let found = accessat(CWD, &path, wanted, AtFlags::empty()).map_err(io::Error::from);
            if found.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                denied.push(path);
            } else if kind.is_dir() {
                directories.push_back(path);
            }
        }
    }
    denied
}
