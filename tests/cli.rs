//! The program, from outside: what it prints, where, and how it exits.
#![cfg(all(unix, feature = "cli"))]

#[path = "common/program.rs"]
mod program;

use std::{fs, io::Write, process::Stdio};

use program::{Process, Server, path, run, text, tuffet};

/// It fails with 1 and one line, which it returns.
fn failure(args: &[&str]) -> String {
    let output = run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(said.starts_with("tuffet: ") && said.ends_with('\n') && said.lines().count() == 1, "{args:?}: {said}");
    said
}

#[test]
fn help_and_version() {
    let version = run(&["--version"]);
    assert_eq!(text(&version.stdout), format!("tuffet {}\n", env!("CARGO_PKG_VERSION")));
    let commands: &[&str] = match cfg!(feature = "full") {
        true => &["", "serve", "get", "put", "boot", "demo", "explain", "check-config", "completions", "man"],
        false => &["", "serve", "get", "put"],
    };
    for command in commands {
        let args = [*command, "--help"];
        let args = if command.is_empty() { &args[1..] } else { &args };
        let help = run(args);
        assert!(help.status.success());
        let help = text(&help.stdout);
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 120, "{widest} columns: {help}");
    }
}

#[test]
fn upload_options_of_directories_are_refused_for_other_sources() {
    let said = failure(&["serve", "memory:", "--upload-names", "*.cfg"]);
    assert!(said.contains("--upload-names, --upload-per-client and --keep-versions are for directories"), "{said}");
}

#[test]
fn a_wrong_variable_is_called_by_its_name() {
    for (name, value) in [("SHARDS", "0"), ("UPLOAD", "disabled"), ("VERBOSE", "x"), ("PATIENCE", "foo")] {
        // The same value stands in another option.
        let mut tuffet = tuffet(&["serve", "--listen", "127.0.0.1:0", "--log-file", "x"]);
        let output = tuffet.env(format!("TUFFET_{name}"), value).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with(&format!("tuffet: TUFFET_{name}={value}: n")), "{said}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for args in [
        &[][..],
        &["bake"],
        &["serve", "--blksize", "7"],
        &["serve", "ftp://127.0.0.1/"],
        &["get"],
        &["get", "127.0.0.1"],
        &["get", "127.0.0.1", "directory/"],
        &["get", "tftp://127.0.0.1/directory/"],
        &["get", "tftp://127.0.0.1/name", "file", "more"],
        &["put", "tftp://127.0.0.1/name", "file", "name"],
        &["get", "tftp://127.0.0.1/name;mode=mail"],
        &["serve", "--lisen", ":6969"],
        &["serve", "--patience", "foo"],
        &["serve", "--drain", "999999999y"],
        &["get", "tftp://127.0.0.1/name", "tftp://127.0.0.1/other"],
        &["put", "file", "tftp://127.0.0.1/name"],
        &["get", "tftp://127.0.0.1"],
        &["get", "tftp://127.0.0.1/", "file"],
        &["probe", "tftp://127.0.0.1"],
        &["get", "127.0.0.1:x", "file"],
        &["put", "127.0.0.1", "-"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
        let said = text(&output.stderr);
        assert!(args.is_empty() || (said.starts_with("tuffet: ") && said.lines().count() == 1), "{args:?}: {said}");
    }
}

#[test]
fn a_server_that_cannot_start_says_why_and_what_helps() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let said = failure(&["serve", "--listen", "127.0.0.1:0", path(&missing)]);
    assert!(said.contains(path(&missing)) && said.contains("name another directory"), "{said}");

    let log = missing.join("log");
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--log-file", path(&log), path(directory.path())]);
    assert!(said.contains(path(&log)) && said.contains("--log-file"), "{said}");

    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--upload", "http://127.0.0.1:1/"]);
    assert!(said.contains("--upload"), "{said}");

    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--upload-names", "a[", path(directory.path())]);
    assert!(said.contains("--upload-names a["), "{said}");

    #[cfg(feature = "http")]
    {
        let said = failure(&["serve", "--listen", "127.0.0.1:0", "--ca", path(&missing), "http://127.0.0.1:1/"]);
        assert!(said.contains("--ca") && said.contains(path(&missing)), "{said}");
    }

    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = failure(&["serve", "--listen", &address, path(directory.path())]);
    assert!(said.contains(&address) && said.contains("--listen 127.0.0.1:"), "{said}");
    let (_, other) = said.trim_end().rsplit_once("--listen ").unwrap();
    assert_ne!(other, address, "{said}");
    std::net::UdpSocket::bind(other).unwrap();
}

#[test]
fn options_without_effect_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let said = Server::start(&["--overwrite", "--mkdir", path(directory.path())]).stop("-TERM");
    assert!(said.contains("--overwrite has no effect without --upload") && said.contains("--mkdir has"), "{said}");
    let said = Server::start(&["--overwrite", "--upload", path(directory.path())]).stop("-TERM");
    assert!(!said.contains("no effect"), "{said}");
    let said = Server::start(&["--ignore-case", "memory:"]).stop("-TERM");
    assert!(said.contains("--ignore-case has an effect in directories only"), "{said}");
    let said = Server::start(&["-q", "--overwrite", path(directory.path())]).stop("-TERM");
    assert_eq!(said, "");
}

