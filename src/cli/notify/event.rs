//! The event of an ended transfer, for the webhook.

use clap::ValueEnum;
use tuffet::{options::Direction, stats::Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Event {
    /// The server received a file.
    Upload,
    /// A client received a file.
    Complete,
    /// A transfer broke off: aborted, timed out, or failed.
    Failed,
    /// A request was refused. Boot loaders ask for many missing files.
    Refused,
}

impl Event {
    /// `None` if there is nothing to report: the client only asked for the size, or began again, or the server was
    /// stopped.
    pub fn of(record: &Record) -> Option<Self> {
        let name = record.outcome.name();
        match (name, record.direction) {
            ("complete" | "probably_complete", Direction::Write) => Some(Self::Upload),
            ("complete" | "probably_complete", Direction::Read) => Some(Self::Complete),
            ("probe" | "replaced" | "stopped", _) => None,
            ("refused", _) => Some(Self::Refused),
            _ => Some(Self::Failed),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}
