//! `tuffet serve`, and its log.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Process, without_variables};

/// The server on a free port of the loopback.
pub struct Server {
    child: Process,
    pub address: SocketAddr,
    /// Its log files.
    logs: TempDir,
}

/// A line of its log of transfers.
#[derive(Debug)]
pub struct Line {
    /// `read` or `write`.
    pub direction: String,
    pub name: String,
    pub outcome: String,
    pub bytes: usize,
    /// As in the OACK.
    pub granted: String,
}

impl Server {
    /// On 127.0.0.1.
    pub fn start(args: &[&str]) -> Self {
        Self::listening("127.0.0.1:0", args)
    }

    pub fn listening(address: &str, args: &[&str]) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new(super::program());
        command.args(["serve", "--listen", address, "--log-file"]).arg(logs.path().join("transfers")).args(args);
        without_variables(&mut command);
        // No test reads it meanwhile, and a pipe would fill up.
        let stderr = File::create(logs.path().join("stderr")).unwrap();
        let mut child = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr));
        let line = child.first_line();
        let address = line.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        let Some(address) = address else {
            panic!("{args:?}: {line}\n{}", fs::read_to_string(logs.path().join("stderr")).unwrap())
        };
        Self { child, address, logs }
    }

    /// The most memory that it has had, in KiB.
    pub fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Ends the server, which must exit with 0 and without a warning. Returns its log.
    pub fn stop(self) -> Vec<Line> {
        self.end(&["warn", "error"])
    }

    /// The same, but warnings are allowed.
    pub fn stop_with_warnings(self) -> Vec<Line> {
        self.end(&["error"])
    }

    fn end(mut self, troubles: &[&str]) -> Vec<Line> {
        self.child.signal("-TERM");
        let status = self.child.wait().unwrap();
        let stderr = fs::read_to_string(self.logs.path().join("stderr")).unwrap();
        // The level is the second word.
        let troubled = |line: &&str| {
            let level = line.split_whitespace().nth(1);
            // The tests cause summed-up refusals and small windows of a single port on purpose.
            let is_meant = [" more requests refused", " a windowsize of "].iter().any(|words| line.contains(words));
            line.contains("panicked") || !is_meant && troubles.iter().any(|trouble| level == Some(trouble))
        };
        assert_eq!(stderr.lines().find(troubled), None);
        assert_eq!(status.code(), Some(0), "{stderr}");
        let log = fs::read_to_string(self.logs.path().join("transfers")).unwrap();
        log.lines().filter(|line| !line.contains(" more requests refused")).map(Line::parse).collect()
    }

    /// The same, and each transfer of any client must have ended well. An outcome of "probably" is not
    /// enough: nothing is lost on the loopback.
    pub fn stop_after_success(self) -> Vec<Line> {
        let lines = self.stop();
        for line in &lines {
            assert_eq!(line.outcome, "complete", "{line:?}");
        }
        lines
    }
}

impl Line {
    /// `TIME PEER read NAME complete 513 bytes 0.001 s 501 KiB/s retransmits 0 from FILE asked tsize=0 granted
    /// tsize=513`
    fn parse(line: &str) -> Self {
        let parsed = || {
            let (subject, rest) = line.rsplit_once(" bytes ")?;
            let (subject, bytes) = subject.rsplit_once(' ')?;
            let mut words = subject.splitn(5, ' ').skip(2).map(str::to_owned);
            Some(Self {
                direction: words.next()?,
                name: words.next()?,
                outcome: words.next()?,
                bytes: bytes.parse().ok()?,
                granted: rest.rsplit_once(" granted ").map_or("", |(_, granted)| granted).to_owned(),
            })
        };
        parsed().unwrap_or_else(|| panic!("not a line of the log: {line}"))
    }
}
