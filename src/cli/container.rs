//! Whether clients can reach the ports of transfers: a container with one published port can use no other ports.

use std::path::Path;

/// Files that container engines leave inside, and the directory of Kubernetes.
const MARKS: [&str; 3] = [".dockerenv", "run/.containerenv", "var/run/secrets/kubernetes.io"];

/// The hint for the start of the server.
pub fn hint(single_port: bool) -> Option<&'static str> {
    let hidden = !single_port && is_behind_a_translator(Path::new("/"));
    hidden.then_some(
        "this looks like a container with its own network: if clients get no file, use --single-port or the network \
         of the host",
    )
}

/// Whether all interfaces of this container are virtual. With the host's network there would be a real one.
fn is_behind_a_translator(root: &Path) -> bool {
    MARKS.iter().any(|mark| root.join(mark).exists()) && !has_device(root)
}

/// Whether an interface has a device, as a network card has, also that of a virtual machine. Loopback, veth and bridges
/// have none.
fn has_device(root: &Path) -> bool {
    let interfaces = root.join("sys/class/net").read_dir().into_iter().flatten();
    interfaces.flatten().any(|interface| interface.path().join("device").exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_container_is_known_by_its_marks_and_its_interfaces() {
        for mark in MARKS {
            let root = tempfile::tempdir().unwrap();
            let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
            make("sys/class/net/lo");
            make("sys/class/net/eth0");
            assert!(!is_behind_a_translator(root.path()), "a machine, or a namespace");
            make(mark);
            assert!(is_behind_a_translator(root.path()), "{mark}");
            make("sys/class/net/enp1s0/device");
            assert!(!is_behind_a_translator(root.path()), "with the host's network");
        }
    }
}
