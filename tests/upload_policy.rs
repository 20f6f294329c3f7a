//! Which uploads a directory takes, where they go, and which replaced files are kept.
#![cfg(all(feature = "directory", unix))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
#[path = "common/asked.rs"]
mod asked;

use std::{
    fs,
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use asked::{request_from, untouched};
use smol::{future::block_on, stream};
use tuffet::{Bytes, ErrorCode, Handler, Refusal, Source, handlers::Directory};

fn put_from(peer: &str, directory: &Directory, name: &str, data: impl Into<Source>) -> Result<(), Refusal> {
    block_on(directory.write(&request_from(peer.parse().unwrap(), name)?, data.into()))
}

fn put(directory: &Directory, name: &str, data: impl Into<Source>) -> Result<(), Refusal> {
    put_from("192.0.2.7", directory, name, data)
}

fn get_from(peer: &str, directory: &Directory, name: &str) -> Result<String, Refusal> {
    let request = request_from(peer.parse().unwrap(), name)?;
    let bytes = block_on(async { directory.read(&request).await?.collect(1 << 20).await })?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// This many KiB, without an announced size.
fn kibibytes(count: usize) -> Source {
    Source::stream(stream::iter(vec![Ok(Bytes::from(vec![7; 1024])); count]))
}

/// All files below, by the path from there.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

fn code(result: Result<(), Refusal>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn only_names_that_fit_are_taken() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).mkdir(true);
    let directory = directory.upload_names(["*.cfg", "logs/*"]).unwrap();
    for name in ["a.cfg", "site/b.cfg", "logs/boot", r"\Logs\..\c.cfg"] {
        put(&directory, name, "text").unwrap();
    }
    for name in ["a.exe", "logs/sub/boot", "x/logs/boot", ".cfg/x", "a.cfg.bak"] {
        assert_eq!(code(put(&directory, name, untouched())), ErrorCode::ACCESS_VIOLATION, "{name}");
    }
    assert_eq!(files(root.path()), ["a.cfg", "c.cfg", "logs/boot", "site/b.cfg"]);
    assert!(directory.upload_names(["[a"]).is_err());
}

#[test]
fn each_client_has_its_own_directory() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("shared"), "for all").unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).per_client(true);
    put_from("192.0.2.7", &directory, "switch.cfg", "seven").unwrap();
    put_from("192.0.2.8", &directory, "switch.cfg", "eight").unwrap();
    put_from("2001:db8::9", &directory, "switch.cfg", "nine").unwrap();
    put_from("::ffff:192.0.2.7", &directory, "other.cfg", "seven").unwrap();
    put_from("192.0.2.8", &directory, "shared", "of eight").unwrap();
    assert_eq!(
        files(root.path()),
        ["192.0.2.7/other.cfg", "192.0.2.7/switch.cfg", "192.0.2.8/shared", "192.0.2.8/switch.cfg"]
            .into_iter()
            .chain(["2001:db8::9/switch.cfg", "shared"])
            .collect::<Vec<_>>()
    );
    for (peer, name, text) in [
        ("192.0.2.7", "switch.cfg", Some("seven")),
        ("192.0.2.8", "switch.cfg", Some("eight")),
        ("192.0.2.8", "shared", Some("of eight")),
        ("192.0.2.7", "shared", Some("for all")),
        ("192.0.2.9", "switch.cfg", None),
        ("192.0.2.9", "192.0.2.7/switch.cfg", Some("seven")),
    ] {
        assert_eq!(get_from(peer, &directory, name).ok().as_deref(), text, "{name} for {peer}");
    }
    // No spelling reaches the directory of another client, and a client makes no directory but its own.
    assert_eq!(code(put(&directory, "switch.cfg", untouched())), ErrorCode::FILE_EXISTS);
    assert_eq!(code(put(&directory, "192.0.2.8/x", untouched())), ErrorCode::FILE_NOT_FOUND);
    put(&directory, "sub/../x", "inside").unwrap();
    assert_eq!(get_from("192.0.2.7", &directory, "192.0.2.7/x").unwrap(), "inside");
}

