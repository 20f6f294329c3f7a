//! Limits for clients, and the resources that the system must provide.

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

/// Raises the soft limit of open files to the hard one: each transfer has a file, and many systems begin with 1024 of a
/// million. The low limit protects programs that use `select`; this is none of them, and starts none.
pub fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Some systems have a hidden ceiling. Then the limit stays as it was.
        if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
            log::debug!("no more than {current:?} open files: the system refuses {maximum:?}");
        }
    }
}

/// The number of further threads: signals, the service manager, bars, the status page, HTTP, timers, a web client,
/// disks.
const BESIDES: usize = 9;

/// Whether the system allows so many shards and the further threads: a library below may panic if it gets no thread.
/// All test threads have ended when this returns.
pub fn threads(shards: usize) -> Result<(), String> {
    let hold = Mutex::new(());
    thread::scope(|threads| {
        let held = hold.lock();
        let wait = || drop(hold.lock());
        let begun =
            (0..shards + BESIDES).try_for_each(|_| thread::Builder::new().spawn_scoped(threads, wait).map(drop));
        // This lets all test threads end.
        drop(held);
        begun.map_err(|error| no_thread(&error))
    })
}

pub fn no_thread(error: &io::Error) -> String {
    format!("cannot start a thread: {error}; `ulimit -u`, TasksMax= or the container's limit of processes is too low")
}
