//! The program, from outside: what it prints, where, and how it exits.
#![cfg(all(unix, feature = "cli"))]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn tuffet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TUFFET_")) {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Output {
    tuffet(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It fails with 1 and one line, which it returns.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(said.starts_with("tuffet: ") && said.ends_with('\n') && said.lines().count() == 1, "{args:?}: {said}");
    said
}

/// A server on a free port, in a directory of its own.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let command = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let mut child = tuffet(&command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect(&line).to_owned();
        Self { child, stdout, address }
    }

    /// Asks it to end; it exits with 0, having printed nothing more. What it said on standard error is returned.
    fn stop(mut self, signal: &str) -> String {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let (mut printed, mut said) = (String::new(), String::new());
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        self.stdout.read_to_string(&mut printed).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        assert_eq!(printed, "");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_and_version() {
    let version = run(&["--version"]);
    assert_eq!(text(&version.stdout), format!("tuffet {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["--help"][..], &["serve", "--help"], &["get", "--help"], &["put", "--help"]] {
        let help = run(args);
        assert!(help.status.success());
        let help = text(&help.stdout);
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 120, "{widest} columns: {help}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for args in [
        &[][..],
        &["bake"],
        &["serve", "--blksize", "7"],
        &["serve", "ftp://127.0.0.1/"],
        &["get"],
        &["get", "127.0.0.1"],
        &["get", "127.0.0.1", "directory/"],
        &["get", "127.0.0.1:x", "file"],
        &["put", "127.0.0.1", "-"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_server_that_cannot_start_says_why_and_what_helps() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let said = failure(&["serve", "--listen", "127.0.0.1:0", path(&missing)]);
    assert!(said.contains(path(&missing)) && said.contains("name another directory"), "{said}");

    let log = missing.join("log");
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--log-file", path(&log), path(directory.path())]);
    assert!(said.contains(path(&log)) && said.contains("--log-file"), "{said}");

    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--upload", "http://127.0.0.1:1/"]);
    assert!(said.contains("--upload"), "{said}");

    #[cfg(feature = "http")]
    {
        let said = failure(&["serve", "--listen", "127.0.0.1:0", "--ca", path(&missing), "http://127.0.0.1:1/"]);
        assert!(said.contains("--ca") && said.contains(path(&missing)), "{said}");
    }

    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = failure(&["serve", "--listen", &address, path(directory.path())]);
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

#[cfg(not(feature = "http"))]
#[test]
fn a_url_needs_http() {
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "http://127.0.0.1:1/"]);
    assert!(said.contains("--features http"), "{said}");
}

#[test]
fn a_client_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(failure(&["put", "127.0.0.1:1", path(&missing)]).contains(path(&missing)));
    assert!(failure(&["put", "127.0.0.1:1", path(directory.path()), "name"]).contains("directory"));
    assert!(failure(&["get", "127.0.0.1:1", "name", path(&missing.join("name"))]).contains(path(&missing)));
    assert!(failure(&["get", "host.invalid", "name", path(&missing)]).contains("host.invalid"));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn signals_end_the_server_with_0() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        let said = Server::start(&[path(directory.path())]).stop(signal);
        assert!(said.contains("serving") && said.contains("tuffet get 127.0.0.1:"), "{said}");
    }
    assert_eq!(Server::start(&["-q", path(directory.path())]).stop("-TERM"), "");
}

#[test]
fn files_are_put_and_got() {
    let directory = tempfile::tempdir().unwrap();
    let (served, here) = (directory.path().join("served"), directory.path().join("here"));
    let log = directory.path().join("log");
    fs::create_dir(&served).unwrap();
    fs::create_dir(&here).unwrap();
    fs::write(&log, "what was there before\n").unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect();
    let file = here.join("file");
    fs::write(&file, &bytes).unwrap();

    let server = Server::start(&["--upload", "--log-file", path(&log), path(&served)]);
    let address = server.address.as_str();

    let put = run(&["put", address, path(&file), "stored"]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    assert_eq!(fs::read(served.join("stored")).unwrap(), bytes);

    let again = failure(&["put", address, path(&file), "stored"]);
    assert!(again.starts_with(&format!("tuffet: {address} says: ERROR 6 ")), "{again}");

    let got = here.join("got");
    let get = run(&["get", "--blksize", "512", "--windowsize", "1", address, "stored", path(&got)]);
    assert!(get.status.success(), "{}", text(&get.stderr));
    assert!(get.stdout.is_empty());
    assert_eq!(fs::read(&got).unwrap(), bytes);

    let get = run(&["get", "-q", address, "stored", "-"]);
    assert!(get.status.success() && get.stderr.is_empty(), "{}", text(&get.stderr));
    assert_eq!(get.stdout, bytes);

    let missing = failure(&["get", address, "missing", path(&here.join("missing"))]);
    assert!(missing.starts_with(&format!("tuffet: {address} says: ERROR 1 ")), "{missing}");
    assert_eq!(here.read_dir().unwrap().count(), 2, "nothing half-written is left");

    let said = server.stop("-TERM");
    assert_eq!(said.matches(" stored complete 300000 bytes ").count(), 3, "{said}");
    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, "what was there before"), "{log}");
    assert!(lines[1].contains("Z 127.0.0.1:") && lines[1].contains(" write stored complete 300000 bytes "), "{log}");
}

