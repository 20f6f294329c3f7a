//! The end of a server that must be started again to continue.

use std::{
    fmt,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use log::error;
use tuffet::ServerHandle;

/// The exit code for this: EX_TEMPFAIL of sysexits(3), a temporary failure. A service manager that restarts failed
/// services starts the server again.
pub const CODE: u8 = 75;

/// Whether a restart is needed. All parts that may find it out share this.
#[derive(Clone, Default)]
pub struct Restart(Arc<State>);

#[derive(Default)]
struct State {
    is_needed: AtomicBool,
    server: OnceLock<ServerHandle>,
}

impl Restart {
    /// Ends this server as soon as a restart is needed.
    pub fn end(&self, server: ServerHandle) {
        _ = self.0.server.set(server);
    }

    /// Notes that another directory has replaced this one, and that the sandbox was made for the old one.
    pub fn need_for(&self, directory: &Path) {
        self.need(format_args!(
            "{} was replaced by another directory, which the sandbox does not allow: the server ends with code {CODE}, \
             so that the service manager restarts it; without a service manager, see --no-landlock",
            directory.display()
        ));
    }

    /// Notes that an interface was removed and made anew, and that the sockets of this server are bound to the old one.
    pub fn need_for_interface(&self, name: &str) {
        self.need(format_args!(
            "interface {name} was removed and created again, and this server may not bind its ports again: it ends \
             with code {CODE}, so that the service manager restarts it"
        ));
    }

    /// A function that looks whether this interface is still the one that it is now. If not, a restart is needed.
    pub fn watch(&self, interface: Option<&str>) -> impl Fn() + Send + use<> {
        let (restart, name) = (self.clone(), interface.map(str::to_owned));
        let bound = name.as_deref().and_then(index);
        move || {
            let is_another = |name: &&String| index(name).is_some_and(|now| bound.is_some_and(|bound| bound != now));
            name.iter().filter(is_another).for_each(|name| restart.need_for_interface(name));
        }
    }

    fn need(&self, why: fmt::Arguments<'_>) {
        if !self.0.is_needed.swap(true, Relaxed) {
            error!("{why}");
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

/// The index of the interface with this name, to which sockets are bound. `None` if there is none.
#[cfg(all(feature = "full", target_os = "linux"))]
fn index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

#[cfg(not(all(feature = "full", target_os = "linux")))]
fn index(_: &str) -> Option<u32> {
    None
}
