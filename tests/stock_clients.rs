//! The clients that Debian packages, against the real server: every byte of every file, their options, their words
//! for our refusals, and the outcome that the server logs.
//!
//! Left out, by name, are the defects of those clients, which they have with every server: see `BLOCK_ZERO`.
#![cfg(all(unix, feature = "cli"))]

mod stock;

use std::{fs, net::UdpSocket, path::Path, thread};

use stock::{
    LONG, SIZES, assert_holds, bytes,
    client::{Client, DIALECTS},
    netascii,
    server::{Line, Server},
    text,
};
use tempfile::TempDir;
use tuffet::packet::Mode::{Netascii, Octet};

/// One of each.
const CLIENTS: [Client; 4] = [Client::Hpa, Client::Atftp(&[]), Client::Curl(&[]), Client::Busybox(None)];

/// Uploads whose last block has the number 0 again: the file is stored, but curl 7.88 never ends and tftp-hpa's client
/// times out, so these two are not asked for one.
const BLOCK_ZERO: usize = 65535 * 512;

/// Two directories, one for each side.
struct Places {
    served: TempDir,
    here: TempDir,
}

impl Places {
    fn new() -> Self {
        Self { served: tempfile::tempdir().unwrap(), here: tempfile::tempdir().unwrap() }
    }

    fn served(&self) -> &str {
        self.served.path().to_str().unwrap()
    }

    fn stored(&self, name: &str) -> std::path::PathBuf {
        self.served.path().join(name)
    }

