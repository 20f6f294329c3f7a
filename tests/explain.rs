//! `tuffet explain` says what the server would do, and a name may be any bytes.
#![cfg(all(unix, feature = "cli", feature = "rules"))]

#[path = "common/program.rs"]
mod program;

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, process::Command};

use program::{path, tuffet};

fn explain(name: &[u8], args: &[&str]) -> (bool, String) {
    let mut command = tuffet(&["explain", "10.0.0.5"]);
    let output = command.arg(OsStr::from_bytes(name)).args(args).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_name_is_bytes_as_the_log_and_the_rules_see_them() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x.efi"), "text").unwrap();
    let root = path(directory.path());
    let (served, said) = explain(b"caf\xe9", &[root, "--map", r"^caf\xe9$=>x.efi"]);
    assert!(served && said.contains("name     caf\\xe9\n") && said.contains("yes"), "{said}");
    // The end mark of DHCP's options does not belong to the name.
    let (served, said) = explain(b"x.efi\xff", &[root]);
    assert!(served && said.contains("x.efi\\xff of") && said.contains("x.efi, 4 bytes"), "{said}");
    assert!(said.contains("name     x.efi, without the 0xff"), "{said}");
    assert!(!explain(b"y.efi\xff", &[root]).0);
    assert!(!explain(b"x.efi", &[root]).1.contains("without"));
    // Rules see the name with the mark first, and then without it.
    let (served, said) = explain(b"y.efi\xff", &[root, "--map", "^y[.]efi$=>x.efi"]);
    assert!(served && said.contains("no: it is for other names") && said.contains("x.efi, 4 bytes"), "{said}");
}

#[test]
fn a_file_in_another_case_is_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("Boot")).unwrap();
    fs::write(directory.path().join("Boot/BCD"), "text").unwrap();
    let root = path(directory.path());
    let (served, said) = explain(b"boot/bcd", &[root]);
    let hint = format!("`--ignore-case` would find {root}/Boot/BCD\n");
    assert!(!served && said.contains(&hint) && said.ends_with("answer   ERROR 1 File not found\n"), "{said}");
    for (name, more) in [(&b"boot/bcd"[..], "--ignore-case"), (b"Boot/BCD", "-q"), (b"boot/none", "--upload")] {
        assert!(!explain(name, &[root, more]).1.contains("would find"));
    }
}

/// Nothing listens at port 1.
#[cfg(feature = "http")]
#[test]
fn after_any_refusal_the_next_source_is_asked() {
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
fn a_wrong_command_line_of_any_bytes_is_one_line() {
    let bytes = OsStr::from_bytes(b"x\xff");
    let wrong = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.starts_with("tuffet: ") && said.lines().count() == 1, "{said}");
    };
    wrong(tuffet(&["get", "--blksize"]).arg(bytes));
    wrong(tuffet(&["serve", "--listen"]).arg(bytes));
    wrong(tuffet(&[]).arg(bytes));
    wrong(tuffet(&["explain", "10.0.0.5", "name", "--zzz"]).arg(bytes));
}

#[test]
fn the_answer_has_the_limits_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("f"), "text").unwrap();
    let root = path(directory.path());
    let answer = |args: &[&str]| {
        let said = explain(b"f", &[&[root, "--options", "blksize=1468,windowsize=9"], args].concat()).1;
        said.lines().last().unwrap().trim_start_matches("answer   ").to_owned()
    };
    assert_eq!(answer(&[]), "OACK blksize=1468 windowsize=9");
    // An ACK pays for no more blocks of this size.
    assert_eq!(answer(&["--single-port"]), "OACK blksize=1468 windowsize=3");
    assert_eq!(answer(&["--single-port", "--blksize", "1000"]), "OACK blksize=1000 windowsize=4");
    assert_eq!(answer(&["--single-port", "--windowsize", "8"]), "OACK blksize=1468 windowsize=8");
    let long = explain(&[b'x'; 1025], &[root]).1;
    assert!(long.lines().last().unwrap().starts_with("answer   ERROR 4"), "{long}");
}

