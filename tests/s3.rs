//! The program before a real server that speaks S3 (s3s-fs, which keeps objects as files), with a stock client.
#![cfg(all(unix, feature = "cli", feature = "object-store"))]

mod common;
mod stock;
#[allow(dead_code, reason = "each test crate uses its part")]
#[path = "http/upstream.rs"]
mod upstream;

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tuffet::packet::Packet;

use self::{
    common::{Peer, eventually, file},
    stock::{Process, bytes, daemon, finish, free_tcp_port, limited, said, without_variables},
};

const PART: usize = 5 << 20;
const CURLE_REMOTE_FILE_EXISTS: i32 = 73;

/// A store with the bucket `boot`, on a port of its own.
struct Store {
    root: TempDir,
    port: u16,
    running: Option<Process>,
}

impl Store {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("boot")).unwrap();
        let mut store = Self { root, port: free_tcp_port(), running: None };
        store.start();
        store
    }

    fn start(&mut self) {
        let mut command = Command::new("s3s-fs");
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--access-key", "key", "--secret-key", "secret"]).arg(self.root.path()).env("RUST_LOG", "off");
        self.running = Some(daemon(&mut command));
        eventually("the store listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn object(&self, key: &str) -> PathBuf {
        self.root.path().join("boot").join(key)
    }

    fn insert(&self, key: &str, bytes: &[u8]) {
        fs::create_dir_all(self.object(key).parent().unwrap()).unwrap();
        fs::write(self.object(key), bytes).unwrap();
    }

    /// Uploads that are neither whole nor given up.
    fn unfinished(&self) -> usize {
        let names = fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".upload")).count()
    }
}

/// The program, serving `s3://boot/images`.
struct Server {
    child: Process,
    address: SocketAddr,
}

impl Server {
    fn new(store: &Store, more: &[&str]) -> Self {
        Self::with_secret(store, "secret", more)
    }

    fn with_secret(store: &Store, secret: &str, more: &[&str]) -> Self {
        Self::before(&format!("http://127.0.0.1:{}", store.port), secret, more)
    }

    fn before(endpoint: &str, secret: &str, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
        without_variables(&mut command);
        command.args(["serve", "s3://boot/images", "--listen", "127.0.0.1:0"]).args(more);
        command.env("AWS_ENDPOINT_URL", endpoint);
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", secret).env("AWS_REGION", "us-east-1");
        let mut child = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let line = child.first_line();
        let address = line.strip_prefix("listening on ").expect(&line).parse().unwrap();
        Self { child, address }
    }

    fn curl(&self, args: &[&str], name: &str) -> Output {
        let mut curl = limited("curl");
        curl.args(["-sS"]).args(args).arg(format!("tftp://{}/{name}", self.address));
        finish(curl)
    }

