//! Log lines: on standard error, above the bars; and the log of transfers, in a file.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use env_logger::Logger;
use humantime::{format_rfc3339_millis, format_rfc3339_seconds};
use indicatif::MultiProgress;
use log::{LevelFilter, Log, Metadata, Record};

use super::journal::Target;

/// Logs to standard error from now on, in the gaps of these bars.
pub fn start(level: LevelFilter, target: Target, bars: MultiProgress) {
    let logger = env_logger::Builder::new()
        // At debug and trace, the libraries below would drown what is ours.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("tuffet", level)
        .format(move |out, record| {
            target.begin(out, record.level())?;
            if target == Target::Journal {
                return writeln!(out, "{}", record.args());
            }
            let time = format_rfc3339_seconds(SystemTime::now());
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "{time} {level:5} {}", record.args())
        })
        .build();
    log::set_max_level(logger.filter());
    // It fails only where there is a logger already.
    _ = log::set_boxed_logger(Box::new(AboveBars { logger, bars }));
}

struct AboveBars {
    logger: Logger,
    bars: MultiProgress,
}

impl Log for AboveBars {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.logger.matches(record) {
            self.bars.suspend(|| self.logger.log(record));
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

/// A file with a line for each transfer. It is only ever appended to.
pub struct LogFile(Mutex<File>, PathBuf);

impl LogFile {
    pub fn open(path: &Path) -> io::Result<Self> {
        open(path).map(|file| Self(Mutex::new(file), path.to_owned()))
    }

    /// Goes on in the file that has the name now, for `logrotate` and its like have given the old one another. If there
    /// cannot be a new one it goes on in the old.
    pub fn reopen(&self) {
        match open(&self.1) {
            Ok(file) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => log::error!("cannot open the log file {} anew: {error}", self.1.display()),
        }
    }

    pub fn append(&self, record: &tuffet::stats::Record) {
        // One write, so that lines of several processes do not mix.
        let line = format!("{} {record}\n", format_rfc3339_millis(SystemTime::now()));
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if let Err(error) = written {
            log::error!("cannot write to the log file: {error}");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
