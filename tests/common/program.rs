//! The program, run by a test.
#![allow(dead_code, reason = "each test crate uses its part")]

#[path = "process.rs"]
pub mod process;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Output, Stdio},
};

pub use process::{Process, without_variables};

pub fn tuffet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
    command.args(args).stdin(Stdio::null());
    without_variables(&mut command);
    command
}

/// A copy of the program in this directory, for users who have no right to the directory of the build. Another process
/// writes it, so that no thread of this one has it open when it is run.
pub fn copy(directory: &Path) -> PathBuf {
    let program = directory.join("tuffet");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_tuffet")).arg(&program).status().unwrap().success());
    for path in [directory, &program] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    program
}

pub fn run(args: &[&str]) -> Output {
    tuffet(args).output().unwrap()
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server on a free port, in a directory of its own.
pub struct Server {
    pub child: Process,
    stdout: BufReader<ChildStdout>,
    pub address: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, |_| {})
    }

    /// With changes to the command.
    pub fn start_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut printed = Vec::new();
        let mut command = tuffet(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        change(&mut command);
        let server = Self::run(&mut command, &mut printed);
        assert_eq!(printed, [""; 0]);
        server
    }

    /// By a whole command line. The lines before `listening on` are added to `printed`.
    pub fn run(command: &mut Command, printed: &mut Vec<String>) -> Self {
        let mut child = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it listens");
            match line.trim_end().strip_prefix("listening on ") {
                Some(address) => return Self { child, stdout, address: address.to_owned() },
                None => printed.push(line),
            }
        }
    }

    /// Ends it with a signal. It must exit with 0 and print nothing more. Returns its standard error.
    pub fn stop(mut self, signal: &str) -> String {
        self.child.signal(signal);
        let (mut printed, said) = (String::new(), self.child.said());
        self.stdout.read_to_string(&mut printed).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        assert_eq!(printed, "");
        said
    }
}
