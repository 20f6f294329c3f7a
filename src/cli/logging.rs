//! Log lines: on standard error, above the bars; and the log of transfers, in a file.

use std::{
    fs::File,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use env_logger::Logger;
use log::{LevelFilter, Log, Metadata, Record};

use super::{
    bars::MultiProgress,
    format::{Format, TRANSFERS},
    journal::Target,
};

/// Logs to standard error from now on, in the gaps of these bars.
pub fn start(level: LevelFilter, format: Format, target: Target, bars: MultiProgress) {
    // In JSON, the program tells of them itself.
    let transfers = if format == Format::Text { level } else { LevelFilter::Off };
    let logger = env_logger::Builder::new()
        // At debug and trace, the libraries below would drown what is ours.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("tuffet", level)
        .filter_module(TRANSFERS, transfers)
        .format(move |out, record| {
            target.begin(out, record.level())?;
            format.write(out, record, target)
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
            let above = catch_unwind(AssertUnwindSafe(|| self.bars.suspend(|| self.logger.log(record))));
            // The bars panic where their terminal has gone. A line may come twice then, and none is lost.
            above.unwrap_or_else(|_| self.logger.log(record));
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

/// A file with a line for each transfer. It is only ever appended to.
pub struct LogFile {
    file: Mutex<File>,
    path: PathBuf,
    format: Format,
}

impl LogFile {
    pub fn open(path: &Path, format: Format) -> io::Result<Self> {
        open(path).map(|file| Self { file: Mutex::new(file), path: path.to_owned(), format })
    }

    /// Goes on in the file that has the name now, for `logrotate` and its like have given the old one another. If there
    /// cannot be a new one it goes on in the old.
    pub fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => log::error!("cannot open the log file {} anew: {error}", self.path.display()),
        }
    }

    pub fn append(&self, record: &tuffet::stats::Record) {
        // One write, so that lines of several processes do not mix.
        let line = self.format.line(record);
        let written = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if let Err(error) = written {
            log::error!("cannot write to the log file: {error}");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
