//! `--on-upload`.
//!
//! The server may run no program from within its sandbox. So before it enters the sandbox, it starts itself once more
//! as a helper that runs this one command and nothing else. The helper gets a line of JSON for each upload by a pipe,
//! and answers with a line when the command has ended. Whatever a defect of the server might do, it can choose neither
//! a program nor the words of the command line. The helper is the same user without capabilities, but has no landlock,
//! because nobody knows which files the command needs. It ends with the server.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use serde_json::Value;
use tuffet::stats::Counter;

use super::{Event, Reporter, Result};
use crate::cli::{limits, sandbox};

/// The first argument of the helper.
const HELPER: &str = "tuffet-on-upload";
/// The prefix of the command's variables for the fields of a record.
const PREFIX: &str = "TFTP_";
/// The variables of the server's environment that the helper and the command have, besides those of [`LANGUAGE`]. Other
/// variables may be secrets of the server, such as the keys of a bucket, or messages to it from the service manager.
const KEPT: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"];
/// The prefix of further variables for the language.
const LANGUAGE: &str = "LC_";
/// Words that make sense to a shell only.
const SHELL_ONLY: [&str; 6] = ["|", "||", "&&", ">", ">>", "<"];
/// How much of the end of the command's standard error is logged, in characters.
const STDERR_TAIL: usize = 300;
/// How often the helper checks whether the command has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A command, as the user wrote it and split into words.
#[derive(Clone, Debug)]
pub struct Words(Vec<String>);

/// Splits a command as a shell does, without expansion.
pub fn words(text: &str) -> std::result::Result<Words, String> {
    let words = shlex::split(text).ok_or("a quotation mark is not closed")?;
    if words.is_empty() {
        return Err("the command is empty".into());
    }
    let mut after_shell = words.iter().skip_while(|word| !word.ends_with("sh"));
    let has_shell = after_shell.any(|word| word.starts_with('-') && word.ends_with('c'));
    let is_for_shell =
        |word: &&String| SHELL_ONLY.contains(&word.as_str()) || word.contains("$TFTP_") || word.contains("${TFTP_");
    match words.iter().find(is_for_shell).filter(|_| !has_shell) {
        Some(word) => Err(format!("no shell would read `{word}`; use sh -c 'COMMAND'")),
        None => Ok(Words(words)),
    }
}

/// The path of a command's program.
pub fn program(words: &Words) -> Result<PathBuf> {
    let name = &words.0[0];
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let found = match name.contains('/') {
        true if Path::new(name).is_file() && !is_program(Path::new(name)) => {
            return Err(format!("--on-upload: {name} is not executable; `chmod +x {name}` makes it so").into());
        }
        true => Some(PathBuf::from(name)).filter(|path| is_program(path)),
        false => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).map(|directory| directory.join(name)).find(|path| is_program(path))
        }
    };
    Ok(found.ok_or_else(|| format!("--on-upload: cannot find the program {name}"))?)
}

/// The process that runs the command.
struct Helper {
    _process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts the helper, which changes to the user with these ids.
pub fn reporter(words: &Words, limit: Duration, ids: Option<String>) -> Result<Reporter> {
    let program = program(words)?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(HELPER).arg(ids.unwrap_or_default()).arg(limit.as_millis().to_string()).arg(program);
    command.args(&words.0[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env_clear().envs(env::vars_os().filter(|(name, _)| is_kept(name)));
    // Ctrl-C is for the server, which ends when all uploads are reported.
    let spawned = command.process_group(0).spawn();
    let mut process = spawned.map_err(|error| format!("--on-upload: {}", limits::not_started("process", &error)))?;
    let (Some(asks), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
        return Err("--on-upload: no pipe".into());
    };
    let mut helper = Helper { _process: process, asks, answers: BufReader::new(answers) };
    let lost = Counter::new("on_upload_lost", "Uploads for which the command of --on-upload was not run.");
    Ok(Reporter::new(("--on-upload", vec![Event::Upload], lost), move |_, json| {
        let run = helper.run(json);
        match &run {
            Ok(None) => {}
            Ok(Some(why)) => log::error!("--on-upload {why}"),
            Err(error) => log::error!("--on-upload does not run any more: its helper process has ended ({error})"),
        }
        run.map(|_| true)
    }))
}

impl Helper {
    /// Returns the error, if the command failed.
    fn run(&mut self, json: &str) -> io::Result<Option<String>> {
        writeln!(self.asks, "{json}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Runs as the helper, if this process was started as one.
pub fn helper() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    if args.next()? != HELPER {
        return None;
    }
    let (ids, limit) = (args.next()?, args.next()?);
    let limit = Duration::from_millis(limit.to_str()?.parse().ok()?);
    let words: Vec<OsString> = args.collect();
    let run = || {
        let own = sandbox::become_user(&ids.to_string_lossy())?;
        for json in io::stdin().lock().lines() {
            let why = run(&words, &own, limit, &json?).err();
            println!("{}", serde_json::to_string(&why)?);
        }
        Result::Ok(())
    };
    Some(match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tuffet: --on-upload: {error}");
            ExitCode::FAILURE
        }
    })
}

fn is_kept(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| KEPT.contains(&name) || name.starts_with(LANGUAGE))
}

/// Runs the command for one upload. It has the environment of the helper, and its user's `own` variables.
fn run(words: &[OsString], own: &[(&str, OsString)], limit: Duration, json: &str) -> std::result::Result<(), String> {
    let (program, args) = words.split_first().ok_or("no command")?;
    let shown = Path::new(program).display();
    let mut command = Command::new(program);
    command.args(args).envs(own.iter().cloned()).envs(variables(json)).process_group(0);
    let started = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| {
        let is_script = error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error());
        let help = if is_script { "; a script begins with a line such as #!/bin/sh" } else { "" };
        format!("cannot run {shown}: {error}{help}")
    })?;
    // A pipe has room for more than a record, so this never waits; and the command need not read it.
    if let Some(mut stdin) = child.stdin.take() {
        _ = writeln!(stdin, "{json}");
    }
    let mut tail = StderrTail::of(child.stderr.take());
    let begun = Instant::now();
    let status = loop {
        tail.read();
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < limit => thread::sleep(POLL_INTERVAL),
            _ => {
                // Kill the command with its process group.
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                group.map(|group| kill_process_group(group, Signal::KILL));
                _ = child.wait();
                break None;
            }
        }
    };
    let tail = tail.end();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(match (status.code(), status.signal()) {
            (Some(code), _) => format!("{shown} ended with {code}{tail}"),
            (_, Some(signal)) => format!("{shown} was ended by signal {signal}{tail}"),
            _ => format!("{shown} failed{tail}"),
        }),
        None => Err(format!("{shown} was killed after {limit:?}{tail}")),
    }
}

