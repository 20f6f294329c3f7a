//! The report on boot files, for people.

use std::net::Ipv4Addr;

use tuffet::dhcp::{Arch, BootFile, Family, Machine, Proxy};

/// Parts of the file names of GRUB, and of shim, which loads GRUB.
const GRUB: [&str; 4] = ["grub", "shim", "bootnet", "/core.efi"];

/// The UUID of a Raspberry Pi begins with its model.
const RASPBERRY_PI: &str = "34695052-0000-0000-0000-000000000000";

/// The reason why no machine can boot from these sources.
pub fn nothing(served: &str) -> String {
    let names: Vec<&str> = Family::all().filter_map(|family| family.files.first().copied()).take(2).collect();
    let names = names.join(", ");
    format!(
        "there is no boot file in {served}: neither {names} nor another usual name; name one with --dhcp-boot '=>FILE'"
    )
}

/// The boot file of each kind of machine.
pub fn report(proxy: &Proxy, served: &str, server: Ipv4Addr) -> String {
    let mut text = format!("boot files found in {served}; machines on the network of {server} get\n");
    let mut say = |who: &str, what: &str| text += &format!("    {who:<15} {what}\n");
    let (mut others, mut uses_grub) = (Vec::new(), false);
    for family in Family::all() {
        let firmware = Machine::new(Arch(family.pxe[0]));
        let by_http = Machine::new(Arch(family.http[0]));
        let place = |machine: &Machine| {
            let BootFile { file, .. } = proxy.choose(machine).ok()?;
            proxy.place(&file, machine, server).ok()
        };
        match place(&firmware) {
            Some(file) => {
                uses_grub |= family.is_efi() && GRUB.iter().any(|part| file.contains(part));
                let also = place(&by_http).map(|url| format!(", or by HTTP boot {url}")).unwrap_or_default();
                say(family.title, &format!("{file}{also}"));
                if let Some(then) = place(&firmware.with_ipxe()).filter(|_| is_ipxe(proxy, &firmware)) {
                    say("  iPXE there", &then);
                }
            }
            None => others.push(family.title),
        }
    }
    if uses_grub {
        say("", "GRUB without Red Hat's patch asks the DHCP server for its other files: see docs/dhcp.md");
    }
    let mut uboot = Machine::new(Arch::UNKNOWN);
    uboot.uboot = true;
    if let Some(script) = proxy.choose(&uboot).ok().filter(|script| !script.file.is_empty()) {
        say("U-Boot", &format!("{} (most builds of U-Boot ask the DHCP server: see docs/dhcp.md)", script.file));
    }
    let (bios, file) = (Machine::new(Arch::BIOS), |machine| proxy.choose(&machine).ok().map(|chosen| chosen.file));
    let pi = RASPBERRY_PI.parse().ok().and_then(|uuid| file(bios.uuid(uuid)));
    if let Some(name) = pi.filter(|name| Some(name) != file(bios).as_ref()) {
        say("Raspberry Pi", &name);
    }
    if !others.is_empty() {
        say("nothing", &others.join(", "));
    }
    text
}

/// Whether the machine gets iPXE, which asks again and gets another file.
fn is_ipxe(proxy: &Proxy, machine: &Machine) -> bool {
    let file = |machine: &Machine| proxy.choose(machine).map(|chosen| chosen.file).ok();
    file(machine) != file(&machine.with_ipxe())
}

#[cfg(test)]
mod tests {
    use tuffet::{Refusal, Request, dhcp::Menu, read};

    use super::*;

    #[test]
    fn a_raspberry_pi_has_a_line_if_it_gets_a_file_of_its_own() {
        for (files, line) in [
            (&["start4.elf"][..], Some("    Raspberry Pi    start4.elf\n")),
            (&["start4.elf", "pxelinux.0"], Some("    Raspberry Pi    start4.elf\n")),
            (&["pxelinux.0"], None),
        ] {
            let handler = read(move |request: Request| {
                files.contains(&request.path()).then_some("...").ok_or(Refusal::not_found())
            });
            let proxy = Proxy::default().menu(smol::block_on(Menu::find(&handler)));
            let text = report(&proxy, "files", Ipv4Addr::LOCALHOST);
            assert_eq!(text.contains("Raspberry Pi"), line.is_some(), "{text}");
            assert!(line.is_none_or(|line| text.contains(line)), "{text}");
        }
    }
}
