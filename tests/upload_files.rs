//! The files that uploads become: their modes and owners, their names, and that they are there for good.
#![cfg(all(feature = "directory", unix))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
#[path = "common/asked.rs"]
mod asked;

use std::{
    env,
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use asked::{names, put, untouched};
use tuffet::{ErrorCode, Refusal, handlers::Directory};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_replaced_file_gives_its_mode() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).overwrite(true);
    // As after a write by the kernel: the file loses the bits that would run it with the rights of another user.
    let modes =
        [(0o600, 0o600), (0o640, 0o640), (0o666, 0o666), (0o755, 0o755), (0o200, 0o200), (0o444 | 0o200, 0o644)];
    for (before, after) in modes.into_iter().chain([(0o4755, 0o755), (0o2755, 0o755), (0o2644, 0o2644)]) {
        for (keep, umask) in [(0, None), (0, Some(0o077)), (1, None)] {
            let directory = directory.clone().keep_versions(keep).overwrite(true);
            let directory = umask.map_or(directory.clone(), |umask| directory.umask(umask));
            let name = format!("{before:o}-{keep}-{umask:?}");
            fs::write(root.path().join(&name), "old").unwrap();
            set_mode(root.path().join(&name), before);
            put(&directory, &name, "new").unwrap();
            assert_eq!(format!("{:o}", mode(root.path().join(&name))), format!("{after:o}"), "{name}");
            // The user of the test may be unable to read all of them.
            set_mode(root.path().join(&name), 0o600);
            assert_eq!(fs::read(root.path().join(&name)).unwrap(), b"new");
        }
    }
}

#[test]
fn a_new_file_has_the_mode_of_the_umask_option() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).mkdir(true);
    for (umask, file, dir) in [(0o027, 0o640, 0o750), (0o002, 0o664, 0o775), (0, 0o666, 0o777), (0o177, 0o600, 0o600)] {
        let name = format!("{umask:o}");
        put(&directory.clone().umask(umask), &name, "new").unwrap();
        assert_eq!(mode(root.path().join(name)), file);
        if umask != 0o177 {
            let name = format!("a{umask:o}/b/c");
            put(&directory.clone().umask(umask), &name, "new").unwrap();
            let path = root.path().join(name);
            let parent = path.parent().unwrap();
            assert_eq!((mode(&path), mode(parent), mode(parent.parent().unwrap())), (file, dir, dir));
        }
    }
    // Files in such a directory get its group, and so do directories.
    let shared = root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o2775);
    put(&directory.umask(0o002), "shared/new/file", "new").unwrap();
    assert_eq!((mode(shared.join("new")), mode(shared.join("new/file"))), (0o2775, 0o664));
}

/// In a process of its own, because the umask is one of the process.
#[test]
fn a_new_file_has_the_umask_of_the_process_by_default() {
    again!(again::after, &[], "umask 027");
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).mkdir(true);
    put(&directory, "sub/new", "new").unwrap();
    assert_eq!((mode(root.path().join("sub")), mode(root.path().join("sub/new"))), (0o750, 0o640));
}

