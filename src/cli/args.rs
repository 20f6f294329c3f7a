//! The command line.
//!
//! Every option has an environment variable too, which suits containers: `--max-upload` is `TUFFET_MAX_UPLOAD`.

use std::{ffi::OsString, ops::RangeInclusive, path::PathBuf};

use clap::{
    ArgAction, Args, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};
use humantime::Duration;
use log::LevelFilter;
#[cfg(feature = "http")]
use tuffet::handlers::Http;
use tuffet::{
    Client, ServerBuilder,
    endpoint::Policy,
    options::{BLKSIZE, WINDOWSIZE},
    packet::Mode,
    transfer::Timing,
};

#[cfg(feature = "http")]
use super::values::Header;
use super::{
    format::LogFormat,
    journal::LogTarget,
    sources::Source,
    url::{Location, location},
    values::{self, Listen, Size},
};

/// More than the cores of any machine.
const MOST_THREADS: usize = 4096;

const ENVIRONMENT: &str = "Every option can be set in the environment: --blksize is TUFFET_BLKSIZE.";

/// The text below the options of `serve`, without the examples that this build cannot run.
fn serve_examples() -> String {
    let (http, buckets, rules) = (cfg!(feature = "http"), cfg!(feature = "object-store"), cfg!(feature = "rules"));
    let lines = [
        (true, "Examples:"),
        (true, "  tuffet serve ./tftpboot                  a directory, on port 69"),
        (http, "  tuffet serve http://mirror/netboot/      a web server"),
        (buckets, "  tuffet serve s3://bucket/netboot         a bucket, with settings in AWS_*"),
        (http, "  tuffet serve ./own http://mirror/        the first that has the file"),
        (true, "  tuffet serve -l :6969 -u ./configs       uploads too; needs no root"),
        (rules, "  tuffet serve --map '^x/(.*)=>http://mirror/$1'  some files from there"),
        (true, ""),
        (rules, TARGETS),
        (
            true,
            "\
Sizes are written 512K, 64M or 2G (powers of 1024); times 500ms, 5s or 1m. A
time without a unit is in seconds.

Every option can be set in the environment: --max-upload is TUFFET_MAX_UPLOAD.
TUFFET_SOURCE has SOURCEs, with commas.

Ctrl-C lets running transfers end; a second Ctrl-C ends them at once.",
        ),
    ];
    lines.into_iter().filter(|(can, _)| *can).map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

const TARGETS: &str = "\
In a TARGET, $1 or ${name} is a group of the REGEX, and ${path}, ${client},
${server}, ${mac}, ${uuid}, ${serial} and ${arch} are variables, also spelled
as in ${mac:hexraw} or ${client:hexraw:upper}. Of several targets, as in
A=>B=>C, the first that exists is served. A target that ends with .j2 is a
template file, rendered for each request. CLIENTS are networks, addresses, and
MAC addresses or their beginnings, with commas. `tuffet explain` shows the
answer to a request.
";

/// A TFTP server that boots machines from directories, web servers and buckets; and a client
#[derive(Debug, Parser)]
#[command(name = "tuffet", version, max_term_width = 120)]
#[command(after_help = "`tuffet COMMAND --help` shows the options of a command.")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(Box<Serve>),
    Get(Get),
    Put(Put),
    #[cfg(feature = "full")]
    #[command(flatten)]
    ExtraCommand(super::extra::ExtraCommand),
}

/// Serve a directory, a web server, a bucket or memory
#[derive(Args, Debug)]
#[command(after_help = serve_examples(), mut_args = |arg| arg.hide_env(true))]
pub struct Serve {
    /// Directory, URL (http, https, s3, gs, az) or `memory:`; the first that has a file serves it
    #[arg(value_name = "SOURCE", default_value = ".", env = "TUFFET_SOURCE")]
    #[arg(value_parser = OsStringValueParser::new().try_map(Source::try_from))]
    pub sources: Vec<Source>,

    /// Listen on ADDR, ADDR:PORT or :PORT; may be repeated [default: :69]
    #[arg(long, short, value_name = "ADDR:PORT", env = "TUFFET_LISTEN", value_delimiter = ',')]
    #[arg(help_heading = "Network")]
    pub listen: Vec<Listen>,

