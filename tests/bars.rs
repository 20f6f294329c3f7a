//! The progress bars of `serve`, on a terminal.
#![cfg(all(target_os = "linux", feature = "full"))]

#[path = "common/program.rs"]
mod program;

use std::{
    fs::{self, File},
    io::Read,
    net::UdpSocket,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
};

use program::Process;
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

const NAME: &str = "a/directory/with/a/rather/long/name/and/vmlinuz-6.18";
/// A name whose characters take two columns each.
const WIDE: &str = "a/目录/很长的名字/也是一个很长的名字/还有更长的名字/操作系统内核";

/// A server whose standard error is a terminal.
struct Watched {
    child: Process,
    address: String,
    terminal: File,
    screen: vt100::Parser,
}

impl Watched {
    fn start(directory: &std::path::Path, rows: u16, columns: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let end = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let mut watched = Self {
            child: Self::spawn(directory, end),
            address: String::new(),
            terminal: terminal.into(),
            screen: vt100::Parser::new(rows, columns, 0),
        };
        watched.resize(rows, columns);
        watched.address = watched.child.first_line().strip_prefix("listening on ").unwrap().to_owned();
        watched
    }

    fn spawn(directory: &std::path::Path, terminal: OwnedFd) -> Process {
        let mut command = program::tuffet(&["serve", "--listen", "127.0.0.1:0", "--no-sandbox"]);
        Process::start(command.arg(directory).env("TERM", "xterm").stdout(Stdio::piped()).stderr(terminal))
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.terminal.as_fd(), size).unwrap();
        self.screen.screen_mut().set_size(rows, columns);
    }

    /// Returns the text of the screen as soon as it fulfils the condition, or when the server has ended.
    fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut buffer = [0; 4096];
        loop {
            let shown = self.screen.screen().contents();
            if wanted(&shown) {
                return shown;
            }
            // A read of a terminal that no process has open fails.
            match self.terminal.read(&mut buffer) {
                Ok(length @ 1..) => self.screen.process(&buffer[..length]),
                _ => return self.screen.screen().contents(),
            }
        }
    }
}

#[test]
fn bars_leave_nothing_on_the_screen() {
    let directory = tempfile::tempdir().unwrap();
    for name in [NAME, WIDE] {
        let file = directory.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, [7; 700]).unwrap();
    }
    // So many rows that no line leaves the screen.
    let rows = 60;
    for (columns, later, name, begin, end) in [
        (100, 100, NAME, "127.0.0.1 < …", "/vmlinuz-6.18 "),
        (100, 120, NAME, "127.0.0.1 < …", "/vmlinuz-6.18 "),
        (80, 80, WIDE, "127.0.0.1 < …", "操作系统内核 "),
        (60, 60, NAME, "127.0.0.1 < …", "/vmlinuz-6.18 "),
        (40, 40, WIDE, "127.0.0.1 < …", "操作系统内核 "),
        (20, 20, NAME, "…uz-6.18 ", "0 %"),
    ] {
        let mut watched = Watched::start(directory.path(), rows, columns);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let request = [b"\0\x01", name.as_bytes(), b"\0octet\0tsize\x000\0"].concat();
        client.send_to(&request, &watched.address).unwrap();
        let mut buffer = [0; 600];
        let (_, server) = client.recv_from(&mut buffer).unwrap();
        client.send_to(b"\0\x04\0\0", server).unwrap();

        let is_bar = |line: &&str| line.contains(begin) && line.contains(end);
        let shown = watched.until(|shown| shown.lines().any(|line| is_bar(&line)));
        assert!(!shown.lines().find(is_bar).unwrap().contains(name.split('/').nth(1).unwrap()), "{shown}");
        watched.resize(rows, later);
        for block in [1, 2] {
            while buffer[..4] != [0, 3, 0, block] {
                client.recv_from(&mut buffer).unwrap();
            }
            client.send_to(&[0, 4, 0, block], server).unwrap();
        }
        watched.until(|shown| shown.contains(" complete 700 bytes"));
        watched.child.signal("-TERM");
        let shown = watched.until(|_| false);
        assert!(shown.contains("serving") && shown.contains("stopping"), "{shown}");
        for rest in ["127.0.0.1 <", "…", "KiB", "=>", "B/s  "] {
            let of_bars = shown.lines().filter(|line| line.contains(rest) && !line.contains("info"));
            let of_bars: Vec<_> = of_bars.filter(|line| !line.contains("retransmits")).collect();
            assert!(of_bars.is_empty(), "{of_bars:?} is left:\n{shown}");
        }
        assert_eq!(watched.child.wait().unwrap().code(), Some(0));
    }
}
