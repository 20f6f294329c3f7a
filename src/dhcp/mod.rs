//! ProxyDHCP: it tells booting machines their boot file, beside the DHCP server that leases them an address.
//!
//! PXE 2.1 section 2.2.3 lets two servers answer a DHCPDISCOVER: one server leases an address, and the other one names
//! a boot file and leases nothing. This module is the second server, for networks whose DHCP server cannot name boot
//! files. It answers only clients whose option 60 begins with `PXEClient`, `HTTPClient` or `U-Boot`. It never offers an
//! address.
//!
//! The decisions are pure: a [`Proxy`] makes a [`Reply`] from a datagram and its [`Arrival`], with no socket and no
//! clock. [`Sockets`] receive the datagrams and send the answers.
//!
//! ```
//! use tuffet::dhcp::{Machine, Menu, Proxy};
//!
//! let menu = smol::block_on(Menu::find(&tuffet::read(|request: tuffet::Request| match request.path() {
//!     "bootnetx64.efi" => Ok("MZ..."),
//!     _ => Err(tuffet::Refusal::not_found()),
//! })));
//! let proxy = Proxy::default().menu(menu);
//! assert_eq!(proxy.choose(&Machine::new("x64".parse()?)).unwrap().file, "bootnetx64.efi");
//! assert!(proxy.choose(&Machine::new("bios".parse()?)).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod current;
mod error;
mod interface;
mod link;
mod menu;
mod packet;
mod proxy;
mod report;
mod rule;
mod serve;
mod service;

pub use arch::{Arch, Arches, Family};
pub use current::CurrentProxy;
pub use error::{Mismatch, NoBootFile};
pub use interface::{Interface, interfaces};
pub use menu::Menu;
pub use packet::Machine;
pub use proxy::{Arrival, BootFile, NoReply, Offer, Proxy, Reply, ServerPort};
pub use report::RequestReport;
pub use rule::Rule;
pub use serve::{Serving, Sockets};