#[test]
fn variables_hold_lists_and_unknown_ones_are_told() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join(name), name).unwrap();
    }
    let both = ["one", "two"].map(|name| directory.path().join(name).display().to_string()).join(",");
    let explain = |name: &str, set: &[(&str, &str)]| {
        let output = tuffet(&["explain", "10.0.0.5", name]).envs(set.iter().copied()).output().unwrap();
        (output.status.success(), text(&output.stderr))
    };
    for name in ["one", "two"] {
        assert_eq!(explain(name, &[("TUFFET_SOURCE", &both)]), (true, String::new()));
    }
    assert!(!explain("three", &[("TUFFET_SOURCE", &both)]).0);
    // Containers set empty variables for options that are not used.
    let lists = [("TUFFET_SOURCE", &both[..]), ("TUFFET_ALLOW", "10.0.0.0/8, ::1"), ("TUFFET_DENY", "")];
    assert_eq!(explain("one", &lists), (true, String::new()));
    let unused = ["BLKSIZE", "CA", "CONFIG", "LOG_FILE", "MAX_UPLOAD", "OPTIONS", "PATIENCE", "STATUS", "UMASK"];
    let more = ["HTTP", "PORT_RANGE", "UPLOAD", "USER", "VERBOSE", "WEBHOOK"];
    let empty: Vec<_> = unused.iter().chain(&more).map(|name| format!("TUFFET_{name}")).collect();
    let empty: Vec<_> = empty.iter().map(|name| (&name[..], "")).chain([("TUFFET_SOURCE", &both[..])]).collect();
    assert_eq!(explain("one", &empty), (true, String::new()));
    assert!(!explain("one", &[("TUFFET_SOURCE", &both), ("TUFFET_ALLOW", "10.0.1.0/24, ::1")]).0);
    let (_, said) = explain("one", &[("TUFFET_SOURCES", &both)]);
    assert!(said.contains("TUFFET_SOURCES; did you mean TUFFET_SOURCE?") && said.lines().count() == 1, "{said}");
    // Files with variables may have the line ends of Windows; that of Docker keeps quotation marks.
    let lines = [
        ("TUFFET_UPLOAD", "true\r"),
        ("TUFFET_MAX_UPLOAD", "5M\r"),
        ("TUFFET_MIN_FREE", "\r"),
        ("TUFFET_PATIENCE", " 5s "),
    ];
    assert_eq!(explain("one", &[&lines[..], &[("TUFFET_SOURCE", &both)]].concat()), (true, String::new()));
    for quoted in [("TUFFET_SOURCE", "\"/srv/tftp\""), ("TUFFET_PATIENCE", "'5s'"), ("TUFFET_UPLOAD", "\"true\"")] {
        let (_, said) = explain("one", &[quoted]);
        assert!(said.ends_with("leave them out\n") && said.contains(quoted.1), "{said}");
    }
    let (_, said) = explain("one", &[("TUFFET_PATIENCE", "foo")]);
    assert!(said.contains("TUFFET_PATIENCE=foo: not a time"), "{said}");
}

#[test]
fn errors_take_one_line_whatever_a_path_holds() {
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "no\nsuch\u{1b}[2J"]);
    assert!(said.contains(r"cannot serve no\nsuch\u{1b}[2J: "), "{said}");
    let said = failure(&["serve", "~/tftp"]);
    assert!(said.ends_with("only a shell replaces `~` and `$`: write the whole path\n"), "{said}");
}

