//! `--on-upload` and `--webhook`, from outside: a real command, and a web server that refuses first or never answers.
#![cfg(all(unix, feature = "full"))]

mod common;
#[path = "common/program.rs"]
mod program;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Peer};
use program::{Process, Server, run, text, tuffet};
use upstream::Upstream;

/// Waits for a file to hold as many lines.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(Into::into).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(begun.elapsed() < LONG, "{} has only {text:?}", path.display());
        thread::sleep(Duration::from_millis(20));
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("up")).unwrap();
        fs::write(place.path("up/there"), "text").unwrap();
        fs::write(place.path("sent"), "some text").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn put(&self, server: &Server, name: &str) {
        let put = run(&["put", "-q", &server.address, &self.text("sent"), name]);
        assert!(put.status.success(), "{}", text(&put.stderr));
    }
}

#[test]
fn a_command_is_run_after_each_upload_and_nothing_is_pasted() {
    let place = Place::new();
    let (script, out) = (place.text("hook.sh"), place.path("out"));
    fs::write(
        &script,
        "read json; echo \"$TFTP_PATH|$TFTP_BYTES|$TFTP_OUTCOME|${TFTP_CODE-none}|$1|$json\" >>\"$2\"\n",
    )
    .unwrap();
    let command = format!("sh '{script}' 'one word $HOME' '{}'", out.display());
    let server = Server::start(&[&place.text("up"), "--upload", "--on-upload", &command]);
    place.put(&server, "a.cfg");
    place.put(&server, "$(touch x); b");
    run(&["get", "-q", &server.address, "there", "-"]);
    run(&["get", "-q", &server.address, "missing", "-"]);
    let told = lines(&out, 2);
    assert!(told[0].starts_with("a.cfg|9|complete|none|one word $HOME|{\"time\":"), "{told:?}");
    assert!(told[1].starts_with("$(touch x); b|9|complete|"), "{told:?}");
    let said = server.stop("-TERM");
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 2, "uploads alone");
    assert!(said.contains("sandbox: ") && !said.contains("--on-upload "), "{said}");
}

/// Neither the name nor the address alone tells that.
#[test]
fn the_command_is_told_where_the_file_is() {
    let place = Place::new();
    let (script, out) = (place.text("hook.sh"), place.path("out"));
    fs::write(&script, "echo \"$(cat \"$TFTP_TARGET\") in $TFTP_TARGET\" >>\"$1\"\n").unwrap();
    let command = format!("sh '{script}' '{}'", out.display());
    let rule = "^asked/(.*)=>$1";
    let server =
        Server::start(&[&place.text("up"), "--upload", "--upload-per-client", "--map", rule, "--on-upload", &command]);
    place.put(&server, "asked/a.cfg");
    let stored = place.path("up").join("127.0.0.1/a.cfg");
    assert_eq!(lines(&out, 1), [format!("some text in {}", stored.display())]);
    let said = server.stop("-TERM");
    assert!(said.contains(&format!(" to {} ", stored.display())), "{said}");
}

/// A command does not get the server's secrets, and has the usual environment.
#[test]
fn the_command_has_a_clean_environment() {
    let place = Place::new();
    let out = place.path("out");
    let command = format!("sh -c 'env >\"$0.new\"; mv \"$0.new\" \"$0\"' '{}'", out.display());
    let server = Server::start_with(&[&place.text("up"), "--upload", "--on-upload", &command], |server| {
        let secrets = ["AWS_SECRET_ACCESS_KEY", "TUFFET_HEADER", "https_proxy", "TFTP_PATH", "TFTP_KEY"];
        server.envs(secrets.map(|name| (name, "X-Key: s3cret")));
        server.envs([("HOME", "/a/home"), ("LANG", "C.UTF-8"), ("LC_TIME", "C"), ("TZ", "UTC")]);
    });
    place.put(&server, "a.cfg");
    lines(&out, 1);
    let told = fs::read_to_string(&out).unwrap();
    assert!(!told.contains("s3cret"), "{told}");
    let name = |line: &str| line.split_once('=').map(|(name, _)| name.to_owned());
    let of_shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let documented = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_TIME", "TZ", "TMPDIR"];
    let is_expected = |name: &String| {
        name.starts_with("TFTP_") || documented.contains(&name.as_str()) || of_shells.contains(&name.as_str())
    };
    let others: Vec<_> = told.lines().filter_map(name).filter(|name| !is_expected(name)).collect();
    assert_eq!(others, [""; 0], "{told}");
    for line in ["HOME=/a/home", "LANG=C.UTF-8", "LC_TIME=C", "TZ=UTC", "TFTP_PATH=a.cfg"] {
        // As root, the server becomes another user, with another home.
        let may_differ = line.starts_with("HOME") && told.lines().any(|told| told == "LOGNAME=nobody");
        assert!(may_differ || told.lines().any(|told| told == line), "{line}: {told}");
    }
    // The helper has no secrets either: the command could read its environment.
    #[cfg(target_os = "linux")]
    {
        let id = server.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let helper = children.split_whitespace().next().expect("a helper");
        let environment = text(&fs::read(format!("/proc/{helper}/environ")).unwrap());
        assert!(environment.contains("LANG=") && !environment.contains("s3cret"), "{environment}");
    }
    server.stop("-TERM");
}

