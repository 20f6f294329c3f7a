//! `tuffet serve --http`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
};

use self::run::Process;
use super::client::Connection;

#[path = "../common/program.rs"]
pub mod run;

struct Program {
    child: Process,
    http: SocketAddr,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        let command = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let mut child = Process::start(run::tuffet(&command).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let http = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://")?.strip_suffix('/')?.parse().ok());
        let Some(http) = http else { panic!("{}", child.said()) };
        Self { child, http }
    }

    fn stop(self) -> String {
        self.child.stop()
    }
}

#[test]
fn the_program_prints_its_http_address_and_serves_there_in_its_sandbox() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("motd"), "hello\n").unwrap();
    let program = Program::start(&["--http", "127.0.0.1:0", place.path().to_str().unwrap()]);
    let addr = program.http;
    let answer = Connection::open(addr).get("/motd", &[]);
    assert_eq!((answer.status, answer.text()), (200, "hello\n"));
    assert_eq!(Connection::open(addr).put("/new", b"x", &[]).status, 403);
    let said = program.stop();
    assert!(said.contains(&format!("    curl -O http://{addr}/motd\n")), "{said}");
    assert!(said.contains("read motd complete 6 bytes") && said.contains("over HTTP 200"), "{said}");
}

#[test]
fn uploads_rules_and_json() {
    let place = tempfile::tempdir().unwrap();
    let files = place.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("real"), "mapped").unwrap();
    let files = files.to_str().unwrap();
    let map = ["--map", "^alias$=>real", "--log-format", "json"];
    let program = Program::start(&[&["--http", "127.0.0.1:0", "--upload", files], &map[..]].concat());
    let mut connection = Connection::open(program.http);
    assert_eq!(connection.get("/alias", &[]).text(), "mapped");
    assert_eq!(connection.put("/up", b"12345", &[]).status, 201);
    assert_eq!(connection.put("/up", b"12345", &[]).status, 409, "without --overwrite");
    let said = program.stop();
    assert!(said.contains("\"protocol\":\"http\",\"status\":409"), "{said}");
    assert_eq!(fs::read(place.path().join("files/up")).unwrap(), b"12345");
}

#[test]
fn the_key_of_a_configuration_file_and_its_reload() {
    let place = tempfile::tempdir().unwrap();
    let (before, after) = (place.path().join("before"), place.path().join("after"));
    for directory in [&before, &after] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("file"), directory.file_name().unwrap().to_str().unwrap()).unwrap();
    }
    let config = place.path().join("tuffet.toml");
    let write = |sources: &std::path::Path| {
        fs::write(&config, format!("sources = [{sources:?}]\nhttp = [\"127.0.0.1:0\"]\n")).unwrap();
    };
    write(&before);
    let check = run::run(&["check-config", config.to_str().unwrap()]);
    assert!(check.status.success(), "{}", run::text(&check.stderr));
    let program = Program::start(&["--config", config.to_str().unwrap(), "--no-landlock"]);
    let mut connection = Connection::open(program.http);
    assert_eq!(connection.get("/file", &[]).text(), "before");
    write(&after);
    program.child.signal("-HUP");
    super::common::eventually("the other directory is served", || connection.get("/file", &[]).text() == "after");
    drop(connection);
    program.stop();
    fs::write(&config, "http = 'localhost'\n").unwrap();
    let check = run::run(&["check-config", config.to_str().unwrap()]);
    assert!(run::text(&check.stderr).contains("http"), "{}", run::text(&check.stderr));
}

#[test]
fn a_wrong_http_address_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run::run(&["serve", "--listen", "127.0.0.1:0", "--http", &address]);
    let said = run::text(&output.stderr);
    assert!(said.contains("for HTTP") && said.contains("--http 127.0.0.1:"), "{said}");
    let output = run::run(&["serve", "--http", "127.0.0.1"]);
    assert!(run::text(&output.stderr).contains("192.0.2.1:8080"), "{}", run::text(&output.stderr));
    let pages = tempfile::tempdir().unwrap();
    run::run(&["man", "--dir", pages.path().to_str().unwrap()]);
    let page = fs::read_to_string(pages.path().join("tuffet-serve.1")).unwrap();
    assert!(page.contains("\\-\\-http"), "{page}");
    let output = run::run(&["completions", "bash"]);
    assert!(run::text(&output.stdout).contains("--http "), "{}", run::text(&output.stdout));
    let help = run::text(&run::run(&["serve", "--help"]).stdout);
    assert!(help.contains("--http <ADDR:PORT>"), "{help}");
}

/// As many use it.
#[test]
fn curl_gets_and_puts() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("skipped: there is no curl here");
    }
    let place = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    let file = place.path().join("file");
    fs::write(&file, &bytes).unwrap();
    let program = Program::start(&["--http", "127.0.0.1:0", "memory:"]);
    let url = format!("http://{}/dir/file", program.http);
    let curl = |args: &[&str]| {
        let output = Command::new("curl")
            .args(["-sSf", "--noproxy", "*", "--max-time", "60"])
            .args(args)
            .arg(&url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", run::text(&output.stderr));
        output.stdout
    };
    curl(&["-T", file.to_str().unwrap()]);
    assert!(curl(&[]) == bytes);
    assert!(curl(&["-r", "1000000-"]) == bytes[1_000_000..]);
    assert!(curl(&["-0"]) == bytes);
    // It goes on where another has stopped.
    let half = place.path().join("half");
    fs::write(&half, &bytes[..1_234_567]).unwrap();
    curl(&["-C", "-", "-o", half.to_str().unwrap()]);
    assert!(fs::read(half).unwrap() == bytes);
    program.stop();
}
