//! Log lines: on standard error, above the bars; and the log of transfers, in a file.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use env_logger::Logger;
use indicatif::MultiProgress;
use log::{LevelFilter, Log, Metadata, Record};

use super::format::{Format, TRANSFERS};

/// Logs to standard error from now on, in the gaps of these bars.
pub fn start(level: LevelFilter, format: Format, bars: MultiProgress) {
    // In JSON, the program tells of them itself.
    let transfers = if format == Format::Json { LevelFilter::Off } else { level };
    let logger = env_logger::Builder::new()
        // At debug and trace, the libraries below would drown what is ours.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("tuffet", level)
        .filter_module(TRANSFERS, transfers)
        .format(move |out, record| format.write(out, record))
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
pub struct LogFile(Mutex<File>, Format);

impl LogFile {
    pub fn open(path: &Path, format: Format) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(|file| Self(Mutex::new(file), format))
    }

    pub fn append(&self, record: &tuffet::stats::Record) {
        // One write, so that lines of several processes do not mix.
        let line = self.1.line(record);
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if let Err(error) = written {
            log::error!("cannot write to the log file: {error}");
        }
    }
}
