//! Names with unknown upper and lower case.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    hash::BuildHasher,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use cap_std::fs::Dir;
use foldhash::quality::RandomState;
use smol::unblock;

use super::{
    file_version::Version,
    place::{Place, or_itself},
    system::directory_version,
};
use crate::sync::Mutex;

/// The most names that are kept, of all directories together: some 25 MB. A directory with more names is kept alone,
/// because reading it for each miss would cost more.
const MOST: usize = 200_000;
/// The most names that one search tries beside exact ones, so that no tree that clients made up costs much.
const TRIES: u16 = 100;

/// The names of the directories that were searched last. A directory is read again only after it has changed.
#[derive(Default)]
pub(super) struct Cases {
    listings: Arc<Mutex<VecDeque<Arc<Listing>>>>,
    /// One search at a time, so that many requests for one directory do not all read it at once.
    turn: smol::lock::Mutex<()>,
}

struct Listing {
    version: Version,
    /// Whether the list holds all names as long as the directory has this version.
    is_settled: bool,
    /// The time when the read began.
    at: Instant,
    /// In the order of the hashes of the lower-case names: names of machines begin alike, and are slow to compare.
    names: Vec<(u64, Box<OsStr>)>,
    hasher: RandomState,
}

impl Cases {
    /// The file with this name in any case of its letters (of ASCII), if there is one. In each directory an exact name
    /// comes first, then the other matches in the order of their bytes. A list that was read after the request was
    /// received is recent enough.
    pub(super) async fn find(&self, place: Arc<Place>, path: PathBuf, received: Option<Instant>) -> Option<PathBuf> {
        self.search(received, move |list| find(&place, &path, list)).await
    }

    /// The name for an upload: that of the file, or else that of the deepest directory there is, with the rest as it
    /// is.
    pub(super) async fn for_upload(&self, place: Arc<Place>, path: PathBuf, received: Option<Instant>) -> PathBuf {
        self.search(received, move |list| {
            let mut ways = path.ancestors().map(|way| (way, path.strip_prefix(way)));
            ways.find_map(|(way, rest)| Some(find(&place, way, list)?.join(rest.ok()?))).unwrap_or(path.clone())
        })
        .await
    }

    async fn search<T: Send + 'static>(
        &self,
        received: Option<Instant>,
        search: impl FnOnce(&dyn Fn(&Dir) -> Option<Arc<Listing>>) -> T + Send + 'static,
    ) -> T {
        let _turn = self.turn.lock().await;
        let listings = self.listings.clone();
        unblock(move || search(&|dir| listing(&listings, dir, received).ok())).await
    }
}

fn find(place: &Place, path: &Path, list: &dyn Fn(&Dir) -> Option<Arc<Listing>>) -> Option<PathBuf> {
    let parts: Vec<_> = path.iter().collect();
    below(place, PathBuf::new(), &parts, list, &mut TRIES.clone())
}

/// The file that these parts lead to from a directory. Where several directories fit, all are searched in turn.
fn below(
    place: &Place,
    here: PathBuf,
    parts: &[&OsStr],
    list: &dyn Fn(&Dir) -> Option<Arc<Listing>>,
    tries: &mut u16,
) -> Option<PathBuf> {
    let Some((part, rest)) = parts.split_first() else { return Some(here) };
    let exact = here.join(part);
    if place.beneath(&exact, |dir, path| dir.metadata(path)).is_ok() {
        if let Some(found) = below(place, exact, rest, list, tries) {
            return Some(found);
        }
    }
    let dir = place.beneath(or_itself(&here), |dir, path| dir.open_dir(path)).ok()?;
    list(&dir)?.find(part).into_iter().filter(|name| name != part).find_map(|name| {
        *tries = tries.checked_sub(1)?;
        below(place, here.join(name), rest, list, tries)
    })
}

/// The names in a directory as it is now. It waits for the disk.
fn listing(known: &Mutex<VecDeque<Arc<Listing>>>, dir: &Dir, received: Option<Instant>) -> io::Result<Arc<Listing>> {
    let (at, version) = (Instant::now(), directory_version(dir)?);
    let lock = || known.lock();
    let is_good = |listing: &&Arc<Listing>| {
        let is_new = received.is_some_and(|received| received <= listing.at);
        listing.version.identity == version.identity && (is_new || listing.is_settled && listing.version == version)
    };
    if version.identity != (0, 0) {
        if let Some(good) = lock().iter().find(is_good) {
            return Ok(good.clone());
        }
    }
    let is_settled = version.is_settled_directory();
    let hasher = RandomState::default();
    let names = dir.entries()?.flatten().map(|entry| entry.file_name().into_boxed_os_str());
    let mut names: Vec<_> = names.map(|name| (hash(&hasher, &name), name)).collect();
    names.sort_unstable_by_key(|(hash, _)| *hash);
    let listing = Arc::new(Listing { version, is_settled, at, names, hasher });
    keep(&mut lock(), listing.clone(), MOST);
    Ok(listing)
}

/// Keeps the listing, and as many of the others as leave no more names than `most`.
fn keep(known: &mut VecDeque<Arc<Listing>>, listing: Arc<Listing>, most: usize) {
    known.retain(|other| other.version.identity != listing.version.identity);
    known.push_back(listing);
    while known.len() > 1 && known.iter().map(|listing| listing.names.len()).sum::<usize>() > most {
        known.pop_front();
    }
}

