//! The configuration file, from outside.
#![cfg(all(unix, feature = "full"))]

#[path = "common/program.rs"]
mod program;

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    path::PathBuf,
    process::{ChildStderr, Stdio},
    thread,
    time::{Duration, Instant},
};

use program::{Server, path, run, text, tuffet};

/// A directory with a file `a` in it that says so, and a configuration that serves it.
struct Place {
    directory: tempfile::TempDir,
    config: PathBuf,
}

impl Place {
    fn new(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("etc/tuffet.toml");
        for part in ["etc", "one", "two"] {
            fs::create_dir(directory.path().join(part)).unwrap();
            fs::write(directory.path().join(part).join("a"), part).unwrap();
        }
        let place = Self { directory, config };
        place.write("one", more);
        place
    }

    /// As editors do it.
    fn write(&self, source: &str, more: &str) {
        let text = format!("sources = [{:?}, \"memory:\"]\n{more}", self.directory.path().join(source));
        let new = self.config.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.config).unwrap();
    }

    fn config(&self) -> &str {
        path(&self.config)
    }
}

fn get(address: &str, name: &str) -> Option<String> {
    let got = run(&["get", "-q", address, name, "-"]);
    got.status.success().then(|| text(&got.stdout))
}

#[test]
fn options_and_variables_override_the_file() {
    let place = Place::new("listen = '127.0.0.1:1'\nwindowsize = 3\n[[rule]]\nname = '^b$'\ntarget = 'a'\n");
    let server = Server::start(&["--config", place.config()]);
    assert_eq!(get(&server.address, "b").as_deref(), Some("one"));
    server.stop("-TERM");

    let explain = |variable: Option<(&str, &str)>, args: &[&str]| {
        let mut command = tuffet(&[&["explain", "10.0.0.5", "b", "--options", "windowsize=9"], args].concat());
        let output = command.envs(variable).env("TUFFET_CONFIG", &place.config).output().unwrap();
        text(&output.stdout)
    };
    assert!(explain(None, &[]).contains("OACK windowsize=3"));
    assert!(explain(None, &[]).contains("tuffet.toml:4: yes"));
    assert!(explain(Some(("TUFFET_WINDOWSIZE", "4")), &[]).contains("OACK windowsize=4"));
    assert!(explain(Some(("TUFFET_WINDOWSIZE", "4")), &["--windowsize", "5"]).contains("OACK windowsize=5"));
    assert!(explain(None, &["--map", "b=>c"]).contains("answer   ERROR 1"), "the command line's rules come first");
}

