//! The end of a server that must be started again to continue.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use log::error;
use tuffet::Handle;

/// The exit code for this: EX_TEMPFAIL of sysexits(3), a temporary failure. A service manager that restarts failed
/// services starts the server again.
pub const CODE: u8 = 75;

/// Whether a restart is needed. All parts that may find it out share this.
#[derive(Clone, Default)]
pub struct Restart(Arc<State>);

#[derive(Default)]
struct State {
    is_needed: AtomicBool,
    server: OnceLock<Handle>,
}

impl Restart {
    /// Ends this server as soon as a restart is needed.
    pub fn end(&self, server: Handle) {
        _ = self.0.server.set(server);
    }

    /// Notes that another directory has replaced this one, and that the sandbox was made for the old one.
    pub fn need_for(&self, directory: &Path) {
        if !self.0.is_needed.swap(true, Relaxed) {
            error!(
                "{} was replaced by another directory, which the sandbox does not allow: the server ends with code \
                 {CODE}, so that the service manager restarts it; without a service manager, see --no-landlock",
                directory.display()
            );
        }
        if let Some(server) = self.0.server.get() {
            server.stop();
        }
    }

    /// The exit code of the program.
    pub fn code(&self) -> ExitCode {
        if self.0.is_needed.load(Relaxed) { ExitCode::from(CODE) } else { ExitCode::SUCCESS }
    }
}
