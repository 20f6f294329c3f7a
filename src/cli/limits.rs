//! How much a client may ask for, and the program of the system.

use clap::Args;
use tuffet::Builder;

#[derive(Args, Debug)]
pub struct Limits {
    /// Of these, give no client address more than this [default: half, at least 100]
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_TRANSFERS_PER_CLIENT", help_heading = "Transfers")]
    pub max_transfers_per_client: Option<std::num::NonZeroUsize>,

    /// Requests a second that are answered of one client address; 0 is no limit
    #[arg(long, value_name = "NUMBER", env = "TUFFET_MAX_REQUESTS_PER_CLIENT", default_value = "1000")]
    #[arg(help_heading = "Transfers")]
    pub max_requests_per_client: u32,
}

impl Limits {
    pub fn apply(&self, mut builder: Builder) -> Builder {
        if let Some(most) = self.max_transfers_per_client {
            builder = builder.max_transfers_per_client(most.get());
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
