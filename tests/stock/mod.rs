//! What the tests against other people's programs share: the real binary, the clients, and a place for their files.
//!
//! Files are compared byte for byte. A program that is not installed fails its test: a skipped test would look like a
//! success.
#![allow(dead_code, reason = "each test uses a part")]

pub mod client;
#[path = "../common/process.rs"]
mod process;
pub mod server;

use std::{
    fmt::Write,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

pub use process::{Process, without_variables};

/// Sizes around the edges: of a block of 512, of the block number in bytes, and of more than one chunk.
pub const SIZES: [usize; 8] = [0, 1, 511, 512, 513, 1024, 65535, (1 << 20) + 1];

/// More blocks of 512 than there are block numbers.
pub const LONG: usize = 33 << 20;

/// The most that any one of the programs may take, in seconds: a slow machine with much else to do needs some.
const LIMIT: &str = "120";

/// Bytes without a period, so that no block is like another.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Text with line ends of all kinds, at all places in a block.
pub fn text() -> String {
    let mut text = String::from("one\ntwo\r\nthree\rfour\n\n\r\r\n");
    for n in 0..2000 {
        _ = writeln!(text, "{n}{}", ["", "\r", "\rx", " and more"][n % 4]);
    }
    text
}

/// The same as it is on the wire in netascii (RFC 764): CR LF for a line end, CR NUL for a CR.
pub fn netascii(text: &str) -> Vec<u8> {
    text.replace('\r', "\r\0").replace('\n', "\r\n").into()
}

/// The program under test: the one that `TUFFET` names, as for the scripts in `.ci`, or the one that Cargo built for
/// the test.
pub fn program() -> &'static str {
    static NAMED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("TUFFET").ok().filter(|name| !name.is_empty()));
    NAMED.as_deref().unwrap_or(env!("CARGO_BIN_EXE_tuffet"))
}

/// A command that is ended after a time limit, with no input.
pub fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT, program]).stdin(Stdio::null());
    command
}

/// The output of the program. A program that is not installed or takes too long fails the test.
pub fn finish(mut command: Command) -> Output {
    let output = command.output().expect("coreutils");
    let code = output.status.code();
    assert!(![Some(126), Some(127)].contains(&code), "not installed: {command:?}");
    assert!(![Some(124), Some(137)].contains(&code), "more than {LIMIT} s: {command:?}: {}", said(&output));
    output
}

/// The program's standard output and standard error.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Compares a file's bytes. A panic that printed all of them would be useless.
#[track_caller]
pub fn assert_holds(path: &Path, expected: &[u8]) {
    let found = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = || found.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        found == expected,
        "{}: {} bytes of {}, the first difference at {:?}",
        path.display(),
        found.len(),
        expected.len(),
        differs(),
    );
}

/// A program that reads nothing, and prints nothing.
pub fn daemon(command: &mut Command) -> Process {
    Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
}

/// A port that was free a moment ago, for programs that cannot choose a port and report it.
pub fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The same for UDP.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
