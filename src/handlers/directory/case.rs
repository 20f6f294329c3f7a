//! Names whose upper and lower case nobody knows.

use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

/// The file of this name but for the case of its letters (of ASCII), if there is one. A name that is right is preferred
/// at each step, then the first by its bytes. It reads the directories on the way, so it may wait for the disk.
pub(super) fn find(root: &Dir, path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.iter() {
        let exact = found.join(part);
        if root.exists(&exact) {
            found = exact;
            continue;
        }
        let here = if found.as_os_str().is_empty() { Path::new(".") } else { &found };
        let names = root.read_dir(here).ok()?.flatten().map(|entry| entry.file_name());
        found.push(names.filter(|name| name.eq_ignore_ascii_case(part)).min()?);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn the_right_name_is_preferred() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        ["Boot/BCD", "Boot/Fonts/a", "x", "X", "xY"].into_iter().for_each(make);
        let root = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap();
        let find = |name: &str| find(&root, Path::new(name)).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(find("boot/bcd").as_deref(), Some("Boot/BCD"));
        assert_eq!(find("BOOT/fonts/A").as_deref(), Some("Boot/Fonts/a"));
        assert_eq!(find("x").as_deref(), Some("x"));
        assert_eq!(find("X").as_deref(), Some("X"));
        assert_eq!(find("XY").as_deref(), Some("xY"));
        for missing in ["y", "boot/x", "x/y", "boot/bcd/x"] {
            assert_eq!(find(missing), None, "{missing}");
        }
    }
}
