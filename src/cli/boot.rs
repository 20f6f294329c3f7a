//! `tuffet boot`: all that a room of machines needs to boot, with one command.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::ExitCode,
};

use clap::Args;
use tuffet::{
    Handler,
    dhcp::{Chosen, Family, Machine, Menu, Proxy},
};

use super::{Result, args::Serve, dhcp, serve, sources::Opened, values::Listen};

/// Of the status page.
const STATUS: u16 = 9069;

const EXAMPLES: &str = "\
Examples:
  tuffet boot ./tftpboot
  tuffet boot http://deb.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot/
  tuffet boot ./tftpboot --dhcp-boot 'arch=x64=>grub/grubx64.efi'

It is `tuffet serve --dhcp --status` on this machine's address in its network, and takes the options of `tuffet serve`.
The network's own DHCP server goes on to give addresses, and need not be changed. It needs root, for ports 67 and 69.";

/// Boot machines from a directory or a web server, in a network whose DHCP server knows nothing of it (Linux)
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args = |arg| arg.hide_env(true))]
pub struct Boot {
    #[command(flatten)]
    pub serve: Serve,
}

/// Serves until a signal ends it.
///
/// # Errors
/// If there is nothing to boot, or it cannot be served.
pub fn run(boot: Boot) -> Result<ExitCode> {
    let mut args = boot.serve;
    args.dhcp.dhcp = true;
    let server = here(&args)?;
    if args.listen.is_empty() {
        args.listen = vec![Listen(vec![(server, 69).into()])];
    }
    args.status.status.get_or_insert_with(|| (server, STATUS).into());
    let handler = serve::handler(&args, &Opened::default())?;
    let proxy = dhcp::settings(Proxy::default(), &args).menu(smol::block_on(Menu::find(&*handler)));
    if proxy.is_empty() {
        return Err(nothing(&handler.describe()).into());
    }
    if !args.output.quiet {
        write!(io::stderr(), "{}", report(&proxy, &handler.describe(), server))?;
    }
    serve::run(&args, &[])
}

fn nothing(served: &str) -> String {
    let names: Vec<&str> = Family::all().filter_map(|family| family.files.first().copied()).take(2).collect();
    let names = names.join(", ");
    format!(
        "there is nothing to boot in {served}: no {names} or any other usual name; --dhcp-boot '=>FILE' names a file of it"
    )
}

/// This machine's address in the network that machines boot from: one that is listened on, or by which it reaches others.
fn here(args: &Serve) -> Result<Ipv4Addr> {
    let listened = args.listen.iter().flat_map(|listen| &listen.0).find_map(|address| match address.ip() {
        std::net::IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    if let Some(listened) = listened {
        return Ok(listened);
    }
    let names: Vec<String> = dhcp::chosen(args)?.into_iter().map(|interface| interface.name).collect();
    let all = tuffet::dhcp::interfaces()?.into_iter().filter(|interface| names.contains(&interface.name));
    let addresses: Vec<Ipv4Addr> = all.flat_map(|interface| interface.addresses).collect();
    let outgoing = outgoing().filter(|ip| addresses.contains(ip));
    let none = "no interface has an address in a network; `ip address` lists them";
    Ok(outgoing.or(addresses.first().copied()).ok_or(none)?)
}

/// The address by which others are reached; nothing is sent.
fn outgoing() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// What each kind of machine will do.
fn report(proxy: &Proxy, served: &str, server: Ipv4Addr) -> String {
    let mut text = format!("found in {served}; machines on the network of {server} that boot from it get\n");
    let mut say = |who: &str, what: &str| text += &format!("    {who:<15} {what}\n");
    let mut others = Vec::new();
    for family in Family::all() {
        let firmware = Machine::new(tuffet::dhcp::Arch(family.pxe[0]));
        let by_http = Machine::new(tuffet::dhcp::Arch(family.http[0]));
        let place = |machine: &Machine| {
            let Chosen { file, .. } = proxy.choose(machine).ok()?;
            proxy.place(&file, machine, server).ok()
        };
        match place(&firmware) {
            Some(file) => {
                let also = place(&by_http).map(|url| format!(", or by HTTP boot {url}")).unwrap_or_default();
                say(family.title, &format!("{file}{also}"));
                if let Some(then) = place(&firmware.with_ipxe()).filter(|_| is_ipxe(proxy, &firmware)) {
                    say("  and then", &then);
                }
            }
            None => others.push(family.title),
        }
    }
    if !others.is_empty() {
        say("nothing", &others.join(", "));
    }
    text
}

/// Whether a machine is told of iPXE, and so asks again.
fn is_ipxe(proxy: &Proxy, machine: &Machine) -> bool {
    let file = |machine: &Machine| proxy.choose(machine).map(|chosen| chosen.file).ok();
    file(machine) != file(&machine.with_ipxe())
}
