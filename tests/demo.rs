//! The demonstration, from outside.
#![cfg(all(unix, feature = "full"))]

#[path = "common/program.rs"]
mod program;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use program::{Server, path, process::may_change_user, run, text, tuffet};

#[test]
fn a_demonstration_needs_nothing_but_this_machine() {
    let mut printed = Vec::new();
    // Not even the proxy that its network has.
    let mut demo = tuffet(&["demo", "127.0.0.1:0"]);
    let server = Server::run(demo.env("http_proxy", "http://127.0.0.1:9"), &mut printed);
    let url = printed.iter().find_map(|line| line.trim_end().split_once("http://")).expect("a URL is printed").1;
    let (address, path_of_tree) = url.split_once('/').unwrap();
    let mut web = TcpStream::connect(address).unwrap();
    write!(web, "GET /{path_of_tree} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    web.read_to_string(&mut answer).unwrap();
    assert!(answer.split(' ').nth(1) == Some("200"), "the log should begin without an error: {answer}");
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("vmlinuz");
    let got = run(&["get", &server.address, "vmlinuz", path(&image)]);
    assert!(got.status.success(), "{}", text(&got.stderr));
    let image = fs::read(image).unwrap();
    assert_eq!(image.len(), 8 << 20);
    assert!(image.ends_with(b"\n") && image.starts_with(b"vmlinuz, KiB 0 "));
    let script = run(&["get", &server.address, "boot.ipxe", "-"]);
    assert!(text(&script.stdout).starts_with("#!ipxe\n"), "{}", text(&script.stderr));
    #[cfg(target_os = "linux")]
    for thread in fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap() {
        // One that has ended meanwhile has no status.
        let Ok(status) = fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
        let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        if rustix::process::geteuid().is_root() && !may_change_user() {
            continue;
        }
        assert!(!ids("Uid:").split('\t').any(|id| id == "0"), "no thread stays root: {status}");
        assert_eq!(ids("CapEff:"), "0".repeat(16), "{status}");
    }
}