#[test]
fn standard_input_is_put_into_memory() {
    let server = Server::start(&["memory:"]);
    let address = server.address.as_str();
    let mut put = tuffet(&["put", "-q", address, "-", "notes"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all(b"remember the milk\n").unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(run(&["get", "-q", address, "notes", "-"]).stdout, b"remember the milk\n");
    server.stop("-INT");
}

#[test]
fn a_client_that_is_interrupted_leaves_nothing_behind() {
    // A server that never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut get = tuffet(&["get", &address, "file"]).current_dir(directory.path()).spawn().unwrap();
    silent.recv(&mut [0; 600]).unwrap();
    Command::new("kill").args(["-INT", &get.id().to_string()]).status().unwrap();
    assert_eq!(get.wait().unwrap().code(), Some(130));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[cfg(feature = "probe")]
#[test]
fn a_probe_says_what_the_server_did() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), [7; 30_000]).unwrap();
    let server = Server::start(&["-q", path(directory.path())]);
    let address = server.address.as_str();

    let output = run(&["probe", address, "file", "--as", "edk2", "--lose-received", "4", "--lose-sent", "-1"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for step in [
        " RRQ file octet tsize=0 blksize=1468 windowsize=4\n",
        " ERROR 8 \"User aborted the transfer\"\n",
        "EDK2: size known, 0 bytes",
        " RRQ file octet blksize=1468 windowsize=4\n",
        "   OACK blksize=1468 windowsize=4 from 127.0.0.1:",
        "   DATA 3, 1468 bytes [lost]\n",
        "   DATA 3, 1468 bytes again\n",
        " ACK 21 [lost]\n",
        "EDK2: complete, 30000 bytes in ",
        "packets came when all was over",
    ] {
        assert!(said.contains(step), "{step:?} is not in\n{said}");
    }
    assert!(said.contains("… ") && !said.contains("DATA 12,"), "long runs are left out:\n{said}");
    let all = run(&["probe", address, "file", "--verbose"]);
    assert!(text(&all.stdout).contains("DATA 12,"));

    let output = run(&["probe", "-q", address, "missing"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 1));
    for wrong in [["--lose-sent", "0"], ["--delay-sent", "3"], ["--as", "amiga"]] {
        assert_eq!(run(&["probe", address, "file", wrong[0], wrong[1]]).status.code(), Some(2), "{wrong:?}");
    }

    // One that grants what nobody asked for.
    let odd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = odd.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        for answer in [&b"\0\x06blksize\x00512\0timeout\x001\0"[..], b"\0\x03\0\x01end"] {
            let (_, peer) = odd.recv_from(&mut [0; 600]).unwrap();
            odd.send_to(answer, peer).unwrap();
        }
    });
    let output = run(&["probe", &address, "file", "--as", "grub"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("warning: the server sent the option timeout, which was not asked for"));
    answers.join().unwrap();
}
