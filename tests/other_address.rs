//! The program's client names another address that answers. Only Linux has more addresses of loopback than one.
#![cfg(all(target_os = "linux", feature = "cli"))]

#[path = "common/program.rs"]
mod program;

use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::Stdio,
};

use program::tuffet;

/// A server with several addresses may answer from another one than was asked. Here the one that was asked answers
/// later.
#[test]
fn an_answer_from_another_address_is_told() {
    let [asked, other] = ["127.0.0.2:0", "127.0.0.3:0"].map(|address| UdpSocket::bind(address).unwrap());
    let server = asked.local_addr().unwrap().to_string();
    let mut client = tuffet(&["get", &server, "x", "-"]);
    let mut client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (_, address) = asked.recv_from(&mut [0; 600]).unwrap();
    other.send_to(b"\0\x03\0\x01other", address).unwrap();
    let mut said = String::new();
    BufReader::new(client.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("127.0.0.3 answers in the place of 127.0.0.2: ask that address"), "{said}");
    asked.send_to(b"\0\x03\0\x01asked", address).unwrap();
    assert_eq!(client.wait_with_output().unwrap().stdout, b"asked");
}
