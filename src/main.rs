//! The program `tuffet`: a TFTP server, and a client.
//!
//! All it does is in the library; here are the command line, the terminal and the signals.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
