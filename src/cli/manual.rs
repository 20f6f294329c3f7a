//! `tuffet completions` and `tuffet man`: both come from the definitions of the parser, so they are always correct.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Result, args::Arguments};

/// Print a script with which a shell completes the command line
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(tuffet completions bash)                        in ~/.bashrc
  tuffet completions fish > ~/.config/fish/completions/tuffet.fish
  tuffet completions zsh > \"${fpath[1]}/_tuffet\"")]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// Print the manual
#[derive(Args, Debug)]
#[command(mut_args = |arg| arg.hide_env(true), after_help = "\
Examples:
  tuffet man | man -l -                  read it
  tuffet man --dir /usr/share/man/man1   install it")]
pub struct Man {
    /// Write each page into a file in this directory, instead of all to standard output
    #[arg(long, value_name = "PATH", env = "TUFFET_DIR")]
    dir: Option<PathBuf>,
}

pub fn completions(args: &Completions) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "tuffet", &mut script);
    print(&script)
}

pub fn man(args: &Man) -> Result<ExitCode> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let commands = || std::iter::once(&program).chain(program.get_subcommands());
    let Some(dir) = &args.dir else {
        return print(commands().map(page).collect::<io::Result<String>>()?.as_bytes());
    };
    let write = || {
        fs::create_dir_all(dir)?;
        for command in commands() {
            fs::write(dir.join(format!("{}.1", name(command))), page(command)?)?;
        }
        Ok(())
    };
    let explain = |error: io::Error| {
        format!("cannot write the manual into {}: {error}; --dir needs a writable directory", dir.display())
    };
    write().map_err(explain)?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: &Command) -> io::Result<String> {
    let mut rendered = Vec::new();
    clap_mangen::Man::new(command.clone().after_help(None)).render(&mut rendered)?;
    // No date, so that the same program always writes the same pages.
    let title = format!(".TH {} 1 \"\" \"tuffet {}\" TFTP", name(command).to_uppercase(), env!("CARGO_PKG_VERSION"));
    let mut page = String::new();
    for line in String::from_utf8_lossy(&rendered).lines() {
        // Leave out blank lines, which count as macros, and repeated breaks.
        if line.is_empty() || (line == ".br" && page.ends_with(".br\n")) {
            continue;
        }
        page += if line.starts_with(".TH") { &title } else { line.trim_end() };
        page += "\n";
    }
    if let Some(notes) = command.get_after_help() {
        page += ".SH NOTES\n";
        let mut is_filled = true;
        for line in notes.to_string().lines() {
            // The examples are a table. They stand in lines of their own.
            let is_example = line.starts_with("  ");
            if is_example == is_filled {
                page += if is_example { ".nf\n" } else { ".fi\n" };
                is_filled = !is_example;
            }
            page += &match line {
                "" => ".PP\n".to_owned(),
                line => format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")),
            };
        }
        page += if is_filled { "" } else { ".fi\n" };
    }
    Ok(page)
}

/// `tuffet-serve`
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn print(text: &[u8]) -> Result<ExitCode> {
    match io::stdout().write_all(text) {
        // The reader has closed the pipe.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
