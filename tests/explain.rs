//! `tuffet explain` says what the server would do, and a name may be any bytes.
#![cfg(all(unix, feature = "cli", feature = "rules"))]

#[path = "common/program.rs"]
mod program;

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, process::Command};

use program::tuffet;

fn explain(name: &[u8], args: &[&str]) -> (bool, String) {
    let mut command = tuffet(&["explain", "10.0.0.5"]);
    let output = command.arg(OsStr::from_bytes(name)).args(args).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_name_is_bytes_as_the_log_and_the_rules_see_them() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x.efi"), "text").unwrap();
    let root = path(directory.path());
    let (served, said) = explain(b"caf\xe9", &[root, "--map", r"^caf\xe9$=>x.efi"]);
    assert!(served && said.contains("name     caf\\xe9\n") && said.contains("yes"), "{said}");
    // The end mark of DHCP's options is not of the name.
    let (served, said) = explain(b"x.efi\xff", &[root]);
    assert!(served && said.contains("x.efi\\xff of") && said.contains("x.efi, 4 bytes"), "{said}");
    assert!(said.contains("name     x.efi, without the 0xff"), "{said}");
    assert!(!explain(b"y.efi\xff", &[root]).0);
    assert!(!explain(b"x.efi", &[root]).1.contains("without"));
    // Rules see the name as it came first, and then without it.
    let (served, said) = explain(b"y.efi\xff", &[root, "--map", "^y[.]efi$=>x.efi"]);
    assert!(served && said.contains("no: it is for other names") && said.contains("x.efi, 4 bytes"), "{said}");
}

/// Nothing listens at port 1.
#[cfg(feature = "http")]
#[test]
fn whatever_a_source_says_the_next_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "text").unwrap();
    let sources = ["http://127.0.0.1:1/", path(directory.path())];
    let (served, said) = explain(b"f", &sources);
    assert!(served && said.contains("ERROR 0 Upstream failed") && said.contains("/f, 4 bytes"), "{said}");
    let (served, said) = explain(b"missing", &sources);
    let answer = said.lines().last().unwrap();
    assert!(!served && answer.starts_with("answer   ERROR 0 Upstream failed"), "what the first said: {said}");
}

#[test]
fn a_wrong_command_line_of_any_bytes_is_told_in_one_line() {
    let bytes = OsStr::from_bytes(b"x\xff");
    let wrong = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.starts_with("tuffet: ") && said.lines().count() == 1, "{said}");
    };
    wrong(tuffet(&["get", "127.0.0.1"]).arg(bytes));
    wrong(tuffet(&["serve", "--listen"]).arg(bytes));
    wrong(tuffet(&[]).arg(bytes));
    wrong(tuffet(&["explain", "10.0.0.5", "name", "--zzz"]).arg(bytes));
}