/// An access list in the kernel's format: a tag, rights and a user for each entry.
#[cfg(target_os = "linux")]
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .flat_map(|(tag, rights, user)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &user.to_le_bytes()].concat());
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// The group bits of a file with an access list are no rights of its group.
#[cfg(target_os = "linux")]
#[test]
fn a_replaced_file_gives_its_access_list() {
    use rustix::{
        fs::{XattrFlags, getxattr, setxattr},
        io::Errno,
    };
    let (owner, user, group_of_file, mask, others, nobody) = (1, 2, 4, 16, 32, u32::MAX);
    let list = |group| {
        access_list(&[
            (owner, 6, nobody),
            // In a user namespace, this one exists.
            (user, 6, 0),
            (group_of_file, group, nobody),
            (mask, 6, nobody),
            (others, 0, nobody),
        ])
    };
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let list_of = |name: &str| {
        let mut list = vec![0; 1000];
        let length = getxattr(path(name), "system.posix_acl_access", &mut list[..])?;
        list.truncate(length);
        Ok::<_, Errno>(list)
    };
    for name in ["with", "without"] {
        fs::write(path(name), "old").unwrap();
        set_mode(path(name), 0o640);
    }
    let set = setxattr(path("with"), "system.posix_acl_access", &list(0), XattrFlags::empty());
    if set == Err(Errno::OPNOTSUPP) {
        return println!("skipped: no access lists in {}", root.path().display());
    }
    set.unwrap();
    // A new file gets the default access list of the directory.
    setxattr(root.path(), "system.posix_acl_default", &list(4), XattrFlags::empty()).unwrap();
    for keep in [0, 1] {
        let directory = Directory::new(root.path()).unwrap().uploads(true).keep_versions(keep).overwrite(true);
        for name in ["with", "without"] {
            put(&directory, name, "new").unwrap();
            assert_eq!(fs::read(path(name)).unwrap(), b"new");
        }
        assert_eq!((list_of("with"), mode(path("with"))), (Ok(list(0)), 0o660));
        assert_eq!((list_of("without"), mode(path("without"))), (Err(Errno::NODATA), 0o640));
    }
}

/// Programs such as incron and `inotifywait -e close_write -e moved_to` act on a file when it is complete.
#[cfg(target_os = "linux")]
#[test]
fn programs_that_watch_the_directory_are_told_that_a_file_is_complete() {
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true);
    let replacing = directory.clone().overwrite(true);
    let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&inotify, root.path(), WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO).unwrap();
    for (directory, name) in [(&directory, "new"), (&replacing, "new too"), (&replacing, "new")] {
        put(directory, name, "text").unwrap();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&inotify, &mut buffer);
        let mut told = false;
        while let Ok(event) = events.next() {
            assert!(event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO));
            told |= event.file_name().is_some_and(|told| told.to_str() == Ok(name));
        }
        assert!(told, "{name}");
    }
}

/// Samba sets such attributes. SELinux keeps its label in the same way, but not every kernel has SELinux.
#[cfg(target_os = "linux")]
#[test]
fn a_replaced_file_gives_its_attributes() {
    use rustix::{
        fs::{XattrFlags, getxattr, setxattr},
        io::Errno,
    };
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("f");
    fs::write(&path, "old").unwrap();
    let long = vec![b'x'; 200];
    for (name, value) in [("user.DOSATTRIB", &b"0x20"[..]), ("user.comment", &long), ("user.empty", b"")] {
        match setxattr(&path, name, value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => return println!("skipped: no attributes in {}", root.path().display()),
            set => set.unwrap(),
        }
    }
    let attribute = |name: &str| {
        let mut value = vec![0; 1000];
        let length = getxattr(&path, name, &mut value[..]);
        length.map(|length| value[..length].to_vec())
    };
    for keep in [0, 1] {
        let directory = Directory::new(root.path()).unwrap().uploads(true).keep_versions(keep).overwrite(true);
        put(&directory, "f", "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let kept = ["user.DOSATTRIB", "user.comment", "user.empty"].map(attribute);
        assert_eq!(kept, [Ok(b"0x20".to_vec()), Ok(long.clone()), Ok(Vec::new())]);
    }
}

/// Other servers do the same: if a directory has a default access list, new files get it.
#[cfg(target_os = "linux")]
#[test]
fn a_new_file_has_the_access_list_of_its_directory() {
    use rustix::{
        fs::{XattrFlags, getxattr, setxattr},
        io::Errno,
    };
    let nobody = u32::MAX;
    for (others, umask, expected) in [(0, None, 0o660), (6, None, 0o666), (6, Some(0o027), 0o640)] {
        let list = access_list(&[(1, 7, nobody), (2, 7, 0), (4, 5, nobody), (16, 7, nobody), (32, others, nobody)]);
        let root = tempfile::tempdir().unwrap();
        match setxattr(root.path(), "system.posix_acl_default", &list, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => return println!("skipped: no access lists in {}", root.path().display()),
            set => set.unwrap(),
        }
        let directory = Directory::new(root.path()).unwrap().uploads(true);
        let directory = umask.map_or(directory.clone(), |umask| directory.umask(umask));
        put(&directory, "new", "new").unwrap();
        assert_eq!(format!("{:o}", mode(root.path().join("new"))), format!("{expected:o}"));
        if umask.is_none() {
            let list_of = |name: &str| {
                let mut list = vec![0; 1000];
                let length = getxattr(root.path().join(name), "system.posix_acl_access", &mut list[..]).unwrap();
                list.truncate(length);
                list
            };
            fs::write(root.path().join("usual"), "new").unwrap();
            assert_eq!(list_of("new"), list_of("usual"));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_replaced_file_gives_its_owner() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).overwrite(true);
    let path = root.path().join("f");
    fs::write(&path, "old").unwrap();
    chown(&path, Some(1234), Some(5678)).unwrap();
    set_mode(&path, 0o640);
    put(&directory, "f", "new").unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 5678, 0o640));
}