#[test]
fn urls_are_got_and_put() {
    let directory = tempfile::tempdir().unwrap();
    let served = directory.path().join("served");
    fs::create_dir(&served).unwrap();
    fs::write(served.join("a b"), "text\n").unwrap();
    let server = Server::start(&["--upload", path(&served)]);
    let url = format!("tftp://{}/", server.address);
    let got = tuffet(&["get", &format!("{url}a%20b;mode=octet")]).current_dir(directory.path()).output().unwrap();
    assert!(got.status.success(), "{}", text(&got.stderr));
    let file = directory.path().join("a b");
    assert_eq!(fs::read(&file).unwrap(), b"text\n");
    assert_eq!(run(&["get", "-q", &format!("{url}a%20b;mode=octet"), "-"]).stdout, b"text\n");
    for (to, name) in [("new", "new"), ("", "a b.2")] {
        let file = directory.path().join(name);
        fs::write(&file, "text\n").unwrap();
        let put = run(&["put", "-q", &format!("{url}{to}"), path(&file)]);
        assert!(put.status.success(), "{}", text(&put.stderr));
        assert_eq!(fs::read(served.join(name)).unwrap(), b"text\n");
    }
    // The name of a directory of the server.
    fs::create_dir(served.join("sub")).unwrap();
    for server in [vec![server.address.as_str(), path(&file), "sub/"], vec![&format!("{url}sub/"), path(&file)]] {
        let put = run(&[&["put", "-q"], &server[..]].concat());
        assert!(put.status.success(), "{}", text(&put.stderr));
        assert_eq!(fs::read(served.join("sub/a b")).unwrap(), b"text\n");
        fs::remove_file(served.join("sub/a b")).unwrap();
    }
    server.stop("-TERM");
    let said = failure(&["get", &format!("{url}new"), "-", "--patience", "1h"]);
    assert!(said.contains("the port is closed"), "{said}");
    let said = failure(&["get", "127.255.255.255", "new", "-"]);
    assert!(said.contains("is it the address of one machine"), "{said}");
}

#[cfg(not(feature = "http"))]
#[test]
fn a_url_needs_http() {
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "http://127.0.0.1:1/"]);
    assert!(said.contains("--features http"), "{said}");
}

#[cfg(not(feature = "object-store"))]
#[test]
fn a_bucket_needs_object_stores() {
    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--upload", "s3://bucket/boot"]);
    assert!(said.contains("s3://bucket/boot") && said.contains("--features object-store"), "{said}");
}

#[cfg(feature = "object-store")]
#[test]
fn a_bucket_that_makes_no_sense_is_explained() {
    for (url, why) in [("s3://key:hidden@bucket/boot", "AWS_ACCESS_KEY_ID"), ("s3://bucket?x", "query")] {
        let said = failure(&["serve", "--listen", "127.0.0.1:0", url]);
        assert!(said.contains(why) && !said.contains("hidden"), "{said}");
    }
}

#[test]
fn a_client_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(failure(&["put", "127.0.0.1:1", path(&missing)]).contains(path(&missing)));
    assert!(failure(&["put", "127.0.0.1:1", path(directory.path()), "name"]).contains("directory"));
    let said = failure(&["get", "127.0.0.1:1", "name", path(&missing.join("name"))]);
    assert!(said.contains(path(&missing)) && said.contains("No such file") && !said.contains(".tuffet-"), "{said}");
    assert!(failure(&["get", "host.invalid", "name", path(&missing)]).contains("host.invalid"));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn signals_end_the_server_with_0() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        let said = Server::start(&[path(directory.path())]).stop(signal);
        assert!(said.contains("serving") && said.contains("tuffet get 127.0.0.1:"), "{said}");
    }
    assert_eq!(Server::start(&["-q", path(directory.path())]).stop("-TERM"), "");
}

#[test]
fn files_are_put_and_got() {
    let directory = tempfile::tempdir().unwrap();
    let (served, here) = (directory.path().join("served"), directory.path().join("here"));
    let log = directory.path().join("log");
    fs::create_dir(&served).unwrap();
    fs::create_dir(&here).unwrap();
    fs::write(&log, "what was there before\n").unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 8) as u8).collect();
    let file = here.join("file");
    fs::write(&file, &bytes).unwrap();

    let server = Server::start(&["--upload", "--log-file", path(&log), path(&served)]);
    let address = server.address.as_str();

    let put = run(&["put", address, path(&file), "stored"]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    assert_eq!(fs::read(served.join("stored")).unwrap(), bytes);

    let again = failure(&["put", address, path(&file), "stored"]);
    assert!(again.starts_with(&format!("tuffet: {address} sent ERROR 6 ")), "{again}");

    let got = here.join("got");
    let get = run(&["get", "--blksize", "512", "--windowsize", "1", address, "stored", path(&got)]);
    assert!(get.status.success(), "{}", text(&get.stderr));
    assert!(get.stdout.is_empty());
    assert_eq!(fs::read(&got).unwrap(), bytes);

    let get = run(&["get", "-q", address, "stored", "-"]);
    assert!(get.status.success() && get.stderr.is_empty(), "{}", text(&get.stderr));
    assert_eq!(get.stdout, bytes);

    let missing = failure(&["get", address, "missing", path(&here.join("missing"))]);
    assert!(missing.starts_with(&format!("tuffet: {address} sent ERROR 1 ")), "{missing}");
    assert_eq!(here.read_dir().unwrap().count(), 2, "nothing half-written is left");

    let said = server.stop("-TERM");
    assert_eq!(said.matches(" stored complete 300000 bytes ").count(), 3, "{said}");
    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, "what was there before"), "{log}");
    assert!(lines[1].contains("Z 127.0.0.1:") && lines[1].contains(" write stored complete 300000 bytes "), "{log}");
}

