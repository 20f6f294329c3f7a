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
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, error::ErrorKind};

use args::{Arguments, Command};

/// A failure is one line for a person, so that is all it is.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Does what the command line says.
pub fn main() -> ExitCode {
    #[cfg(feature = "config")]
    let arguments = config::arguments();
    #[cfg(not(feature = "config"))]
    let arguments: Result<Arguments> = Ok(clap::Parser::parse());
    let result = arguments.and_then(|arguments| run(arguments.command));
    result.unwrap_or_else(|error| {
        eprintln!("tuffet: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(&args),
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

/// Ends the program as the parser does, for what the parser cannot see.
fn usage_error(command: &str, message: &str) -> ! {
    let mut program = Arguments::command();
    program.build();
    let command = program.find_subcommand_mut(command).expect("a command of ours");
    command.error(ErrorKind::MissingRequiredArgument, message).exit()
}