#[test]
#[ignore = "needs root and chattr"]
fn a_file_that_nobody_may_change_is_explained() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).overwrite(true);
    let path = root.path().join("f");
    fs::write(&path, "old").unwrap();
    let change = |attribute| Command::new("chattr").arg(attribute).arg(&path).status().unwrap().success();
    for (set, clear) in [("+i", "-i"), ("+a", "-a")] {
        if !change(set) {
            return println!("skipped: no such attributes in {}", root.path().display());
        }
        let refusal = put(&directory, "f", "new");
        assert!(change(clear));
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::ACCESS_VIOLATION);
        assert!(refusal.detail().unwrap().contains("lsattr"), "{refusal:?}");
        assert_eq!((fs::read(&path).unwrap(), names(root.path())), (b"old".to_vec(), vec!["f".into()]));
    }
}

#[test]
fn a_name_that_is_too_long_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).overwrite(true).mkdir(true);
    let (longest, longer) = ("x".repeat(255), "x".repeat(256));
    put(&directory, &longest, "fits").unwrap();
    let kept = directory.clone().keep_versions(2);
    for (directory, name) in [
        (&directory, longer.clone()),
        (&directory, format!("{longer}/f")),
        (&directory, format!("sub/{longer}")),
        (&kept, longest.clone()),
        (&kept, "x".repeat(252)),
    ] {
        let refusal = put(directory, &name, untouched()).unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (ErrorCode::ACCESS_VIOLATION, "file name too long"), "{name}");
    }
    assert_eq!(fs::read(root.path().join(&longest)).unwrap(), b"fits");
    // With room for its version.
    for text in ["one", "two"] {
        put(&kept, &"y".repeat(251), text).unwrap();
    }
    assert_eq!(fs::read(root.path().join(format!("{}.~1~", "y".repeat(251)))).unwrap(), b"one");
}

#[test]
fn a_name_with_a_slash_at_its_end_is_no_file() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).mkdir(true);
    for name in ["sub/", r"\sub\", "a/b/", "sub//", "sub/.", "a/b/..", r"sub\.", "sub/./"] {
        assert_eq!(put(&directory, name, untouched()), Err(Refusal::denied()), "{name}");
    }
    assert_eq!(names(root.path()), [""; 0]);
}

