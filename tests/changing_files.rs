//! Files that change while they are sent: the client gets all of one state, or an ERROR.
#![cfg(feature = "directory")]

mod common;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use common::{Peer, Serving, file};
use tuffet::{ErrorCode, handlers::Directory, packet::Packet};

const SIZE: usize = 100_000;

/// Gets a few blocks of the file, changes the file, and gets the rest.
fn get(change: impl FnOnce(&Path)) -> Result<Vec<u8>, ErrorCode> {
    get_in(&std::env::temp_dir(), change)
}

fn get_in(place: &Path, change: impl FnOnce(&Path)) -> Result<Vec<u8>, ErrorCode> {
    let directory = tempfile::tempdir_in(place).unwrap();
    let path = directory.path().join("file");
    fs::write(&path, file(SIZE)).unwrap();
    let serving = Serving::new(Directory::new(directory.path()).unwrap());
    let mut peer = Peer::new(serving.addr());
    peer.rrq("file", &[]);
    let (mut received, mut change) = (Vec::new(), Some(change));
    for block in 1.. {
        match peer.receive() {
            Packet::Data { block: number, payload } => {
                assert_eq!(number, block);
                received.extend_from_slice(&payload);
                if payload.len() < 512 {
                    peer.ack(number);
                    break;
                }
            }
            Packet::Error { code, .. } => return Err(code),
            other => panic!("{other:?}"),
        }
        if block == 5 {
            // The time of a file moves in steps.
            std::thread::sleep(Duration::from_millis(20));
            change.take().into_iter().for_each(|change| change(&path));
        }
        peer.ack(block);
    }
    Ok(received)
}

#[test]
fn an_unchanged_file_comes_whole() {
    assert_eq!(get(|_| {}), Ok(file(SIZE)));
}

#[test]
fn a_file_that_is_cut_short_ends_with_an_error() {
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(50_000).unwrap();
    assert_eq!(get(cut), Err(ErrorCode::NOT_DEFINED));
}

/// Whether it got this and not anything else, without all of it in the message.
#[track_caller]
fn assert_got(result: Result<Vec<u8>, ErrorCode>, expected: Result<Vec<u8>, ErrorCode>) {
    assert!(result == expected, "got {:?} instead", result.map(|bytes| bytes.len()));
}

fn append(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_file_that_grows_comes_as_long_as_it_was() {
    assert_got(get(append), Ok(file(SIZE)));
    assert_got(get(|path| write_at(path, SIZE as u64, &[7; 1 << 20])), Ok(file(SIZE)));
    assert_got(get(|path| File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap()), Ok(file(SIZE)));
    // The same bytes once more, and then some.
    assert_got(get(|path| fs::write(path, file(2 * SIZE)).unwrap()), Ok(file(SIZE)));
}

/// Its file system has no disk, and cannot say whether a read would wait.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_grows_in_a_tmpfs_comes_as_long_as_it_was() {
    let shared_memory = Path::new("/dev/shm");
    assert_got(get_in(shared_memory, append), Ok(file(SIZE)));
    let change = |path: &Path| (write_at(path, SIZE as u64 - 100, &[1; 100]), append(path)).1;
    assert_got(get_in(shared_memory, change), Err(ErrorCode::NOT_DEFINED));
}

#[test]
fn a_file_that_grows_and_is_changed_inside_ends_with_an_error() {
    let failed = || Err(ErrorCode::NOT_DEFINED);
    for at in [0, 1, 1000, 2559, SIZE as u64 - 1] {
        // One byte alone that was sent, or at the end, is seen as well: the file was written a moment before.
        assert_got(get(|path| (write_at(path, at, &[file(SIZE)[at as usize] ^ 1]), append(path)).1), failed());
    }
    assert_got(get(|path| fs::write(path, vec![1; 2 * SIZE]).unwrap()), failed());
    assert_got(get(|path| write_at(path, SIZE as u64 - 100, &[1; 200])), failed());
}

#[test]
fn a_file_that_is_written_over_ends_with_an_error() {
    assert_got(get(|path| write_at(path, 0, &[0; 10_000])), Err(ErrorCode::NOT_DEFINED));
    assert_got(get(|path| write_at(path, 2000, &[0; 98_000])), Err(ErrorCode::NOT_DEFINED));
}

#[test]
fn a_file_that_is_written_over_where_it_is_not_sent_yet_comes_as_it_is_now() {
    let expected = [&file(SIZE)[..90_000], &[0; 10_000]].concat();
    assert_got(get(|path| write_at(path, 90_000, &[0; 10_000])), Ok(expected));
}

#[test]
fn a_new_time_alone_is_no_change() {
    let touch = |path: &Path, time| File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    assert_got(get(|path| touch(path, std::time::SystemTime::now())), Ok(file(SIZE)));
    assert_got(get(|path| touch(path, std::time::UNIX_EPOCH)), Ok(file(SIZE)));
    // The same bytes once more.
    assert_got(get(|path| write_at(path, 0, &file(SIZE))), Ok(file(SIZE)));
}

#[test]
fn a_file_that_another_is_renamed_over_comes_whole_as_it_was() {
    let replace = |path: &Path| {
        let other = path.with_extension("new");
        fs::write(&other, [0; 200_000]).unwrap();
        fs::rename(other, path).unwrap();
    };
    assert_eq!(get(replace), Ok(file(SIZE)));
    assert_eq!(get(|path| fs::remove_file(path).unwrap()), Ok(file(SIZE)));
}

/// One client has had the beginning of a small file, and stays, while another begins after the change.
fn two_gets(change: impl FnOnce(&Path)) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, file(1000)).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let serving = Serving::new(Directory::new(directory.path()).unwrap());
    let (mut first, mut second) = (Peer::new(serving.addr()), Peer::new(serving.addr()));
    for peer in [&mut first, &mut second] {
        peer.rrq("file", &[("blksize", "1024")]);
        assert!(matches!(peer.receive(), Packet::Oack(_)));
    }
    first.ack(0);
    assert_eq!(first.receive(), Packet::Data { block: 1, payload: file(1000).into() });
    second.ack(0);
    assert_eq!(second.receive(), Packet::Data { block: 1, payload: file(1000).into() });
    change(&path);
    let mut third = Peer::new(serving.addr());
    third.rrq("file", &[("blksize", "1024")]);
    assert!(matches!(third.receive(), Packet::Oack(_)));
    third.ack(0);
    match third.receive() {
        Packet::Data { block: 1, payload } => payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_small_file_that_was_read_a_moment_ago_comes_as_it_is_now() {
    let other: Vec<u8> = file(1000).into_iter().rev().collect();
    assert_eq!(two_gets(|_| {}), file(1000));
    assert_eq!(two_gets(|path| fs::write(path, &other).unwrap()), other);
    let replace = |path: &Path| {
        fs::write(path.with_extension("new"), &other).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    };
    assert_eq!(two_gets(replace), other);
}
