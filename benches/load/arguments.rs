use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub const HELP: &str = "\
Many TFTP clients against one server. Every byte that arrives is checked.

  --clients N         transfers at once [default: 16]
  --transfers N       transfers in all, 0: as many as clients [default: 0]
  --blksize BYTES     blksize to ask for [default: 512]
  --windowsize N      windowsize to ask for [default: 1]
  --over SECONDS      the clients begin one after the other within this time [default: 0]
  --slow N            so many of the clients, spread over all, ask for a blksize of 512 and no windowsize [default: 0]
  --seconds N         end after this time; what has not ended then has failed [default: 20]
  --size BYTES        size of the file that the server within this program has [default: 1048576]
  --plain             have the server within this program send one datagram a call

Instead of the server within this program:
  --server ADDR:PORT  load this server
  --file NAME         ask for this file
  --expect PATH       where a copy of the file is, to compare with; needed with --server
  --pid PID           the server's process, to tell its CPU time (with children that have ended) and peak memory
";

/// The arguments, within bounds.
pub struct Arguments {
    pub clients: usize,
    pub transfers: usize,
    pub blksize: u16,
    pub windowsize: u16,
    pub over: Duration,
    pub slow: usize,
    pub limit: Duration,
    pub size: usize,
    pub batched: bool,
    pub server: Option<SocketAddr>,
    pub file: String,
    pub expect: Option<PathBuf>,
    pub pid: Option<u32>,
}

impl Arguments {
    /// `None` if help is asked for.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Self {
            clients: 16,
            transfers: 0,
            blksize: 512,
            windowsize: 1,
            over: Duration::ZERO,
            slow: 0,
            limit: Duration::from_secs(20),
            size: 1 << 20,
            batched: true,
            server: None,
            file: "file".into(),
            expect: None,
            pid: None,
        };
        while let Some(name) = words.next() {
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                // Cargo passes this to every benchmark.
                "--bench" => continue,
                "--plain" => {
                    arguments.batched = false;
                    continue;
                }
                _ => {}
            }
            let value = words.next().ok_or(format!("{name}: what is that, or what is its value? See --help"))?;
            let number = |range: std::ops::RangeInclusive<usize>| {
                let number = value.parse().ok().filter(|number| range.contains(number));
                number.ok_or(format!("{name} takes a number from {} to {}", range.start(), range.end()))
            };
            let bad = |error: &dyn std::fmt::Display| format!("{name} {value}: {error}");
            match name.as_str() {
                "--clients" => arguments.clients = number(1..=10_000)?,
                "--transfers" => arguments.transfers = number(0..=1_000_000)?,
                "--blksize" => arguments.blksize = number(8..=65464)? as u16,
                "--windowsize" => arguments.windowsize = number(1..=65535)? as u16,
                "--over" => arguments.over = Duration::from_secs(number(0..=600)? as u64),
                "--slow" => arguments.slow = number(0..=10_000)?,
                "--seconds" => arguments.limit = Duration::from_secs(number(1..=600)? as u64),
                "--size" => arguments.size = number(0..=1 << 30)?,
                "--server" => arguments.server = Some(value.parse().map_err(|error| bad(&error))?),
                "--file" => arguments.file = value,
                "--expect" => arguments.expect = Some(value.into()),
                "--pid" => arguments.pid = Some(value.parse().map_err(|error| bad(&error))?),
                _ => return Err(format!("{name}: no such option. See --help")),
            }
        }
        if arguments.server.is_some() && arguments.expect.is_none() {
            return Err("--server needs --expect".into());
        }
        arguments.transfers = arguments.transfers.max(arguments.clients);
        Ok(Some(arguments))
    }
}
