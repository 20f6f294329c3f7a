//! The program: its command line, and its use of the library.
//!
//! It exits with 0 on success, 1 if something failed or would not be served, 2 if the command line is wrong, 3 if
//! `probe` found a fault, 75 if `serve` must be started again, and 130 if a signal ended a transfer of the client.

#[cfg(feature = "full")]
mod access;
mod args;
#[cfg(feature = "full")]
mod bars;
#[cfg(feature = "full")]
mod boot;
mod command_line;
#[cfg(feature = "full")]
mod config;
mod container;
#[cfg(feature = "full")]
mod demo;
#[cfg(feature = "full")]
mod dhcp;
#[cfg(feature = "full")]
mod explain;
#[cfg(feature = "full")]
mod extra;
mod files;
mod floods;
mod format;
mod get;
#[cfg(feature = "web")]
mod http;
mod journal;
mod limits;
mod log_lines;
mod logging;
#[cfg(feature = "full")]
mod manual;
#[cfg(all(feature = "full", unix))]
mod notify;
#[cfg(all(test, feature = "full"))]
mod pages;
#[cfg(feature = "full")]
mod probe;
mod put;
mod remote;
mod restart;
#[cfg(feature = "full")]
mod rules;
#[cfg(all(feature = "full", target_os = "linux"))]
mod sandbox;
mod serve;
#[cfg(all(feature = "full", unix))]
mod service;
mod signals;
#[cfg(not(all(feature = "full", target_os = "linux")))]
mod small;
mod sources;
#[cfg(feature = "full")]
mod status;
mod unanswered;
mod uploads;
#[cfg(feature = "http")]
mod upstreams;
mod url;
mod values;

use std::process::ExitCode;

use clap::ArgMatches;

use args::Command;
#[cfg(not(all(feature = "full", target_os = "linux")))]
use small::sandbox;
#[cfg(not(feature = "http"))]
use small::upstreams;
#[cfg(not(feature = "full"))]
use small::{access, bars, config, dhcp, rules, status};
#[cfg(not(all(feature = "full", unix)))]
use small::{notify, service};

/// A failure is one line for a person, so the error needs no type.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs the command of the command line.
pub fn main() -> ExitCode {
    tuffet::hint::name_options();
    if let Some(code) = notify::helper() {
        return code;
    }
    let result = config::arguments().and_then(|(arguments, matches)| run(arguments.command, &matches));
    result.unwrap_or_else(|error| {
        command_line::say(error);
        ExitCode::FAILURE
    })
}

fn run(command: Command, matches: &ArgMatches) -> Result<ExitCode> {
    let unknown = command_line::unknown_variables();
    let is_quiet = match &command {
        // `serve` has a log for that.
        Command::Serve(_) => true,
        Command::Get(args) => args.output.quiet,
        Command::Put(args) => args.output.quiet,
        #[cfg(feature = "full")]
        Command::ExtraCommand(extra) => extra.is_quiet(),
    };
    unknown.iter().filter(|_| !is_quiet).for_each(command_line::say);
    match command {
        Command::Serve(args) => serve::run(&args, &[unknown, serve::without_effect(&args, matches)].concat()),
        Command::Get(args) => get::run(args),
        Command::Put(args) => put::run(args),
        #[cfg(feature = "full")]
        Command::ExtraCommand(extra) => extra.run(),
    }
}