/// The answer of `--dhcp` to a machine, with this configuration file.
#[cfg(feature = "full")]
fn boots(machine: &[&str], root: &Path, config: &str) -> (bool, String) {
    let file = root.join("tuffet.toml");
    fs::write(&file, config).unwrap();
    let args =
        [&["explain", "--dhcp", "--listen", "192.0.2.1"], machine, &[path(root), "--config", path(&file)]].concat();
    let output = tuffet(&args).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[cfg(feature = "full")]
#[test]
fn the_boot_file_of_a_machine_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["pxelinux.0", "undionly.kpxe", "boot.ipxe", "lab.efi"] {
        fs::write(root.join(name), "...").unwrap();
    }
    let config = "[[boot]]\ntitle = 'the lab'\narch = ['x64', '6']\nmac = '52:54:00'\nfile = 'lab.efi'\n
        [[boot]]\nuuid = '00112233-4455-6677-8899-aabbccddeeff'\nfile = ''\n";
    let mac = "52:54:00:12:34:56";
    let (told, said) = boots(&[mac, "x64"], root, config);
    let expected = "tuffet.toml:1 (the lab): yes\n";
    assert!(told && said.contains("machine  52-54-00-12-34-56 (EFI x64)\n") && said.contains(expected), "{said}");
    assert!(said.contains("answer   lab.efi: ") && said.contains("ipxe     tftp://192.0.2.1/lab.efi: "), "{said}");
    let (told, said) = boots(&[mac, "bios"], root, config);
    assert!(told && said.contains("no: another architecture\n"), "{said}");
    assert!(said.contains("answer   undionly.kpxe: found in the sources\n"), "{said}");
    assert!(said.contains("ipxe     tftp://192.0.2.1/boot.ipxe: found in the sources\n"), "{said}");
    // No answer, because nothing is there, and because a rule says so.
    let (told, said) = boots(&["00:0a:f7:00:00:01", "arm64"], root, config);
    assert!(!told && said.contains("answer   none: none of its boot files exists: shimaa64.efi, "), "{said}");
    let uuid = ["--uuid", "00112233-4455-6677-8899-aabbccddeeff"];
    let (told, said) = boots(&[&["00:0a:f7:00:00:01", "bios"], &uuid[..]].concat(), root, config);
    assert!(!told && said.contains("gives it no answer\n"), "{said}");
    let wrong = tuffet(&["explain", mac, "amiga"]).output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("amiga: not an architecture: use one of bios, x64"), "{said}");
}

#[cfg(feature = "full")]
#[test]
fn a_wrong_table_of_boot_files_is_reported_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tuffet.toml");
    for (text, why) in [
        ("[[boot]]\narch = 'x64'\n", "1:1: boot: file is missing"),
        ("[[boot]]\nfile = 'x'\narch = 'amiga'\n", "3:8: arch: \"amiga\" is not an architecture"),
        ("[[boot]]\nfile = 'x'\nmac = []\n", "3:7: mac: an empty list"),
        ("[[boot]]\nfile = 'x'\nuuid = '12'\n", "3:8: uuid: \"12\" is not a UUID"),
        ("[[boot]]\nfile = 'x'\nipxe = 'yes'\n", "3:8: ipxe: it must be true or false"),
        ("[[boot]]\nfile = 'x'\narhc = 'x64'\n", "3:1: arhc: unknown key; did you mean arch?"),
        ("boot = 'x'\n", "1:8: boot: write each boot file as a table [[boot]]"),
    ] {
        fs::write(&file, text).unwrap();
        let output = tuffet(&["check-config", path(&file)]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{text}: {said}");
    }
    let rules = "sources = ['.']\ndhcp = true\ndhcp-interface = ['eth0']\n\
                 [[boot]]\nfile = 'x'\nmac = ['52:54:00', '52:54:01']\n";
    fs::write(&file, rules).unwrap();
    let output = tuffet(&["check-config", path(&file)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The sources are asked, and nothing is left of that.
#[test]
fn an_upload_is_explained_as_it_would_end() {
    let directory = tempfile::tempdir().unwrap();
    let root = path(directory.path());
    for name in ["here.cfg", "sub/here.cfg", "10.0.0.5/own.cfg"] {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "old").unwrap();
    }
    let upload = [root, "--write", "--upload", "--upload-names", "*.cfg", "--max-upload", "1K"];
    for (name, more, answer) in [
        ("new.cfg", &[][..], "OACK"),
        ("sub/new.cfg", &[], "OACK"),
        ("here.cfg", &[], "ERROR 6 File already exists (`--overwrite` lets uploads replace files)"),
        ("here.cfg", &["--overwrite"], "OACK"),
        ("here.cfg", &["--keep-versions", "1"], "OACK"),
        ("sub", &["--upload-names", "*", "--overwrite"], "ERROR 2 Access violation (not a regular file)"),
        ("new.txt", &[], "ERROR 2 Access violation (no pattern of `--upload-names` allows this name)"),
        ("none/new.cfg", &[], "ERROR 1 File not found (no directory none: `--mkdir` lets uploads make it)"),
        ("none/new.cfg", &["--mkdir"], "OACK"),
        ("new.cfg", &["--upload-per-client"], "OACK"),
        (
            "new.txt",
            &["--upload-per-client"],
            "ERROR 2 Access violation (no pattern of `--upload-names` allows this name)",
        ),
        ("own.cfg", &["--upload-per-client"], "ERROR 6 File already exists (`--overwrite` lets uploads replace files)"),
        ("new.cfg", &["--options", "tsize=2000"], "ERROR 3 File too big (more than 1024 bytes: see `--max-upload`)"),
        ("new.cfg", &["--min-free", "9999T"], "ERROR 3 Disk full or allocation exceeded (fewer than"),
    ] {
        let (served, said) = explain(name.as_bytes(), &[&upload, more].concat());
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with(&format!("answer   {answer}")) && served == (answer == "OACK"),
            "{name} {more:?}: {said}"
        );
    }
    let left = |name: &str| fs::read_dir(directory.path().join(name)).unwrap().count();
    assert_eq!((left("."), left("sub"), left("10.0.0.5")), (3, 1, 1));
}