    /// A file for a client to put.
    fn make(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.here.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Every dialect puts and gets back a file of each of these sizes.
fn exchange(server: Server, here: &Path, stored: Option<&Path>, sizes: &[usize]) {
    let [original, copy] = ["original", "copy"].map(|name| here.join(name));
    for &size in sizes {
        let bytes = bytes(size);
        fs::write(&original, &bytes).unwrap();
        for (n, (client, _)) in DIALECTS.iter().enumerate() {
            let name = format!("{n}-{size}");
            client.puts(server.address, Octet, &name, &original);
            if let Some(stored) = stored {
                assert_holds(&stored.join(&name), &bytes);
            }
            client.gets(server.address, Octet, &name, &copy, &bytes);
        }
    }
    let lines = server.stop_after_success();
    assert_eq!(lines.len(), sizes.len() * DIALECTS.len() * 2);
    for line in &lines {
        let (n, size) = line.name.split_once('-').unwrap();
        let (client, granted) = DIALECTS[n.parse::<usize>().unwrap()];
        assert_eq!(line.bytes.to_string(), size, "{line:?}");
        // The size of an empty file is not sent: curl takes `tsize 0` for an error.
        let granted = match (&*line.direction, size) {
            ("read", "0") => granted.replace("tsize=SIZE", ""),
            _ => granted.replace("SIZE", size),
        };
        assert_eq!(line.granted, granted.trim(), "{client:?}: {line:?}");
    }
}

/// This client puts and gets back a file with more blocks than there are block numbers.
fn roll_over(client: Client, server: Server, stored: Option<&Places>) {
    let (places, bytes) = (Places::new(), bytes(LONG));
    let original = places.make("original", &bytes);
    client.puts(server.address, Octet, "long", &original);
    if let Some(stored) = stored {
        assert_holds(&stored.stored("long"), &bytes);
    }
    client.gets(server.address, Octet, "long", &original, &bytes);
    assert_eq!(server.stop_after_success().len(), 2);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn a_directory() {
    let places = Places::new();
    let server = Server::start(&["--upload", places.served()]);
    exchange(server, places.here.path(), Some(places.served.path()), &SIZES);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn memory() {
    exchange(Server::start(&["memory:"]), Places::new().here.path(), None, &SIZES);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn a_single_port() {
    let places = Places::new();
    let server = Server::start(&["--upload", "--single-port", "--windowsize", "64", places.served()]);
    exchange(server, places.here.path(), Some(places.served.path()), &SIZES);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn two_shards() {
    let places = Places::new();
    let server = Server::start(&["--upload", "--shards", "2", places.served()]);
    exchange(server, places.here.path(), Some(places.served.path()), &SIZES);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn ipv6() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    for args in [&["memory:"][..], &["memory:", "--single-port", "--windowsize", "64"], &["memory:", "--shards", "2"]] {
        exchange(Server::listening("[::1]:0", args), Places::new().here.path(), None, &[0, 512, 65535]);
    }
}

// A test for each client, so that they run side by side; and each with another server.

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn tftp_hpa_rolls_over() {
    let places = Places::new();
    roll_over(Client::Hpa, Server::start(&["--upload", places.served()]), Some(&places));
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn atftp_rolls_over() {
    let places = Places::new();
    roll_over(
        Client::Atftp(&[]),
        Server::start(&["--upload", "--single-port", "--windowsize", "64", places.served()]),
        Some(&places),
    );
    roll_over(Client::Atftp(&["windowsize 16"]), Server::start(&["memory:"]), None);
    // 3 does not divide 65536: the numbers roll over inside a window.
    roll_over(Client::Atftp(&["windowsize 3"]), Server::start(&["memory:"]), None);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn curl_rolls_over() {
    roll_over(Client::Curl(&[]), Server::start(&["memory:"]), None);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn busybox_rolls_over() {
    let places = Places::new();
    roll_over(Client::Busybox(None), Server::start(&["--upload", "--shards", "2", places.served()]), Some(&places));
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn the_last_block_is_number_zero() {
    let (places, bytes) = (Places::new(), bytes(BLOCK_ZERO));
    let original = places.make("original", &bytes);
    let server = Server::start(&["--upload", places.served()]);
    for (name, client) in [("a", Client::Atftp(&["windowsize 4"])), ("b", Client::Busybox(None))] {
        client.puts(server.address, Octet, name, &original);
        assert_holds(&places.stored(name), &bytes);
    }
    for client in [Client::Hpa, Client::Atftp(&["windowsize 4"]), Client::Curl(&[]), Client::Busybox(None)] {
        client.gets(server.address, Octet, "a", &original, &bytes);
    }
    assert_eq!(server.stop_after_success().len(), 6);
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn text_is_converted() {
    let (places, text) = (Places::new(), text());
    let wire = netascii(&text);
    // Longer than a block, and with pairs that the end of a block parts.
    assert!(wire.chunks(512).any(|block| block.ends_with(b"\r")));
    let [plain, converted] =
        [("plain", text.as_bytes()), ("wire", &wire)].map(|(name, bytes)| places.make(name, bytes));
    let copy = places.here.path().join("copy");
    let server = Server::start(&["--upload", places.served()]);
    // curl says netascii and leaves the conversion to its user.
    for (name, client, original, expected) in [
        ("hpa", Client::Hpa, &plain, text.as_bytes()),
        ("atftp", Client::Atftp(&["windowsize 4"]), &plain, text.as_bytes()),
        ("curl", Client::Curl(&[]), &converted, &wire),
        ("curl-plain", Client::Curl(&["--tftp-no-options"]), &converted, &wire),
    ] {
        client.puts(server.address, Netascii, name, original);
        assert_holds(&places.stored(name), text.as_bytes());
        client.gets(server.address, Netascii, name, &copy, expected);
    }
    for line in server.stop_after_success() {
        assert_eq!(line.bytes, wire.len(), "{line:?}");
        // The size on the wire is known only at the end.
        assert!(line.direction == "write" || !line.granted.contains("tsize"), "{line:?}");
    }
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn refusals_are_understood() {
    let places = Places::new();
    fs::write(places.stored("there"), "old").unwrap();
    let small = places.make("small", b"new");
    let large = places.make("large", &[0; 5000]);
    let copy = places.here.path().join("copy");
    let open = Server::start(&["--upload", "--max-upload", "4096", places.served()]);
    let read_only = Server::start(&[places.served()]);
    for (client, _) in DIALECTS {
        for (code, output) in [
            (1, client.get(open.address, Octet, "missing", &copy)),
            (1, client.get(open.address, Octet, "missing/file", &copy)),
            (6, client.put(open.address, Octet, "there", &small)),
            (1, client.put(open.address, Octet, "missing/file", &small)),
            (3, client.put(open.address, Octet, "large", &large)),
            (2, client.put(read_only.address, Octet, "new", &small)),
        ] {
            assert!(client.reports(&output, code), "{client:?}: ERROR {code}: {}", stock::said(&output));
        }
    }
    let is_error =
        |line: &Line| line.outcome.split_once(": ").is_some_and(|(_, refusal)| refusal.starts_with("ERROR "));
    for line in open.stop().iter().chain(&read_only.stop()) {
        assert!(is_error(line), "{line:?}");
    }
    assert_holds(&places.stored("there"), b"old");
    assert_eq!(places.served.path().read_dir().unwrap().count(), 1, "an upload has left something behind");
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn the_server_grants_less() {
    let (places, bytes) = (Places::new(), bytes(100_000));
    let original = places.make("original", &bytes);
    let server = Server::start(&["--windowsize", "4", "--blksize", "1024", "memory:"]);
    for (name, client) in [
        ("atftp", Client::Atftp(&["blksize 8192", "windowsize 16"])),
        ("curl", Client::Curl(&["--tftp-blksize", "8192"])),
        ("busybox", Client::Busybox(Some("8192"))),
    ] {
        client.puts(server.address, Octet, name, &original);
        client.gets(server.address, Octet, name, &original, &bytes);
    }
    for line in server.stop_after_success() {
        assert!(line.granted.contains("blksize=1024"), "{line:?}");
        assert_eq!(line.granted.contains("windowsize=4"), line.name == "atftp", "{line:?}");
    }
}

#[test]
#[ignore = "needs tftp-hpa, atftp, curl and busybox"]
fn all_clients_at_once() {
    const EACH: usize = 4;
    let (places, bytes) = (Places::new(), bytes(300_000));
    let original = places.make("original", &bytes);
    let server = Server::start(&["--upload", places.served()]);
    thread::scope(|threads| {
        for (n, client) in CLIENTS.iter().cycle().take(EACH * CLIENTS.len()).enumerate() {
            let (server, original, bytes, places) = (server.address, &original, &bytes, &places);
            threads.spawn(move || {
                let name = format!("copy-{n}");
                client.puts(server, Octet, &name, original);
                client.gets(server, Octet, &name, &places.here.path().join(&name), bytes);
            });
        }
    });
    assert_eq!(server.stop_after_success().len(), EACH * CLIENTS.len() * 2);
}