#[test]
fn uploads_are_kept_apart_and_their_versions_too() {
    let directory = tempfile::tempdir().unwrap();
    let (served, file) = (directory.path().join("served"), directory.path().join("file"));
    fs::create_dir(&served).unwrap();
    let options = ["--upload", "--upload-per-client", "--upload-names", "*.cfg,*.txt", "--keep-versions", "1"];
    let server = Server::start(&[&options[..], &[path(&served)]].concat());
    for text in ["one", "two", "three"] {
        fs::write(&file, text).unwrap();
        assert!(run(&["put", &server.address, path(&file), "a.cfg"]).status.success());
    }
    let said = failure(&["put", &server.address, path(&file), "a.exe"]);
    assert!(said.contains("ERROR 2"), "{said}");
    for stdout in ["-", "/dev/stdout"] {
        // As `tuffet get ... >>FILE`.
        let mut into = fs::File::options().append(true).open(&file).unwrap();
        let mut get = tuffet(&["get", "-q", &server.address, "a.cfg", stdout]);
        assert!(get.stdout(into.try_clone().unwrap()).status().unwrap().success());
        into.write_all(b", ").unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), b"threethree, three, ");
    let own = served.join("127.0.0.1");
    assert_eq!(fs::read(own.join("a.cfg.~2~")).unwrap(), b"two");
    assert_eq!(own.read_dir().unwrap().count(), 2);
    server.stop("-TERM");
    let server = Server::start(&["--upload", "--min-free", "9999T", path(&served)]);
    let said = failure(&["put", &server.address, path(&file), "b.cfg"]);
    assert!(said.contains("ERROR 3"), "{said}");
    let said = server.stop("-TERM");
    assert!(said.contains("would be left free: see `--min-free`"), "{said}");
}

/// Where the file system has files without a name, as nearly all of Linux do.
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_is_killed_leaves_no_part_of_an_upload() {
    let served = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--upload", "--overwrite", path(served.path())]);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"\0\x02new\0octet\0blksize\x0060000\0", &server.address).unwrap();
    let mut answer = [0; 600];
    let (_, from) = client.recv_from(&mut answer).unwrap();
    for block in 1..=10 {
        client.send_to(&[&[0, 3, 0, block][..], &[7; 60_000]].concat(), from).unwrap();
        while answer[..4] != [0, 4, 0, block] {
            client.recv_from(&mut answer).unwrap();
            assert_ne!(answer[1], 5, "an ERROR: {}", text(&answer));
        }
    }
    let files = || fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().flatten();
    let sizes = files().filter_map(|file| fs::metadata(file.path()).ok()).map(|file| file.len());
    assert!(sizes.max() >= Some(500_000), "the bytes are on the disk");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert_eq!(served.path().read_dir().unwrap().count(), 0);
}

#[test]
fn standard_input_is_put_into_memory() {
    let server = Server::start(&["memory:"]);
    let address = server.address.as_str();
    let mut put = tuffet(&["put", "-q", address, "-", "notes"]).stdin(Stdio::piped()).spawn().unwrap();
    put.stdin.take().unwrap().write_all(b"remember the milk\n").unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(run(&["get", "-q", address, "notes", "-"]).stdout, b"remember the milk\n");
    server.stop("-INT");
}

