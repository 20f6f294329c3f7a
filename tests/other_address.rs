//! What the program's client says if another address answers. Only Linux has more addresses of loopback than one.
#![cfg(all(target_os = "linux", feature = "cli"))]

#[path = "common/program.rs"]
mod program;

use std::{net::UdpSocket, thread};

use program::{text, tuffet};

/// A server with several addresses may answer from another one than was asked.
#[test]
fn an_answer_from_another_address_is_told() {
    let [asked, other] = ["127.0.0.2:0", "127.0.0.3:0"].map(|address| UdpSocket::bind(address).unwrap());
    let server = asked.local_addr().unwrap().to_string();
    let answers = thread::spawn(move || {
        let (_, client) = asked.recv_from(&mut [0; 600]).unwrap();
        other.send_to(b"\0\x03\0\x01hello", client).unwrap();
        // The port stays open.
        asked
    });
    let output = tuffet(&["get", "--patience", "2s", &server, "x", "-"]).output().unwrap();
    drop(answers.join().unwrap());
    let said = text(&output.stderr);
    assert!(said.contains("127.0.0.3 answers in the place of 127.0.0.2: ask that address"), "{said}");
    assert!(said.contains("does not answer") && output.stdout.is_empty(), "{said}");
}
