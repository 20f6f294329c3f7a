//! What a transfer ended as, for those who want to hear of some.

use clap::ValueEnum;
use tuffet::{options::Direction, stats::Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Event {
    /// A file arrived here.
    Upload,
    /// A file arrived at a client.
    Complete,
    /// It broke off on the way: aborted, timed out, or something failed.
    Failed,
    /// It was refused before it began; boot loaders ask for many files that are not there.
    Refused,
}

impl Event {
    /// `None` for what is nothing to be told of: a client wanted the size alone, began anew, or the server was stopped.
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
