//! Which files the directory handler serves and takes, and which it must not.
#![cfg(all(feature = "directory", unix))]

#[path = "common/asked.rs"]
mod asked;

use std::{
    ffi::OsStr,
    fs,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    task::Poll,
    time::{Duration, SystemTime},
};

use asked::{names, put, request, untouched};
use smol::{
    LocalExecutor, Timer,
    future::{FutureExt, block_on},
    stream::{self, StreamExt},
};
use tempfile::TempDir;
use tuffet::{Bytes, Handler, Refusal, Request, Source, handlers::Directory, packet};

fn get(directory: &Directory, name: impl AsRef<[u8]>) -> Result<Vec<u8>, Refusal> {
    let request = request(name)?;
    let read = async { directory.read(&request).await?.collect(100 << 20).await };
    let hangs = async {
        Timer::after(Duration::from_secs(20)).await;
        panic!("{request:?} hangs");
    };
    block_on(read.or(hangs))
}

#[test]
fn bytes_that_are_no_text_are_shown_where_a_name_is_refused() {
    let (temp, directory) = tree();
    symlink(temp.path().join(OsStr::from_bytes(b"outside/a\xff")), root(&temp).join("out")).unwrap();
    let read = get(&directory, "out").unwrap_err();
    let request = request(b"a\xff/x").unwrap();
    let write = block_on(directory.uploads(true).write(&request, untouched())).unwrap_err();
    for refusal in [read, write] {
        let detail = refusal.detail().unwrap();
        assert!(detail.contains(r"a\xff") && !detail.contains('\u{fffd}'), "{detail}");
    }
}

/// A root with a secret beside it.
fn tree() -> (TempDir, Directory) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::write(temp.path().join("secret"), "secret").unwrap();
    fs::write(root.join("file"), "file").unwrap();
    fs::write(root.join("sub/file"), "sub file").unwrap();
    fs::create_dir(temp.path().join("outside")).unwrap();
    fs::write(temp.path().join("outside/secret"), "secret").unwrap();
    let directory = Directory::new(root).unwrap();
    (temp, directory)
}

fn root(temp: &TempDir) -> std::path::PathBuf {
    temp.path().join("root")
}

