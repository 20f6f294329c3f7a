//! Clients of other authors, as Debian packages them.

use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use tuffet::packet::Mode;

use super::{assert_holds, finish, limited, program, said};

/// A client, and its arguments beyond the file and the server.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// tftp-hpa's client, which asks for no options.
    Hpa,
    /// atftp, with the values of `--option`.
    Atftp(&'static [&'static str]),
    /// curl, with further arguments.
    Curl(&'static [&'static str]),
    /// busybox's client, with the value of `-b`.
    Busybox(Option<&'static str>),
    /// Our own, with further arguments.
    Tuffet(&'static [&'static str]),
}

/// A client, and the options that it is granted. SIZE stands for the size of the file.
pub const DIALECTS: &[(Client, &str)] = &[
    (Client::Hpa, ""),
    (Client::Atftp(&[]), ""),
    (Client::Atftp(&["blksize 1428"]), "blksize=1428"),
    (Client::Atftp(&["blksize 65464"]), "blksize=65464"),
    (Client::Atftp(&["windowsize 4"]), "windowsize=4"),
    (Client::Atftp(&["windowsize 16", "blksize 1024"]), "blksize=1024 windowsize=16"),
    (Client::Atftp(&["tsize enable"]), "tsize=SIZE"),
    (Client::Atftp(&["timeout 3"]), "timeout=3"),
    (Client::Atftp(&["multicast"]), ""),
    (
        Client::Atftp(&["blksize 1428", "windowsize 8", "tsize enable", "timeout 2"]),
        "tsize=SIZE timeout=2 blksize=1428 windowsize=8",
    ),
    (Client::Curl(&[]), "tsize=SIZE blksize=512 timeout=6"),
    (Client::Curl(&["--tftp-blksize", "1428"]), "tsize=SIZE blksize=1428 timeout=6"),
    (Client::Curl(&["--tftp-blksize", "65464"]), "tsize=SIZE blksize=65464 timeout=6"),
    (Client::Curl(&["--tftp-no-options"]), ""),
    (Client::Busybox(None), "tsize=SIZE"),
    (Client::Busybox(Some("1428")), "blksize=1428 tsize=SIZE"),
    (Client::Busybox(Some("65464")), "blksize=65464 tsize=SIZE"),
];

impl Client {
    /// Gets a file, which has to hold this.
    #[track_caller]
    pub fn gets(self, server: SocketAddr, mode: Mode, name: &str, to: &Path, expected: &[u8]) {
        // No client may find the file of an earlier one.
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", to.display()),
            _ => {}
        }
        let output = self.get(server, mode, name, to);
        assert!(output.status.success(), "{self:?} get {name}: {}: {}", output.status, said(&output));
        assert_holds(to, expected);
    }

    /// Puts a file.
    #[track_caller]
    pub fn puts(self, server: SocketAddr, mode: Mode, name: &str, from: &Path) {
        let output = self.put(server, mode, name, from);
        assert!(output.status.success(), "{self:?} put {name}: {}: {}", output.status, said(&output));
        // tftp-hpa's client exits with 0 whatever happened.
        assert!(!said(&output).contains("Error code"), "{self:?} put {name}: {}", said(&output));
    }

    pub fn get(self, server: SocketAddr, mode: Mode, name: &str, to: &Path) -> Output {
        let mut command = self.command(server, mode);
        match self {
            Self::Hpa => command.args(["-c", "get", name]).arg(to),
            Self::Atftp(_) => {
                command.args(["--get", "--remote-file", name, "--local-file"]).arg(to).args(place(server))
            }
            Self::Curl(_) => command.arg("--output").arg(to).arg(url(server, mode, name)),
            Self::Busybox(_) => command.args(["-g", "-r", name, "-l"]).arg(to).args(place(server)),
            Self::Tuffet(_) => command.args([&server.to_string(), name]).arg(to),
        };
        finish(command)
    }

    pub fn put(self, server: SocketAddr, mode: Mode, name: &str, from: &Path) -> Output {
        let mut command = self.command(server, mode);
        match self {
            Self::Hpa => command.args(["-c", "put"]).arg(from).arg(name),
            Self::Atftp(_) => {
                command.args(["--put", "--remote-file", name, "--local-file"]).arg(from).args(place(server))
            }
            Self::Curl(_) => command.arg("--upload-file").arg(from).arg(url(server, mode, name)),
            Self::Busybox(_) => command.args(["-p", "-r", name, "-l"]).arg(from).args(place(server)),
            Self::Tuffet(_) => panic!("`tuffet put` is in tests/cli.rs"),
        };
        finish(command)
    }

    /// The part that a get and a put have in common.
    fn command(self, server: SocketAddr, mode: Mode) -> Command {
        let program = match self {
            Self::Hpa => "tftp",
            Self::Atftp(_) => "atftp",
            Self::Curl(_) => "curl",
            Self::Busybox(_) => "busybox",
            Self::Tuffet(_) => program(),
        };
        let mut command = limited(program);
        match self {
            Self::Hpa => command.args(["-m", mode.as_str()]).args(place(server)),
            Self::Atftp(options) => {
                let mode = format!("mode {}", mode.as_str());
                command.args(options.iter().copied().chain([&*mode]).flat_map(|option| ["--option", option]))
            }
            // No curlrc, no proxy, and brackets without a meaning.
            Self::Curl(args) => command.args(["-q", "-sS", "--globoff", "--noproxy", "*"]).args(args),
            Self::Busybox(blksize) => command.arg("tftp").args(blksize.iter().flat_map(|size| ["-b", size])),
            Self::Tuffet(args) => command.args(["get", "-q"]).args(args),
        };
        command
    }

    /// Whether the client reported this ERROR, in its own words.
    pub fn reports(self, output: &Output, code: u8) -> bool {
        let said = said(output);
        match self {
            Self::Hpa => said.contains(&format!("Error code {code}: ")),
            // atftp prints only the text, which is ours.
            Self::Atftp(_) => {
                !output.status.success() && said.contains(&format!("received from server <{}>", text(code)))
            }
            // CURLE_TFTP_NOTFOUND and those after it.
            Self::Curl(_) => output.status.code() == Some([68, 69, 70, 71, 72, 73][usize::from(code) - 1]),
            Self::Busybox(_) => !output.status.success() && said.contains(&format!("server error: ({code}) ")),
            Self::Tuffet(_) => !output.status.success() && said.contains(&format!("ERROR {code} ")),
        }
    }
}

fn place(server: SocketAddr) -> [String; 2] {
    [server.ip().to_string(), server.port().to_string()]
}

fn url(server: SocketAddr, mode: Mode, name: &str) -> String {
    format!("tftp://{server}/{name};mode={}", mode.as_str())
}

fn text(code: u8) -> &'static str {
    match code {
        1 => "File not found",
        2 => "Access violation",
        3 => "File too big",
        6 => "File already exists",
        _ => panic!("no test makes ERROR {code}"),
    }
}
