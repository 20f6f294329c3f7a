//! Reads the configuration file and the certificates again while the server runs.

use std::{env, fs, path::PathBuf};

use clap::{ArgMatches, CommandFactory};
use log::{error, info, warn};
use tuffet::ServerHandle;

use super::{
    super::{
        Result,
        args::{Arguments, Command, Serve},
        dhcp::Dhcp,
        extra::ExtraCommand,
        files,
        sandbox::Plan,
        serve,
        sources::Opened,
    },
    merged,
};

/// The options under these headings of the help take effect only when the server begins.
const FIXED: [&str; 4] = ["Network", "Output", "Safety", "Configuration"];

pub struct Reload {
    path: Option<PathBuf>,
    opened: Opened,
    server: ServerHandle,
    /// The options of the last reload.
    args: Option<Box<Serve>>,
    /// The fixed options with their values at the start of the server.
    fixed: Vec<(String, Vec<String>)>,
    plan: Plan,
}

impl Reload {
    pub fn new(args: &Serve, opened: Opened, server: ServerHandle) -> Self {
        let path = args.config.config.clone();
        let merged = merged(path.as_deref(), env::args_os()).ok().and_then(|merged| merged.ok());
        let fixed = merged.map(|(_, matches)| fixed(&matches)).unwrap_or_default();
        Self { path, opened, server, args: None, fixed, plan: Plan::new(args) }
    }

    /// Looks for replaced directories, and applies the configuration file, if there is one, and the certificates to new
    /// requests. If a file has an error, nothing changes. Returns the options that hold from then on.
    pub fn reload(&mut self) -> Option<&Serve> {
        serve::look(&self.opened.directories());
        match self.try_reload() {
            Ok(args) => {
                match &self.path {
                    Some(path) => info!("reloaded {}: new transfers follow it", path.display()),
                    None => info!("reloaded; there is no configuration file (`--config`)"),
                }
                self.args = args;
            }
            Err(why) => error!("the reload failed and changed nothing: {why}"),
        }
        self.args.as_deref()
    }

    fn try_reload(&mut self) -> Result<Option<Box<Serve>>> {
        let name = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        // Without its sources, the server would serve another directory.
        if self.path.as_ref().is_some_and(|path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0)) {
            return Err(format!("{name} is empty; is it still being written?").into());
        }
        let (arguments, matches) = merged(self.path.as_deref(), env::args_os())??;
        let args = match arguments.command {
            Command::Serve(args) => args,
            Command::ExtraCommand(ExtraCommand::Boot(boot)) => Box::new(boot.into_serve()?.0),
            _ => return Ok(None),
        };
        let opened = self.opened.again();
        let handler = serve::handler(&args, &opened)?;
        self.server.reload(serve::builder(&args, None).handler(handler))?;
        Dhcp::settle(&args, &opened.boots);
        opened.questions().ask();
        self.opened = opened;
        files::allow_umask(args.uploads.umask);
        for lacking in self.plan.lacks(&Plan::new(&args)) {
            warn!("the sandbox was made without {lacking}: restart the server if access is denied");
        }
        for (key, value) in fixed(&matches) {
            if self.fixed.iter().any(|(other, before)| *other == key && *before != value) {
                warn!("{key} has changed in {name}: restart the server to apply it");
            }
        }
        Ok(Some(args))
    }
}

fn fixed(matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let Some((command, matches)) = matches.subcommand() else { return Vec::new() };
    let program = Arguments::command();
    let options = program.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    let fixed = options.filter(|option| option.get_help_heading().is_some_and(|heading| FIXED.contains(&heading)));
    let value = |option: &clap::Arg| {
        let values = matches.get_raw(option.get_id().as_str()).into_iter().flatten();
        let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
        (option.get_long().unwrap_or_default().to_owned(), values)
    };
    fixed.map(value).collect()
}
