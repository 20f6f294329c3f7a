//! Signals for programs.

use std::process::{Child, Command};

/// Sends a signal such as `-TERM`. Every shell can; the program `kill` may be missing on a bare system.
#[track_caller]
pub fn kill(signal: &str, child: &Child) {
    let sent = Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}
