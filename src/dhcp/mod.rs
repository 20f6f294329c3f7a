//! ProxyDHCP: it tells machines that boot where their boot file is, beside the DHCP server that gives them an address.
//!
//! PXE 2.1 section 2.2.3 lets two servers answer a DHCPDISCOVER: one leases an address, the other names a boot file and
//! leases nothing. This is the other, for networks whose DHCP server cannot be told of boot files. It answers those who
//! say that they are a `PXEClient` or an `HTTPClient` (option 60), and nobody else; it never offers an address.
//!
//! The deciding half is pure: a [`Proxy`] makes an [`Answer`] of a datagram and of where it [arrived](Arrival), with no
//! socket and no clock. [`Sockets`] carry it out.
//!
//! ```
//! use tuffet::dhcp::{Machine, Menu, Proxy};
//!
//! let menu = smol::block_on(Menu::find(&tuffet::read(async |request: tuffet::Request| match request.path() {
//!     "bootnetx64.efi" => Ok("MZ..."),
//!     _ => Err(tuffet::Refusal::not_found()),
//! })));
//! let proxy = Proxy::default().menu(menu);
//! assert_eq!(proxy.choose(&Machine::new("x64".parse()?)).unwrap().file, "bootnetx64.efi");
//! assert!(proxy.choose(&Machine::new("bios".parse()?)).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod menu;
mod packet;
mod proxy;
mod rule;
mod serve;

pub use arch::{Arch, Arches, Family};
pub use menu::Menu;
pub use packet::Machine;
pub use proxy::{Answer, Arrival, Chosen, Door, Offer, Proxy, Silence};
pub use rule::Rule;
pub use serve::{Interface, Live, Serving, Sockets, interfaces};
