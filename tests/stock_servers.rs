//! `tuffet get` and `tuffet put` against the servers that Debian packages.
//!
//! Both want root: one to change its root directory, the other to become another user. They may be installed, or only
//! unpacked somewhere in the PATH, for their packages cannot be installed side by side.
#![cfg(all(target_os = "linux", feature = "full"))]

mod stock;

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use stock::{LONG, Process, SIZES, assert_holds, bytes, daemon, finish, free_udp_port, limited, program, said, text};
use tempfile::TempDir;

/// A server of another author, with a directory of its own.
struct Server {
    _daemon: Process,
    address: String,
    served: TempDir,
    here: TempDir,
}

impl Server {
    fn hpa() -> Self {
        Self::start("in.tftpd", |command, port, served| {
            let address = format!("127.0.0.1:{port}");
            // In the foreground, new files allowed.
            command.args(["--foreground", "--address", &address, "--create", "--secure"]).arg(served);
        })
    }

    /// With a log of its requests.
    fn atftpd(log: &Path) -> Self {
        File::create(log).unwrap().set_permissions(Permissions::from_mode(0o666)).unwrap();
        Self::start("atftpd", |command, port, served| {
            command.args(["--daemon", "--no-fork", "--bind-address", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--verbose=7", "--logfile"]).arg(log).arg(served);
        })
    }

    fn start(program: &str, arguments: impl FnOnce(&mut Command, u16, &Path)) -> Self {
        let [served, here] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        // These servers only serve and replace files that every user may read and write.
        fs::set_permissions(&served, Permissions::from_mode(0o777)).unwrap();
        let port = free_udp_port();
        let mut command = Command::new(program);
        arguments(&mut command, port, served.path());
        let (daemon, began) = (daemon(&mut command), Instant::now());
        // A client does not wait for long if no server has the port.
        while !fs::read_to_string("/proc/net/udp").unwrap().contains(&format!(":{port:04X} ")) {
            assert!(began.elapsed() < Duration::from_secs(60), "{command:?} does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        Self { _daemon: daemon, address: format!("127.0.0.1:{port}"), served, here }
    }

    fn serve(&self, name: &str, bytes: &[u8]) {
        let path = self.served.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    fn here(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    fn tuffet<S: AsRef<OsStr>>(&self, command: &str, options: &[&str], operands: &[S]) -> Output {
        let mut tuffet = limited(program());
        tuffet.args([command, "-q"]).args(options).arg(&self.address).args(operands);
        finish(tuffet)
    }

    #[track_caller]
    fn gets(&self, options: &[&str], name: &str, expected: &[u8]) {
        let copy = self.here("copy");
        let output = self.tuffet("get", options, &[name.as_ref(), copy.as_os_str()]);
        assert!(output.status.success(), "get {options:?} {name}: {}", said(&output));
        assert_holds(&copy, expected);
        fs::remove_file(copy).unwrap();
    }

    #[track_caller]
    fn puts(&self, options: &[&str], name: &str, bytes: &[u8], expected: &[u8]) {
        let original = self.here("original");
        fs::write(&original, bytes).unwrap();
        let output = self.tuffet("put", options, &[original.as_os_str(), name.as_ref()]);
        assert!(output.status.success(), "put {options:?} {name}: {}", said(&output));
        // These two may acknowledge the last block before they write it.
        let (stored, began) = (self.served.path().join(name), Instant::now());
        while fs::read(&stored).unwrap_or_default() != expected && began.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(10));
        }
        assert_holds(&stored, expected);
    }

    /// All that can be done with either.
    fn exchange(&self) {
        const OPTIONS: [&[&str]; 4] = [
            &[],
            &["--blksize", "512", "--windowsize", "1"],
            &["--blksize", "1024", "--windowsize", "3", "--timeout", "3s"],
            &["--blksize", "65464", "--windowsize", "1"],
        ];
        for size in SIZES {
            let bytes = bytes(size);
            self.serve(&size.to_string(), &bytes);
            for (n, options) in OPTIONS.iter().enumerate() {
                self.gets(options, &size.to_string(), &bytes);
                self.puts(options, &format!("put-{n}-{size}"), &bytes, &bytes);
            }
        }
        let text = text();
        self.serve("text", text.as_bytes());
        self.gets(&["--netascii"], "text", text.as_bytes());
        self.puts(&["--netascii"], "put-text", text.as_bytes(), text.as_bytes());

        let missing = self.tuffet("get", &[], &["missing".as_ref(), self.here("missing").as_os_str()]);
        assert_eq!(missing.status.code(), Some(1));
        assert!(said(&missing).contains("sent ERROR 1 "), "{}", said(&missing));
        assert!(!self.here("missing").exists());
    }

    /// They serve every boot client, whatever one packet suffers.
    fn probed(&self) {
        self.serve("boot", &bytes(100_000));
        let probe = |options: &[&str]| {
            let mut probe = limited(program());
            probe.args(["probe", "-q", &self.address, "boot"]).args(options);
            finish(probe)
        };
        for &(client, _) in tuffet::probe::habits::ALL {
            let output = probe(&["--as", client]);
            assert_eq!(output.status.code(), Some(0), "{client}: {}", said(&output));
        }
        for fault in ["--lose-sent", "--lose-received", "--duplicate-sent", "--duplicate-received"] {
            for number in ["2", "7", "-1"] {
                let output = probe(&[fault, number]);
                assert!(matches!(output.status.code(), Some(0 | 3)), "{fault} {number}: {}", said(&output));
            }
        }
        let late = probe(&["--delay-sent", "5=600ms", "--delay-received=-1=200ms"]);
        assert!(matches!(late.status.code(), Some(0 | 3)), "{}", said(&late));
    }

    fn roll_over(&self, options: &[&str]) {
        let bytes = bytes(LONG);
        self.serve("long", &bytes);
        self.gets(options, "long", &bytes);
        self.puts(options, "put-long", &bytes, &bytes);
    }
}

#[test]
#[ignore = "needs root, tftpd-hpa and atftpd"]
fn tftpd_hpa() {
    let server = Server::hpa();
    server.exchange();
    server.probed();
    // It knows no windows.
    server.roll_over(&["--blksize", "512", "--windowsize", "16"]);
}

#[test]
#[ignore = "needs root, tftpd-hpa and atftpd"]
fn atftpd() {
    let logs = tempfile::tempdir().unwrap();
    fs::set_permissions(&logs, Permissions::from_mode(0o777)).unwrap();
    let log = logs.path().join("log");
    let server = Server::atftpd(&log);
    server.exchange();
    server.probed();
    server.roll_over(&["--blksize", "512", "--windowsize", "1"]);
    // 3 does not divide 65536: the numbers roll over inside a window.
    server.roll_over(&["--blksize", "512", "--windowsize", "3"]);
    let log = fs::read(&log).unwrap();
    for window in ["windowsize option -> 16", "windowsize option -> 3"] {
        assert!(String::from_utf8_lossy(&log).contains(window), "{window}");
    }
}