#[test]
fn an_upload_finds_names_in_any_case() {
    let root = tempfile::tempdir().unwrap();
    for directory in ["Configs", "192.0.2.8/Configs"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
        fs::write(root.path().join(directory).join("Switch.cfg"), "old").unwrap();
    }
    let directory = Directory::new(root.path()).unwrap().uploads(true).mkdir(true);
    let any_case = directory.clone().ignore_case(true).upload_names(["N*", "switch.*"]).unwrap();
    assert_eq!(put(&any_case, "configs/SWITCH.CFG", untouched()), Err(Refusal::exists()));
    put(&any_case.clone().overwrite(true), "configs/SWITCH.CFG", "new").unwrap();
    put(&any_case, "CONFIGS/New/n", "new").unwrap();
    put_from("192.0.2.8", &any_case.per_client(true).overwrite(true), "configs/switch.cfg", "own").unwrap();
    let found = ["192.0.2.8/Configs/Switch.cfg", "Configs/New/n", "Configs/Switch.cfg"];
    assert_eq!(files(root.path()), found);
    assert_eq!(found.map(|name| fs::read_to_string(root.path().join(name)).unwrap()), ["own", "new", "new"]);
    put(&directory, "configs/switch.cfg", "another").unwrap();
    assert_eq!(files(root.path()).len(), 4);
}

#[test]
fn a_link_in_the_place_of_a_clients_directory_leads_nowhere() {
    let temp = tempfile::tempdir().unwrap();
    let (root, outside) = (temp.path().join("root"), temp.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("192.0.2.7")).unwrap();
    let directory = Directory::new(&root).unwrap().uploads(true).per_client(true);
    assert_eq!(code(put(&directory, "x", untouched())), ErrorCode::ACCESS_VIOLATION);
    assert_eq!(files(&outside), [""; 0]);
}

#[test]
fn replaced_files_are_kept_as_versions() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).keep_versions(2);
    for text in ["one", "two", "three", "four"] {
        put(&directory, "a.cfg", text).unwrap();
        put(&directory, "a.cfg2", text).unwrap();
    }
    let kept = ["a.cfg", "a.cfg.~2~", "a.cfg.~3~", "a.cfg2", "a.cfg2.~2~", "a.cfg2.~3~"];
    assert_eq!(files(root.path()), kept);
    for (name, text) in [("a.cfg", "four"), ("a.cfg.~3~", "three"), ("a.cfg.~2~", "two")] {
        assert_eq!(get_from("192.0.2.7", &directory, name).unwrap(), text);
    }
    // An upload that fails replaces nothing, and no client can write a version.
    let failing = Source::stream(stream::iter([Ok(Bytes::from("five")), Err(Refusal::internal())]));
    assert!(put(&directory, "a.cfg", failing).is_err());
    assert_eq!(code(put(&directory, "a.cfg.~3~", untouched())), ErrorCode::ACCESS_VIOLATION);
    assert_eq!(files(root.path()), kept);
}

#[test]
fn no_concurrent_upload_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).keep_versions(100);
    let together = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (directory, together) = (directory.clone(), together.clone());
            thread::spawn(move || {
                together.wait();
                (0..5).for_each(|m| put(&directory, "a.cfg", format!("{n}.{m}")).unwrap());
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let names = files(root.path());
    let mut texts: Vec<String> = names.iter().map(|name| fs::read_to_string(root.path().join(name)).unwrap()).collect();
    texts.sort();
    let all: Vec<String> = (0..8).flat_map(|n| (0..5).map(move |m| format!("{n}.{m}"))).collect();
    assert_eq!((texts, names.len()), (all, 40));
}

#[test]
fn a_disk_that_would_be_too_full_is_refused_before_any_byte() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::new(root.path()).unwrap().uploads(true).min_free(u64::MAX);
    assert_eq!(code(put(&directory, "x", untouched())), ErrorCode::DISK_FULL);
    assert_eq!(files(root.path()), [""; 0]);
    put(&directory.min_free(1), "x", "fits").unwrap();
}

