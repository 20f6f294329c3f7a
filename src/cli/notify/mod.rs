//! Reports of ended transfers: to a command, and to a web server.
//!
//! A transfer waits for neither: its record goes into a bounded queue, and a thread of its own reports it.

mod event;
mod hook;
mod queue;
mod webhook;

use std::{io, path::PathBuf, time::Instant};

use clap::Args;
use humantime::Duration;
use tuffet::{ServerBuilder, stats::Counter};

use super::{
    Result,
    args::Serve,
    format::{count, json},
    sandbox::Entrance,
    values,
};
pub use event::Event;
pub use hook::{helper, program};
use queue::{Queue, Reporting};

/// The most waiting records for each of the two. A record has less than 8 KiB.
const QUEUE: usize = 1000;

#[derive(Args, Debug)]
pub struct NotifyArgs {
    /// Run this command after each upload, with TFTP_PATH, TFTP_CLIENT and others set
    #[arg(long, value_name = "COMMAND", env = "TUFFET_ON_UPLOAD", value_parser = hook::words, help_heading = "Output")]
    pub on_upload: Option<hook::Words>,

    /// Kill the command of --on-upload after this time
    #[arg(long, value_name = "TIME", env = "TUFFET_ON_UPLOAD_TIMEOUT", default_value = "1m", help_heading = "Output")]
    #[arg(value_parser = values::duration)]
    pub on_upload_timeout: Duration,

    /// POST the record of a transfer to this URL when it has ended, as JSON
    #[arg(long, value_name = "URL", env = "TUFFET_WEBHOOK", value_parser = webhook::check, help_heading = "Output")]
    pub webhook: Option<String>,

    /// Events: `upload`, `complete` (downloads), `failed`, `refused` [default: upload,failed]
    #[arg(
        long,
        value_name = "EVENTS",
        env = "TUFFET_WEBHOOK_ON",
        default_value = "upload,failed",
        value_delimiter = ','
    )]
    #[arg(hide_possible_values = true, hide_default_value = true, help_heading = "Output")]
    pub webhook_on: Vec<Event>,
}

/// The command and the web server that get reports.
#[derive(Default)]
pub struct Notifier(Vec<Reporter>);

/// One of them.
struct Reporter {
    option: &'static str,
    events: Vec<Event>,
    queue: Queue<(Event, String)>,
    report: Box<dyn FnMut((Event, String)) -> io::Result<bool> + Send>,
}

impl NotifyArgs {
    /// Starts the helper before the sandbox, and checks for errors that would keep it from working.
    pub fn open(&self, args: &Serve, entrance: &Entrance) -> Result<Notifier> {
        let hook = |words| hook::reporter(words, self.on_upload_timeout.into(), entrance.ids());
        let webhook = |url: &String| webhook::reporter(url, args.web.ca.as_deref(), self.webhook_on.clone());
        let reporters = self.on_upload.iter().map(hook).chain(self.webhook.iter().map(webhook));
        Ok(Notifier(reporters.collect::<Result<_>>()?))
    }

    /// The program of `--on-upload`, if there is one.
    pub fn program(&self) -> Option<PathBuf> {
        self.on_upload.as_ref().and_then(|words| program(words).ok())
    }

    /// Checks the options as far as possible without serving.
    pub fn check(&self) -> Result<()> {
        self.on_upload.as_ref().map_or(Ok(()), |words| program(words).map(drop))
    }
}

impl Reporter {
    fn new(
        (option, events, lost): (&'static str, Vec<Event>, Counter),
        mut report: impl FnMut(Event, &str) -> io::Result<bool> + Send + 'static,
    ) -> Self {
        let report = Box::new(move |(event, json): (Event, String)| report(event, &json));
        Self { option, events, queue: Queue::new(QUEUE, lost), report }
    }
}

impl Notifier {
    /// Connects the queues to the server's transfers.
    pub fn watch(&self, builder: ServerBuilder) -> ServerBuilder {
        self.0.iter().fold(builder, |builder, reporter| {
            let (queue, events) = (reporter.queue.clone(), reporter.events.clone());
            builder.counter(&reporter.queue.lost).on_end(move |record| {
                if let Some(event) = Event::of(record).filter(|event| events.contains(event)) {
                    queue.push((event, json(record)));
                }
            })
        })
    }

    /// Begins to report. A drop of the result reports the waiting records, for some seconds at most.
    pub fn begin(self) -> Result<NotifierGuard> {
        let begin = |Reporter { option, queue, report, .. }| {
            Ok((option, queue.begin(option.trim_start_matches('-').into(), report)?))
        };
        Ok(NotifierGuard(self.0.into_iter().map(begin).collect::<Result<_>>()?))
    }
}

#[must_use = "it calls the hooks until this is dropped"]
pub struct NotifierGuard(Vec<(&'static str, Reporting<(Event, String)>)>);

impl Drop for NotifierGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + queue::END_LIMIT;
        self.0.iter().for_each(|(_, reporting)| reporting.close());
        for (option, reporting) in &self.0 {
            match reporting.end(deadline) {
                0 => {}
                lost => log::warn!("{option} did not get {}", count(lost, "transfer")),
            }
        }
    }
}
