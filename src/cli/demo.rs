//! `tuffet demo`: a web server with a boot tree, and a TFTP server that has only its URL.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::ExitCode,
};

use clap::{Args, CommandFactory, FromArgMatches, builder::Resettable};
use tuffet::{Gen, Handler, Refusal, Request, Server, Source, read};

use super::{
    Result,
    args::{Arguments, Command},
    sandbox, serve, values,
};

/// The files of the web server, and their sizes.
const FILES: [(&str, u64); 2] = [("vmlinuz", 8 << 20), ("initrd.img", 32 << 20)];
const MENU: &str = "boot.ipxe";
/// The directory of the files.
const TREE: &str = "netboot";
const SCRIPT: &str = "#!ipxe\nkernel vmlinuz\ninitrd initrd.img\nboot\n";

/// Try it on this machine alone: a web server, and a TFTP server that serves its files
#[derive(Args, Debug)]
pub struct Demo {
    /// The address of the TFTP server
    #[arg(value_name = "ADDR:PORT", default_value = "127.0.0.1:6969", value_parser = listen)]
    listen: SocketAddr,
}

fn listen(text: &str) -> std::result::Result<SocketAddr, String> {
    values::address(text, "127.0.0.1:6969")
}

pub fn run(args: &Demo) -> Result<ExitCode> {
    let door = (Ipv4Addr::LOCALHOST, 0);
    let mirror = Server::builder().listen(door).http(door).handler(tree()).bind()?;
    let url = format!("http://{}/{TREE}/", mirror.http_addrs()[0]);
    let _mirror = mirror.spawn()?;
    // If the address is taken, the server says so.
    if UdpSocket::bind(args.listen).is_ok() {
        let mut out = std::io::stdout().lock();
        // The server also runs if standard output is a closed pipe.
        _ = writeln!(out, "a web server on this machine has a small boot tree: {url}");
        _ = writeln!(out, "this TFTP server serves that URL and stores no file; fetch from it in another terminal:");
        for name in [MENU].into_iter().chain(FILES.map(|(name, _)| name)) {
            _ = writeln!(out, "    curl -O tftp://{}/{name}", args.listen);
        }
    }
    // A sandbox cannot confine threads that already run, but a change of the user is for all of them.
    let (listen, nobody) = (args.listen.to_string(), sandbox::nobody());
    let mut words = vec!["tuffet", "serve", &url, "--listen", &listen, "--status", "127.0.0.1:0", "--no-sandbox"];
    words.extend(nobody.iter().flat_map(|user| ["--user", user]));
    // The environment's settings are for servers.
    let command =
        Arguments::command().mut_subcommand("serve", |serve| serve.mut_args(|arg| arg.env(Resettable::Reset)));
    match Arguments::from_arg_matches(&command.try_get_matches_from(words)?)?.command {
        Command::Serve(serve) => serve::run(&serve, &[]),
        _ => unreachable!("the words are of `serve`"),
    }
}

/// A handler without stored files: a generator makes the bytes.
fn tree() -> impl Handler {
    read(|request: Request| {
        let name = request.path().strip_prefix(TREE).ok_or(Refusal::not_found())?.trim_start_matches('/');
        match name {
            // The server asks for its base at the start.
            "" => return Ok(Source::from("The boot tree of `tuffet demo`.\n")),
            MENU => return Ok(Source::from(SCRIPT)),
            _ => {}
        }
        let (name, size) = *FILES.iter().find(|(file, _)| *file == name).ok_or(Refusal::not_found())?;
        let bytes = Gen::new(async move |co| {
            for n in 0..size / 1024 {
                let line = format!("{name}, KiB {n}");
                co.yield_(format!("{line:1023}\n")).await;
            }
        });
        Ok::<_, Refusal>(Source::from(bytes).with_size(size).with_etag(format!("\"{size}\"")))
    })
}
