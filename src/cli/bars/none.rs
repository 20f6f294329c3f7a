//! Built without progress bars.

use std::{fmt, sync::mpsc::Receiver};

use tuffet::Handle;

/// Bytes, for people.
pub struct BinaryBytes(pub u64);

#[derive(Clone)]
pub struct MultiProgress;

#[derive(Clone)]
pub struct ProgressBar;

pub fn screen(_: bool) -> MultiProgress {
    MultiProgress
}

pub fn bar(_: &str, _: Option<u64>) -> ProgressBar {
    ProgressBar
}

pub fn set_size(_: &ProgressBar, _: Option<u64>) {}

pub fn watch(_: MultiProgress, _: &Handle, _: &Receiver<()>) {}

impl MultiProgress {
    pub fn add(&self, bar: ProgressBar) -> ProgressBar {
        bar
    }

    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    pub fn is_hidden(&self) -> bool {
        true
    }
}

impl ProgressBar {
    pub fn inc(&self, _: u64) {}

    pub fn finish_and_clear(&self) {}
}

impl fmt::Display for BinaryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            few @ ..10_000 => write!(f, "{few} B"),
            some @ ..10_000_000 => write!(f, "{} KiB", some >> 10),
            many => write!(f, "{} MiB", many >> 20),
        }
    }
}
