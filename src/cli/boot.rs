//! `tuffet boot`: one command that boots a room of machines.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
};

use clap::Args;
use tuffet::dhcp::Interface;

use super::{Result, args::Serve, dhcp, http::Http, serve, values::Listen};

/// The ports of the files over HTTP, and of the status page.
const HTTP: u16 = 80;
const STATUS: u16 = 9069;

const EXAMPLES: &str = "\
Examples:
  tuffet boot ./tftpboot
  tuffet boot http://mirror/netboot/
  tuffet boot ./tftpboot --dhcp-boot 'arch=x64=>grub/grubx64.efi'

This is `tuffet serve --dhcp --http --status` on this machine's address in its
network, with all options of `serve`. The network's own DHCP server still
assigns the addresses, and needs no change. Ports 67, 69 and 80 need root.";

/// Boot the machines of a network without a change to its DHCP server (Linux)
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args = |arg| arg.hide_env(true))]
pub struct Boot {
    #[command(flatten)]
    pub serve: Serve,
}

impl Boot {
    /// The arguments of `tuffet serve` for the same server, and a note for people.
    ///
    /// # Errors
    /// If this machine is in no network.
    pub fn into_serve(self) -> Result<(Serve, Option<String>)> {
        let mut args = self.serve;
        args.dhcp.dhcp = true;
        args.dhcp.needed = true;
        // The error of `chosen` says why there is no network.
        let interfaces = dhcp::chosen(&args)?;
        let server = dhcp::server(&args);
        let mut note = None;
        if args.listen.is_empty() {
            note = others(&interfaces, &tuffet::dhcp::interfaces()?, server);
            args.listen = vec![Listen(vec![(server, 69).into()])];
        }
        if args.http.http.is_empty() {
            args.http.http = vec![Http(beside(&args.listen))];
        }
        args.status.status.get_or_insert_with(|| (server, STATUS).into());
        Ok((args, note))
    }
}

/// The addresses for HTTP beside these: machines fetch from the address that told them their boot file.
fn beside(listen: &[Listen]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = listen.iter().flat_map(|listen| &listen.0).copied().collect();
    addresses.iter_mut().for_each(|address| address.set_port(HTTP));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// A note about the other networks of this machine, which `tuffet boot` does not serve without `--listen`.
fn others(chosen: &[Interface], all: &[Interface], server: Ipv4Addr) -> Option<String> {
    let is_other = |interface: &&Interface| {
        !interface.addresses.contains(&server) && chosen.iter().any(|chosen| chosen.name == interface.name)
    };
    let others = all.iter().filter(is_other);
    let others = others.filter_map(|other| Some(format!("{} ({})", other.name, other.addresses.first()?)));
    let others: Vec<String> = others.collect();
    (!others.is_empty()).then(|| {
        let others = others.join(", ");
        format!(
            "only machines on the network of {server} boot, and none on {others}: --listen ADDR chooses the networks"
        )
    })
}

/// Serves until a signal ends the server.
///
/// # Errors
/// If the sources have no boot file, or the server cannot start.
pub fn run(boot: Boot) -> Result<ExitCode> {
    let (args, note) = boot.into_serve()?;
    serve::run(&args, note.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_get_http_where_they_ask() {
        let listen = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Listen>>();
        let http = |texts: &[&str]| beside(&listen(texts)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(http(&["10.9.0.1", "10.8.0.1:6969", "10.8.0.1"]), ["10.8.0.1:80", "10.9.0.1:80"]);
        assert_eq!(http(&[":69"]), ["0.0.0.0:80", "[::]:80"]);
    }

    #[test]
    fn other_networks_are_named() {
        let interface =
            |name: &str, address: &str| Interface { name: name.into(), addresses: vec![address.parse().unwrap()] };
        let all = [interface("eth0", "10.9.0.1"), interface("eth1", "10.8.0.1"), interface("eth2", "10.7.0.1")];
        let server = Ipv4Addr::new(10, 9, 0, 1);
        assert_eq!(others(&all[..1], &all, server), None);
        let note = others(&all[..2], &all, server).unwrap();
        assert!(note.contains("none on eth1 (10.8.0.1): --listen"), "{note}");
    }
}
