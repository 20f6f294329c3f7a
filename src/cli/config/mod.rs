//! The configuration file.
//!
//! Each of its keys is the long name of an option of `tuffet serve` (and `sources` its arguments), and becomes the default
//! of that option: so what is on the command line or in the environment counts more, each value is read by the option's own
//! parser, and an option that is new is a key without any doing. The tables `[[rule]]` are all that is here besides.

mod file;
mod reload;
mod rule;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser};

use super::{
    Result,
    args::{Arguments, Command},
};
use file::File;
pub use reload::Reload;

#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Read settings and rules from this TOML file; what is said here or in the environment counts more
    #[arg(long, value_name = "FILE", env = "TUFFET_CONFIG", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
}

/// Say all that is wrong with a configuration file
#[derive(Args, Debug)]
pub struct CheckConfig {
    /// The file
    pub file: PathBuf,
}

/// Prints nothing but errors, one on each line; exits with 0 if there is none.
pub fn check(args: &CheckConfig) -> Result<ExitCode> {
    let file = File::read(&args.file)?;
    file.errors.iter().for_each(|error| eprintln!("{error}"));
    Ok(if file.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command line, with what the configuration file adds, if there is one. A wrong command line ends the program.
pub fn arguments() -> Result<Arguments> {
    let arguments = Arguments::parse();
    let Some(path) = path(&arguments) else { return Ok(arguments) };
    let merged = merged(path, std::env::args_os().collect())?;
    merged.map(|(arguments, _)| arguments).map_err(|error| error.exit())
}

fn path(arguments: &Arguments) -> Option<&Path> {
    match &arguments.command {
        Command::Serve(serve) => serve.config.config.as_deref(),
        Command::Explain(explain) => explain.serve.config.config.as_deref(),
        _ => None,
    }
}

fn merged(path: &Path, words: Vec<OsString>) -> Result<std::result::Result<(Arguments, ArgMatches), clap::Error>> {
    let file = File::read(path)?;
    match &file.errors[..] {
        [] => {}
        [error] => return Err(error.to_string().into()),
        [error, more @ ..] => {
            let (n, path) = (more.len(), path.display());
            return Err(format!("{error} (and {n} more: `tuffet check-config {path}` says them all)").into());
        }
    }
    let defaults = |command: clap::Command| file.defaults(command);
    let command = Arguments::command().mut_subcommand("serve", defaults).mut_subcommand("explain", defaults);
    let matches = command.try_get_matches_from(words);
    let arguments = matches.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    Ok(arguments.map(|(mut arguments, matches)| {
        match &mut arguments.command {
            Command::Serve(serve) => serve.names.rules = file.rules,
            Command::Explain(explain) => explain.serve.names.rules = file.rules,
            _ => {}
        }
        (arguments, matches)
    }))
}

#[cfg(test)]
mod tests;