/// Some megabytes without a repetition.
fn big() -> Vec<u8> {
    (0..1_000_003u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[test]
fn files_are_served_as_they_are() {
    let (temp, directory) = tree();
    for size in [0, 1, 511, 512, 8191, 8192, 8193] {
        let bytes = &big()[..size];
        fs::write(root(&temp).join("sized"), bytes).unwrap();
        assert_eq!(get(&directory, "sized").unwrap(), bytes, "{size}");
    }
    fs::write(root(&temp).join("big"), big()).unwrap();
    assert!(get(&directory, "big").unwrap() == big());
    let request = request("big").unwrap();
    assert_eq!(block_on(directory.read(&request)).unwrap().size(), Some(big().len() as u64));
    assert_eq!(get(&directory, "none"), Err(Refusal::not_found()));
    assert_eq!(directory.describe(), root(&temp).display().to_string());
}

#[test]
fn names_are_normalised() {
    let (_temp, directory) = tree();
    for name in ["sub/file", "/sub/file", "//sub//file", "./sub/./file", r"\sub\file", r"C:\sub\file", "x/../sub/file"]
    {
        assert_eq!(get(&directory, name).unwrap(), b"sub file", "{name}");
    }
}

#[test]
fn names_need_not_be_utf8() {
    let (temp, directory) = tree();
    fs::write(root(&temp).join(OsStr::from_bytes(b"sub/caf\xe9")), "latin").unwrap();
    assert_eq!(get(&directory, b"/sub\\caf\xe9").unwrap(), b"latin");
    assert_eq!(get(&directory, b"/sub\\caf\xe8"), Err(Refusal::not_found()));
    let source = block_on(directory.read(&request(b"sub/caf\xe9").unwrap())).unwrap();
    assert!(source.origin().unwrap().ends_with(r"/root/sub/caf\xe9"));
}

#[test]
fn no_name_leads_out_of_the_root() {
    let (temp, directory) = tree();
    let absolute = temp.path().join("secret").display().to_string();
    let sibling = "../root/../secret";
    for name in [
        "../secret",
        "/../secret",
        "sub/../../secret",
        "./../secret",
        r"..\secret",
        r"sub\..\..\secret",
        "C:/../secret",
        "sub/./../../secret",
        "..//secret",
        "....//secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "..;/secret",
        ".. /secret",
        "..\u{2215}secret",
        "..%c0%afsecret",
        &absolute,
        sibling,
        "..",
        "/etc/passwd",
        r"C:\etc\passwd",
    ] {
        let refusal = get(&directory, name).expect_err(name);
        assert!(refusal == Refusal::denied() || refusal == Refusal::not_found(), "{name}: {refusal}");
    }
    assert_eq!(get(&directory, b"..\xc0\xafsecret"), Err(Refusal::not_found()));
}

#[test]
fn no_link_leads_out_of_the_root() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true).overwrite(true).mkdir(true);
    let root = root(&temp);
    symlink("../secret", root.join("relative")).unwrap();
    symlink(temp.path().join("secret"), root.join("absolute")).unwrap();
    symlink("/etc/passwd", root.join("passwd")).unwrap();
    symlink("../../secret", root.join("sub/deeper")).unwrap();
    symlink("relative", root.join("twice")).unwrap();
    symlink("../outside", root.join("dir")).unwrap();
    symlink(temp.path().join("outside"), root.join("absolute-dir")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    for name in [
        "relative",
        "absolute",
        "passwd",
        "sub/deeper",
        "twice",
        "dir/secret",
        "absolute-dir/secret",
        "up/secret",
        "magic/Cargo.toml",
    ] {
        assert_eq!(get(&directory, name), Err(Refusal::denied()), "{name}");
        assert_eq!(put(&directory, name, untouched()), Err(Refusal::denied()), "{name}");
    }
    for name in ["dir/new", "absolute-dir/new", "up/new", "dir/new/new", "up/outside/new"] {
        assert_eq!(put(&directory, name, untouched()), Err(Refusal::denied()), "{name}");
    }
    assert_eq!(fs::read(temp.path().join("secret")).unwrap(), b"secret");
    assert_eq!(names(&temp.path().join("outside")), ["secret"]);
    assert_eq!(names(temp.path()), ["outside", "root", "secret"]);
}

#[test]
fn links_that_stay_inside_are_followed() {
    let (temp, directory) = tree();
    let root = root(&temp);
    symlink("sub/file", root.join("link")).unwrap();
    symlink("../file", root.join("sub/up")).unwrap();
    symlink("sub", root.join("dir")).unwrap();
    assert_eq!(get(&directory, "link").unwrap(), b"sub file");
    assert_eq!(get(&directory, "sub/up").unwrap(), b"file");
    assert_eq!(get(&directory, "dir/up").unwrap(), b"file");
    put(&directory.uploads(true), "dir/new", "new").unwrap();
    assert_eq!(fs::read(root.join("sub/new")).unwrap(), b"new");
}

#[test]
fn special_files_are_not_found_at_once() {
    let (temp, directory) = tree();
    let root = root(&temp);
    assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    symlink("loop-b", root.join("loop-a")).unwrap();
    symlink("loop-a", root.join("loop-b")).unwrap();
    for name in ["fifo", "socket", "sub", "loop-a", "loop-a/x", "file/x", &"x".repeat(1000)] {
        assert_eq!(get(&directory, name), Err(Refusal::not_found()), "{name}");
    }
    let directory = directory.uploads(true).overwrite(true);
    for name in ["fifo", "socket", "sub"] {
        assert_eq!(put(&directory, name, untouched()), Err(Refusal::denied()), "{name}");
    }
    assert_eq!(put(&directory, "loop-a", untouched()), Err(Refusal::not_found()));
}

#[test]
fn a_file_that_changes_is_an_error() {
    let (temp, directory) = tree();
    let path = root(&temp).join("changing");
    let changes: [fn(&Path); 3] = [
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100_000).unwrap(),
        |path| fs::write(path, vec![b'n'; 200_000]).unwrap(),
        |path| fs::write(path, vec![b'n'; 300_000]).unwrap(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        fs::write(&path, vec![b'o'; 200_000]).unwrap();
        settle(&path);
        let request = request("changing").unwrap();
        block_on(async {
            let mut source = directory.read(&request).await.unwrap();
            let follower = directory.read(&request).await.unwrap();
            source.next().await.unwrap().unwrap();
            change(&path);
            assert_eq!(source.collect(1 << 20).await, Err(Refusal::internal()), "change {i}");
            // It may have begun with a chunk from before. A file of the same size that is all new is good.
            let follower = follower.collect(1 << 20).await;
            let is_new = i == 1 && follower.as_deref() == Ok(&[b'n'; 200_000]);
            assert!(is_new || follower == Err(Refusal::internal()), "change {i}, with chunks from before");
        });
    }
}

/// Sets the time of the last change far enough back for the next one to show.
fn settle(path: &Path) {
    set_modified(path, SystemTime::UNIX_EPOCH);
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn readers_side_by_side_read_once() {
    let (temp, directory) = tree();
    let path = root(&temp).join("big");
    fs::write(&path, big()).unwrap();
    for settled in [false, true] {
        let hour = Duration::from_secs(3600);
        set_modified(&path, if settled { SystemTime::now() - hour } else { SystemTime::now() + hour });
        let request = request("big").unwrap();
        block_on(async {
            let (mut one, mut two) = (directory.read(&request).await.unwrap(), directory.read(&request).await.unwrap());
            let (mut of_one, mut of_two, mut shared) = (Vec::new(), Vec::new(), true);
            while let (Some(a), Some(b)) = (one.next().await, two.next().await) {
                let (a, b) = (a.unwrap(), b.unwrap());
                shared &= a.as_ptr() == b.as_ptr();
                of_one.extend(a);
                of_two.extend(b);
            }
            assert!(of_one == big() && of_two == big());
            // A file that was just written may be written again within the same tick of its clock.
            assert_eq!(shared, settled && cfg!(target_os = "linux"));
        });
    }
}

#[test]
fn readers_at_any_distance_and_with_any_window_get_the_file() {
    let (temp, directory) = tree();
    let path = root(&temp).join("big");
    fs::write(&path, big()).unwrap();
    settle(&path);
    let requests = ["512", "1000", "1468", "8192", "65464"].map(|blksize| {
        let options = [("blksize", blksize)].into_iter().collect();
        let packet = packet::Request { filename: b"big".to_vec(), mode: packet::Mode::Octet, options };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 69));
        Request::new(address, address, packet).unwrap()
    });
    block_on(async {
        let mut readers = Vec::new();
        for request in requests.iter().cycle().take(20) {
            readers.push((directory.read(request).await.unwrap(), Vec::new()));
        }
        // Each goes on when it likes.
        let mut random = fastrand::Rng::with_seed(7);
        while !readers.is_empty() {
            let i = random.usize(..readers.len());
            match readers[i].0.next().await {
                Some(chunk) => readers[i].1.extend(chunk.unwrap()),
                None => assert!(readers.swap_remove(i).1 == big()),
            }
        }
    });
}

