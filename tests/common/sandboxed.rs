//! The program as it serves from within its sandbox, seen from outside.
#![allow(dead_code, reason = "each test crate uses its part")]

#[path = "program.rs"]
pub mod program;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use program::Process;
pub use program::tuffet;
use tempfile::TempDir;

pub const NOBODY: u32 = 65534;

pub struct Server {
    pub child: Process,
    pub address: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        Self::run(&mut tuffet(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
    }

    pub fn run(command: &mut Command) -> Self {
        let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        match child.first_line().strip_prefix("listening on ") {
            Some(address) => Self { child, address: address.to_owned() },
            None => panic!("{}", child.said()),
        }
    }

    pub fn get(&self, name: &str) -> Output {
        tuffet(&["get", "-q", &self.address, name, "-"]).output().unwrap()
    }

    pub fn put(&self, name: &str, text: &str) -> Output {
        let mut put = tuffet(&["put", "-q", &self.address, "-", name]);
        let mut put = put.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        put.wait_with_output().unwrap()
    }

    /// This line of the status of each of its threads; it is the same for all.
    pub fn status(&self, name: &str) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut values = tasks.filter_map(|task| {
            // A thread that has ended since has none.
            let status = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap_or_default();
            Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        let first = values.next().unwrap();
        assert!(values.all(|value| value == first), "{name}");
        first
    }

    pub fn assert_is(&self, uid: u32, gid: u32) {
        assert_eq!(self.status("Uid"), [uid; 4].map(|uid| uid.to_string()).join(" "));
        assert_eq!(self.status("Gid"), [gid; 4].map(|gid| gid.to_string()).join(" "));
    }

    pub fn assert_has_no_privileges(&self) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(self.status(set), "0000000000000000", "{set}");
        }
        assert_eq!(self.status("NoNewPrivs"), "1");
    }

    /// Ends the server, and returns its standard error.
    pub fn stop(self) -> String {
        self.child.stop()
    }
}

/// A directory with a file in it, and a secret beside it. All users may read both, and what the test makes later.
pub fn tree() -> (TempDir, PathBuf) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "text").unwrap();
    fs::write(temp.path().join("secret"), "secret").unwrap();
    for path in [temp.path(), &root] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (temp, root)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
