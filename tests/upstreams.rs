//! The program in front of web servers that are wrong or down when it starts.
#![cfg(all(unix, feature = "cli", feature = "http"))]

mod common;
#[path = "common/program.rs"]
mod program;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::ChildStderr,
    sync::mpsc::{self, Receiver},
    thread,
};

use common::{LONG, Peer};
use program::Server;
use upstream::{Upstream, closed_port};

/// The URL of a web server that answers a request for the head of its base URL.
fn answering(answer: &'static str) -> String {
    let upstream = Upstream::new(move |head, stream| {
        assert!(head.starts_with("HEAD / "));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    upstream.url()
}

/// The program, and the lines of its standard error.
fn start(args: &[&str]) -> (Server, Receiver<String>) {
    let mut server = Server::start(args);
    let said = lines(server.child.stderr.take().unwrap());
    (server, said)
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, said) = mpsc::channel();
    thread::spawn(move || BufReader::new(stderr).lines().for_each(|line| drop(sender.send(line.unwrap()))));
    said
}

/// The first line with this text.
fn wait_for(said: &Receiver<String>, text: &str) -> String {
    loop {
        let line = said.recv_timeout(LONG).expect(text);
        if line.contains(text) {
            return line;
        }
    }
}

#[test]
fn the_answer_of_the_base_url_is_in_the_log() {
    let (_closed, dead) = closed_port();
    for (url, expected) in [
        (answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), "answered 200 OK"),
        (answering("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"), "answered 404 Not Found"),
        (
            answering("HTTP/1.1 301 Moved Permanently\r\nLocation: https://h/\r\nContent-Length: 0\r\n\r\n"),
            "answered 301 Moved Permanently to https://h/",
        ),
        (answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), "fails now: answered 502 Bad Gateway"),
        (dead.clone(), "Connection refused"),
        ("http://mirror.invalid/".into(), "dns error"),
        (dead.replace("http:", "https:"), "Connection refused"),
    ] {
        let (_server, said) = start(&[&url]);
        let line = wait_for(&said, &format!("{url} "));
        // The banner names it, too.
        let line = if line.starts_with("serving ") { wait_for(&said, &format!("{url} ")) } else { line };
        assert!(line.contains(expected), "{line}");
        assert_eq!(line.contains(" warn "), !expected.starts_with("answered"), "{line}");
    }
}

#[test]
fn a_silent_upstream_delays_nothing() {
    let (asked, questions) = mpsc::channel();
    let silent = Upstream::by_connection(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        asked.send(()).unwrap();
        upstream::until_closed(&mut stream);
    });
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("file"), "here").unwrap();
    let (server, _said) = start(&[here.path().to_str().unwrap(), &silent.url()]);
    questions.recv_timeout(LONG).expect("it is asked at the start");
    let mut peer = Peer::new(server.address.parse().unwrap());
    peer.rrq("file", &[]).expect_data(1, "here");
    peer.ack(1);
}

/// Also without a configuration file.
#[cfg(feature = "full")]
#[test]
fn a_reload_reads_the_certificates_again() {
    let upstream = Upstream::secure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let here = tempfile::tempdir().unwrap();
    let pem = here.path().join("ca.pem");
    std::fs::write(&pem, include_bytes!("http/self-signed.pem")).unwrap();
    let (server, said) = start(&[&upstream.url(), "--ca", pem.to_str().unwrap(), "--no-sandbox"]);
    wait_for(&said, "`--ca FILE` trusts more certificates");
    std::fs::write(&pem, include_bytes!("http/ca.pem")).unwrap();
    server.child.signal("-HUP");
    wait_for(&said, "answered 200 OK");
    let mut peer = Peer::new(server.address.parse().unwrap());
    peer.rrq("file", &[]).expect_data(1, "hello");
    peer.ack(1);
}

/// A proxy stands for the web servers of a network.
#[test]
fn a_web_server_elsewhere_does_not_lead_to_this_machine_or_its_link() {
    let (asked, questions) = mpsc::channel();
    let proxy = Upstream::new(move |head, stream| {
        let url = head.split(' ').nth(1).unwrap().to_owned();
        let (status, location) = match url.as_str() {
            "http://mirror.example/link" => ("302 Found", "Location: http://169.254.169.254/latest/\r\n"),
            "http://mirror.example/this" => ("302 Found", "Location: http://localhost/x\r\n"),
            "http://mirror.example/other" => ("302 Found", "Location: http://192.0.2.1/x\r\n"),
            _ => ("200 OK", ""),
        };
        asked.send(url).unwrap();
        write!(stream, "HTTP/1.1 {status}\r\n{location}Connection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let mut server = Server::start_with(&["http://mirror.example/"], |command| {
        command.env("http_proxy", proxy.url());
    });
    wait_for(&lines(server.child.stderr.take().unwrap()), "http_proxy is set: web servers are asked through");
    assert_eq!(questions.recv_timeout(LONG).unwrap(), "http://mirror.example/");
    for (name, answer) in [("link", None), ("this", None), ("other", Some("http://192.0.2.1/x"))] {
        let mut peer = Peer::new(server.address.parse().unwrap());
        peer.rrq(name, &[]);
        match answer {
            None => peer.expect_error(0),
            Some(_) => peer.expect_data(1, ""),
        }
        assert_eq!(questions.recv_timeout(LONG).unwrap(), format!("http://mirror.example/{name}"));
        assert_eq!(questions.try_recv().ok().as_deref(), answer, "{name}");
    }
}
