//! GRUB, as Debian packages it, in a machine that QEMU makes: a menu of unknown size is no empty one to it.
//!
//!     apt install qemu-system-x86 ovmf grub-efi-amd64-bin grub-common iproute2
//!     cargo test --test grub -- --ignored
#![cfg(all(target_os = "linux", feature = "cli", feature = "http"))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
mod common;
mod stock;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{fs, io::Write, path::Path, time::Duration};

use common::Serving;
use stock::{finish, limited, said, server::Server};
use tuffet::{Gen, Request, read};
use upstream::Upstream;

/// The menu prints a text, and switches the machine off.
const MENU: [&str; 3] = ["set timeout=0\n", "echo THE MENU IS HERE\n", "halt\n"];

/// The configuration in GRUB's image, which it reads first.
const EARLY: &str = "net_add_addr machine efinet0 192.0.2.2\nconfigfile (tftp,192.0.2.1)/grub/grub.cfg\n";

/// Runs this test again in a network of its own, with a cable to a machine. Returns whether this is there already.
fn with_cable(test: &str) -> bool {
    const CABLE: &str =
        "ip link set lo up; ip tuntap add cable mode tap; ip address add 192.0.2.1/24 dev cable; ip link set cable up";
    again::after(test, &["unshare", "--net"], CABLE)
}

/// Switches the machine on, and waits until it switches itself off.
fn boot() {
    let here = tempfile::tempdir().unwrap();
    let disk = here.path().join("disk");
    fs::create_dir_all(disk.join("EFI/BOOT")).unwrap();
    image(here.path(), &disk.join("EFI/BOOT/BOOTX64.EFI"));
    let serial = here.path().join("serial");
    let mut machine = limited("qemu-system-x86_64");
    machine.args([
        "-machine",
        "q35",
        "-m",
        "256",
        "-display",
        "none",
        "-no-reboot",
        "-bios",
        "/usr/share/ovmf/OVMF.fd",
    ]);
    machine.arg("-drive").arg(format!("file=fat:rw:{},format=raw", disk.display()));
    machine.args(["-netdev", "tap,id=net,ifname=cable,script=no,downscript=no"]);
    machine.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    machine.arg("-serial").arg(format!("file:{}", serial.display()));
    let output = finish(machine);
    let shown = String::from_utf8_lossy(&fs::read(serial).unwrap_or_default()).into_owned();
    assert!(output.status.success() && shown.contains("THE MENU IS HERE"), "{}{shown}", said(&output));
}

/// GRUB with all that it needs.
fn image(here: &Path, image: &Path) {
    let early = here.join("early.cfg");
    fs::write(&early, EARLY).unwrap();
    let mut make = limited("grub-mkstandalone");
    make.args(["-O", "x86_64-efi", "--locales=", "--fonts=", "--themes="]);
    make.args(["--modules", "efinet net tftp normal configfile echo halt", "-o"]).arg(image);
    make.arg(format!("boot/grub/grub.cfg={}", early.display()));
    let output = finish(make);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
#[ignore = "needs root, qemu-system-x86, ovmf, grub-efi-amd64-bin and iproute2"]
fn a_menu_that_a_web_server_sends_in_chunks() {
    again!(with_cable);
    let chunks: String = MENU.map(|line| format!("{:x}\r\n{line}\r\n", line.len())).concat();
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    // The HEAD of the start is over when it has its head.
    let upstream = Upstream::new(move |_, stream| drop(stream.write_all(answer.as_bytes())));
    let server = Server::listening("192.0.2.1:69", &[&upstream.url()]);
    boot();
    let log = server.stop_after_success();
    assert!(log.iter().any(|line| line.name == "grub/grub.cfg"), "{log:?}");
}

#[test]
#[ignore = "needs root, qemu-system-x86, ovmf, grub-efi-amd64-bin and iproute2"]
fn a_menu_that_is_generated() {
    again!(with_cable);
    let generator = read(async |_: Request| {
        Gen::new(async |co| {
            for line in MENU {
                co.yield_(line).await;
            }
        })
    });
    // A machine that is switched off may take its last ACK with it.
    let server = Serving::on(&["192.0.2.1:69"], generator, |builder| builder.patience(Duration::from_secs(2)));
    boot();
    assert_eq!(server.record().size, Some(MENU.concat().len() as u64));
}
