//! The program where the system gives it no threads.
#![cfg(all(target_os = "linux", feature = "cli"))]

#[path = "common/program.rs"]
mod program;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use program::{copy, path, process::may_change_user, text, without_variables};

/// If the system gives no thread, the program neither panics nor stays silent.
#[test]
fn a_server_without_threads_says_so() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A user without other processes: a server that starts as root becomes this user, and then the limit counts.
    let (user, soft) = ("64321:64321", "ulimit -u 1");
    let args = ["serve", "--listen", "127.0.0.1:0", "--no-landlock", "--user", user, path(directory.path())];
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !may_change_user() {
        return println!("skipped: the limit does not count for root, who may not become another user here");
    }
    let args = args.iter().filter(|arg| is_root || !["--user", user].contains(arg));
    let mut command = Command::new("bash");
    without_variables(&mut command);
    command.args(["-c", &format!("{soft} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tuffet")]).args(args);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tuffet: cannot start a thread") && said.contains("ulimit -u"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// The limit does not count for root, and another user may have no right to the directory of the build.
#[test]
fn a_user_without_threads_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let program = copy(directory.path());
    let other: &[&str] = match rustix::process::geteuid().is_root() {
        true if !may_change_user() => {
            return println!("skipped: the limit does not count for root, who may not become another user here");
        }
        true => &["setpriv", "--reuid=64322", "--regid=64322", "--clear-groups"],
        false => &["env"],
    };
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    for args in [
        &["get", &server, "name", "-"][..],
        &["put", &server, path(&program)],
        #[cfg(feature = "full")]
        &["probe", &server, "name"],
        #[cfg(feature = "full")]
        &["explain", "10.0.0.5", "tuffet", path(directory.path())],
        #[cfg(feature = "full")]
        &["serve", "--listen", "127.0.0.1:0", "--upload", "--on-upload", "true", path(directory.path())],
    ] {
        let mut command = Command::new("bash");
        without_variables(&mut command).args(["-c", "ulimit -u 1 && exec \"$0\" \"$@\""]);
        command.args(other).arg(&program).args(args);
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert!(said.contains("cannot start a ") && said.contains("ulimit -u"), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}
