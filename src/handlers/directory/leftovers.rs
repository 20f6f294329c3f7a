//! Files of uploads that killed servers left behind.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::fs::{Dir, OpenOptions};

use super::{
    partial,
    system::{is_held, is_ours},
};

/// A running upload writes more often than this.
const OLD: Duration = Duration::from_secs(600);
/// The most names that are examined. In a larger tree the search stops early.
const MOST: usize = 1_000_000;

/// Removes the files below this directory that have the name of a running upload, belong to this user, were last
/// written to more than ten minutes ago, and are not locked by a server. Returns how many there were.
pub(super) fn remove(root: &Dir) -> usize {
    let (mut removed, mut seen) = (0, 0);
    let mut directories = vec![PathBuf::from(".")];
    while let Some(path) = directories.pop() {
        let Ok(dir) = root.open_dir(&path) else { continue };
        for entry in dir.entries().into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST {
                log::warn!("only the first {MOST} names were searched for unfinished uploads");
                return removed;
            }
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            // Links are not followed.
            if kind.is_dir() {
                directories.push(path.join(name));
            } else if kind.is_file() && partial::is_hidden_name(&name) && is_left(&dir, Path::new(&name)) {
                removed += usize::from(dir.remove_file(&name).is_ok());
            }
        }
    }
    removed
}

fn is_left(dir: &Dir, name: &Path) -> bool {
    let mut options = OpenOptions::new();
    // NFS locks only files that are open for writing.
    options.write(true);
    let Ok(file) = dir.open_with(name, &options) else { return false };
    let Ok(found) = file.metadata() else { return false };
    let age = found.modified().ok().map(|modified| apart(modified.into_std(), SystemTime::now()));
    found.is_file() && age.is_some_and(|age| age > OLD) && is_ours(&found) && !is_held(&file)
}

/// The distance between two times. A machine without a battery-backed clock starts in 1970, where its files are in the
/// future.
fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}
