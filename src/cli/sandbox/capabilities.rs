//! Capabilities: none of them is needed once the sockets are bound.

use rustix::{
    io,
    thread::{self, CapabilitySet, CapabilitySets},
};

/// Removes all capabilities from the bounding set, so that no program of this process can ever get one. This needs
/// CAP_SETPCAP; without it, `no_new_privs` has the same effect.
pub fn drop_bounding() {
    for number in 0..64 {
        // The kernel knows no further capabilities.
        if thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            break;
        }
    }
}

pub fn drop_all() -> io::Result<()> {
    // Old kernels have no ambient set.
    _ = thread::clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    match thread::set_capabilities(None, none) {
        // A service manager may forbid this call to a process without capabilities.
        Err(_)
            if thread::capabilities(None).is_ok_and(|sets| sets.effective.is_empty() && sets.permitted.is_empty()) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Whether this process may change its user.
pub fn may_change_user() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}
