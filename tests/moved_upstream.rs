//! The HTTP handler in front of a web server whose machine is switched off, and whose name moves to another address.
#![cfg(all(target_os = "linux", feature = "http"))]

mod common;
#[path = "common/machines.rs"]
#[macro_use]
mod machines;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::Command,
    thread,
    time::Duration,
};

use machines::{on, on_machines};
use tuffet::{Handler, Refusal, Request, handlers::Http, packet};

/// A machine with two addresses, and a file with the names of this test.
const WEB: &str = "
    ip netns add web
    ip link add s0 type veth peer name w0 netns web
    ip address add 10.9.0.1/24 dev s0; ip link set s0 up
    for n in 2 3; do ip -n web address add 10.9.0.$n/32 dev w0; done
    ip -n web link set w0 up; ip -n web route add 10.9.0.1 dev w0
    touch /run/hosts; mount --bind /run/hosts /etc/hosts";

/// Answers each request with the address that was asked.
fn web_server() {
    let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let body = stream.local_addr().unwrap().ip().to_string();
            thread::spawn(move || {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let answer = head + &body;
                // An empty line ends the head of a request. A connection that fails ends the thread.
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    if !line.is_ok_and(|line| !line.is_empty() || stream.write_all(answer.as_bytes()).is_ok()) {
                        return;
                    }
                }
            });
        }
    });
}

fn fetch(http: &Http, name: &str) -> Result<Vec<u8>, Refusal> {
    let any = ([127, 0, 0, 1], 1069).into();
    let request = Request::new(any, any, packet::Request::new(name)).unwrap();
    smol::block_on(async { http.read(&request).await?.collect(100).await })
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_request_to_a_machine_that_was_switched_off_goes_to_the_new_address() {
    again!(on_machines, WEB);
    on("web", web_server);
    let points_to = |address| fs::write("/etc/hosts", format!("{address} web.test\n")).unwrap();
    let http = Http::builder("http://web.test/").direct().connect_timeout(Duration::from_secs(1)).build().unwrap();
    points_to("10.9.0.2");
    assert_eq!(fetch(&http, "a").unwrap(), b"10.9.0.2");
    points_to("10.9.0.3");
    // As a machine that is switched off, the address is silent, and does not close the connection that is kept.
    let off = Command::new("ip").args("-n web address delete 10.9.0.2/32 dev w0".split(' ')).status();
    assert!(off.unwrap().success());
    assert_eq!(fetch(&http, "b").unwrap(), b"10.9.0.3");
}
