//! `--map` and `tuffet explain`, from outside.
#![cfg(all(unix, feature = "full"))]

#[path = "common/program.rs"]
mod program;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{fs, io::Write};

use program::{Server, path, run, text};
use upstream::Upstream;

/// A web server that answers each request with its path and query.
fn web() -> Upstream {
    Upstream::new(|head, stream| {
        let asked = head.split(' ').nth(1).unwrap();
        _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{asked}", asked.len());
    })
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [("Boot/BCD", "bcd"), ("127.0.0.1/own", "own"), ("common", "common")] {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

#[test]
fn names_become_other_names() {
    let directory = directory();
    let server = Server::start(&[
        "--map",
        r"^old\.(.*) => $1",
        "--map",
        "10.0.0.0/8 common=>nobody",
        "--map",
        "127.0.0.0/8,::1 ^[a-z]+$=>${mac}/${path}=>${client}/${path}=>${path}",
        "--ignore-case",
        path(directory.path()),
    ]);
    let get = |name: &str| {
        let got = run(&["get", "-q", &server.address, name, "-"]);
        got.status.success().then(|| text(&got.stdout))
    };
    assert_eq!(get("old.common").as_deref(), Some("common"));
    assert_eq!(get("own").as_deref(), Some("own"));
    assert_eq!(get("common").as_deref(), Some("common"));
    assert_eq!(get(r"\boot\bcd").as_deref(), Some("bcd"));
    assert_eq!(get("missing"), None);
    server.stop("-TERM");
}

#[test]
fn uploads_go_to_other_names() {
    let directory = directory();
    let server = Server::start(&["--upload", "--mkdir", "--map", "(.*)=>${client}/$1", path(directory.path())]);
    let put = run(&["put", "-q", &server.address, path(&directory.path().join("common")), "mine"]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    assert_eq!(fs::read(directory.path().join("127.0.0.1/mine")).unwrap(), b"common");
    let put = run(&["put", "-q", &server.address, path(&directory.path().join("common")), "../mine"]);
    assert!(text(&put.stderr).contains("ERROR 2"), "{}", text(&put.stderr));
    server.stop("-TERM");
}

#[test]
fn names_become_urls() {
    let (directory, web) = (directory(), web());
    let to_web = format!("^menu-(.*)=>{}a%20b/menu-$1.php?mac=$1&from=${{client}}", web.url());
    let server = Server::start(&["--map", &to_web, path(directory.path())]);
    let get = |name: &str| text(&run(&["get", "-q", &server.address, name, "-"]).stdout);
    assert_eq!(get("menu-7"), "/a%20b/menu-7.php?mac=7&from=127.0.0.1");
    assert_eq!(
        get("menu-@evil/?x=1&y#z"),
        "/a%20b/menu-%40evil/%3Fx%3D1%26y%23z.php?mac=%40evil%2F%3Fx%3D1%26y%23z&from=127.0.0.1"
    );
    assert_eq!(get("common"), "common");
    server.stop("-TERM");
}

#[test]
fn explain_says_what_would_happen() {
    let directory = directory();
    let explain = |client: &str, name: &str, args: &[&str]| {
        let output = run(&[&["explain", client, name, path(directory.path())], args].concat());
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = explain("10.0.0.5", "/common", &["--options", "blksize=2000,tsize=0,windowsize=99"]);
    assert_eq!(code, Some(0), "{said}");
    for line in ["name     common", ", 6 bytes", "answer   OACK blksize=1468 tsize=6 windowsize=64"] {
        assert!(said.contains(line), "{said}");
    }
    let maps =
        ["--map", "11.0.0.0/8 c=>x", "--map", "^d=>x", "--map", "^c=>${mac}/x=>nobody=>Boot/BCD", "--map", "c=>y"];
    let (code, said) = explain("10.0.0.5", "common", &[&maps[..], &["--mac", "52:54:00:12:34:56"]].concat());
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "mac      52-54-00-12-34-56",
        "rule     --map '11.0.0.0/8 c=>x': no: it is for other clients",
        "rule     --map '^d=>x': no: it is for other names",
        "Boot/BCD': yes\n",
        "target   52-54-00-12-34-56/x of ",
        "target   nobody of ",
        "/Boot/BCD, 3 bytes",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(!said.contains("c=>y"), "{said}");
    for (name, args, why) in [
        ("../x", &[][..], "is refused: ERROR 2"),
        ("missing", &[], "answer   ERROR 1"),
        ("boot/bcd", &[], "answer   ERROR 1"),
        ("common", &["--write"], "answer   ERROR 2"),
        ("..x", &["--map", "(.)(.)x=>$1$2/x"], "answer   ERROR 2"),
    ] {
        let (code, said) = explain("10.0.0.5", name, args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(explain("::1", "boot/bcd", &["--ignore-case"]).0, Some(0));
    let (code, said) = explain("::1", "new", &["--write", "--upload", "--options", ""]);
    assert!(code == Some(0) && said.contains("answer   no options"), "{said}");
}

#[test]
fn a_wrong_map_is_explained() {
    for (map, why) in [
        ("x", "REGEX=>TARGET"),
        ("(=>x", "regular expression"),
        ("x=>$1", "group 1"),
        ("x=>http://$0/y", "host"),
        ("x=>ftp://h/x", "http://"),
    ] {
        let output = run(&["serve", "--map", map]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}
