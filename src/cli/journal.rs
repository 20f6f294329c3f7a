//! The destination of log lines: a person at a terminal, a file, or the journal of systemd.
//!
//! The journal reads standard error and takes a number in front of a line for its priority (sd-daemon(3)), so
//! `journalctl -p warning` works. That needs no connection of its own that could be refused or full. It works in a
//! sandbox without a file system, and with every manager that reads standard error in this way. The journal adds times
//! itself, so these lines have none.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use log::Level;

#[derive(Args, Debug)]
pub struct LogTarget {
    /// Log for `stderr`, or with priorities for the `journal` of systemd [default: detected]
    #[arg(
        long,
        value_name = "TARGET",
        env = "TUFFET_LOG_TARGET",
        help_heading = "Output",
        hide_possible_values = true
    )]
    log_target: Option<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    Stderr,
    Journal,
}

impl LogTarget {
    pub fn target(&self) -> Target {
        self.log_target.unwrap_or(if is_journal() { Target::Journal } else { Target::Stderr })
    }
}

impl Target {
    /// Writes the prefix of a line of this level.
    pub fn begin(self, out: &mut impl Write, level: Level) -> io::Result<()> {
        match self {
            Self::Stderr => Ok(()),
            Self::Journal => write!(out, "<{}>", priority(level)),
        }
    }
}

/// The number of a level in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is still the stream that the journal named.
#[cfg(unix)]
fn is_journal() -> bool {
    use std::os::{fd::AsFd, unix::fs::MetadataExt};
    let named = std::env::var("JOURNAL_STREAM").ok();
    let found = || {
        let metadata = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()?;
        Ok::<_, io::Error>(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    named.is_some() && named == found().ok()
}

#[cfg(not(unix))]
fn is_journal() -> bool {
    false
}
