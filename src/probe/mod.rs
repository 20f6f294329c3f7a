//! Tests of servers: fetches a file as a boot client does, over a network with chosen faults, and checks the server's
//! packets.
//!
//! [`habits`] are facts about clients, [`BootClient`] is a model with these habits, [`Faults`] are those of the
//! network, and a [`Judge`] checks the packets. All of them are pure: they use no sockets and no clock, so a test can
//! run them in simulated time. [`Probe`] (feature `net`) runs them against any server, as `tuffet probe` does.
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! # fn main() -> std::io::Result<()> {
//! use tuffet::probe::{Fault, Faults, Probe, Way, habits::GRUB};
//!
//! // The fourth packet of the server is lost, and the last one of the client.
//! let faults = Faults::new().with(Way::Received, 4, Fault::Lose).with(Way::Sent, -1, Fault::Lose);
//! let report = Probe::new("192.0.2.1:69".parse().unwrap(), "boot/grub.cfg", GRUB).faults(faults).run(|_| ())?;
//! assert!(report.ending.is_success() && report.warnings.is_empty());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "net"))]
//! # fn main() {}
//! ```

mod client;
mod faults;
pub mod habits;
mod judge;
#[cfg(feature = "net")]
mod run;

pub use client::{BootClient, Ending};
pub use faults::{Fault, Faults, Way};
pub use habits::Habits;
pub use judge::{Judge, Warning};
#[cfg(feature = "net")]
pub use run::{Happened, Probe, Report};