/// Linux keeps 15 bytes of a name.
#[cfg(target_os = "linux")]
#[test]
fn each_hook_has_a_thread_of_its_name() {
    let place = Place::new();
    let server = Server::start(&[&place.text("up"), "--upload", "--on-upload", "true", "--webhook", "http://[::1]:9/"]);
    let tasks = format!("/proc/{}/task", server.child.id());
    let names = || -> Vec<String> {
        let threads = fs::read_dir(&tasks).unwrap();
        threads.flat_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm"))).collect()
    };
    // A thread names itself when it begins.
    common::eventually("a thread for each hook", || {
        ["on-upload\n", "webhook\n"].iter().all(|hook| names().iter().any(|name| name == hook))
    });
}

#[test]
fn a_command_that_fails_or_hangs_is_told_and_delays_no_transfer() {
    let place = Place::new();
    let script = "case $TFTP_PATH in bad) echo no repository >&2; exit 3;; slow) sleep 1000;; esac; echo >>\"$0\"";
    let command = format!("sh -c '{script}' '{}'", place.text("out"));
    let server = Server::start(&[&place.text("up"), "--upload", "--on-upload", &command, "--on-upload-timeout", "3s"]);
    // All three are put at once, and the command is still at the first.
    for name in ["slow", "bad", "good"] {
        place.put(&server, name);
    }
    lines(&place.path("out"), 1);
    let said = server.stop("-TERM");
    assert!(said.contains("sh was killed after 3s"), "{said}");
    assert!(said.contains("sh ended with 3: no repository"), "{said}");
}

#[test]
fn waiting_reports_are_delivered_at_the_end() {
    let place = Place::new();
    let command = format!("sh -c 'sleep 0.1; echo >>\"$0\"' '{}'", place.text("out"));
    let server = Server::start(&[&place.text("up"), "--upload", "--on-upload", &command]);
    (0..4).for_each(|n| place.put(&server, &n.to_string()));
    let said = server.stop("-TERM");
    // On a machine that is slow beyond all measure the last of it is given up, and that is said.
    let lost =
        said.split_once("transfers not reported to --on-upload: ").map_or(0, |(_, rest)| rest[..1].parse().unwrap());
    assert_eq!(fs::read_to_string(place.path("out")).unwrap().lines().count() + lost, 4, "{said}");
}