#[test]
fn a_file_whose_time_was_set_back_is_not_the_one_before() {
    let (temp, directory) = tree();
    let path = root(&temp).join("image");
    for size in [200_000, 1000] {
        fs::write(&path, vec![b'o'; size]).unwrap();
        settle(&path);
        let mut readers = [(); 9].map(|()| block_on(directory.read(&request("image").unwrap())).unwrap());
        while block_on(readers[0].next()).is_some() {}
        // So that the clock of the file system has moved.
        std::thread::sleep(Duration::from_millis(50));
        fs::write(&path, vec![b'n'; size]).unwrap();
        settle(&path);
        assert!(get(&directory, "image").unwrap() == vec![b'n'; size]);
    }
}

#[test]
fn a_file_that_is_renamed_over_is_sent_to_its_end() {
    let (temp, directory) = tree();
    let path = root(&temp).join("old");
    fs::write(&path, big()).unwrap();
    let request = request("old").unwrap();
    block_on(async {
        let mut source = directory.read(&request).await.unwrap();
        let mut all = source.next().await.unwrap().unwrap().to_vec();
        fs::rename(root(&temp).join("file"), &path).unwrap();
        all.extend(source.collect(100 << 20).await.unwrap());
        assert!(all == big());
    });
}

#[test]
fn uploads_are_off_unless_allowed() {
    let (temp, directory) = tree();
    assert!(!directory.takes_writes());
    assert_eq!(put(&directory, "new", untouched()), Err(Refusal::denied()));
    assert_eq!(names(&root(&temp)), ["file", "sub"]);
    assert!(directory.uploads(true).takes_writes());
}

