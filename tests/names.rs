//! Names as firmware, DHCP servers and people send them, and the files that they name.
#![cfg(all(feature = "directory", unix))]

mod common;
#[cfg(feature = "cli")]
#[path = "common/program.rs"]
mod program;

use std::fs;

use common::{Peer, Serving};
use tempfile::TempDir;
use tuffet::{
    Handler, Refusal, Request,
    handlers::{Directory, Memory},
    packet::{self, Packet},
    read,
};

/// A directory in which each file has its name as its content.
fn directory(names: &[&str]) -> (TempDir, Directory) {
    let here = tempfile::tempdir().unwrap();
    for name in names {
        let path = here.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let directory = Directory::new(here.path()).unwrap();
    (here, directory)
}

/// The answer to an RRQ with these bytes as the name: the first block, or the code of the ERROR.
fn get(server: &Serving, name: &[u8]) -> Result<String, u16> {
    let mut peer = Peer::new(server.addr());
    peer.send_bytes(&[b"\0\x01", name, b"\0octet\0"].concat());
    match peer.receive() {
        Packet::Data { block: 1, payload } => {
            peer.ack(1);
            Ok(String::from_utf8(payload.to_vec()).unwrap())
        }
        Packet::Error { code, .. } => Err(code.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_asks_for_a_url_is_explained() {
    let (_here, directory) = directory(&["file"]);
    let refusal = |name: &str| {
        let any = ([127, 0, 0, 1], 1069).into();
        let request = Request::new(any, any, packet::Request::new(name)).unwrap();
        smol::block_on(directory.read(&request)).unwrap_err()
    };
    for name in ["tftp://192.0.2.1/file", "http://192.0.2.1/boot.ipxe"] {
        let refusal = refusal(name);
        assert_eq!(refusal, Refusal::not_found());
        assert!(refusal.detail().unwrap().contains("the name is a URL"), "{refusal:?}");
    }
    for name in ["missing", "://x", "a/b://c"] {
        assert_eq!(refusal(name).detail(), None, "{name}");
    }
}

#[test]
fn the_end_mark_of_dhcp_is_not_part_of_a_name() {
    let (here, directory) = directory(&["pxelinux.0", "sub/x.efi"]);
    let server = Serving::new(directory);
    for (name, expected) in [
        (&b"pxelinux.0\xff"[..], Ok("pxelinux.0")),
        (b"pxelinux.0\xff\xff\xff", Ok("pxelinux.0")),
        (b"pxelinux.0\0", Ok("pxelinux.0")),
        (b"pxelinux.0\0\0", Ok("pxelinux.0")),
        (b"pxelinux.0\xff\0", Ok("pxelinux.0")),
        (b"pxelinux.0\0\xff", Ok("pxelinux.0")),
        (b"pxelinux.0\xff\0\xff\xff\0", Ok("pxelinux.0")),
        (b"/sub/x.efi\xff", Ok("sub/x.efi")),
        (b"none\xff", Err(1)),
        (b"pxe\xfflinux.0", Err(1)),
        (b"pxelinux.0\xfe", Err(1)),
        (b"\xff", Err(1)),
        (b"sub/\xff", Err(1)),
    ] {
        assert_eq!(get(&server, name).as_deref(), expected.as_ref().map(|name| *name), "{name:?}");
    }
    let record = server.records().remove(0);
    assert_eq!(
        (record.path.as_str(), record.origin.as_deref()),
        (r"pxelinux.0\xff", here.path().join("pxelinux.0").to_str())
    );
}

#[test]
fn a_file_that_has_the_byte_in_its_name_is_what_is_meant() {
    let memory = Memory::new();
    memory.insert("x", "without").unwrap();
    memory.insert(r"x\xff", "with").unwrap();
    let server = Serving::new(memory);
    assert_eq!(get(&server, b"x\xff").unwrap(), "with");
    assert_eq!(get(&server, b"x\xff\xff").unwrap(), "without");
}

#[test]
fn a_refusal_for_all_is_one_without_the_byte_as_well() {
    let server = Serving::new(read(async |request: Request| match request.path() {
        "x" => Ok("x"),
        "x\u{fffd}" => Err(Refusal::denied().ending_search()),
        _ => Err(Refusal::denied()),
    }));
    assert_eq!(get(&server, b"x\xff"), Err(2));
    assert_eq!(get(&server, b"x\xff\xff").unwrap(), "x");
    assert_eq!(get(&server, b"y\xff"), Err(2));
}

#[test]
fn a_name_may_begin_with_the_path_of_the_root() {
    let (here, directory) = directory(&["root/file", "root/sub/file", "root-beside/file", "secret"]);
    drop(directory);
    let root = here.path().join("root");
    let server = Serving::new(Directory::new(&root).unwrap());
    let named = |name: &str| get(&server, format!("{}{name}", root.display()).as_bytes());
    assert_eq!(named("/sub/file").as_deref(), Ok("root/sub/file"));
    assert_eq!(named("//./file").as_deref(), Ok("root/file"));
    for missing in ["/none", "", "/", "/../../etc/passwd", "/../secret", "-beside/file"] {
        assert_eq!(named(missing), Err(1), "{missing}");
    }
    // A file that really has such a name is served.
    let below = root.join(root.strip_prefix("/").unwrap());
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("file"), "deep").unwrap();
    assert_eq!(named("/file").as_deref(), Ok("deep"));
}

/// A name that is not UTF-8 leads to no other place, even though a backslash is a slash.
#[test]
fn a_path_has_no_backslash() {
    let any = ([127, 0, 0, 1], 1069).into();
    let request = Request::new(any, any, packet::Request::new(b"/caf\xe9\\..\xff\\x")).unwrap();
    assert_eq!(request.path_bytes(), b"caf\xe9/..\xff/x");
    assert_eq!(request.path(), "caf\u{fffd}/..\u{fffd}/x");
}

/// The program takes the words of its command line as they are.
#[cfg(feature = "cli")]
#[test]
fn get_and_put_take_any_bytes() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let (here, directory) = directory(&[]);
    let server = Serving::new(directory.uploads(true));
    let address = server.addr().to_string();
    let local = tempfile::tempdir().unwrap();
    let run = |words: &[&[u8]]| {
        let mut command = program::tuffet(&[]);
        command.current_dir(&local).args(words.iter().map(|word| OsStr::from_bytes(word)));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let name = |name: &'static [u8]| OsStr::from_bytes(name);
    fs::write(local.path().join(name(b"caf\xe9")), "bytes").unwrap();
    run(&[b"put", address.as_bytes(), b"caf\xe9"]);
    run(&[b"put", address.as_bytes(), b"caf\xe9", b"other\xff.cfg"]);
    run(&[b"put", format!("tftp://{address}/%fe").as_bytes(), b"caf\xe9"]);
    run(&[b"put", &[b"tftp://", address.as_bytes(), b"/\xfd\xc3\xa9"].concat(), b"caf\xe9"]);
    for (stored, words) in [
        (&b"caf\xe9"[..], &[&b"caf\xe9"[..], b"one\xe9"][..]),
        (b"other\xff.cfg", &[b"other\xff.cfg"]),
        (b"\xfe", &[b"\xfe"]),
        (b"\xfd\xc3\xa9", &[b"\xfd\xc3\xa9"]),
    ] {
        assert_eq!(fs::read(here.path().join(OsStr::from_bytes(stored))).unwrap(), b"bytes", "{stored:?}");
        run(&[&[b"get", address.as_bytes()], words].concat());
        let got = words.last().unwrap();
        assert_eq!(fs::read(local.path().join(OsStr::from_bytes(got))).unwrap(), b"bytes", "{got:?}");
    }
    #[cfg(feature = "full")]
    run(&[b"probe", address.as_bytes(), b"other\xff.cfg"]);
}
