//! Log lines: on standard error, above the bars; and the log of transfers, in a file.

use std::{
    fs::File,
    io::{self, Write},
    net::IpAddr,
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, OnceLock},
    time::{Duration, Instant},
};

use log::LevelFilter;
use tuffet::{
    ServerHandle,
    stats::{self, Counter},
    transfer::Outcome,
};

use super::{
    bars::MultiProgress,
    files,
    floods::{self, Floods, Places},
    format::{Format, RECORDS, TRANSFERS, count},
    journal::Target,
    log_lines::{LogLines, Sink, lock},
    unanswered::UnansweredClients,
};

/// Standard error, if the log goes there.
static STDERR: OnceLock<LogLines> = OnceLock::new();
/// How long a reader of the log file may be busy.
const MOMENT: Duration = Duration::from_secs(1);
/// The places that log.
static PLACES: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

/// Logs to standard error from now on, above these bars.
pub fn start(level: LevelFilter, format: Format, target: Target, bars: MultiProgress) {
    let lines = LogLines::new("log", AboveBars { bars, format, target }, lost());
    let logger = env_logger::Builder::new()
        // At debug and trace, other libraries would drown the program's own lines.
        .filter_level(level.min(LevelFilter::Warn))
        .filter_module("tuffet", level)
        // The log of the upstream that failed says it.
        .filter_module("rustls_platform_verifier", LevelFilter::Off)
        // The program logs the transfers itself.
        .filter_module(TRANSFERS, LevelFilter::Off)
        .format(move |out, record| format.write(out, record, target))
        .target(env_logger::Target::Pipe(Box::new(lines.clone())))
        .build();
    log::set_max_level(logger.filter());
    // This fails only if there is a logger already.
    if log::set_boxed_logger(Box::new(Limited(logger))).is_ok() {
        _ = STDERR.set(lines);
    }
}

/// A logger that keeps a flood from filling the disk.
struct Limited(env_logger::Logger);

impl log::Log for Limited {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record) {
        // The lines of transfers have limits of their own, and at the level `trace` all datagrams are asked for.
        let is_unlimited = record.target() == RECORDS || record.level() == log::Level::Trace;
        let place = (record.module_path_static(), record.line());
        if self.0.matches(record) && (is_unlimited || lock(&PLACES).admit(place, record.args(), Instant::now())) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Counts the lost lines of all logs, for the metrics.
pub fn lost() -> &'static Counter {
    static LOST: OnceLock<Counter> = OnceLock::new();
    LOST.get_or_init(|| Counter::new("log_lines_lost", "Lines of the log that could not be written."))
}

/// Starts the threads that write all lines from now on, so that logging never waits. A drop of the result writes all
/// lines, unless the destination takes none.
pub fn begin(transfers: Arc<Transfers>) -> io::Result<Writing> {
    let file = transfers.file.as_ref();
    STDERR.get().into_iter().chain(file).try_for_each(LogLines::begin)?;
    // Otherwise the panicking thread of a shard would wait for standard error.
    panic::set_hook(Box::new(|panic| log::error!("{}", panic.to_string().escape_debug())));
    Ok(Writing(transfers))
}

#[must_use = "it writes until this is dropped"]
pub struct Writing(Arc<Transfers>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.sum_up();
        STDERR.get().into_iter().chain(&self.0.file).for_each(LogLines::flush);
    }
}

struct AboveBars {
    bars: MultiProgress,
    format: Format,
    target: Target,
}

impl Write for AboveBars {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let above = catch_unwind(AssertUnwindSafe(|| self.bars.suspend(|| io::stderr().write(lines))));
        // The bars panic if their terminal has gone. Then a line may come twice, and none is lost.
        above.unwrap_or_else(|_| io::stderr().write(lines))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for AboveBars {
    fn note(&self, text: &str) -> String {
        self.format.note(text, self.target)
    }
}

/// Logs each transfer, on standard error and, if wanted, in a file.
pub struct Transfers {
    format: Format,
    floods: Mutex<Floods<IpAddr>>,
    /// The machines that ask for their boot files, by MAC address.
    #[cfg(feature = "full")]
    machines: Mutex<Floods<String>>,
    unanswered: Mutex<UnansweredClients>,
    file: Option<LogLines>,
}

impl Transfers {
    /// The file is only ever appended to.
    pub fn new(format: Format, file: Option<&Path>) -> io::Result<Self> {
        let open = |path: &Path| {
            let file = LogFile { file: files::append(path)?, path: path.to_owned(), format, full: None };
            io::Result::Ok(LogLines::new("log-file", file, lost()))
        };
        Ok(Self {
            format,
            floods: Mutex::default(),
            #[cfg(feature = "full")]
            machines: Mutex::default(),
            unanswered: Mutex::default(),
            file: file.map(open).transpose()?,
        })
    }

