//! The program as a service: its notices to the manager, the sockets that it takes, its signals and its logs.
#![cfg(all(unix, feature = "full"))]

mod common;
#[path = "common/program.rs"]
mod program;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read},
    net::{SocketAddr, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixDatagram,
        },
    },
    path::Path,
    process::{ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use common::{LONG, Peer, eventually};
use program::{Process, tuffet, without_variables};
use tempfile::TempDir;

/// The program, which serves a directory of its own, with its standard error in a file.
struct Service {
    child: Process,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
    place: TempDir,
}

impl Service {
    fn start(args: &[&str]) -> Self {
        Self::set(args, |_, _| {})
    }

    fn set(args: &[&str], set: impl FnOnce(&mut Command, &Path)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        Self::spawn(command, set)
    }

    fn spawn(mut command: Command, set: impl FnOnce(&mut Command, &Path)) -> Self {
        let place = tempfile::tempdir().unwrap();
        // Started as root, it becomes another user.
        open_to_all(place.path());
        fs::create_dir(place.path().join("served")).unwrap();
        fs::write(place.path().join("served/file"), [7; 600]).unwrap();
        let stderr = File::create(place.path().join("stderr")).unwrap();
        without_variables(&mut command);
        command.current_dir(place.path().join("served")).stdout(Stdio::piped()).stderr(stderr);
        set(&mut command, place.path());
        let mut child = Process::start(&mut command);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| {
            panic!("{line}{}", fs::read_to_string(place.path().join("stderr")).unwrap());
        });
        let address = address.parse().unwrap();
        Self { child, stdout, address, place }
    }

    fn kill(&self, signal: &str) {
        self.child.signal(signal);
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.path().join("stderr")).unwrap()
    }

    fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        status
    }

    /// Fetches the file.
    fn fetch(&self) {
        let mut peer = self.stalled();
        peer.ack(1);
        peer.expect_data(2, [7; 88]);
        peer.ack(2);
    }

    /// A client in the middle of the file.
    fn stalled(&self) -> Peer {
        let mut peer = Peer::new(self.address);
        peer.rrq("file", &[]).expect_data(1, [7; 512]);
        peer
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
}

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Path) -> Self {
        let socket = UnixDatagram::bind(place.join("notify")).unwrap();
        open_to_all(&place.join("notify"));
        Self(socket)
    }

    /// The next notice, if one comes within this time.
    fn receive_within(&self, time: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 1000];
        loop {
            match self.0.recv(&mut buffer) {
                Ok(len) => return Some(String::from_utf8(buffer[..len].to_vec()).unwrap()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// The next notice with this text.
    #[track_caller]
    fn expect(&self, words: &str) -> String {
        loop {
            let said = self.receive_within(LONG).unwrap_or_else(|| panic!("{words}: no notice"));
            if said.contains(words) {
                return said;
            }
        }
    }
}

#[test]
fn the_service_manager_is_notified() {
    let mut manager = None;
    let mut service = Service::set(&["--drain", "2h"], |command, place| {
        manager = Some(Manager::new(place));
        command.env("NOTIFY_SOCKET", place.join("notify")).env("WATCHDOG_USEC", "200000");
    });
    let manager = manager.unwrap();
    manager.expect("READY=1");
    manager.expect("WATCHDOG=1");
    manager.expect("WATCHDOG=1");
    service.fetch();
    manager.expect("STATUS=0 transfers running; 1 of 1 arrived, 600 B");
    let mut peer = service.stalled();
    manager.expect("STATUS=1 transfer running");

    service.kill("-HUP");
    let said = manager.expect("RELOADING=1");
    let time = said.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(time.parse::<u64>().unwrap() > 0, "{said}");
    manager.expect("READY=1");

    service.kill("-TERM");
    let said = manager.expect("STOPPING=1");
    assert!(
        said.contains("STATUS=stopping when 1 transfer has ended") && said.contains("EXTEND_TIMEOUT_USEC=7205000000"),
        "{said}"
    );
    manager.expect("WATCHDOG=1");
    peer.ack(1);
    peer.expect_data(2, [7; 88]);
    peer.ack(2);
    assert_eq!(service.ended().code(), Some(0));
}

#[cfg(feature = "full")]
#[test]
fn the_service_manager_is_notified_of_a_drain_that_a_reload_has_changed() {
    let mut manager = None;
    let mut service = Service::set(&[], |command, place| {
        manager = Some(Manager::new(place));
        fs::write(place.join("tuffet.toml"), "drain = '90s'").unwrap();
        command.env("NOTIFY_SOCKET", place.join("notify")).env("TUFFET_CONFIG", place.join("tuffet.toml"));
    });
    let manager = manager.unwrap();
    manager.expect("READY=1");
    for (file, micros) in [("drain = '30s'", None), ("drain = 'soon'", Some("EXTEND_TIMEOUT_USEC=35000000"))] {
        fs::write(service.place.path().join("tuffet.toml"), file).unwrap();
        service.kill("-HUP");
        manager.expect("RELOADING=1");
        manager.expect("READY=1");
        if let Some(micros) = micros {
            service.kill("-TERM");
            let said = manager.expect("STOPPING=1");
            assert!(said.contains(micros), "a file with an error changes nothing: {said}");
        }
    }
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn a_program_that_hangs_feeds_no_watchdog() {
    let mut manager = None;
    let service = Service::set(&[], |command, place| {
        manager = Some(Manager::new(place));
        command.env("NOTIFY_SOCKET", place.join("notify")).env("WATCHDOG_USEC", "200000");
    });
    let manager = manager.unwrap();
    manager.expect("WATCHDOG=1");
    service.kill("-STOP");
    let fed = std::iter::from_fn(|| manager.receive_within(Duration::from_millis(600))).take(20).count();
    assert!(fed < 20, "it was said before it was stopped");
    service.kill("-CONT");
    manager.expect("WATCHDOG=1");
}

/// A container that is paused, a machine that is frozen for a snapshot: the system ends every wait of a program then.
#[test]
fn programs_that_are_stopped_and_continued_lose_nothing() {
    let service = Service::start(&[]);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n / 512) as u8).collect();
    fs::write(service.place.path().join("served/large"), &bytes).unwrap();
    let (address, got) = (service.address.to_string(), service.place.path().join("got"));
    let mut client = tuffet(&["get", "--quiet", "--blksize", "512", &address, "large", got.to_str().unwrap()]);
    let mut client = Process::start(&mut client);
    let status = loop {
        for process in [&service.child, &client] {
            process.signal("-STOP");
            process.signal("-CONT");
        }
        if let Some(status) = client.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "{status}: {}", service.said());
    assert!(fs::read(got).unwrap() == bytes);
}

#[test]
fn sockets_are_taken_from_the_manager() {
    let (one, two) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses = [&one, &two].map(|socket| socket.local_addr().unwrap());
    let mut command = Command::new("sh");
    // The shell gets one socket as standard input and the other as standard error, and passes them as 3 and 4.
    let shell =
        r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" serve --quiet --log-file ../log 3<&0 4<&2 </dev/null 2>../stderr"#;
    command.args(["-c", shell, env!("CARGO_BIN_EXE_tuffet")]).stdin(OwnedFd::from(one));
    let mut service = Service::spawn(command, |command, _| _ = command.stderr(OwnedFd::from(two)));
    assert_eq!(service.address, addresses[0]);
    let mut line = String::new();
    service.stdout.read_line(&mut line).unwrap();
    assert_eq!(line, format!("listening on {}\n", addresses[1]));
    for address in addresses {
        service.address = address;
        service.fetch();
    }
    service.kill("-TERM");
    assert_eq!(service.ended().code(), Some(0), "nothing but these two: {}", service.said());
}

#[test]
fn a_passed_socket_that_is_not_udp_is_refused() {
    let shell = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve 3</dev/null"#;
    let mut command = Command::new("sh");
    without_variables(&mut command).args(["-c", shell, env!("CARGO_BIN_EXE_tuffet")]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("ListenDatagram="), "{said}");
}

#[test]
fn draining_is_bounded_and_a_second_signal_ends_it() {
    for signal in ["-TERM", "-INT"] {
        let mut service = Service::start(&["--drain", "300ms"]);
        let mut peer = service.stalled();
        service.kill(signal);
        peer.expect_error(0);
        assert_eq!(service.ended().code(), Some(0));

        let mut service = Service::start(&["--drain", "1h"]);
        let (mut peer, began) = (service.stalled(), Instant::now());
        service.kill(signal);
        eventually("it drains", || service.said().contains("a second signal stops the server at once"));
        assert!(service.child.try_wait().unwrap().is_none());
        service.kill(signal);
        peer.expect_error(0);
        assert_eq!(service.ended().code(), Some(0));
        assert!(began.elapsed() < LONG);
    }
}

#[test]
fn the_log_file_is_rotated() {
    let service = Service::start(&["--log-file", "../log"]);
    let log = |name: &str| fs::read_to_string(service.place.path().join(name)).unwrap_or_default();
    let lines = |name: &str| log(name).lines().count();
    service.fetch();
    eventually("the first line", || lines("log") == 1);
    fs::rename(service.place.path().join("log"), service.place.path().join("log.1")).unwrap();
    service.fetch();
    eventually("it goes on in the old one", || lines("log.1") == 2);
    service.kill("-HUP");
    eventually("there is a new one", || service.place.path().join("log").exists());
    service.fetch();
    eventually("it goes on in the new one", || lines("log") == 1);
    assert_eq!(lines("log.1"), 2);

    // Where there cannot be a new one, the old one is kept.
    fs::rename(service.place.path().join("log"), service.place.path().join("log.2")).unwrap();
    fs::create_dir(service.place.path().join("log")).unwrap();
    service.kill("-HUP");
    let fix = "the old one goes on: make one that the server's user may write to, and reload";
    eventually("it complains", || service.said().contains(fix));
    service.fetch();
    eventually("it goes on in the old one", || lines("log.2") == 2);
}

#[test]
fn the_journal_gets_priorities_and_nobody_else() {
    let lines = |args: &[&str], journal: bool| {
        let service = Service::set(args, |command, place| {
            let stderr = fs::metadata(place.join("stderr")).unwrap();
            let wrong = u64::from(!journal);
            command.env("JOURNAL_STREAM", format!("{}:{}", stderr.dev(), stderr.ino() + wrong));
        });
        service.fetch();
        eventually("it is logged", || service.said().contains(" read file complete"));
        let said = service.said();
        said.lines().filter(|line| line.contains(" read file complete")).map(str::to_owned).collect::<Vec<_>>()
    };
    for (args, stream) in [(&[][..], true), (&["--log-target", "journal"], false)] {
        let found = lines(args, stream);
        assert!(found.len() == 1 && found[0].starts_with("<6>127.0.0.1:"), "{found:?}");
    }
    for (args, stream) in [(&[][..], false), (&["--log-target", "stderr"], true)] {
        let found = lines(args, stream);
        assert!(found.len() == 1 && found[0].starts_with("20"), "{found:?}");
    }
}
