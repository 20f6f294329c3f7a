//! Limits for clients, and the resources that the system must provide.

use std::{io, sync::Mutex, thread};

use clap::Args;
use tuffet::{ServerBuilder, endpoint::Policy};

use super::values;

#[derive(Args, Debug)]
pub struct Limits {
    /// Run at most this many transfers of one client address at once [default: half, at least 100]
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_TRANSFERS_PER_CLIENT", help_heading = "Transfers")]
    #[arg(value_parser = values::number(1..=u32::MAX as usize))]
    pub max_transfers_per_client: Option<usize>,

    /// Answer at most this many requests a second from one client address; 0 is no limit
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_REQUESTS_PER_CLIENT")]
    #[arg(default_value_t = Policy::default().max_requests_per_client, help_heading = "Transfers")]
    #[arg(value_parser = values::number(0..=u32::MAX))]
    pub max_requests_per_client: u32,
}

impl Limits {
    pub fn apply(&self, mut builder: ServerBuilder) -> ServerBuilder {
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
            log::debug!("the limit of open files stays {current:?}: the system refuses {maximum:?}");
        }
    }
}

/// The threads of a server beside its shards: signals, the service manager, bars, the status page, HTTP, timers, a web
/// client, disks.
pub const BESIDES: usize = 9;
/// The threads of a client: timers, disks, the resolver, a web client.
pub const OF_CLIENT: usize = 4;

/// Whether the system allows so many threads: a library below may panic if it gets none. All test threads have ended
/// when this returns.
pub fn threads(count: usize) -> Result<(), String> {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    thread::scope(|threads| {
        let wait = || drop(held.lock().map(|held| held.recv()));
        let begun = (0..count).try_for_each(|_| thread::Builder::new().spawn_scoped(threads, wait).map(drop));
        // This lets all test threads end.
        drop(hold);
        begun.map_err(|error| no_thread(&error))
    })
}

pub fn no_thread(error: &io::Error) -> String {
    not_started("thread", error)
}

/// The error for a thread or a process that the system does not start.
pub fn not_started(what: &str, error: &io::Error) -> String {
    format!("cannot start a {what}: {error}; `ulimit -u`, TasksMax= or the container's limit of processes is too low")
}
