//! `tuffet boot`: one command that boots a room of machines.

use std::process::ExitCode;

use clap::Args;

use super::{Result, args::Serve, dhcp, http::Http, serve, values::Listen};

/// The ports of the files over HTTP, and of the status page.
const HTTP: u16 = 80;
const STATUS: u16 = 9069;

const EXAMPLES: &str = "\
Examples:
  tuffet boot ./tftpboot
  tuffet boot http://deb.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot/
  tuffet boot ./tftpboot --dhcp-boot 'arch=x64=>grub/grubx64.efi'

This is `tuffet serve --dhcp --http --status` on this machine's address in its network, with all options of `serve`. The
network's own DHCP server still assigns the addresses, and needs no change. Ports 67, 69 and 80 need root.";

/// Boot the machines of a network without a change to its DHCP server (Linux)
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args = |arg| arg.hide_env(true))]
pub struct Boot {
    #[command(flatten)]
    pub serve: Serve,
}

impl Boot {
    /// The arguments of `tuffet serve` for the same server.
    ///
    /// # Errors
    /// If this machine is in no network.
    pub fn into_serve(self) -> Result<Serve> {
        let mut args = self.serve;
        args.dhcp.dhcp = true;
        args.dhcp.needed = true;
        // The error of `chosen` says why there is no network.
        dhcp::chosen(&args)?;
        let server = dhcp::server(&args);
        if args.listen.is_empty() {
            args.listen = vec![Listen(vec![(server, 69).into()])];
        }
        if args.http.http.is_empty() {
            args.http.http = vec![Http(vec![(server, HTTP).into()])];
        }
        args.status.status.get_or_insert_with(|| (server, STATUS).into());
        Ok(args)
    }
}

/// Serves until a signal ends the server.
///
/// # Errors
/// If the sources have no boot file, or the server cannot start.
pub fn run(boot: Boot) -> Result<ExitCode> {
    serve::run(&boot.into_serve()?, &[])
}