#[test]
fn a_client_that_is_interrupted_leaves_nothing_behind() {
    // A server that never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut get = Process::start(tuffet(&["get", &address, "file"]).current_dir(directory.path()));
    silent.recv(&mut [0; 600]).unwrap();
    get.signal("-INT");
    assert_eq!(get.wait().unwrap().code(), Some(130));
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[cfg(feature = "probe")]
#[cfg(feature = "full")]
#[test]
fn log_lines_are_json_if_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    fs::write(directory.path().join("file \"1\""), "text").unwrap();
    let server = Server::start(&["--log-format", "json", "--log-file", path(&log), path(directory.path())]);
    let address = server.address.as_str();
    assert!(run(&["get", address, "file \"1\"", "-"]).status.success());
    failure(&["get", address, "\u{1b}[31m<b>", "-"]);
    let said = server.stop("-TERM");

    let objects = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    let lines = objects(&said);
    assert!(lines.iter().all(|line| line["time"].is_string()), "{said}");
    assert!(lines.iter().any(|line| line["level"] == "info" && line["message"].is_string()), "{said}");
    let of_transfers: Vec<_> = lines.into_iter().filter(|line| !line["outcome"].is_null()).collect();
    assert_eq!(of_transfers, objects(&fs::read_to_string(&log).unwrap()));
    let [complete, refused] = &of_transfers[..] else { panic!("{said}") };
    assert_eq!((&complete["outcome"], &complete["bytes"]), (&"complete".into(), &4.into()));
    assert_eq!(complete["origin"], path(&directory.path().join("file \"1\"")));
    assert_eq!((&refused["outcome"], &refused["code"]), (&"refused".into(), &1.into()));
    assert_eq!(refused["path"], r"\u{1b}[31m<b>");
}

#[cfg(feature = "status")]
#[test]
fn the_status_page_is_there_if_wanted() {
    use std::io::{BufRead, BufReader, Read};

    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["--status", ":0", path(directory.path())]);
    let said = BufReader::new(server.child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let at =
        said.filter_map(|line| Some(line.split_once("status at http://")?.1.trim_end_matches('/').to_owned())).next();
    let at = at.expect("it does not say where");
    assert!(at.starts_with("127.0.0.1:"), "{at}");
    let mut stream = std::net::TcpStream::connect(&at).unwrap();
    write!(stream, "GET /api/transfers HTTP/1.1\r\nHost: {at}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("\"served\":\"{}\"", path(directory.path()))), "{answer}");

    let said = failure(&["serve", "--listen", "127.0.0.1:0", "--status", &at, path(directory.path())]);
    assert!(said.contains(&at) && said.contains("--status"), "{said}");
}

#[test]
fn a_probe_says_what_the_server_did() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), [7; 30_000]).unwrap();
    let server = Server::start(&["-q", path(directory.path())]);
    let address = server.address.as_str();

    let output = run(&["probe", address, "file", "--as", "edk2", "--lose-received", "4", "--lose-sent", "-1"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for step in [
        " RRQ file octet tsize=0 blksize=1468 windowsize=4\n",
        " ERROR 8 \"User aborted the transfer\"\n",
        "EDK2: size known, 0 bytes",
        " RRQ file octet blksize=1468 windowsize=4\n",
        "   OACK blksize=1468 windowsize=4 from 127.0.0.1:",
        "   DATA 3, 1468 bytes [lost]\n",
        "   DATA 3, 1468 bytes again\n",
        " ACK 21 [lost]\n",
        "EDK2: complete, 30000 bytes in ",
        "packets came after the end",
    ] {
        assert!(said.contains(step), "{step:?} is not in\n{said}");
    }
    assert!(said.contains("… ") && !said.contains("DATA 12,"), "long runs are left out:\n{said}");
    let all = run(&["probe", address, "file", "--verbose"]);
    assert!(text(&all.stdout).contains("DATA 12,"));

    assert!(run(&["probe", "-q", address, "file"]).stdout.is_empty());
    let output = run(&["probe", "-q", address, "missing"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 1));
    for wrong in [["--lose-sent", "0"], ["--delay-sent", "3"], ["--as", "amiga"]] {
        assert_eq!(run(&["probe", address, "file", wrong[0], wrong[1]]).status.code(), Some(2), "{wrong:?}");
    }

    // A server that grants an option that was not requested.
    let odd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = odd.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        for answer in [&b"\0\x06blksize\x00512\0timeout\x001\0"[..], b"\0\x03\0\x01end"] {
            let (_, peer) = odd.recv_from(&mut [0; 600]).unwrap();
            odd.send_to(answer, peer).unwrap();
        }
    });
    let output = run(&["probe", &address, "file", "--as", "grub"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("warning: the server sent the option timeout, which was not asked for"));
    answers.join().unwrap();
}
