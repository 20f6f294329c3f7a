//! The event of an ended transfer, for the webhook.

use clap::ValueEnum;
use tuffet::{options::Direction, stats::Record, transfer::Outcome};

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
        match (&record.outcome, record.direction) {
            (outcome, Direction::Write) if outcome.is_success() => Some(Self::Upload),
            (outcome, Direction::Read) if outcome.is_success() => Some(Self::Complete),
            (Outcome::Probe | Outcome::Replaced(_) | Outcome::Stopped, _) => None,
            (Outcome::Refused(_), _) => Some(Self::Refused),
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
