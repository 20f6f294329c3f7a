//! The configuration file.
//!
//! Each key is the long name of an option of `tuffet serve` (and `sources` its arguments), and sets the default of that
//! option. So the command line and the environment override the file, the option's own parser reads each value, and a
//! new option is a key without further code. Only the tables `[[rule]]` and `[[boot]]` are read here.

mod boot;
mod file;
mod reload;
mod rule;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgMatches, Args, CommandFactory};

use super::{
    Result,
    args::{Arguments, Command, Serve},
    command_line,
    extra::ExtraCommand,
    serve,
    sources::{self, Opened},
    uploads,
};
use file::File;
pub use reload::Reload;

#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Read settings and rules from this TOML file; options and variables take precedence
    #[arg(long, value_name = "FILE", env = "TUFFET_CONFIG", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// Show all errors of a configuration file
#[derive(Args, Debug)]
pub struct CheckConfig {
    /// The file
    pub file: PathBuf,
}

/// Prints all errors, one on each line, or `ok`, with the exit code 0. It also opens all sources of the file, as
/// `tuffet serve` would.
pub fn check(args: &CheckConfig) -> Result<ExitCode> {
    let (path, file) = (args.file.display(), File::read(&args.file)?);
    let mut errors: Vec<String> = file.errors.iter().map(ToString::to_string).collect();
    if errors.is_empty() {
        match file.merged(&args.file, ["tuffet", "serve"])?.map(|(arguments, _)| arguments.command) {
            Ok(Command::Serve(serve)) => errors = unopened(&serve).iter().map(|why| format!("{path}: {why}")).collect(),
            Ok(_) => {}
            Err(error) => command_line::end(&error),
        }
    }
    errors.iter().for_each(|error| eprintln!("{error}"));
    if errors.is_empty() {
        println!("{path}: ok");
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The errors of sources that cannot be opened, or not by this user, each once.
fn unopened(args: &Serve) -> Vec<String> {
    let opened = Opened::default();
    let sources = sources::all(args);
    let mut errors: Vec<String> = Vec::new();
    let each = sources.iter().map(|source| source.open(args, &opened).map(drop));
    let handler = serve::handler(args, &opened).map(drop);
    #[cfg(all(feature = "full", target_os = "linux"))]
    let user = super::sandbox::check_user(args);
    #[cfg(not(all(feature = "full", target_os = "linux")))]
    let user = Ok(());
    #[cfg(unix)]
    let notify = args.notify.check();
    #[cfg(not(unix))]
    let notify = Ok(());
    let certificates = args.web.ca.as_deref().map(|path| sources::web::certificates(path).map(drop));
    let also = uploads::wrong_also(args).map(|why| Err(why.into()));
    let log = serve::misplaced_log(args).map(|why| Err(why.into()));
    let results = each.chain([handler, user, notify, interface(args)]).chain(certificates).chain(also).chain(log);
    for error in results.filter_map(|result| result.err()) {
        let error = error.to_string();
        if !errors.iter().any(|known| error.contains(known)) {
            errors.push(error);
        }
    }
    errors
}

/// Whether the network interface of the options exists, as far as Linux tells.
fn interface(args: &Serve) -> Result<()> {
    match &args.interface {
        Some(name) if cfg!(target_os = "linux") && !Path::new("/sys/class/net").join(name).exists() => {
            Err(format!("--interface {name}: there is no such interface; `ip link` lists them").into())
        }
        _ => Ok(()),
    }
}

/// The command line, with the defaults from the configuration file, if there is one. A wrong command line ends the
/// program.
pub fn arguments() -> Result<(Arguments, ArgMatches)> {
    let (mut arguments, matches) = command_line::read();
    match serve_mut(&mut arguments.command).and_then(|serve| serve.config.file()) {
        path @ Some(_) => Ok(merged(path, env::args_os())?.unwrap_or_else(|error| command_line::end(&error))),
        None => Ok((arguments, matches)),
    }
}

/// The options of `tuffet serve` that a command has.
fn serve_mut(command: &mut Command) -> Option<&mut Serve> {
    match command {
        Command::Serve(serve) => Some(serve),
        Command::ExtraCommand(ExtraCommand::Boot(boot)) => Some(&mut boot.serve),
        Command::ExtraCommand(ExtraCommand::Explain(explain)) => Some(&mut explain.serve),
        _ => None,
    }
}

type Merged = std::result::Result<(Arguments, ArgMatches), clap::Error>;

/// The command line of these words, with the defaults of the file, if there is one.
fn merged(path: Option<&Path>, words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Merged> {
    match path {
        Some(path) => File::read(path)?.merged(path, words),
        None => File::default().merged(Path::new(""), words),
    }
}

impl File {
    /// The command line of these words, with the defaults of this file.
    fn merged(self, path: &Path, words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Merged> {
        match &self.errors[..] {
            [] => {}
            [error] => return Err(error.to_string().into()),
            [error, more @ ..] => {
                let (n, path) = (more.len(), path.display());
                return Err(format!("{error} (and {n} more: `tuffet check-config {path}` shows all)").into());
            }
        }
        let defaults = |command: clap::Command| self.defaults(command);
        let command = ["serve", "boot", "explain"]
            .iter()
            .fold(Arguments::command(), |command, name| command.mut_subcommand(name, defaults));
        let parsed = command_line::parse(command, words);
        Ok(parsed.map(|(mut arguments, matches)| {
            if let Some(serve) = serve_mut(&mut arguments.command) {
                serve.names.rules = self.rules;
                serve.dhcp.tables = self.boots;
            }
            (arguments, matches)
        }))
    }
}

#[cfg(test)]
mod tests;