#[test]
fn what_was_put_can_be_got() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true);
    put(&directory, r"\sub\new", "new").unwrap();
    put(&directory, "empty", "").unwrap();
    let blocks: Vec<_> = big().chunks(512).map(|block| Ok(Bytes::copy_from_slice(block))).collect();
    put(&directory, "big", Source::stream(stream::iter(blocks))).unwrap();
    assert_eq!(get(&directory, "sub/new").unwrap(), b"new");
    assert_eq!(get(&directory, "empty").unwrap(), b"");
    assert!(get(&directory, "big").unwrap() == big());
    assert_eq!(names(&root(&temp)), ["big", "empty", "file", "sub"]);
    let mode = fs::metadata(root(&temp).join("big")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o644, 0, "{mode:o}");
}

#[test]
fn uploads_are_refused_before_any_byte() {
    let (temp, directory) = tree();
    let root = root(&temp);
    let directory = directory.uploads(true).max_upload(100);
    assert_eq!(put(&directory, "file", untouched()), Err(Refusal::exists()));
    assert_eq!(put(&directory, "sub", untouched()), Err(Refusal::exists()));
    assert_eq!(put(&directory, "a/b/new", untouched()), Err(Refusal::not_found()));
    assert_eq!(put(&directory, "file/new", untouched()), Err(Refusal::not_found()));
    assert_eq!(put(&directory, "new", untouched().with_size(101)), Err(Refusal::too_big()));
    assert_eq!(put(&directory, "../new", untouched()), Err(Refusal::denied()));
    let directory = directory.overwrite(true);
    assert_eq!(put(&directory, "sub", untouched()), Err(Refusal::denied()));
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(put(&directory, "file", untouched()), Err(Refusal::denied()));
    assert_eq!(names(&root), ["file", "sub"]);
    assert_eq!(names(temp.path()), ["outside", "root", "secret"]);
}

#[test]
fn uploads_replace_and_make_directories_if_told_to() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true).overwrite(true).mkdir(true);
    put(&directory, "file", "newer").unwrap();
    put(&directory, "a/b/new", "new").unwrap();
    put(&directory, "a/b/other", "other").unwrap();
    assert_eq!(get(&directory, "file").unwrap(), b"newer");
    assert_eq!(get(&directory, "a/b/new").unwrap(), b"new");
    assert_eq!(names(&root(&temp).join("a/b")), ["new", "other"]);
}

#[test]
fn uploads_that_fail_leave_nothing() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true).overwrite(true).max_upload(100_000);
    assert_eq!(put(&directory, "new", vec![0; 100_001]), Err(Refusal::too_big()));
    assert_eq!(put(&directory, "file", Source::from("short").with_size(6)), Err(Refusal::internal()));
    let broken = stream::iter([Ok(Bytes::from(vec![0; 50_000])), Err(Refusal::disk_full())]);
    assert_eq!(put(&directory, "file", Source::stream(broken)), Err(Refusal::disk_full()));
    assert_eq!(names(&root(&temp)), ["file", "sub"]);
    assert_eq!(get(&directory, "file").unwrap(), b"file");
    put(&directory, "new", vec![0; 100_000]).unwrap();
}

