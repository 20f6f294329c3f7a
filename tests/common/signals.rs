//! Signals for programs.

use std::process::{Child, Command};

/// Sends a signal such as `-TERM`, by the shell: a bare system may lack the program `kill`.
#[track_caller]
pub fn kill(signal: &str, child: &Child) {
    let sent = Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}