#[test]
fn a_file_with_errors_is_not_served() {
    let place = Place::new("windowsize = 0\n\nuplod = true\n");
    let output = run(&["check-config", place.config()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("tuffet.toml:2:14: windowsize") && said.contains("tuffet.toml:4:1: uplod"), "{said}");
    assert!(said.contains("did you mean upload?"), "{said}");

    let output = run(&["serve", "--listen", "127.0.0.1:0", "--config", place.config()]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("tuffet.toml:2:14") && said.contains("check-config"), "{said}");

    place.write("one", "");
    let output = run(&["check-config", place.config()]);
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(text(&output.stdout), format!("{}: ok\n", place.config()));
    #[cfg(feature = "http")]
    for target in ["http://192.0.2.1/menu?file=${path}&client=${client}", "http://192.0.2.1/${mac}/${path}"] {
        place.write("one", &format!("[[rule]]\ntarget = '{target}'\n"));
        let output = run(&["check-config", place.config()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let gone = place.directory.path().join("gone");
    place.write("gone", &format!("[[rule]]\nroot = {:?}\n", gone.join("too")));
    let output = run(&["check-config", place.config()]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.lines().all(|line| line.starts_with(place.config()) && line.contains("create it, or name another")));
    let log = gone.join("log");
    place.write("gone", &format!("also = {gone:?}\nca = {gone:?}\ninterface = \"no-such-if\"\nlog-file = {log:?}\n"));
    let said = text(&run(&["check-config", place.config()]).stderr);
    assert!(said.contains("cannot write the log"), "{said}");
    for option in ["--also", "--ca", "--interface"] {
        let is_named = said.lines().any(|line| line.starts_with(&format!("{}: {option} ", place.config())));
        assert!(is_named || option == "--interface" && cfg!(not(target_os = "linux")), "{option}: {said}");
    }
    if cfg!(all(feature = "full", target_os = "linux")) {
        place.write("one", "user = \"no-such-user\"\n");
        let output = run(&["check-config", place.config()]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("no-such-user: there is no such user"), "{said}");
    }
    place.write("one", "");
    let missing = place.directory.path().join("missing");
    for args in [&["check-config", path(&missing)][..], &["serve", "--config", path(&missing)]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(path(&missing)), "{}", text(&output.stderr));
    }
}

/// A server that reloads, and its standard error.
struct Reloaded {
    server: Server,
    said: Lines<BufReader<ChildStderr>>,
}

impl Reloaded {
    fn start(args: &[&str]) -> Self {
        let mut server = Server::start(args);
        let said = BufReader::new(server.child.stderr.take().unwrap()).lines();
        Self { server, said }
    }

    /// Returns the lines up to the first with this text.
    fn reload(&mut self, until: &str) -> String {
        self.signal("-HUP");
        let mut lines = String::new();
        for line in self.said.by_ref().map_while(Result::ok) {
            lines = lines + &line + "\n";
            if line.contains(until) {
                return lines;
            }
        }
        panic!("{lines}");
    }

    fn signal(&self, signal: &str) {
        self.server.child.signal(signal);
    }

    fn stop(mut self) {
        self.signal("-TERM");
        let rest: Vec<String> = self.said.by_ref().map_while(Result::ok).collect();
        assert_eq!(self.server.child.wait().unwrap().code(), Some(0), "{rest:?}");
    }
}

#[test]
fn hup_reads_it_again_in_the_sandbox() {
    let place = Place::new("");
    let mut reloaded = Reloaded::start(&["--config", place.config()]);
    let address = reloaded.server.address.clone();
    assert_eq!(get(&address, "b"), None);
    place.write("one", "map = '^b$=>a'\n");
    reloaded.reload("new transfers follow it");
    assert_eq!(get(&address, "b").as_deref(), Some("one"));
    // Whatever the kernel supports, the server warns of a source that was not named at the start.
    place.write("two", "");
    let lines = reloaded.reload("two: restart the server if access is denied");
    assert!(lines.contains("the sandbox was made without /"), "{lines}");
    // The sandbox does not allow new uploads to an old source either. Fewer rights than before are no problem.
    place.write("one", "upload = true\n");
    reloaded.reload("the sandbox was made without these uploads to ");
    fs::create_dir(place.directory.path().join("one/sub")).unwrap();
    place.write("one/sub", "shards = 2\n");
    let lines = reloaded.reload("shards has changed");
    assert!(!lines.contains("the sandbox was made without"), "{lines}");
    // The URL of a webhook is checked without the certificates of the system, which are hidden now.
    place.write("one", "webhook = 'https://127.0.0.1/'\n");
    let lines = reloaded.reload("webhook has changed");
    assert!(!lines.contains("https will fail"), "{lines}");
    reloaded.stop();
}

#[test]
fn hup_reads_it_again() {
    let place = Place::new("");
    let mut reloaded = Reloaded::start(&["--config", place.config(), "--no-landlock"]);
    let address = reloaded.server.address.clone();
    let mut reload = |until: &str| reloaded.reload(until);
    assert_eq!(get(&address, "a").as_deref(), Some("one"));
    let put = |bytes: &[u8]| {
        let mut put = tuffet(&["put", "-q", &address, "-", "kept"]).stdin(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(bytes).unwrap();
        put.wait().unwrap().success()
    };
    assert!(put(b"in memory") && !put(b"replaced"));

    place.write("two", "[[rule]]\nname = '^b$'\ntarget = 'a'\n");
    reload("new transfers follow it");
    assert_eq!(get(&address, "a").as_deref(), Some("two"));
    assert_eq!(get(&address, "b").as_deref(), Some("two"));
    assert_eq!(get(&address, "kept").as_deref(), Some("in memory"));

    place.write("one", "windowsize = 'many'\n");
    let lines = reload("the reload failed and changed nothing");
    assert!(lines.contains("tuffet.toml:2:14: windowsize"), "{lines}");
    place.write("missing", "");
    reload("the reload failed and changed nothing");
    fs::write(place.config(), "").unwrap();
    let lines = reload("the reload failed and changed nothing");
    assert!(lines.contains("is it still being written?"), "{lines}");
    assert_eq!(get(&address, "b").as_deref(), Some("two"));

    place.write("missing", "overwrite = true\n");
    reload("the reload failed and changed nothing");
    assert!(!put(b"replaced"));
    place.write("two", "overwrite = true\n");
    reload("new transfers follow it");
    assert!(put(b"replaced"));
    assert_eq!(get(&address, "kept").as_deref(), Some("replaced"));

    place.write("two", "shards = 2\ndeny = '127.0.0.1'\n");
    let lines = reload("shards has changed");
    assert!(lines.contains("restart the server to apply it") && !lines.contains("deny"), "{lines}");
    let denied = run(&["get", "-q", "--patience", "1", &address, "a", "-"]);
    assert!(!denied.status.success() && text(&denied.stderr).contains("does not answer"), "{}", text(&denied.stderr));
    reloaded.stop();
}

#[test]
fn no_configuration_file_is_read_by_default() {
    let place = Place::new("nonsense");
    let output =
        tuffet(&["explain", "10.0.0.5", "tuffet.toml"]).current_dir(place.config.parent().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_fifo_is_read_if_a_program_writes_to_it() {
    let place = Place::new("");
    let fifo = place.directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for args in [&["check-config", path(&fifo)][..], &["serve", "--config", path(&fifo)]] {
        let said = text(&run(args).stderr);
        assert!(said.contains("no program writes to this FIFO"), "{said}");
    }
    #[cfg(feature = "http")]
    {
        let said = text(&run(&["serve", "--ca", path(&fifo), "http://127.0.0.1:9/"]).stderr);
        assert!(said.contains("name a regular file"), "{said}");
    }
    let writer = |fifo: PathBuf| thread::spawn(move || fs::write(fifo, "sources = ['memory:']\n").unwrap());
    let pipe = |mut command: std::process::Command| {
        let (mut child, text) = (command.stdin(Stdio::piped()).spawn().unwrap(), "windowsize = 3\n");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert!(pipe(tuffet(&["check-config", "/dev/stdin"])));
    let writing = writer(fifo.clone());
    // A read before the writer opens the FIFO fails.
    while !run(&["check-config", path(&fifo)]).status.success() {
        thread::sleep(Duration::from_millis(10));
    }
    writing.join().unwrap();
}

/// A disk that has gone can hold a reload for ever.
#[test]
fn a_reload_that_hangs_does_not_hold_the_end() {
    let place = Place::new("");
    let mut server = Server::start(&["--config", place.config()]);
    let fifo = place.directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::rename(&fifo, &place.config).unwrap();
    // It has a writer, which says nothing more.
    let mut writer = fs::File::options().read(true).write(true).open(&place.config).unwrap();
    writer.write_all(b"#").unwrap();
    server.child.signal("-HUP");
    while rustix::io::ioctl_fionread(&writer).unwrap() > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(get(&server.address, "a").as_deref(), Some("one"));
    server.child.signal("-TERM");
    let begun = Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
}