#[test]
#[ignore = "needs root"]
fn the_command_is_run_as_the_user_of_the_server_without_capabilities() {
    const NOBODY: u32 = 65534;
    let place = Place::new();
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["up", "up/there"] {
        chown(place.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let command = "sh -c 'id -u; id -G; echo $HOME of $USER; grep -E \"Cap|NoNew\" /proc/self/status; false'"
        .replace("false", "exit 9 >&2");
    let command = command.replace("sh -c '", "sh -c 'exec >&2; ");
    let server = Server::start(&[&place.text("up"), "--upload", "--on-upload", &command]);
    place.put(&server, "a.cfg");
    let said = server.stop("-TERM");
    let line = said.lines().find(|line| line.contains("sh ended with 9")).expect(&said);
    assert!(line.contains("65534\\n65534\\n") && line.contains("NoNewPrivs:\\t1"), "{line}");
    assert!(line.contains(" of nobody\\n") && !line.contains("/root"), "{line}");
    let sets = line.split("Cap").skip(1).map(|set| set.split("\\t").nth(1).unwrap()[..16].to_owned());
    assert!(sets.clone().count() == 5 && sets.clone().all(|set| set == "0".repeat(16)), "{line}");
}

/// A request and its answer.
type Asked = (String, String, TcpStream);

/// A web server that hands each request on, with its connection.
fn web() -> (String, Receiver<Asked>) {
    let (sender, receiver) = channel();
    let web = Upstream::by_connection(move |mut stream| {
        let head = upstream::read_head(&mut stream).unwrap_or_default();
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        _ = stream.read_exact(&mut body);
        _ = sender.send((head, text(&body), stream));
    });
    (web.url() + "hook?token=7", receiver)
}

fn answer(mut stream: TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    _ = stream.write_all(answer.as_bytes());
}

#[test]
fn a_web_server_that_refuses_at_first_is_told_again() {
    let (place, (url, asked)) = (Place::new(), web());
    let server = Server::start(&[&place.text("up"), "--upload", "--webhook", &url]);
    run(&["get", "-q", &server.address, "there", "-"]);
    run(&["get", "-q", &server.address, "missing", "-"]);
    place.put(&server, "a.cfg");
    let told = || asked.recv_timeout(LONG).unwrap();
    let (head, first, stream) = told();
    assert!(head.starts_with("POST /hook?token=7 HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(head.contains("x-tuffet-event: upload") && head.contains("content-type: application/json"), "{head}");
    let record: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        (&record["path"], &record["outcome"], &record["bytes"]),
        (&"a.cfg".into(), &"complete".into(), &9.into())
    );
    answer(stream, "503 Service Unavailable");
    let (_, second, stream) = told();
    assert_eq!(second, first);
    // The client vanishes.
    drop(stream);
    let (_, third, stream) = told();
    assert_eq!(third, first);
    answer(stream, "204 No Content");
    // A record that the web server rejects is not sent again.
    place.put(&server, "b.cfg");
    answer(told().2, "410 Gone");
    place.put(&server, "c.cfg");
    let (_, last, stream) = told();
    assert!(last.contains("\"path\":\"c.cfg\""), "{last}");
    answer(stream, "200 OK");
    let said = server.stop("-TERM");
    assert!(said.contains("answered 503 Service Unavailable; next try in 500ms"), "{said}");
    assert!(
        said.contains("accepts records again") && said.contains("did not accept a record: answered 410 Gone"),
        "{said}"
    );
    assert!(said.contains("--webhook did not get 1 transfer"), "{said}");
    assert!(!said.contains("token"), "it may be a secret: {said}");
}

#[test]
fn events_are_chosen() {
    let (place, (url, asked)) = (Place::new(), web());
    let server = Server::start(&[&place.text("up"), "--webhook", &url, "--webhook-on", "complete,refused"]);
    for (name, event, outcome) in [("there", "complete", "complete"), ("missing", "refused", "refused")] {
        run(&["get", "-q", &server.address, name, "-"]);
        let (head, body, stream) = asked.recv_timeout(LONG).unwrap();
        answer(stream, "200 OK");
        assert!(head.to_lowercase().contains(&format!("x-tuffet-event: {event}\r\n")), "{head}");
        assert!(body.contains(&format!("\"outcome\":\"{outcome}\"")), "{body}");
    }
}

/// At most 1000 records wait. The oldest are dropped and counted, and no transfer waits.
#[test]
fn a_web_server_that_never_answers_costs_the_oldest_records() {
    let (place, (url, asked)) = (Place::new(), web());
    let mut command = tuffet(&["serve", "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", &place.text("up")]);
    let command = command.args(["--webhook", &url, "--webhook-on", "complete", "--log-format", "text"]);
    let mut server = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut said = BufReader::new(server.stderr.take().unwrap());
    let mut line = server.first_line();
    let address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    let page = loop {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0);
        if let Some((_, page)) = line.trim_end().split_once("status at http://") {
            break page.trim_end_matches('/').to_owned();
        }
    };
    // No test reads the rest, and the program waits for no reader.
    thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    for _ in 0..1100 {
        let mut peer = Peer::new(address);
        peer.send_bytes(b"\0\x01there\0octet\0");
        peer.receive();
        peer.ack(1);
    }
    let metric = |name: &str| {
        let mut stream = TcpStream::connect(&page).unwrap();
        _ = write!(stream, "GET /metrics HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    let begun = Instant::now();
    // One is on its way, 1000 wait, and a few may be repetitions.
    while metric("tuffet_webhook_lost_total") < 99 {
        assert!(begun.elapsed() < LONG);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(asked.try_iter().next().is_some());
}

#[test]
fn a_hook_that_cannot_work_is_an_error_at_the_start() {
    let place = Place::new();
    let config = place.text("tuffet.toml");
    for (line, why) in [
        ("on-upload = 'no-such-program x'", "cannot find the program no-such-program"),
        ("on-upload = \"sh 'x\"", "a quotation mark is not closed"),
        ("on-upload = 'cp $TFTP_PATH /x'", "no shell would read `$TFTP_PATH`; use sh -c"),
        ("on-upload = 'cat | wc -c'", "no shell would read `|`; use sh -c"),
        ("on-upload-timeout = 'soon'", "on-upload-timeout"),
        ("webhook = 'ftp://h/'", "neither http nor https"),
        ("webhook-on = ['uploads']", "webhook-on"),
    ] {
        fs::write(&config, format!("sources = ['{}']\nupload = true\n{line}\n", place.text("up"))).unwrap();
        let checked = run(&["check-config", &config]);
        assert!(!checked.status.success() && text(&checked.stderr).contains(why), "{line}: {}", text(&checked.stderr));
        let served = run(&["serve", "--listen", "127.0.0.1:0", "--config", &config]);
        assert!(!served.status.success() && text(&served.stderr).contains(why), "{line}: {}", text(&served.stderr));
    }
}