#[test]
fn only_leftovers_of_killed_servers_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    let make = |name: &str, modified: SystemTime| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        file.set_modified(modified).unwrap();
        file
    };
    // On a machine without a battery-backed clock, its own leftover may have a time in the future.
    let new = SystemTime::now() + Duration::from_secs(3600);
    for (gone, modified) in
        [(".tuffet-0123456789abcdef", old), ("a/b/c/.tuffet-fedcba9876543210", old), (".tuffet-00000000000000cc", new)]
    {
        make(gone, modified);
    }
    let stay = [
        "file",
        ".tuffet-0123456789abcdeg",
        ".tuffet-notes",
        "a/.tuffet-0123456789abcdef0",
        "a/b/x.tuffet-0123456789abcdef",
    ];
    stay.iter().for_each(|stays| _ = make(stays, old));
    let recent = make("a/.tuffet-00000000000000aa", SystemTime::now());
    fs::create_dir(root.path().join(".tuffet-00000000000000dd")).unwrap();
    std::os::unix::fs::symlink("file", root.path().join(".tuffet-00000000000000ee")).unwrap();
    // Of an upload that goes on slowly; a lock is by file and not by process.
    let held = make("a/.tuffet-00000000000000bb", old);
    lock(&held);

    let directory = Directory::new(root.path()).unwrap().uploads(true);
    assert_eq!(directory.remove_leftovers(), 3);
    drop(held);
    assert_eq!(directory.remove_leftovers(), 1, "its server has ended");
    drop(recent);
    let left = [
        ".tuffet-00000000000000dd",
        ".tuffet-00000000000000ee",
        ".tuffet-0123456789abcdeg",
        ".tuffet-notes",
        "a",
        "file",
    ];
    assert_eq!(names(root.path()), left);
    assert_eq!(names(&root.path().join("a")), [".tuffet-00000000000000aa", ".tuffet-0123456789abcdef0", "b"]);
}

/// By another process, which leaves the lock with the open file.
fn lock(file: &File) {
    let mut flock = Command::new("flock");
    let status = flock.args(["--exclusive", "--nonblock", "0"]).stdin(file.try_clone().unwrap()).status();
    assert!(status.expect("flock").success());
}

#[test]
#[ignore = "needs root"]
fn leftovers_of_another_user_stay() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(".tuffet-0123456789abcdef");
    File::create(&path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    chown(&path, Some(1234), None).unwrap();
    let directory = Directory::new(root.path()).unwrap();
    assert_eq!(directory.remove_leftovers(), 0);
    chown(&path, Some(0), None).unwrap();
    assert_eq!(directory.remove_leftovers(), 1);
}

/// A server that is killed while the new file has a hidden name, and not yet the name of the file that it replaces.
#[test]
#[ignore = "needs strace"]
fn a_leftover_between_two_names_is_removed_later() {
    const THERE: &str = "TUFFET_TEST_IS_KILLED";
    if let Some(root) = env::var_os(THERE) {
        return put(&Directory::new(&root).unwrap().uploads(true).overwrite(true), "f", "new").unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("f"), "old").unwrap();
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=/rename.*",
        "-e",
        "inject=/rename.*:error=EIO:signal=KILL",
    ]);
    strace.arg(env::current_exe().unwrap()).args(["--ignored", "--exact"]);
    let status = strace.arg("a_leftover_between_two_names_is_removed_later").env(THERE, root.path()).status();
    assert!(!status.expect("strace").success());
    let left = names(root.path());
    assert!(left.len() == 2 && left[0].starts_with(".tuffet-") && left[1] == "f", "{left:?}");
    assert_eq!(fs::read(root.path().join("f")).unwrap(), b"old");
    let directory = Directory::new(root.path()).unwrap();
    assert_eq!(directory.remove_leftovers(), 0, "it might be of another server");
    let old = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(root.path().join(&left[0])).unwrap().set_modified(old).unwrap();
    assert_eq!(directory.remove_leftovers(), 1);
    assert_eq!(names(root.path()), ["f"]);
}

