//! The table of known machines.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use super::{Mac, Machine};
use crate::sync::Mutex;

/// The most entries. A machine has two at most. The oldest entries are removed first.
const MOST: usize = 16 << 10;

/// A table of facts about machines, for the rules. Every program that learns such facts puts them here, such as a
/// ProxyDHCP server, which sees the MAC address, the UUID and the architecture of a machine before the machine has an
/// IP address.
///
/// Clones share the table: give one to each program that learns, and one to
/// [`Ruled::machines`](crate::handlers::Ruled::machines). The table has at most 16384 entries. A further one replaces
/// the oldest.
///
/// ```
/// use tuffet::{handlers::{Memory, Ruled}, rules::{Machine, Machines, Rule, Rules}};
///
/// let machines = Machines::default();
/// let rule = Rule::new("by architecture").target("${arch}/${path}")?;
/// let handler = Ruled::new(Rules::new(vec![rule])?, Memory::new()).machines(&machines);
///
/// let mut machine = Machine::default();
/// machine.mac = Some("52:54:00:12:34:56".parse()?);
/// machine.arch = Some("x64".into());
/// machines.learn(None, machine);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Machines(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    entries: HashMap<Key, Machine>,
    /// The keys of all entries, the oldest first.
    order: VecDeque<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Ip(IpAddr),
    Mac(Mac),
}

impl Machines {
    /// Stores these facts for the machine with this IP address and this MAC address, as far as the two are known. Older
    /// facts stay unless a new one replaces them.
    ///
    /// ```
    /// use tuffet::rules::{Machine, Machines};
    ///
    /// let (machines, ip) = (Machines::default(), "10.9.0.7".parse().unwrap());
    /// machines.learn(Some(ip), Machine::in_name("shimx64.efi"));
    /// assert_eq!(machines.find(ip, None).arch.as_deref(), Some("x64"));
    /// ```
    pub fn learn(&self, ip: Option<IpAddr>, machine: Machine) {
        let mut table = self.0.lock();
        let keys = [ip.map(|ip| Key::Ip(ip.to_canonical())), machine.mac.map(Key::Mac)];
        for key in keys.into_iter().flatten() {
            let before = table.entries.remove(&key);
            match before {
                // Another machine has the address now.
                Some(other) if other.mac.is_some() && machine.mac.is_some() && other.mac != machine.mac => {
                    table.entries.insert(key, machine.clone());
                }
                Some(same) => _ = table.entries.insert(key, machine.clone().or(same)),
                None => {
                    table.make_room();
                    table.order.push_back(key);
                    table.entries.insert(key, machine.clone());
                }
            }
        }
    }

    /// The facts about the machine with this IP address or this MAC address.
    ///
    /// ```
    /// use tuffet::rules::{Machine, Machines};
    ///
    /// let machines = Machines::default();
    /// assert_eq!(machines.find("10.9.0.7".parse().unwrap(), None), Machine::default(), "nothing is known");
    /// ```
    pub fn find(&self, ip: IpAddr, mac: Option<Mac>) -> Machine {
        let table = self.0.lock();
        let found = |key| table.entries.get(&key).cloned().unwrap_or_default();
        // The kernel knows which machine has the IP address now.
        let by_ip = Some(found(Key::Ip(ip.to_canonical())))
            .filter(|known| mac.is_none() || known.mac.is_none() || known.mac == mac);
        let known = Machine { mac, ..Machine::default() }.or(by_ip.unwrap_or_default());
        let by_mac = known.mac.map(|mac| found(Key::Mac(mac))).unwrap_or_default();
        known.or(by_mac)
    }
}

impl Table {
    fn make_room(&mut self) {
        while self.entries.len() >= MOST {
            let Some(oldest) = self.order.pop_front() else { return };
            self.entries.remove(&oldest);
        }
    }
}

impl fmt::Debug for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").field("entries", &self.0.lock().entries.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    fn arch(mac: Option<Mac>, arch: &str) -> Machine {
        Machine { mac, arch: Some(arch.into()), ..Machine::default() }
    }

    #[test]
    fn a_machine_is_found_by_either_address() {
        let machines = Machines::default();
        machines.learn(None, arch(Some(MAC), "x64"));
        assert_eq!(machines.find(ip(1), None), Machine::default());
        assert_eq!(machines.find(ip(1), Some(MAC)), arch(Some(MAC), "x64"));
        machines.learn(Some(ip(1)), Machine { mac: Some(MAC), serial: Some("7".into()), ..Machine::default() });
        let known = machines.find(ip(1), None);
        assert_eq!((known.mac, known.serial.as_deref(), known.arch.as_deref()), (Some(MAC), Some("7"), Some("x64")));
        assert_eq!(machines.find("::ffff:0.0.0.1".parse().unwrap(), None), known);
    }

    #[test]
    fn an_address_belongs_to_its_last_machine() {
        let (machines, other) = (Machines::default(), Mac([1; 6]));
        machines.learn(Some(ip(1)), arch(Some(MAC), "x64"));
        assert_eq!(machines.find(ip(1), Some(other)), Machine { mac: Some(other), ..Machine::default() });
        machines.learn(Some(ip(1)), Machine { mac: Some(other), ..Machine::default() });
        assert_eq!(machines.find(ip(1), None), Machine { mac: Some(other), ..Machine::default() });
    }

    #[test]
    fn a_flood_is_bounded_and_the_oldest_go() {
        let machines = Machines::default();
        for n in 0..40_000 {
            machines.learn(Some(ip(n)), arch(None, "x64"));
        }
        let table = machines.0.lock();
        assert_eq!((table.entries.len(), table.order.len()), (MOST, MOST));
        drop(table);
        assert_eq!(machines.find(ip(0), None), Machine::default());
        assert_eq!(machines.find(ip(39_999), None), arch(None, "x64"));
    }
}
