//! Replaced files, which are kept beside the new one: `name.~1~`, `name.~2~` and so on, the newest with the highest
//! number, as `cp --backup=numbered` does.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use cap_std::fs::Dir;

use super::system::is_same;
use crate::{shown, sync::Mutex};

/// Whether a kept file can have this name.
pub(super) fn is_version(name: &OsStr) -> bool {
    split(name.as_encoded_bytes()).is_some()
}

/// Checks that the next replaced file can be kept, because the name of a version is longer than the name. The error
/// says why not.
pub(super) fn check_name(dir: &Dir, name: &OsStr) -> io::Result<()> {
    // The system checks the length of a name before it looks for the file.
    match dir.symlink_metadata(version(name, next(&numbers(dir, name)?))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found.map(|_| ()),
    }
}

fn next(numbers: &[u64]) -> u64 {
    numbers.last().map_or(1, |last| last.saturating_add(1))
}

/// Replaces the file of this name by `replace`, keeps the old file, and removes all but the `most` newest versions.
/// Where the file system has hard links, the name always has a file.
pub(super) fn keep(dir: &Dir, name: &OsStr, most: usize, replace: impl Fn() -> io::Result<()>) -> io::Result<()> {
    // Of two simultaneous uploads, the second keeps the file of the first.
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let _one_by_one = ONE_BY_ONE.lock();
    let mut numbers = numbers(dir, name)?;
    let next = next(&numbers);
    let kept = version(name, next);
    let undo: &dyn Fn() -> io::Result<()> = match numbers.last().map(|last| version(name, *last)) {
        // A server that was killed, or failed, left this version.
        Some(last) if is_same(dir, name, &last) => &|| Ok(()),
        _ => match dir.hard_link(name, dir, &kept) {
            Ok(()) => {
                numbers.push(next);
                &|| dir.remove_file(&kept)
            }
            // There is no file to replace.
            Err(error) if error.kind() == io::ErrorKind::NotFound => &|| Ok(()),
            // Another server keeps versions here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // There are no hard links on the file system, or to a file of another user, or in this sandbox at all.
            Err(_) => match dir.rename(name, dir, &kept) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => &|| Ok(()),
                renamed => {
                    renamed?;
                    numbers.push(next);
                    &|| dir.rename(&kept, dir, name)
                }
            },
        },
    };
    if let Err(error) = replace() {
        undo().unwrap_or_else(|error| {
            log::warn!("cannot undo that {} was kept: {error}", shown::name(kept.as_encoded_bytes()))
        });
        return Err(error);
    }
    for old in &numbers[..numbers.len().saturating_sub(most)] {
        if let Err(error) = dir.remove_file(version(name, *old)) {
            log::warn!("cannot remove an old version of {}: {error}", shown::name(name.as_encoded_bytes()));
        }
    }
    Ok(())
}

/// The numbers of the existing versions, in order.
fn numbers(dir: &Dir, name: &OsStr) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in dir.entries()? {
        let entry = entry?.file_name();
        let version = split(entry.as_encoded_bytes()).filter(|(of, _)| *of == name.as_encoded_bytes());
        numbers.extend(version.map(|(_, number)| number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn version(name: &OsStr, number: u64) -> OsString {
    let mut version = name.to_owned();
    version.push(format!(".~{number}~"));
    version
}

fn split(version: &[u8]) -> Option<(&[u8], u64)> {
    let rest = version.strip_suffix(b"~")?;
    let at = rest.windows(2).rposition(|two| two == b".~")?;
    let digits = std::str::from_utf8(&rest[at + 2..]).ok()?;
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
    Some((&rest[..at], digits.parse().ok().filter(|_| is_plain)?))
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_file_that_could_not_be_replaced_is_unchanged() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temporary.path(), ambient_authority()).unwrap();
        dir.write("a", "old").unwrap();
        let failing = || Err(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(keep(&dir, OsStr::new("a"), 2, failing).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(dir.read_to_string("a").unwrap(), "old");
        assert_eq!(numbers(&dir, OsStr::new("a")).unwrap(), [0; 0]);
    }

    /// Like a server that is killed before it has replaced the file.
    #[cfg(unix)]
    #[test]
    fn a_version_is_kept_once() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temporary.path(), ambient_authority()).unwrap();
        dir.write("a", "old").unwrap();
        dir.hard_link("a", &dir, "a.~4~").unwrap();
        dir.write("new", "new").unwrap();
        keep(&dir, OsStr::new("a"), 2, || dir.rename("new", &dir, "a")).unwrap();
        assert_eq!(numbers(&dir, OsStr::new("a")).unwrap(), [4]);
        assert_eq!(
            (dir.read_to_string("a").unwrap(), dir.read_to_string("a.~4~").unwrap()),
            ("new".into(), "old".into())
        );
    }

    #[test]
    fn names_of_versions() {
        assert_eq!(split(b"a.cfg.~12~"), Some((&b"a.cfg"[..], 12)));
        assert_eq!(split(b"a.~1~.~2~"), Some((&b"a.~1~"[..], 2)));
        assert_eq!(version(OsStr::new("a.cfg"), 3), "a.cfg.~3~");
        for other in ["a", "a~", "a.~~", "a.~x~", "a.~+1~", "a.~01~", "a.1~", "a.~1", "a.~99999999999999999999~"] {
            assert!(!is_version(OsStr::new(other)), "{other}");
        }
    }
}