/// The calls by which an upload is made safe, in their order: the bytes, the name, the inode, and the directory.
#[test]
#[ignore = "needs strace"]
fn the_last_block_is_acknowledged_when_all_is_on_the_disk() {
    const THERE: &str = "TUFFET_TEST_IS_TRACED";
    if let Some(root) = env::var_os(THERE) {
        let directory = Directory::new(&root).unwrap().uploads(true).mkdir(true);
        put(&directory, "a/b/new", "one").unwrap();
        return put(&directory.overwrite(true), "a/b/new", "two").unwrap();
    }
    let temp = tempfile::tempdir().unwrap();
    let (root, log) = (temp.path().join("root"), temp.path().join("log"));
    fs::create_dir(&root).unwrap();
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-qq", "-e", "trace=mkdir,mkdirat,fsync,linkat,rename,renameat,renameat2", "-o"])
        .arg(&log);
    strace.arg(env::current_exe().unwrap()).args(["--ignored", "--exact"]);
    strace.arg("the_last_block_is_acknowledged_when_all_is_on_the_disk").env(THERE, &root);
    assert!(strace.status().expect("strace").success());
    let root = root.to_str().unwrap().to_owned();
    let place = |call: &str| call.split(['<', '>']).nth(1).unwrap_or_default().replace(&root, "");
    let calls: Vec<String> = fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, call)| call.trim_start().to_owned())
        .filter(|call| call.contains(&root))
        .map(|call| {
            let name = call.split('(').next().unwrap().trim_end_matches("at").trim_end_matches("at2").to_owned();
            let of = place(&call);
            match &*name {
                "fsync"
                    if of.contains("new")
                        || of.contains(".tuffet-")
                        || of.contains("(deleted)")
                        || of.contains('#') =>
                {
                    "fsync file".into()
                }
                "fsync" => format!("fsync {of}/"),
                _ => name,
            }
        })
        .collect();
    let first = ["mkdir", "fsync /", "mkdir", "fsync /a/", "fsync file", "link", "fsync file", "fsync /a/b/"];
    let second = ["fsync file", "link", "rename", "fsync file", "fsync /a/b/"];
    assert_eq!(calls, first.into_iter().chain(second).collect::<Vec<_>>());
}

#[test]
fn an_upload_over_a_link_goes_to_its_target() {
    use std::os::unix::fs::symlink;
    let temp = tempfile::tempdir().unwrap();
    let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    let stored = |name: &str| fs::read_to_string(root.join(name)).ok();
    let file = root.join("sub/file");
    fs::write(outside.join("secret"), "secret").unwrap();
    symlink("sub/file", root.join("relative")).unwrap();
    symlink(&file, root.join("absolute")).unwrap();
    symlink("../../relative", root.join("sub/deep/chain")).unwrap();
    symlink(root.join("sub/new"), root.join("dangling")).unwrap();
    symlink(outside.join("secret"), root.join("out")).unwrap();
    symlink("../outside/new", root.join("out-new")).unwrap();
    symlink("sub", root.join("directory")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let directory = Directory::new(&root).unwrap().uploads(true);
    for name in ["relative", "absolute", "sub/deep/chain", "dangling", "directory/deep/chain"] {
        for (overwrite, keep) in [(false, 0), (true, 0), (true, 1)] {
            fs::write(&file, "old").unwrap();
            _ = fs::remove_file(root.join("sub/new"));
            set_mode(&file, 0o640);
            let target = if name == "dangling" { "sub/new" } else { "sub/file" };
            let result = put(&directory.clone().keep_versions(keep).overwrite(overwrite), name, "new");
            let is_new = overwrite || name == "dangling";
            let expected = if is_new { Ok(()) } else { Err(Refusal::exists()) };
            assert_eq!(result, expected, "{name} {overwrite}");
            assert_eq!(stored(target).unwrap(), if is_new { "new" } else { "old" }, "{name} {overwrite}");
            assert!(root.join(name).is_symlink() && mode(&file) == 0o640, "{name}");
        }
    }
    let directory = directory.overwrite(true);
    for name in ["out", "out-new", "directory", "loop"] {
        assert!(put(&directory, name, untouched()).is_err(), "{name}");
    }
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
}
