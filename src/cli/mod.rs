//! The program: its command line, and what it does with the library.
//!
//! It exits with 0 if all went well, 1 if something failed or would not be served, 2 if the command line is wrong, 3 if
//! `probe` saw something odd, 75 if `serve` has to be started anew, and 130 if a signal ended a transfer of the client.

#[cfg(feature = "rules")]
mod access;
mod args;
#[cfg_attr(not(feature = "bars"), path = "bars/none.rs")]
mod bars;
#[cfg(feature = "config")]
mod config;
mod container;
#[cfg(feature = "rules")]
mod explain;
mod floods;
mod format;
mod get;
mod journal;
mod limits;
mod line;
mod lines;
mod logging;
#[cfg(feature = "manual")]
mod manual;
#[cfg(feature = "probe")]
mod probe;
mod put;
mod remote;
mod restart;
#[cfg(feature = "rules")]
mod rules;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
mod sandbox;
mod serve;
#[cfg_attr(not(all(unix, feature = "systemd")), path = "service/none.rs")]
mod service;
mod signals;
#[cfg(feature = "status")]
mod status;
mod uploads;
#[cfg(feature = "http")]
mod upstreams;
mod url;
mod values;

use std::process::ExitCode;

use clap::ArgMatches;

use args::Command;

/// A failure is one line for a person, so that is all it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Does what the command line says.
pub fn main() -> ExitCode {
    #[cfg(feature = "config")]
    let arguments = config::arguments();
    #[cfg(not(feature = "config"))]
    let arguments: Result<_> = Ok(line::read());
    let result = arguments.and_then(|(arguments, matches)| run(arguments.command, &matches));
    result.unwrap_or_else(|error| {
        eprintln!("tuffet: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: Command, matches: &ArgMatches) -> Result<ExitCode> {
    let unknown = line::unknown_variables();
    let is_quiet = match &command {
        // It has a log for that.
        Command::Serve(_) => true,
        Command::Get(args) => args.output.quiet,
        Command::Put(args) => args.output.quiet,
        #[cfg(feature = "probe")]
        Command::Probe(args) => args.output.quiet,
        #[cfg(feature = "rules")]
        Command::Explain(args) => args.serve.output.quiet,
        #[allow(unreachable_patterns, reason = "the small program has no other commands")]
        _ => false,
    };
    unknown.iter().filter(|_| !is_quiet).for_each(|variable| eprintln!("tuffet: {variable}"));
    match command {
        Command::Serve(args) => serve::run(&args, &[unknown, serve::without_effect(&args, matches)].concat()),
        #[cfg(feature = "rules")]
        Command::Explain(args) => explain::run(&args),
        #[cfg(feature = "config")]
        Command::CheckConfig(args) => config::check(&args),
        Command::Get(args) => get::run(args),
        Command::Put(args) => put::run(args),
        #[cfg(feature = "probe")]
        Command::Probe(args) => probe::run(&args),
        #[cfg(feature = "manual")]
        Command::Completions(args) => manual::completions(&args),
        #[cfg(feature = "manual")]
        Command::Man(args) => manual::man(&args),
    }
}
