//! The format of log lines.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::{Args, ValueEnum};
use humantime::{format_rfc3339_millis, format_rfc3339_seconds};
use log::{Level, Record};
#[cfg(feature = "full")]
use serde::Serialize;
use tuffet::stats::{self, nearest_rfc3339};

use super::journal::Target;

/// A number of things: `1 file`, `2 files`.
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A number of transfers, with its verb.
pub fn have(transfers: usize) -> String {
    format!("{} {}", count(transfers as u64, "transfer"), if transfers == 1 { "has" } else { "have" })
}

/// The log target of the library's line for each transfer.
pub const TRANSFERS: &str = "tuffet::transfers";
/// The log target of the program's own line for it.
pub const RECORDS: &str = "tuffet::records";

#[derive(Args, Debug)]
pub struct LogFormat {
    /// Format of the log: `text`, or `json` where that is built in
    #[arg(long, value_name = "FORMAT", env = "TUFFET_LOG_FORMAT", default_value = "text", help_heading = "Output")]
    #[arg(hide_possible_values = true)]
    pub log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    #[cfg(feature = "full")]
    Json,
}

impl Format {
    /// Writes a line to standard error.
    pub fn write(self, out: &mut impl Write, record: &Record, target: Target) -> io::Result<()> {
        target.begin(out, record.level())?;
        match self {
            // The records are JSON already.
            #[cfg(feature = "full")]
            Self::Json if record.target() == RECORDS => writeln!(out, "{}", record.args()),
            _ => out.write_all(self.message(record.level(), &record.args().to_string(), target).as_bytes()),
        }
    }

    /// A line that is not about a transfer, after the target's prefix.
    fn message(self, level: Level, text: &str, target: Target) -> String {
        let (now, level) = (SystemTime::now(), level.as_str().to_lowercase());
        match self {
            // The journal adds times and levels itself.
            Self::Text if target == Target::Journal => format!("{text}\n"),
            Self::Text => format!("{} {level:5} {text}\n", format_rfc3339_seconds(nearest_rfc3339(now))),
            #[cfg(feature = "full")]
            Self::Json => {
                let time = format_rfc3339_millis(nearest_rfc3339(now)).to_string();
                json(&Line { time: &time, level: &level, message: text }) + "\n"
            }
        }
    }

    /// A warning for a place without a logger.
    pub fn note(self, text: &str, target: Target) -> String {
        let mut begin = Vec::new();
        // A write to memory cannot fail.
        _ = target.begin(&mut begin, Level::Warn);
        String::from_utf8_lossy(&begin).into_owned() + &self.message(Level::Warn, text, target)
    }

    /// The line of a transfer for standard error.
    pub fn record(self, record: &stats::Record) -> String {
        match self {
            Self::Text => record.to_string(),
            #[cfg(feature = "full")]
            Self::Json => json(record),
        }
    }

    /// The line of a transfer for the log file.
    pub fn line(self, record: &stats::Record) -> String {
        match self {
            Self::Text => format!("{} {record}\n", format_rfc3339_millis(nearest_rfc3339(SystemTime::now()))),
            #[cfg(feature = "full")]
            Self::Json => json(record) + "\n",
        }
    }
}

/// A JSON line that is not about a transfer.
#[cfg(feature = "full")]
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    level: &'a str,
    message: &'a str,
}

#[cfg(feature = "full")]
pub fn json(value: &impl Serialize) -> String {
    // All keys are texts, and no value can fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        let files = [0, 1, 2].map(|number| count(number, "file"));
        assert_eq!(files, ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn every_time_can_be_shown() {
        let absurd = Duration::from_secs(1 << 40);
        for (time, expected) in [
            (SystemTime::UNIX_EPOCH - absurd, "1970-01-01T00:00:00Z"),
            (SystemTime::UNIX_EPOCH + absurd, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(format_rfc3339_seconds(nearest_rfc3339(time)).to_string(), expected);
            assert!(format_rfc3339_millis(nearest_rfc3339(time)).to_string().starts_with(&expected[..10]));
        }
    }
}
