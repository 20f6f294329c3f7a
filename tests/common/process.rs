//! A program that runs beside a test.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{
    env,
    io::{BufRead, BufReader, Read},
    ops::{Deref, DerefMut},
    process::{Child, Command, Stdio},
};

/// Takes all variables away but those that any program needs. Those of the test's own environment must not decide: it
/// may have settings, proxies, another language, or a service manager that waits for notices.
pub fn without_variables(command: &mut Command) -> &mut Command {
    let kept = ["PATH", "HOME", "TMPDIR"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
    command.env_clear().envs(kept)
}

/// Whether this process may become other users. In a container, root may lack the right, or there are no others.
pub fn may_change_user() -> bool {
    let other = ["--reuid=65534", "--regid=65534", "--clear-groups", "true"];
    Command::new("setpriv").args(other).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A program that runs for as long as this lives.
pub struct Process(Child);

impl Process {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Sends a signal such as `-TERM`, by the shell: a bare system may lack the program `kill`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// The first line that it prints, without its end. What follows is not read.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The rest of its standard error.
    pub fn said(&mut self) -> String {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Ends it. It must exit with 0. Returns its standard error.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.signal("-TERM");
        let said = self.said();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
