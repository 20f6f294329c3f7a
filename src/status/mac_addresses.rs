//! The MAC addresses of machines, as far as the kernel knows them.

use std::{collections::HashMap, net::IpAddr};

#[cfg(all(feature = "rules", target_os = "linux"))]
use crate::rules::Neighbours;

/// How many machines are remembered after the kernel has forgotten them.
#[cfg(all(feature = "rules", target_os = "linux"))]
const MOST: usize = 4096;

#[derive(Default)]
pub(super) struct MacAddresses {
    #[cfg(all(feature = "rules", target_os = "linux"))]
    neighbours: Neighbours,
    known: HashMap<IpAddr, String>,
}

impl MacAddresses {
    /// Reads the kernel's table.
    pub(super) fn refresh(&mut self) {
        #[cfg(all(feature = "rules", target_os = "linux"))]
        {
            let now = self.neighbours.all();
            if self.known.len() > MOST {
                self.known.clear();
            }
            self.known.extend(now.into_iter().map(|(ip, mac)| (ip, mac.to_string().replace('-', ":"))));
        }
    }

    /// The MAC addresses of these machines.
    pub(super) fn of(&self, machines: impl IntoIterator<Item = IpAddr>) -> HashMap<IpAddr, &str> {
        machines.into_iter().filter_map(|ip| Some((ip, self.known.get(&ip)?.as_str()))).collect()
    }
}