    #[cfg(feature = "web")]
    #[command(flatten)]
    pub http: super::http::HttpArgs,

    /// Serve all transfers from the listening port, for firewalls and NAT
    #[arg(long, env = "TUFFET_SINGLE_PORT", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Network")]
    pub single_port: bool,

    /// Use only these ports for transfers, for firewalls
    #[arg(long, value_name = "LOW-HIGH", env = "TUFFET_PORT_RANGE", value_parser = values::port_range)]
    #[arg(help_heading = "Network")]
    pub port_range: Option<RangeInclusive<u16>>,

    /// Listen and answer on this network interface or VRF only (Linux)
    #[arg(long, value_name = "NAME", env = "TUFFET_INTERFACE", help_heading = "Network")]
    pub interface: Option<String>,

    /// Serve from this many threads
    #[arg(long, value_name = "NUMBER", env = "TUFFET_SHARDS", default_value = "1", help_heading = "Network")]
    #[arg(value_parser = values::number(1..=MOST_THREADS))]
    pub shards: usize,

    /// Allow uploads of new files to directories and buckets; `memory:` always allows them
    #[arg(long, short, env = "TUFFET_UPLOAD", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Uploads")]
    pub upload: bool,

    /// Allow uploads to replace files
    #[arg(long, env = "TUFFET_OVERWRITE", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Uploads")]
    pub overwrite: bool,

    /// Allow uploads to create directories
    #[arg(long, env = "TUFFET_MKDIR", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Uploads")]
    pub mkdir: bool,

    /// Refuse uploads that are larger than this
    #[arg(long, value_name = "SIZE", env = "TUFFET_MAX_UPLOAD", default_value_t = Size(ServerBuilder::MAX_UPLOAD))]
    #[arg(help_heading = "Uploads")]
    pub max_upload: Size,

    #[command(flatten)]
    pub access: super::access::Access,

    #[command(flatten)]
    pub dhcp: super::dhcp::Dhcp,

    #[command(flatten)]
    pub names: super::rules::Names,

    #[command(flatten)]
    pub uploads: super::uploads::Uploads,

    #[command(flatten)]
    pub sandbox: super::sandbox::Sandbox,

    #[cfg(feature = "http")]
    #[command(flatten)]
    pub web: Web,

    /// Largest blksize to grant [default: the largest that fits the interface's MTU]
    #[arg(long, value_name = "BYTES", env = "TUFFET_BLKSIZE", help_heading = "Transfers")]
    #[arg(value_parser = values::number(BLKSIZE))]
    pub blksize: Option<u16>,

    /// Largest windowsize to grant [default: 64, with --single-port 3 or 4]
    #[arg(long, value_name = "BLOCKS", env = "TUFFET_WINDOWSIZE", help_heading = "Transfers")]
    #[arg(value_parser = values::number(WINDOWSIZE))]
    pub windowsize: Option<u16>,

    /// Longest time before a packet is sent again
    #[arg(long, value_name = "TIME", env = "TUFFET_TIMEOUT", default_value_t = Timing::default().timeout.into())]
    #[arg(value_parser = values::duration, help_heading = "Transfers")]
    pub timeout: Duration,

    /// End a transfer when its client is silent for this long
    #[arg(long, value_name = "TIME", env = "TUFFET_PATIENCE", default_value_t = Timing::default().patience.into())]
    #[arg(value_parser = values::duration, help_heading = "Transfers")]
    pub patience: Duration,

    /// Run at most this many transfers at once in each thread
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_TRANSFERS")]
    #[arg(value_parser = values::number(1..=u32::MAX as usize), default_value_t = Policy::default().max_transfers)]
    #[arg(help_heading = "Transfers")]
    pub max_transfers: usize,

    #[command(flatten)]
    pub limits: super::limits::Limits,

    /// When stopped, wait this long for running transfers to end (0: not at all)
    #[arg(long, value_name = "TIME", env = "TUFFET_DRAIN", default_value_t = ServerBuilder::DRAIN.into())]
    #[arg(value_parser = values::any_duration, help_heading = "Transfers")]
    pub drain: Duration,

    /// Append a line for every transfer to this file; SIGHUP reopens it
    #[arg(long, value_name = "PATH", env = "TUFFET_LOG_FILE", help_heading = "Output")]
    pub log_file: Option<PathBuf>,

