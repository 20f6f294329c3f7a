//! A test that runs once more, in an environment of its own.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{env, process::Command};

/// `again!(within, &["unshare"]);` runs the test again as [`within`] does, and ends it here. There it goes on.
macro_rules! again {
    ($run:path $(, $argument:expr)*) => {
        fn here() {}
        let test = std::any::type_name_of_val(&here).strip_suffix("::here").unwrap();
        if !$run(test.split_once("::").unwrap().1 $(, $argument)*) {
            return;
        }
    };
}

const THERE: &str = "TUFFET_TEST_RUNS_AGAIN";

/// Runs this test again where this command was run before. Returns whether this is there already.
pub fn within(test: &str, command: &[&str]) -> bool {
    if is_within() {
        return true;
    }
    let mut run = Command::new(command[0]);
    run.args(&command[1..]).arg(env::current_exe().unwrap());
    run.args(["--include-ignored", "--nocapture", "--exact", test]).env(THERE, "yes");
    assert!(run.status().expect(command[0]).success());
    false
}

/// The same after these commands of a shell, which this command runs. All users may read what they make.
pub fn after(test: &str, command: &[&str], commands: &str) -> bool {
    within(test, &[command, &["sh", "-ec", &format!("umask 022\n{commands}\nexec \"$0\" \"$@\"")]].concat())
}

pub fn is_within() -> bool {
    env::var_os(THERE).is_some()
}