impl Listing {
    /// The names that differ from this one in case only, or not at all, in the order of their bytes.
    fn find(&self, name: &OsStr) -> Vec<&OsStr> {
        let wanted = hash(&self.hasher, name);
        let at = self.names.partition_point(|(hash, _)| *hash < wanted);
        let same = self.names[at..].iter().take_while(|(hash, _)| *hash == wanted);
        let mut found: Vec<_> = same.map(|(_, known)| &**known).collect();
        found.retain(|known| known.eq_ignore_ascii_case(name));
        found.sort_unstable();
        found
    }
}

fn hash(hasher: &RandomState, name: &OsStr) -> u64 {
    hasher.hash_one(name.as_encoded_bytes().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use cap_std::ambient_authority;

    use super::*;

    fn place(names: &[&str]) -> (tempfile::TempDir, Place) {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let dir = Dir::open_ambient_dir(directory.path(), ambient_authority()).unwrap().into();
        let path: Arc<Path> = directory.path().into();
        (directory, Place { dir, path: path.clone(), real: path, also: Arc::default(), at: Instant::now() })
    }

    #[test]
    fn the_right_name_is_preferred() {
        let names = ["Boot/BCD", "Boot/Fonts/a", "x", "X", "xY", "Xz", "xZ", "EFI/One/a", "efi/one/b", "efi/ONE/c"];
        let (_directory, place) = place(&names);
        let known = Mutex::default();
        let find = |name: &str| {
            let found = find(&place, Path::new(name), &|dir| listing(&known, dir, None).ok());
            found.map(|path| path.to_str().unwrap().to_owned())
        };
        for _ in 0..2 {
            assert_eq!(find("boot/bcd").as_deref(), Some("Boot/BCD"));
            assert_eq!(find("BOOT/fonts/A").as_deref(), Some("Boot/Fonts/a"));
            assert_eq!(find("x").as_deref(), Some("x"));
            assert_eq!(find("X").as_deref(), Some("X"));
            assert_eq!(find("XY").as_deref(), Some("xY"));
            assert_eq!(find("XZ").as_deref(), Some("Xz"));
            // Of two directories, one has the file.
            for (name, expected) in [("efi/one/a", "EFI/One/a"), ("EFI/ONE/B", "efi/one/b"), ("Efi/One/C", "efi/ONE/c")]
            {
                assert_eq!(find(name).as_deref(), Some(expected), "{name}");
            }
            for missing in ["efi/one/d", "y", "boot/x", "x/y", "boot/bcd/x", "xyz"] {
                assert_eq!(find(missing), None, "{missing}");
            }
        }
    }

    #[test]
    fn the_last_directory_is_kept_whatever_its_size() {
        let (_directory, place) = place(&["a/1", "a/2", "b/3", "c/4", "c/5", "c/6", "c/7"]);
        let (all, mut known) = (Mutex::default(), VecDeque::new());
        let mut kept = |name: &str| {
            let listing = listing(&all, &place.dir.open_dir(name).unwrap(), None).unwrap();
            keep(&mut known, listing, 3);
            known.iter().map(|listing| listing.names.len()).collect::<Vec<_>>()
        };
        for (name, expected) in [("a", &[2][..]), ("b", &[2, 1]), ("a", &[1, 2]), ("c", &[4]), ("b", &[1])] {
            assert_eq!(kept(name), expected, "{name}");
        }
    }

    /// The file system's clock cannot be set, so the test makes the directory old, or gives it a time that is to come,
    /// as it has on a machine whose clock begins in 1970.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_is_read_again_when_it_has_changed_and_not_before() {
        use std::time::{Duration, UNIX_EPOCH};
        for modified in [Duration::from_nanos(1), Duration::new(4_000_000_000, 1)] {
            is_read_again_when_it_has_changed(UNIX_EPOCH + modified);
        }
    }

    #[cfg(target_os = "linux")]
    fn is_read_again_when_it_has_changed(modified: std::time::SystemTime) {
        let (directory, place) = place(&["Boot/BCD"]);
        let known = Mutex::default();
        let boot = directory.path().join("Boot");
        fs::File::open(&boot).unwrap().set_modified(modified).unwrap();
        let dir = place.dir.open_dir("Boot").unwrap();
        let list = || listing(&known, &dir, None).unwrap();
        let reads = Cell::new(0);
        let look = |name: &str| {
            let before = known.lock().back().map(Arc::as_ptr);
            let found = !list().find(OsStr::new(name)).is_empty();
            reads.set(reads.get() + usize::from(known.lock().back().map(Arc::as_ptr) != before));
            found
        };
        assert!(look("bcd") && !look("new") && !look("other"));
        assert_eq!(reads.get(), 1);
        fs::write(boot.join("NEW"), "").unwrap();
        assert!(look("new"));
        assert_eq!(reads.get(), 2);
        // A directory that has just changed may change again within a tick of the clock.
        fs::remove_file(boot.join("NEW")).unwrap();
        fs::write(boot.join("Other"), "").unwrap();
        assert!(!look("new") && look("other"));
    }
}
