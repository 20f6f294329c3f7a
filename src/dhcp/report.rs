//! The reports to a program: requests, and interfaces that are out of reach.

use std::fmt;

use super::{Machine, NoBootFile, Offer};

/// A machine's request and its answer, as the log shows them.
///
/// ```
/// use tuffet::dhcp::{CurrentProxy, Sockets};
///
/// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?.on_request(|request| match request.answer {
///     Ok(offer) => println!("{} for {}", offer.file, request.machine),
///     Err(why) => eprintln!("nothing for {} on {}: {why}", request.machine, request.interface),
/// });
/// # assert!(sockets.live().proxy().is_empty());
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestReport<'a> {
    /// The machine that asks for its boot file.
    pub machine: &'a Machine,
    /// The boot file in the answer, or the reason why there is no answer.
    pub answer: Result<&'a Offer, &'a NoBootFile>,
    /// The name of the interface.
    pub interface: &'a str,
}

/// The hooks of the program.
pub(super) struct Hooks {
    pub(super) tell: Box<dyn FnMut(RequestReport<'_>) + Send>,
    pub(super) out_of_reach: Box<dyn Fn(&str) + Send>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { tell: Box::new(|told| log::info!("dhcp: {told}")), out_of_reach: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// `52-54-00-12-34-56 (EFI x64) may boot bootnetx64.efi: found in the sources, on eth0`
impl fmt::Display for RequestReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, answer, interface } = self;
        match answer {
            Ok(offer) => write!(f, "{offer}, on {interface}"),
            Err(why) => write!(f, "{machine} gets no answer: {why}, on {interface}"),
        }
    }
}