    #[command(flatten)]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub log_target: LogTarget,

    #[command(flatten)]
    pub status: super::status::StatusArgs,

    #[command(flatten)]
    pub notify: super::notify::NotifyArgs,

    #[command(flatten)]
    pub config: super::config::ConfigArgs,

    #[command(flatten)]
    pub output: Output,
}

/// How web servers are asked.
#[cfg(feature = "http")]
#[derive(Args, Debug)]
pub struct Web {
    /// Memory for cached files, for each source; 0 is no cache
    #[arg(long, value_name = "SIZE", env = "TUFFET_CACHE", default_value_t = Size(Http::CACHE as u64))]
    #[arg(help_heading = "Web servers")]
    pub cache: Size,

    /// Longest silence of a web server before the request is repeated
    #[arg(long, value_name = "TIME", env = "TUFFET_UPSTREAM_TIMEOUT")]
    #[arg(default_value_t = Http::UPSTREAM_TIMEOUT.into())]
    #[arg(value_parser = values::duration, help_heading = "Web servers")]
    pub upstream_timeout: Duration,

    /// Longest time to connect to a web server
    #[arg(long, value_name = "TIME", env = "TUFFET_CONNECT_TIMEOUT")]
    #[arg(default_value_t = Http::CONNECT_TIMEOUT.into())]
    #[arg(value_parser = values::duration, help_heading = "Web servers")]
    pub connect_timeout: Duration,

    /// Send this header with each request to a web server; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", env = "TUFFET_HEADER", value_delimiter = '\n')]
    #[arg(help_heading = "Web servers")]
    pub headers: Vec<Header>,

    /// Tell web servers the client, in X-Forwarded-For and X-TFTP-IP: a GET for each client
    #[arg(long, env = "TUFFET_IDENTIFY", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Web servers")]
    pub identify: bool,

    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE", env = "TUFFET_CA", help_heading = "Web servers")]
    pub ca: Option<PathBuf>,

    /// When a web server fails, serve the cached copy, if there is one
    #[arg(long, env = "TUFFET_STALE", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Web servers")]
    pub stale: bool,
}

/// Fetch a file from a server
#[derive(Args, Debug)]
#[command(after_help = ENVIRONMENT, mut_args = |arg| arg.hide_env(true))]
pub struct Get {
    /// The server [default port: 69], or a URL: tftp://HOST[:PORT]/NAME[;mode=octet]
    #[arg(value_name = "HOST[:PORT]", value_parser = location())]
    pub server: Location,

    /// The file's name on the server; a URL has it already
    pub name: Option<OsString>,

    /// The local file to write; `-` is standard output [default: the last part of NAME]
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub request: RequestArgs,

    #[command(flatten)]
    pub output: Output,
}

/// Send a file to a server
#[derive(Args, Debug)]
#[command(after_help = ENVIRONMENT, mut_args = |arg| arg.hide_env(true))]
pub struct Put {
    /// The server [default port: 69], or a URL: tftp://HOST[:PORT]/NAME[;mode=octet]
    #[arg(value_name = "HOST[:PORT]", value_parser = location())]
    pub server: Location,

    /// The local file to send; `-` is standard input
    pub file: PathBuf,

    /// The file's name on the server, if no URL has it [default: the last part of FILE]
    pub name: Option<OsString>,

    #[command(flatten)]
    pub request: RequestArgs,

    #[command(flatten)]
    pub output: Output,
}

/// The options of a client's request.
///
/// A server may grant less, so the defaults ask for what is fast and safe everywhere.
#[derive(Args, Debug)]
pub struct RequestArgs {
    /// Ask for blocks of this size
    #[arg(long, value_name = "BYTES", env = "TUFFET_BLKSIZE", default_value_t = Client::BLKSIZE)]
    #[arg(value_parser = values::number(BLKSIZE))]
    pub blksize: u16,

    /// Ask for this many blocks between two acknowledgments
    #[arg(long, value_name = "BLOCKS", env = "TUFFET_WINDOWSIZE", default_value_t = Client::WINDOWSIZE)]
    #[arg(value_parser = values::number(WINDOWSIZE))]
    pub windowsize: u16,