    /// Tells of the clients that this server leaves without an answer.
    pub fn watch(&self, server: ServerHandle) {
        lock(&self.unanswered).watch(server);
    }

    pub fn tell(&self, record: &stats::Record) {
        let client = record.peer.ip().to_canonical();
        let admit = |kind| lock(&self.floods).admit(kind, client, &record.path, Instant::now());
        if floods::kind(record).is_none_or(admit) {
            let level = if record.outcome == Outcome::Probe { log::Level::Debug } else { log::Level::Info };
            log::log!(target: RECORDS, level, "{}", self.format.record(record));
            if let Some(file) = &self.file {
                file.push(self.format.line(record).into_bytes());
            }
        }
    }

    /// Logs a machine's DHCP request for its boot file, and the answer.
    #[cfg(feature = "full")]
    pub fn log_dhcp_request(&self, told: &tuffet::dhcp::RequestReport<'_>) {
        let machine = told.machine;
        let client = machine.mac.map_or_else(|| "machines without Ethernet".into(), |mac| mac.to_string());
        let (kind, name) = match told.answer {
            Ok(offer) => ("for a boot file by DHCP", offer.file.clone()),
            Err(_) => ("by DHCP for which there is no boot file", machine.arch.to_string()),
        };
        if lock(&self.machines).admit(kind.into(), client, &name, Instant::now()) {
            log::info!("dhcp: {told}");
        }
    }

    /// Logs a summary of the requests and the other lines that were not logged, and of the requests without an answer.
    pub fn sum_up(&self) {
        let lines = lock(&PLACES).sum_up();
        lines.iter().for_each(|line| log::warn!("{line}"));
        for line in lock(&self.floods).sum_up().into_iter().chain(lock(&self.unanswered).sum_up()) {
            log::warn!("{line}");
            if let Some(file) = &self.file {
                file.push(self.format.note(&line, Target::Stderr).into_bytes());
            }
        }
        #[cfg(feature = "full")]
        lock(&self.machines).sum_up().iter().for_each(|line| log::warn!("dhcp: {line}"));
    }

    /// Continues in the file that has the name now, after `logrotate` has renamed the old one. If no new file can be
    /// made, it continues in the old one.
    pub fn reopen(&self) {
        self.file.iter().for_each(LogLines::reopen);
    }
}

struct LogFile {
    file: File,
    path: PathBuf,
    format: Format,
    /// Since when it is a FIFO without room, and whether the log says so.
    full: Option<(Instant, bool)>,
}

impl LogFile {
    /// Notes that the FIFO has no room. This is logged once, if it takes longer than a moment.
    fn note_full(&mut self) {
        let (since, is_told) = self.full.get_or_insert((Instant::now(), false));
        if !*is_told && since.elapsed() > MOMENT {
            *is_told = true;
            log::error!("no program reads the log file {}; lines that find no room will be lost", self.path.display());
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.file.write(lines);
        match &written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.note_full(),
            _ => self.full = None,
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for LogFile {
    fn reopen(&mut self) {
        if files::is_open_fifo(&self.file, &self.path) {
            return;
        }
        match files::append(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => log::error!(
                "cannot open the log file {} anew: {error}; the old one goes on: make one that the server's user may \
                 write to, and reload",
                self.path.display()
            ),
        }
    }

    fn note(&self, text: &str) -> String {
        self.format.note(text, Target::Stderr)
    }

    fn report(&self, state: Result<u64, &io::Error>) {
        match state {
            Ok(lost) => log::warn!("the log file can be written again, without {}", count(lost, "line")),
            Err(error) => log::error!("cannot write to the log file {}: {error}", self.path.display()),
        }
    }
}