/// Uploads a part and does `then` when more is wanted. Gives up the upload when that is done.
fn half_way(directory: &Directory, name: &str, then: impl Future<Output = ()>) {
    let (sender, more_is_wanted) = smol::channel::bounded(1);
    let part = stream::iter([Ok(Bytes::from(vec![1; 200_000]))]).chain(stream::poll_fn(move |_| {
        _ = sender.try_send(());
        Poll::Pending
    }));
    let request = request(name).unwrap();
    let upload = async { panic!("the upload ended: {:?}", directory.write(&request, Source::stream(part)).await) };
    block_on(upload.or(async {
        more_is_wanted.recv().await.unwrap();
        then.await;
    }));
}

#[test]
fn uploads_that_are_dropped_leave_nothing() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true).overwrite(true);
    half_way(&directory, "file", async {
        // A server that is killed here would leave nothing either.
        if cfg!(target_os = "linux") {
            assert_eq!(names(&root(&temp)), ["file", "sub"]);
        }
    });
    assert_eq!(names(&root(&temp)), ["file", "sub"]);
    assert_eq!(get(&directory, "file").unwrap(), b"file");
}

#[test]
fn uploads_cannot_be_seen_before_they_are_complete() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true).overwrite(true);
    half_way(&directory, "new", async {
        // The name that it would have where a file needs one.
        let hidden = ".tuffet-0123456789abcdef";
        fs::write(root(&temp).join(hidden), "a part").unwrap();
        for name in ["new", hidden, ".TUFFET-0", &format!("sub/../{hidden}")] {
            let answer = directory.read(&request(name).unwrap()).await;
            assert_eq!(answer.err(), Some(Refusal::not_found()), "{name}");
        }
        let answer = directory.write(&request(hidden).unwrap(), untouched()).await;
        assert_eq!(answer, Err(Refusal::denied()));
    });
}

#[test]
fn a_file_that_came_meanwhile_is_not_replaced() {
    let (temp, directory) = tree();
    let path = root(&temp).join("new");
    let data = stream::once_future(async move {
        fs::write(path, "meanwhile").unwrap();
        Ok(Bytes::from("late"))
    });
    assert_eq!(put(&directory.clone().uploads(true), "new", Source::stream(data)), Err(Refusal::exists()));
    assert_eq!(get(&directory, "new").unwrap(), b"meanwhile");
    assert_eq!(names(&root(&temp)), ["file", "new", "sub"]);
}

#[test]
fn one_of_many_uploads_of_one_name_wins() {
    let (temp, directory) = tree();
    let directory = directory.uploads(true);
    let executor = LocalExecutor::new();
    let uploads: Vec<_> = (0..50u8)
        .map(|n| {
            let directory = directory.clone();
            executor.spawn(async move {
                let blocks = stream::iter(vec![Ok(Bytes::from(vec![n; 512])); 40]);
                directory.write(&request("new").unwrap(), Source::stream(blocks)).await
            })
        })
        .collect();
    let mut winners = Vec::new();
    block_on(executor.run(async {
        for (n, upload) in uploads.into_iter().enumerate() {
            match upload.await {
                Ok(()) => winners.push(n as u8),
                Err(refusal) => assert_eq!(refusal, Refusal::exists()),
            }
        }
    }));
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(get(&directory, "new").unwrap(), vec![winners[0]; 512 * 40]);
    assert_eq!(names(&root(&temp)), ["file", "new", "sub"]);
}

#[test]
fn the_root_must_be_a_directory() {
    let (temp, _) = tree();
    assert!(Directory::new(root(&temp).join("none")).is_err());
    assert!(Directory::new(root(&temp).join("file")).is_err());
}