/// The end of the command's standard error. Nothing waits for its pipe, which background processes may keep open.
struct StderrTail {
    pipe: Option<ChildStderr>,
    bytes: Vec<u8>,
}

impl StderrTail {
    fn of(pipe: Option<ChildStderr>) -> Self {
        let pipe = pipe.filter(|pipe| fcntl_setfl(pipe, OFlags::NONBLOCK).is_ok());
        Self { pipe, bytes: Vec::new() }
    }

    /// Takes the bytes in the pipe.
    fn read(&mut self) {
        let (Some(pipe), mut buffer) = (&mut self.pipe, [0; 4096]) else { return };
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            self.bytes.extend_from_slice(&buffer[..read]);
            let surplus = self.bytes.len().saturating_sub(STDERR_TAIL);
            self.bytes.drain(..surplus);
        }
    }

    /// `: ` and the text, if there is any.
    fn end(mut self) -> String {
        self.read();
        let tail = String::from_utf8_lossy(&self.bytes).trim().escape_debug().to_string();
        if tail.is_empty() { tail } else { format!(": {tail}") }
    }
}

/// The variables `TFTP_PATH`, `TFTP_CLIENT` and so on: one for each field of the record that has a value.
fn variables(json: &str) -> BTreeMap<String, String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else { return BTreeMap::new() };
    let text = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        Value::Object(options) => {
            let options = options.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
            Some(options.collect::<Vec<_>>().join(" "))
        }
        other => Some(other.to_string()),
    };
    let variable = |(name, value): (String, Value)| Some((format!("{PREFIX}{}", name.to_uppercase()), text(value)?));
    fields.into_iter().filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_variables() {
        let json = r#"{"path":"a; rm -rf $HOME","bytes":7,"code":null,"asked":{"blksize":"512","tsize":"7"}}"#;
        let variables = variables(json);
        let expected = [("TFTP_ASKED", "blksize=512 tsize=7"), ("TFTP_BYTES", "7"), ("TFTP_PATH", "a; rm -rf $HOME")];
        assert!(variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected), "{variables:?}");
    }

    #[test]
    fn commands_are_split_and_not_expanded() {
        assert_eq!(words(r#"sh -c 'echo "$HOME"' a\ b"#).unwrap().0, ["sh", "-c", "echo \"$HOME\"", "a b"]);
        assert!(words("sh 'x").is_err() && words("  ").is_err());
        for with_shell in ["sh -c 'cp $TFTP_PATH /x'", "timeout 5 /bin/bash -e -c 'cat | wc -c'", "env sh -ec 'a > b'"]
        {
            assert!(words(with_shell).is_ok(), "{with_shell}");
        }
        for without in ["cp $TFTP_PATH /x", "cat | wc -c", "wc -c ${TFTP_PATH}", "push --to a > b"] {
            assert!(words(without).unwrap_err().contains("sh -c 'COMMAND'"), "{without}");
        }
        assert!(program(&words("sh").unwrap()).unwrap().ends_with("sh"));
        let why = program(&words("no-such-program-here").unwrap()).unwrap_err().to_string();
        assert!(why.contains("cannot find the program no-such-program-here"), "{why}");
        let why = program(&words("/etc/passwd").unwrap()).unwrap_err().to_string();
        assert!(why.contains("/etc/passwd is not executable"), "{why}");
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_all_that_it_started() {
        let words = |script: &str| ["sh", "-c", script].map(OsString::from);
        let run = |words: &[OsString], limit, json: &str| run(words, &[], limit, json);
        let why = run(&words("echo begun >&2; sleep 1000 | sleep 1000"), Duration::from_secs(2), "{}").unwrap_err();
        assert_eq!(why, "sh was killed after 2s: begun");
        let why = run(&words("echo $TFTP_PATH >&2; exit 3"), Duration::from_secs(60), r#"{"path":"x"}"#).unwrap_err();
        assert_eq!(why, "sh ended with 3: x");
        assert_eq!(run(&words("read json; test \"$json\" = '{}'"), Duration::from_secs(60), "{}"), Ok(()));
        assert!(run(&["/no/program".into()], Duration::from_secs(60), "{}").unwrap_err().contains("cannot run"));
        let temp = tempfile::tempdir().unwrap();
        let script = temp.path().join("script");
        // Another process writes it, so that no thread of this one has it open when it is run.
        let make = format!("echo true >'{0}'; chmod +x '{0}'", script.display());
        assert_eq!(run(&words(&make), Duration::from_secs(60), "{}"), Ok(()));
        let why = run(&[script.into()], Duration::from_secs(60), "{}").unwrap_err();
        assert!(why.ends_with("; a script begins with a line such as #!/bin/sh"), "{why}");
    }
}
