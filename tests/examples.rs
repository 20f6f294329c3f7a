//! The programs of `examples` run: each serves a client.
#![cfg(all(target_os = "linux", feature = "http"))]

#[path = "common/process.rs"]
mod process;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{ChildStdout, Command, Stdio},
    time::Duration,
};

use process::{Process, without_variables};
use tuffet::Client;
use upstream::Upstream;

const ANY: &str = "127.0.0.1:0";

/// A running example. It ends with the test.
struct Example {
    child: Process,
    stdout: BufReader<ChildStdout>,
    /// Its line `listening on ADDRESS`, without the first two words.
    listening: String,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
        assert!(program.exists(), "first: cargo build --examples");
        let mut command = Command::new(program);
        without_variables(&mut command).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = Process::start(&mut command);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let listening = line.trim_end().strip_prefix("listening on ").expect("its first line").to_owned();
        Self { child, stdout, listening }
    }

    fn client(&self) -> tuffet::BlockingClient {
        let address = self.listening.split(',').next().unwrap();
        Client::new(address.parse().unwrap()).blocking()
    }

    fn get(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        let record = self.client().get(name, &mut bytes).unwrap();
        assert!(record.outcome.is_success(), "{record}");
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn hello() {
    let example = Example::start("hello", &[ANY]);
    let said = example.get("you");
    assert!(said.starts_with("Hello 127.0.0.1,\nyou asked for you.\n"), "{said}");
}

#[test]
fn grub() {
    let example = Example::start("grub", &[ANY]);
    assert!(example.get("grub/grub.cfg-01-52-54-00-12-34-56").starts_with("# web1, asked from 127.0.0.1\n"));
    assert!(example.client().get("grub/grub.cfg", Vec::new()).is_err());
}

#[test]
fn memory() {
    let example = Example::start("memory", &[ANY]);
    example.client().put("switch.cfg", "hostname lab\n").unwrap();
    assert_eq!(example.get("switch.cfg"), "hostname lab\n");
}

#[test]
fn http_proxy() {
    let example = Example::start("http_proxy", &["", ANY]);
    assert!(example.get("hello").starts_with("These bytes came by HTTP"));
}

#[test]
fn blocking() {
    let mut example = Example::start("blocking", &[ANY]);
    let table = example.get("table");
    assert!(table.starts_with("1 squared is 1\n") && table.ends_with("10000 squared is 100000000\n"));
    let mut line = String::new();
    example.stdout.read_line(&mut line).unwrap();
    assert!(line.ends_with(" table: complete\n"), "{line}");
}

#[test]
fn service() {
    let mirror = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nthe mirror's\n");
    let list = |web: SocketAddr| {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut example = Example::start("service", &[&mirror.url(), ANY, ANY]);
    let web = example.listening.split("http://").nth(1).unwrap().trim_end_matches('/').parse().unwrap();
    assert_eq!(example.get("menu"), "the mirror's\n");
    // The server has its last ACK a moment after the client has sent it.
    while !list(web).ends_with("\r\n\r\n127.0.0.1 menu\n") {
        std::thread::sleep(Duration::from_millis(20));
    }
    example.child.signal("-INT");
    assert!(example.child.wait().unwrap().success());
}