    fn get(&self, name: &str) -> Vec<u8> {
        let output = self.curl(&[], name);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn put(&self, path: &Path, name: &str) {
        let output = self.curl(&["-T", path.to_str().unwrap()], name);
        assert!(output.status.success(), "{name}: {}", said(&output));
    }

    /// A client in the middle of an upload, with a part in the store.
    fn uploading(&self, store: &Store, name: &str) -> Peer {
        let mut peer = Peer::new(self.address);
        peer.wrq(name, &[("blksize", "65464")]).expect_oack(&[("blksize", "65464")]);
        for block in 1..=PART / 65464 + 1 {
            peer.data(block as u16, vec![7; 65464]);
            peer.expect(Packet::Ack(block as u16));
        }
        eventually("the upload has begun", || store.unfinished() > 0);
        peer
    }
}

#[test]
fn a_store_is_trusted_by_its_certificate() {
    let answer = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\nhello";
    let store = upstream::Upstream::secure(answer);
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/ca.pem");
    let server = Server::before(&store.url(), "secret", &["--ca", ca]);
    Peer::new(server.address).rrq("x", &[]).expect_data(1, "hello");
    let careful = Server::before(&store.url(), "secret", &[]);
    Peer::new(careful.address).rrq("x", &[]).expect_error(0);
}

/// The attributes of an object in a store.
const OBJECT: &str = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nLast-Modified: Wed, 25 Nov 2026 20:00:00 GMT\r\n";

#[test]
fn a_read_on_a_connection_that_was_closed_is_sent_again() {
    for resets in [false, true] {
        let store = upstream::Upstream::by_connection(move |mut stream| {
            if upstream::read_head(&mut stream).is_some() {
                let _ = write!(stream, "{OBJECT}Content-Length: 5\r\n\r\nhello");
            }
            if upstream::read_head(&mut stream).is_some() && resets {
                upstream::reset(&stream);
            }
        });
        let server = Server::before(&store.url(), "secret", &["--cache", "0"]);
        for n in 0..6 {
            let mut peer = Peer::new(server.address);
            peer.rrq(&format!("{n}"), &[]).expect_data(1, "hello");
            peer.ack(1);
        }
    }
}

#[test]
fn the_label_of_an_object_changes_nothing() {
    let label = "Content-Encoding: aws-chunked\r\nContent-Length: 5\r\n\r\nhello";
    let store = upstream::Upstream::new(move |_, stream| write!(stream, "{OBJECT}{label}").unwrap());
    let server = Server::before(&store.url(), "secret", &[]);
    let mut peer = Peer::new(server.address);
    peer.rrq("x", &[("tsize", "0")]).expect_oack(&[("tsize", "5")]);
    peer.ack(0);
    peer.expect_data(1, "hello");
}

#[test]
fn another_source_is_asked_for_what_a_store_forbids() {
    let store = upstream::Upstream::new(|_, stream| {
        let body = "<Error><Code>AccessDenied</Code></Error>";
        write!(stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let here = TempDir::new().unwrap();
    fs::write(here.path().join("default"), "here").unwrap();
    let server = Server::before(&store.url(), "secret", &[here.path().to_str().unwrap()]);
    Peer::new(server.address).rrq("default", &[]).expect_data(1, "here");
    Peer::new(server.address).rrq("none", &[]).expect_error(2);
}

/// The library of the store takes them into memory as a whole.
#[test]
fn a_list_or_an_error_without_end_is_not_taken() {
    const MOST: usize = 256 << 20;
    for status in ["200 OK", "403 Forbidden"] {
        let (tell, taken) = channel();
        let store = upstream::Upstream::by_connection(move |mut stream| {
            let head = upstream::read_head(&mut stream).unwrap_or_default();
            let is_list = head.contains("list-type");
            if status == "200 OK" && !is_list {
                return;
            }
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {MOST}\r\n\r\n").unwrap();
            let chunk = vec![b'x'; 64 << 10];
            let count = (0..MOST / chunk.len()).take_while(|_| stream.write_all(&chunk).is_ok()).count();
            tell.send((is_list, count * chunk.len())).unwrap();
        });
        let server = Server::before(&store.url(), "secret", &[]);
        Peer::new(server.address).rrq("x", &[]).receive();
        let told: Vec<_> = taken.iter().take(if status == "200 OK" { 1 } else { 2 }).collect();
        assert!(told.iter().all(|(_, bytes)| *bytes < MOST / 2), "{status}: {told:?}");
    }
}

#[test]
fn one_sick_object_leaves_the_others_alone() {
    let store = upstream::Upstream::new(|head, stream| match head.contains("/sick") {
        true => write!(stream, "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n").unwrap(),
        false => write!(stream, "{OBJECT}Content-Length: 5\r\n\r\nhello").unwrap(),
    });
    let server = Server::before(&store.url(), "secret", &[]);
    for n in 0..5 {
        Peer::new(server.address).rrq(&format!("sick{n}"), &[]).expect_error(0);
    }
    Peer::new(server.address).rrq("well", &[]).expect_data(1, "hello");
}

#[test]
#[ignore = "needs s3s-fs and curl"]
fn curl_gets_and_puts() {
    let (store, place) = (Store::new(), TempDir::new().unwrap());
    let server = Server::new(&store, &["--upload", "--cache", "16M"]);
    for size in [1, 511, 512, 65535, PART, PART + 1, 2 * PART + 12345] {
        let (contents, name) = (bytes(size), format!("dir/file {size}").replace(' ', "%20"));
        let path = place.path().join("file");
        fs::write(&path, &contents).unwrap();
        server.put(&path, &name);
        assert!(fs::read(store.object(&format!("images/dir/file {size}"))).unwrap() == contents, "{size}");
        assert!(server.get(&name) == contents, "{size}");
        let again = server.curl(&["-T", path.to_str().unwrap()], &name);
        assert_eq!(again.status.code(), Some(CURLE_REMOTE_FILE_EXISTS), "{}", said(&again));
    }
    assert_eq!(store.unfinished(), 0);
}

#[test]
#[ignore = "needs s3s-fs and curl"]
fn missing_and_forbidden_objects_have_their_errors() {
    let mut store = Store::new();
    store.insert("secret", b"beside the prefix");
    store.insert("images/x", b"x");
    let server = Server::new(&store, &[]);
    for name in ["nothing", "secret", "%2e%2e/secret", "..%2fsecret"] {
        assert!(!server.curl(&[], name).status.success(), "{name}");
    }
    Peer::new(server.address).rrq("nothing", &[]).expect_error(1);
    Peer::new(server.address).rrq("../secret", &[]).expect_error(2);
    Peer::new(server.address).wrq("new", &[]).expect_error(2);
    let stranger = Server::with_secret(&store, "wrong", &["--upload"]);
    Peer::new(stranger.address).rrq("x", &[]).expect_error(2);
    Peer::new(stranger.address).wrq("new", &[]).expect_error(2);
    store.kill();
    Peer::new(server.address).rrq("x", &[]).expect_error(0);
}

#[test]
#[ignore = "needs s3s-fs and curl"]
fn a_store_that_dies_in_the_middle_is_a_pause() {
    for cache in ["0", "4M"] {
        let mut store = Store::new();
        let contents = file(24 << 20);
        store.insert("images/big", &contents);
        let server = Server::new(&store, &["--cache", cache]);
        let mut peer = Peer::new(server.address);
        peer.rrq("big", &[("blksize", "16384")]).expect_oack(&[("blksize", "16384")]);
        peer.ack(0);
        for (n, block) in contents.chunks(16384).enumerate() {
            let number = (n + 1) as u16;
            peer.expect_data(number, block);
            match n {
                100 => store.kill(),
                // The clients have used up the bytes that were on their way.
                1000 => assert!(store.running.is_some()),
                _ => {}
            }
            if n == 101 {
                thread::sleep(Duration::from_millis(500));
                store.start();
            }
            peer.ack(number);
        }
        peer.expect_data((contents.len() / 16384 + 1) as u16, []);
        peer.ack((contents.len() / 16384 + 1) as u16);
    }
}

#[test]
#[ignore = "needs s3s-fs and curl"]
fn an_upload_that_is_given_up_leaves_nothing() {
    let store = Store::new();
    let mut server = Server::new(&store, &["--upload", "--drain", "100ms"]);
    server.uploading(&store, "x").error(0);
    eventually("the parts are given up", || store.unfinished() == 0);
    // Nor does one that the server's end ends.
    let _peer = server.uploading(&store, "x");
    server.child.signal("-INT");
    assert!(server.child.wait().unwrap().success());
    assert_eq!(store.unfinished(), 0);
    assert!(!store.object("images/x").exists());
}

#[test]
#[ignore = "needs s3s-fs and curl"]
fn two_servers_serve_what_came_through_the_other() {
    let (store, place) = (Store::new(), TempDir::new().unwrap());
    let servers = [(); 2].map(|()| Server::new(&store, &["--upload", "--cache", "16M"]));
    for (size, to, from) in [(1000, 0, 1), (PART + 1000, 1, 0)] {
        let (contents, path) = (bytes(size), place.path().join("file"));
        fs::write(&path, &contents).unwrap();
        servers[to].put(&path, "both");
        assert!(servers[from].get("both") == contents && servers[to].get("both") == contents);
        fs::remove_file(store.object("images/both")).unwrap();
        // The object is fresh for a second.
        thread::sleep(Duration::from_millis(1100));
        Peer::new(servers[from].address).rrq("both", &[]).expect_error(1);
        // A miss is remembered for five seconds, and both servers must see the next object.
        thread::sleep(Duration::from_millis(5100));
    }
}
