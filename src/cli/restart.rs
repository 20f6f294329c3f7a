//! The end of a server that can only serve on when it is started anew.

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

/// What the program exits with then: EX_TEMPFAIL of sysexits(3), a failure that goes away. A service manager that restarts
/// what fails starts it anew.
pub const CODE: u8 = 75;

/// Whether that is needed, as all who may find it out share it.
#[derive(Clone, Default)]
pub struct Restart(Arc<State>);

#[derive(Default)]
struct State {
    is_needed: AtomicBool,
    server: OnceLock<Handle>,
}

impl Restart {
    /// Ends this server when it is needed.
    pub fn end(&self, server: Handle) {
        _ = self.0.server.set(server);
    }

    /// Another directory is in the place of this one, and the sandbox was made for the one before.
    pub fn need_for(&self, directory: &Path) {
        if !self.0.is_needed.swap(true, Relaxed) {
            error!(
                "{} is another directory now, which the sandbox keeps from this server: it ends with code {CODE}, to be \
                 started anew; where nothing does that, see --no-landlock",
                directory.display()
            );
        }
        if let Some(server) = self.0.server.get() {
            server.stop();
        }
    }

    /// What the program ends with.
    pub fn code(&self) -> ExitCode {
        if self.0.is_needed.load(Relaxed) { ExitCode::from(CODE) } else { ExitCode::SUCCESS }
    }
}