#[test]
#[ignore = "needs root and unshare"]
fn a_disk_that_fills_up_ends_the_upload_and_keeps_nothing_of_it() {
    again!(again::after, &["unshare", "--mount"], "mount -t tmpfs -o size=1m none /mnt");
    let root = Path::new("/mnt");
    let directory = Directory::new(root).unwrap().uploads(true).overwrite(true).min_free(512 << 10);
    put(&directory, "fits", kibibytes(300)).unwrap();
    assert_eq!(code(put(&directory, "more", kibibytes(300))), ErrorCode::DISK_FULL, "it leaves 424 KiB");
    assert_eq!(code(put(&directory, "fits", kibibytes(300))), ErrorCode::DISK_FULL, "for a while there are both");
    put(&directory, "little", kibibytes(100)).unwrap();
    // And without a floor, the disk itself.
    let directory = directory.min_free(0);
    assert_eq!(code(put(&directory, "more", kibibytes(1000))), ErrorCode::DISK_FULL);
    assert_eq!(files(root), ["fits", "little"]);
    assert_eq!(get_from("192.0.2.7", &directory, "fits").unwrap().len(), 300 << 10);
}

#[test]
#[ignore = "needs root and unshare"]
fn a_file_system_without_a_size_takes_uploads() {
    again!(again::after, &["unshare", "--mount"], "mount -t ramfs none /mnt; mount -t tmpfs -o size=0 none /media");
    for root in ["/mnt", "/media"] {
        let directory = Directory::new(root).unwrap().uploads(true).min_free(16 << 20);
        put(&directory, "x", "fits").unwrap();
    }
}

/// In a container, each of a few files is often mounted by itself.
#[test]
#[ignore = "needs root and unshare"]
fn an_upload_over_a_mounted_file_goes_into_it() {
    let mount = "mount -t tmpfs none /mnt; mkdir /mnt/root; touch /mnt/root/switch.cfg; \
                 printf 'older and longer' > /mnt/real; mount --bind /mnt/real /mnt/root/switch.cfg";
    again!(again::after, &["unshare", "--mount"], mount);
    let (root, real) = (Path::new("/mnt/root"), Path::new("/mnt/real"));
    let directory = Directory::new(root).unwrap().uploads(true).overwrite(true);
    assert_eq!(
        code(put(&directory, "switch.cfg", Source::stream(smol::stream::once(Err(Refusal::disk_full()))))),
        ErrorCode::DISK_FULL
    );
    assert_eq!(fs::read(real).unwrap(), b"older and longer");
    put(&directory, "switch.cfg", "new").unwrap();
    assert_eq!((fs::read(real).unwrap(), files(root)), (b"new".to_vec(), vec!["switch.cfg".into()]));
    let refusal = put(&directory.keep_versions(1), "switch.cfg", "newer").unwrap_err();
    assert_eq!((refusal.code(), fs::read(real).unwrap()), (ErrorCode::ACCESS_VIOLATION, b"new".to_vec()));
    assert!(refusal.detail().unwrap().contains("`--keep-versions`"), "{refusal}");
}

/// The bytes of the upload and those of the old file do not fit together.
#[test]
#[ignore = "needs root and unshare"]
fn a_full_disk_leaves_the_mounted_file_as_it_was() {
    let mount = "mount -t tmpfs -o size=64k none /mnt; mkdir /mnt/root; touch /mnt/root/switch.cfg; \
                 printf old > /mnt/real; mount --bind /mnt/real /mnt/root/switch.cfg";
    again!(again::after, &["unshare", "--mount"], mount);
    let (root, real) = (Path::new("/mnt/root"), Path::new("/mnt/real"));
    let directory = Directory::new(root).unwrap().uploads(true).overwrite(true);
    assert_eq!(code(put(&directory, "switch.cfg", kibibytes(40))), ErrorCode::DISK_FULL);
    assert!(fs::read(real).unwrap() == b"old");
    assert_eq!(files(root), ["switch.cfg"]);
    put(&directory, "switch.cfg", kibibytes(20)).unwrap();
    assert_eq!(fs::read(real).unwrap().len(), 20 << 10);
}
