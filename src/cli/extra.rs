//! The commands that the small program lacks.

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    Result, boot, config,
    demo::{self, Demo},
    explain,
    manual::{self, Completions, Man},
    probe,
};

#[derive(Debug, Subcommand)]
pub enum ExtraCommand {
    Boot(Box<boot::Boot>),
    Demo(Demo),
    Explain(Box<explain::Explain>),
    CheckConfig(config::CheckConfig),
    Probe(Box<probe::Probe>),
    Completions(Completions),
    Man(Man),
}

impl ExtraCommand {
    pub fn is_quiet(&self) -> bool {
        match self {
            // `serve` has a log for that.
            Self::Boot(_) => true,
            Self::Explain(args) => args.serve.output.quiet,
            Self::Probe(args) => args.output.quiet,
            Self::CheckConfig(_) | Self::Completions(_) | Self::Demo(_) | Self::Man(_) => false,
        }
    }

    pub fn run(self) -> Result<ExitCode> {
        match self {
            Self::Boot(args) => boot::run(*args),
            Self::Demo(args) => demo::run(&args),
            Self::Explain(args) => explain::run(*args),
            Self::CheckConfig(args) => config::check(&args),
            Self::Probe(args) => probe::run(&args),
            Self::Completions(args) => manual::completions(&args),
            Self::Man(args) => manual::man(&args),
        }
    }
}
