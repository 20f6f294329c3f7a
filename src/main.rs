//! The program `tuffet`: a TFTP server, and a client.
//!
//! All it does is in the library; here are the command line, the terminal and the signals.
#![forbid(unsafe_code)]
#![cfg_attr(not(feature = "full"), allow(dead_code, reason = "the whole program uses what a smaller one may not"))]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
