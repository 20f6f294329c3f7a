//! Reports of ended transfers: to a command, and to a web server.
//!
//! A transfer waits for neither: its record goes into a bounded queue, and a thread of its own reports it.

mod event;
mod hook;
mod queue;
mod webhook;

use std::{path::PathBuf, time::Instant};

use clap::Args;
use humantime::Duration;
use tuffet::{ServerBuilder, stats::Record};

use super::{
    Result,
    args::Serve,
    format::{count, json},
    sandbox::Entrance,
    values,
};
pub use event::Event;
pub use hook::{helper, program};

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
pub struct Notifier {
    hook: Option<hook::Hook>,
    webhook: Option<webhook::WebhookReporter>,
}

impl NotifyArgs {
    /// Starts the helper before the sandbox, and checks for errors that would keep it from working.
    pub fn open(&self, args: &Serve, entrance: &Entrance) -> Result<Notifier> {
        let start = |words| hook::Hook::start(words, self.on_upload_timeout.into(), entrance.ids());
        let open = |url| webhook::WebhookReporter::open(url, args.web.ca.as_deref(), self.webhook_on.clone());
        Ok(Notifier {
            hook: self.on_upload.as_ref().map(start).transpose()?,
            webhook: self.webhook.as_deref().map(open).transpose()?,
        })
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

impl Notifier {
    /// Connects the queues to the server's transfers.
    pub fn watch(&self, mut builder: ServerBuilder) -> ServerBuilder {
        if let Some(hook) = &self.hook {
            let (queue, is_upload) = (hook.queue.clone(), |record: &Record| Event::of(record) == Some(Event::Upload));
            builder = builder.counter(&hook.queue.lost);
            builder = builder.on_end(move |record| {
                if is_upload(record) {
                    queue.push(json(record));
                }
            });
        }
        if let Some(webhook) = &self.webhook {
            let (queue, events) = (webhook.queue.clone(), webhook.events.clone());
            builder = builder.counter(&webhook.queue.lost);
            builder = builder.on_end(move |record| {
                if let Some(event) = Event::of(record).filter(|event| events.contains(event)) {
                    queue.push((event, json(record)));
                }
            });
        }
        builder
    }

    /// Begins to report. A drop of the result reports the waiting records, for some seconds at most.
    pub fn begin(self) -> Result<NotifierGuard> {
        let Self { hook, webhook } = self;
        Ok(NotifierGuard {
            hook: hook.map(hook::Hook::begin).transpose()?,
            webhook: webhook.map(webhook::WebhookReporter::begin).transpose()?,
        })
    }
}

#[must_use = "it calls the hooks until this is dropped"]
pub struct NotifierGuard {
    hook: Option<queue::Reporting<String>>,
    webhook: Option<queue::Reporting<(Event, String)>>,
}

impl Drop for NotifierGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + queue::END_LIMIT;
        let Self { hook, webhook } = self;
        hook.iter().for_each(queue::Reporting::close);
        webhook.iter().for_each(queue::Reporting::close);
        let lost = [
            ("--on-upload", hook.as_ref().map_or(0, |hook| hook.end(deadline))),
            ("--webhook", webhook.as_ref().map_or(0, |webhook| webhook.end(deadline))),
        ];
        for (who, lost) in lost.into_iter().filter(|(_, lost)| *lost > 0) {
            log::warn!("{who} did not get {}", count(lost, "transfer"));
        }
    }
}
