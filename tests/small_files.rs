//! Small files of a directory, whose content is in memory for a second: the costs of a transfer, and that the client
//! gets the file that is at the path when its request comes.
#![cfg(all(feature = "directory", target_os = "linux"))]

#[path = "common/asked.rs"]
mod asked;

use std::{
    env, fs,
    fs::File,
    io::IoSliceMut,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::fstatfs,
    io::{ReadWriteFlags, preadv2},
};
use smol::future::block_on;
use tuffet::{Bytes, Handler, Refusal, Source, handlers::Directory};

fn read(directory: &Directory, name: &str) -> Result<Source, Refusal> {
    block_on(directory.read(&asked::request(name)?))
}

fn first_chunk(directory: &Directory, name: &str) -> Result<Bytes, Refusal> {
    block_on(read(directory, name)?.next()).unwrap()
}

/// Writes a file that seems to be old, so that its next change shows.
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_at(path, bytes, SystemTime::UNIX_EPOCH);
}

fn write_at(path: &Path, bytes: &[u8], time: SystemTime) {
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// A tmpfs.
const SHARED_MEMORY: &str = "/dev/shm";

/// Whether the file system tells if a read would wait, or is a tmpfs, where no read does. Elsewhere, as with overlayfs,
/// small files are read like large ones.
fn tells_of_waits(path: &Path) -> bool {
    /// See statfs(2).
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let file = File::open(path).unwrap();
    let tells = preadv2(&file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT).is_ok();
    tells || fstatfs(&file).unwrap().f_type as u64 == TMPFS_MAGIC
}

/// Whether this process has the file open.
fn is_open(path: &Path) -> bool {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
    links.flatten().any(|open| open == path)
}

#[test]
fn small_files_are_read_when_the_request_comes_and_closed() {
    for temp in [tempfile::tempdir(), tempfile::tempdir_in(SHARED_MEMORY)] {
        assert_read_and_closed(&temp.unwrap());
    }
}

fn assert_read_and_closed(temp: &tempfile::TempDir) {
    let (directory, path) = (Directory::new(temp.path()).unwrap(), temp.path().canonicalize().unwrap().join("f"));
    for (size, open) in [(1, false), (6144, false), (6145, true), (0, true)] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        write(&path, &bytes);
        let open = open || !tells_of_waits(&path);
        let source = read(&directory, "f").unwrap();
        assert_eq!((source.size(), is_open(&path)), (Some(size), open), "{size} bytes");
        write_at(&path, b"other", SystemTime::now() + Duration::from_secs(3600));
        if !open {
            assert_eq!(block_on(source.collect(1 << 20)).unwrap(), bytes);
        }
        // A program may write to the file again within the same tick of its clock.
        let source = read(&directory, "f").unwrap();
        assert!(is_open(&path));
        assert_eq!(block_on(source.collect(1 << 20)).unwrap(), b"other");
    }
}

#[test]
fn a_small_file_that_has_not_changed_is_not_read_again() {
    let temp = tempfile::tempdir().unwrap();
    let directory = Directory::new(temp.path()).unwrap();
    write(&temp.path().join("f"), b"same");
    // A busy machine may need the second for something else.
    let is_shared = (0..100).any(|_| {
        let [one, two] = [(); 2].map(|()| first_chunk(&directory, "f").unwrap());
        assert_eq!((&one[..], &two[..]), (&b"same"[..], &b"same"[..]));
        one.as_ptr() == two.as_ptr()
    });
    assert!(is_shared || !tells_of_waits(&temp.path().join("f")));
}

#[test]
fn small_files_come_from_the_present_root() {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().canonicalize().unwrap();
    let [root, link] = ["root", "link"].map(|name| base.join(name));
    write(&base.join("root/sub/f"), b"one");
    write(&base.join("other/sub/f"), b"two");
    symlink("root", &link).unwrap();
    let directories = [&root, &link].map(|path| Directory::new(path).unwrap());
    let assert_both = |expected: Result<&'static [u8], Refusal>| {
        for directory in &directories {
            assert_eq!(first_chunk(directory, "sub/f"), expected.clone().map(Bytes::from_static));
        }
    };
    for _ in 0..10 {
        assert_both(Ok(b"one"));
        // No file is renamed, only a directory above it.
        fs::rename(&root, base.join("former")).unwrap();
        fs::rename(base.join("other"), &root).unwrap();
        assert_both(Ok(b"two"));
        // The same file has the same name, but behind a link that leads out of the root.
        fs::rename(root.join("sub"), base.join("outside")).unwrap();
        symlink("../outside", root.join("sub")).unwrap();
        assert_both(Err(Refusal::denied()));
        fs::remove_file(root.join("sub")).unwrap();
        assert_both(Err(Refusal::not_found()));
        fs::rename(base.join("outside"), root.join("sub")).unwrap();
        assert_both(Ok(b"two"));
        fs::rename(&root, base.join("other")).unwrap();
        fs::rename(base.join("former"), &root).unwrap();
    }
}

/// The system calls for a file that has not changed: one to open it, one for its state, and one to close it.
#[test]
#[ignore = "needs strace"]
fn a_small_file_that_has_not_changed_is_opened_once() {
    const THERE: &str = "TUFFET_TEST_IS_TRACED";
    const READS: usize = 100;
    if let Some(root) = env::var_os(THERE) {
        let directory = Directory::new(root).unwrap();
        return (0..READS).for_each(|_| assert_eq!(first_chunk(&directory, "f").unwrap(), "same"));
    }
    let temp = tempfile::tempdir().unwrap();
    write(&temp.path().join("f"), b"same");
    if !tells_of_waits(&temp.path().join("f")) {
        return;
    }
    let calls = temp.path().join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=openat2,preadv2,statx", "-o"]).arg(&calls);
    strace.arg(env::current_exe().unwrap()).args([
        "--ignored",
        "--exact",
        "a_small_file_that_has_not_changed_is_opened_once",
    ]);
    assert!(strace.env(THERE, temp.path().canonicalize().unwrap()).status().expect("strace").success());
    let calls = fs::read_to_string(calls).unwrap();
    // The test harness, in another thread, looks for the limits of a container in any number of directories.
    let thread = calls.lines().find(|line| line.contains("openat2(")).and_then(|line| line.split(' ').next()).unwrap();
    let of_thread = || calls.lines().filter(|line| line.split(' ').next() == Some(thread));
    let count = |name| of_thread().filter(|line| line.contains(name)).count();
    let counts = ["openat2(", "statx(", "preadv2("].map(count);
    // The first read takes more, and so does one each second.
    let least = [READS, READS, 1];
    assert!(counts.iter().zip(least).all(|(count, least)| (least..least + READS / 4).contains(count)), "{counts:?}");
}