    /// Ask the server to send a packet again after this time at most, in whole seconds
    #[arg(long, value_name = "TIME", env = "TUFFET_TIMEOUT", value_parser = values::duration)]
    pub timeout: Option<Duration>,

    /// Give up when the server is silent for this long
    #[arg(long, value_name = "TIME", env = "TUFFET_PATIENCE", default_value_t = Timing::default().patience.into())]
    #[arg(value_parser = values::duration)]
    pub patience: Duration,

    /// Transfer text, with its line ends converted
    #[arg(long, env = "TUFFET_NETASCII", action = ArgAction::SetTrue, value_parser = values::switch)]
    pub netascii: bool,
}

/// How much is said on standard error.
#[derive(Args, Debug)]
pub struct Output {
    /// Log more: -v also the options, -vv also every datagram
    #[arg(long, short, action = ArgAction::Count, env = "TUFFET_VERBOSE", help_heading = "Output")]
    #[arg(value_parser = values::number::<u8>(0..=255))]
    pub verbose: u8,

    /// Log errors only
    #[arg(long, short, env = "TUFFET_QUIET", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Output")]
    pub quiet: bool,
}

impl RequestArgs {
    /// Sets the mode of a URL.
    pub fn set_mode(&mut self, mode: Option<Mode>) {
        self.netascii = mode.map_or(self.netascii, |mode| mode == Mode::Netascii);
    }

    pub fn mode(&self) -> Mode {
        if self.netascii { Mode::Netascii } else { Mode::Octet }
    }
}

impl Output {
    pub fn level(&self) -> LevelFilter {
        match self.verbose {
            _ if self.quiet => LevelFilter::Error,
            0 => LevelFilter::Info,
            1 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn source(text: &str) -> Source {
        Source::try_from(std::ffi::OsString::from(text)).unwrap()
    }

    fn serve(line: &str) -> Result<Serve, clap::Error> {
        let words = ["tuffet", "serve"].into_iter().chain(line.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| match arguments.command {
            Command::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        for command in Arguments::command().get_subcommands() {
            for option in command.get_arguments() {
                let Some(long) = option.get_long() else { continue };
                let expected = format!("TUFFET_{}", long.to_uppercase().replace('-', "_"));
                let variable = option.get_env().and_then(|variable| variable.to_str());
                assert_eq!(variable, Some(expected.as_str()), "{} --{long}", command.get_name());
            }
        }
    }

    #[test]
    fn defaults() {
        let args = serve("").unwrap();
        assert_eq!(args.sources, [source(".")]);
        assert!(args.listen.is_empty() && !args.upload && !args.overwrite && !args.mkdir);
        assert_eq!((args.blksize, args.windowsize), (None, None));
        assert_eq!(args.output.level(), LevelFilter::Info);
    }

    #[test]
    fn options() {
        let args = serve("a http://b/ memory: -l :6969 -l ::1 --port-range 50000-50099 --max-upload 64M -vv").unwrap();
        assert_eq!(args.sources, [source("a"), source("http://b/"), source("memory:")]);
        assert_eq!(args.listen.len(), 2);
        assert_eq!(args.port_range, Some(50000..=50099));
        assert_eq!(args.max_upload, Size(64 << 20));
        assert_eq!(args.output.level(), LevelFilter::Trace);
        assert_eq!(serve("-v -q").unwrap().output.level(), LevelFilter::Error);
    }

    #[cfg(feature = "http")]
    #[test]
    fn web_servers() {
        let web = serve("http://a/ --header X-A:b --header X-C:d --cache 0 --upstream-timeout 3").unwrap().web;
        assert_eq!(web.headers.iter().map(|header| header.0.as_str()).collect::<Vec<_>>(), ["X-A", "X-C"]);
        assert_eq!((web.cache.0, web.upstream_timeout.as_secs()), (0, 3));
        assert!(serve("--header nothing").is_err());
    }

    #[test]
    fn values_out_of_range() {
        for line in [
            "--blksize 7",
            "--blksize 65465",
            "--windowsize 0",
            "--timeout 0",
            "--shards 0",
            "--max-transfers 0",
            "--max-transfers-per-client 0",
            "--port-range 2-1",
            "--listen localhost",
            "--log-format xml",
            "ftp://host/",
        ] {
            assert!(serve(line).is_err(), "{line}");
        }
    }
}
