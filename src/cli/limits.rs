//! How much a client may ask for, and what the system must give.

use std::{io, sync::Mutex, thread};

use clap::Args;
use tuffet::{Builder, endpoint::Policy};

use super::values;

#[derive(Args, Debug)]
pub struct Limits {
    /// Of these, give no client address more than this [default: half, at least 100]
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_TRANSFERS_PER_CLIENT", help_heading = "Transfers")]
    #[arg(value_parser = values::number(1..=u32::MAX as usize))]
    pub max_transfers_per_client: Option<usize>,

    /// Requests a second that are answered of one client address; 0 is no limit
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_REQUESTS_PER_CLIENT")]
    #[arg(default_value_t = Policy::default().max_requests_per_client, help_heading = "Transfers")]
    #[arg(value_parser = values::number(0..=u32::MAX))]
    pub max_requests_per_client: u32,
}

impl Limits {
    pub fn apply(&self, mut builder: Builder) -> Builder {
        if let Some(most) = self.max_transfers_per_client {
            builder = builder.max_transfers_per_client(most);
        }
        builder.max_requests_per_client(self.max_requests_per_client)
    }
}

/// Has the system allow this process as many open files as it may allow itself: transfers have one each, and many systems
/// begin with 1024 of a million. That is for programs that use `select`, of which this is none, and it starts no others.
pub fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Some systems have a ceiling that they do not tell. The limit is then what it was.
        if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
            log::debug!("no more than {current:?} open files: the system refuses {maximum:?}");
        }
    }
}

/// Threads besides those that serve: signals, the service manager, bars, the status page, HTTP, timers, a web client,
/// disks.
const BESIDES: usize = 9;

/// Whether so many threads that serve can be had, and those that go with them: a library below may panic where it gets
/// none. They are all gone when this returns.
pub fn threads(shards: usize) -> Result<(), String> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    thread::scope(|threads| {
        let wait = || drop(held.lock().map(|held| held.recv()));
        let begun =
            (0..shards + BESIDES).try_for_each(|_| thread::Builder::new().spawn_scoped(threads, wait).map(drop));
        // All of them go on from here.
        drop(hold);
        begun.map_err(|error| no_thread(&error))
    })
}

pub fn no_thread(error: &io::Error) -> String {
    format!("cannot start a thread: {error}; `ulimit -u`, TasksMax= or the container's limit of processes is too low")
}
