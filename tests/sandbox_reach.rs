//! Which files and addresses the program reaches from within its sandbox, and how it reports the others.
#![cfg(all(target_os = "linux", feature = "full"))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
#[path = "common/sandboxed.rs"]
mod sandboxed;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
};

use sandboxed::{NOBODY, Server, text, tree, tuffet};

/// A part of the line at the start if a replacement of the directory would be out of reach.
const BOUND: &str = "the server ends with code 75 and must be restarted: its landlock rules cover this directory only";

/// Replaces a directory at once, because the server may look at any time.
fn make_anew(root: &Path, text: &str) {
    let (old, new) = (fs::metadata(root).unwrap(), root.with_extension("new"));
    fs::create_dir(&new).unwrap();
    fs::write(new.join("file"), text).unwrap();
    for path in [&new, &new.join("file")] {
        chown(path, Some(old.uid()), Some(old.gid())).unwrap();
    }
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(root).unwrap();
    fs::rename(new, root).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_is_made_anew_is_served_from_inside() {
    let (temp, root) = tree();
    let link = temp.path().join("link");
    symlink("root", &link).unwrap();
    for path in [&root, &link] {
        let server = Server::start(&[text(path)]);
        server.assert_is(NOBODY, NOBODY);
        for round in ["one", "two"] {
            make_anew(&root, round);
            assert_eq!(server.get("file").stdout, round.as_bytes());
        }
        let said = server.stop();
        assert!(said.contains("was replaced by another directory") && !said.contains(BOUND), "{said}");
    }
    // Uploads too, if their directory is all that the user may write.
    let uploads = temp.path().join("uploads");
    fs::create_dir(&uploads).unwrap();
    chown(&uploads, Some(1234), Some(5678)).unwrap();
    let server = Server::start(&["--upload", text(&uploads)]);
    server.assert_is(1234, 5678);
    make_anew(&uploads, "new");
    assert_eq!(server.get("file").stdout, b"new");
    let put = server.put("upload", "text");
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
}

/// The parent belongs to the user, and holds more than the served directory.
#[test]
#[ignore = "needs root"]
fn a_directory_that_is_out_of_reach_ends_the_server_to_be_started_anew() {
    let (temp, root) = tree();
    for path in [temp.path(), &root] {
        chown(path, Some(1234), Some(5678)).unwrap();
    }
    for signal in [false, true] {
        let mut server = Server::start(&["--drain", "1s", text(&root)]);
        let landlocked = fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|names| names.contains("landlock"));
        make_anew(&root, "new");
        match signal {
            true => server.child.signal("-HUP"),
            false => {
                let get = tuffet(&["get", "-q", "--patience", "2s", &server.address, "file", "-"]).output().unwrap();
                if !landlocked && get.stdout == b"new" {
                    return println!("skipped: no landlock");
                }
                assert!(!get.status.success() && get.stdout.is_empty());
            }
        }
        let code = server.child.wait().unwrap().code();
        let said = server.child.said();
        assert_eq!(code, Some(75), "{said}");
        assert!(said.contains("was replaced by another directory, which the sandbox does not allow"), "{said}");
        assert!(said.contains(BOUND) && said.contains("because its parent directory belongs to this user"), "{said}");
    }
    // In a parent where the user may create files, the server may read the new directory, and not upload into it.
    let (place, uploads) = (temp.path().join("place"), temp.path().join("place/uploads"));
    fs::create_dir_all(&uploads).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o1777)).unwrap();
    chown(&uploads, Some(1234), Some(5678)).unwrap();
    let mut server = Server::start(&["--upload", "--drain", "1s", text(&uploads)]);
    make_anew(&uploads, "new");
    let get = tuffet(&["get", "-q", "--patience", "2s", &server.address, "file", "-"]).output().unwrap();
    assert!(!get.status.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(75));
    let said = server.child.said();
    assert!(said.contains(BOUND) && said.contains("because this user may write to its parent directory"), "{said}");
    // It may be seen before it has its owner. Then it is found out when it matters.
    let mut server = Server::start(&["--upload", "--drain", "1s", text(&uploads)]);
    fs::remove_dir_all(&uploads).unwrap();
    fs::create_dir(&uploads).unwrap();
    fs::write(uploads.join("file"), "early").unwrap();
    assert_eq!(server.get("file").stdout, b"early");
    chown(&uploads, Some(1234), Some(5678)).unwrap();
    let put = server.put("upload", "text");
    assert!(!put.status.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(75));
    // A new process serves it, and so does a server without landlock.
    assert_eq!(Server::start(&[text(&root)]).get("file").stdout, b"new");
    let server = Server::start(&["--no-landlock", text(&root)]);
    make_anew(&root, "newer");
    assert_eq!(server.get("file").stdout, b"newer");
    let said = server.stop();
    assert!(!said.contains(BOUND), "{said}");
}

#[test]
#[ignore = "needs root"]
fn links_may_lead_where_it_is_allowed() {
    let (temp, root) = tree();
    // Not beside the root, because files there are open.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let other = elsewhere.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("image"), "image").unwrap();
    symlink(other.join("image"), root.join("image")).unwrap();
    symlink(other.join("file"), root.join("anew")).unwrap();
    symlink(root.join("file"), root.join("inside")).unwrap();
    let server = Server::start(&[text(&root)]);
    assert_eq!(server.get("inside").stdout, b"text");
    assert!(String::from_utf8_lossy(&server.get("image").stderr).contains("ERROR 2"));
    assert!(server.stop().contains("a link leads to "));
    let server = Server::start(&["--also", text(&other), text(&root)]);
    assert_eq!(server.get("image").stdout, b"image");
    make_anew(&other, "new");
    assert_eq!(server.get("anew").stdout, b"new");
    let said = server.stop();
    assert!(said.contains("sandbox: user nobody") && !said.contains("--also"), "{said}");
    // Or into another directory that is served.
    let server = Server::start(&[text(&root), text(&other)]);
    assert_eq!(server.get("anew").stdout, b"new");
    server.stop();
    for wrong in [temp.path().join("missing"), root.join("file")] {
        let said = Server::start(&["--also", text(&wrong), text(&root)]).stop();
        assert!(said.contains(&format!("--also {}: ", wrong.display())), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn unreadable_files_are_named_with_the_user() {
    let (_temp, root) = tree();
    let closed = root.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("file"), "text").unwrap();
    fs::write(root.join("secret"), "text").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    let server = Server::start(&[text(&root)]);
    for name in ["closed/file", "secret"] {
        assert!(String::from_utf8_lossy(&server.get(name).stderr).contains("ERROR 2"));
    }
    let said = server.stop();
    let warning = said.lines().find(|line| line.contains(" warn ")).unwrap_or_else(|| panic!("{said}"));
    assert!(warning.contains("user nobody (65534:65534) may not read") && warning.contains(" and 1 more"), "{said}");
    assert!(said.contains("serving ") && said.contains(" as user nobody (read only)"), "{said}");
    for (what, place) in [("enter", &closed), ("read", &root.join("secret"))] {
        assert!(
            said.contains(&format!("user nobody (see --user) may not {what} {}: mode 0", place.display())),
            "{said}"
        );
    }
    // The example is one that can be fetched.
    assert!(said.contains(" file\n") && !said.contains(" secret\n"), "{said}");
    #[cfg(feature = "rules")]
    {
        let explain = |name: &str, user: &str| {
            tuffet(&["explain", "10.0.0.1", name, text(&root), "--user", user]).output().unwrap()
        };
        let output = tuffet(&["explain", "10.0.0.1", "closed/file", text(&root)]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("user     nobody\n"), "{said}");
        assert!(said.contains("user nobody (see --user) may not enter"), "{said}");
        assert_eq!(explain("closed/file", "root").status.code(), Some(0));
        assert_eq!(explain("secret", "nobody").status.code(), Some(1));
        assert_eq!(explain("file", "nobody").status.code(), Some(0));
    }
}

/// A user in several groups, with a name that no machine has. The files of users and groups are those
/// of a namespace.
#[test]
#[ignore = "needs root and unshare"]
fn the_owner_of_the_directory_brings_no_groups_along() {
    const USERS: &str = "mount -t tmpfs none /mnt; cp /etc/passwd /etc/group /mnt
        echo 'tuffet-test:x:1234:1234::/nowhere:/bin/false' >>/mnt/passwd
        printf 'tuffet-test:x:1234:\\nsecrets:x:4321:tuffet-test\\nothers:x:4322:tuffet-test\\n' >>/mnt/group
        mount --bind /mnt/passwd /etc/passwd; mount --bind /mnt/group /etc/group";
    again!(again::after, &["unshare", "--mount"], USERS);
    let (_temp, root) = tree();
    chown(&root, Some(1234), Some(0)).unwrap();
    for (options, gid, groups) in [
        (&[][..], 1234, "1234"),
        (&["--user", "tuffet-test"], 1234, "1234 4321 4322"),
        (&["--user", "tuffet-test:secrets"], 4321, "4321"),
        (&["--user", "1234:4322"], 4322, "4322"),
        (&["--user", "nobody"], NOBODY, "65534"),
    ] {
        let server = Server::start(&[options, &[text(&root)]].concat());
        assert_eq!(server.status("Gid"), [gid; 4].map(|gid| gid.to_string()).join(" "), "{options:?}");
        assert_eq!(server.status("Groups"), groups, "{options:?}");
        assert_eq!(server.get("file").stdout, b"text");
    }
}

#[test]
fn files_of_the_server_that_clients_could_replace_are_refused() {
    let (temp, root) = tree();
    fs::create_dir(root.join("etc")).unwrap();
    let config = root.join("etc/tuffet.toml");
    fs::write(&config, "windowsize = 4\n").unwrap();
    symlink(root.join("etc/log"), temp.path().join("log")).unwrap();
    symlink(root.join("etc/early"), temp.path().join("early")).unwrap();
    fs::write(root.join("etc/log"), "").unwrap();
    let refused = |args: &[&str]| {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--upload", text(&root)], args].concat();
        let output = tuffet(&args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("clients may upload"), "{said}");
        said
    };
    let links = ["log", "early"].map(|link| temp.path().join(link));
    for log in [root.join("new-log"), root.join("etc/log"), root.join("../root/log")].into_iter().chain(links) {
        assert!(refused(&["--log-file", text(&log)]).contains("the log"));
    }
    assert!(!root.join("new-log").exists(), "it was made all the same");
    #[cfg(feature = "full")]
    {
        assert!(refused(&["--config", text(&config)]).contains("the configuration"));
        fs::set_permissions(&config, fs::Permissions::from_mode(0o755)).unwrap();
        let command = format!("'{}' all", text(&config));
        assert!(refused(&["--on-upload", &command]).contains("the program of --on-upload"));
    }
    // Without uploads, or with the log elsewhere, the server starts.
    Server::start(&["--log-file", text(&root.join("etc/log")), text(&root)]).stop();
    Server::start(&["--upload", "--log-file", text(&temp.path().join("other")), text(&root)]).stop();
}

/// The server where these system calls are forbidden, as a profile of a service or a container does it.
fn without(calls: &str, error: &str, args: &[&str]) -> Server {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
    let mut strace = Command::new("strace");
    // With `-D` the child is the server, and not strace.
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
    strace.args([env!("CARGO_BIN_EXE_tuffet"), "serve"]);
    Server::run(strace.args(["--listen", "127.0.0.1:0", "--upload", "--no-sandbox"]).args(args))
}

#[test]
#[ignore = "needs strace"]
fn uploads_work_where_links_are_forbidden() {
    for (calls, error) in [("linkat", "EPERM"), ("linkat", "ENOSYS"), ("renameat2", "EPERM")] {
        let (_temp, root) = tree();
        let server = without(calls, error, &[text(&root)]);
        assert!(server.put("new", "1").status.success(), "{calls} {error}");
        let again = String::from_utf8(server.put("new", "2").stderr).unwrap();
        assert!(again.contains("already exists"), "{calls} {error}: {again}");
        assert_eq!(server.get("new").stdout, b"1", "{calls} {error}");
        server.stop();
        let server = without(calls, error, &["--overwrite", "--keep-versions", "1", text(&root)]);
        assert!(server.put("new", "3").status.success() && server.put("newer", "4").status.success());
        assert_eq!(["new", "new.~1~", "newer"].map(|name| server.get(name).stdout), [b"3", b"1", b"4"]);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 4, "{calls} {error}: a hidden file is left");
        server.stop();
    }
    let (_temp, root) = tree();
    let server = without("linkat,renameat2", "EPERM", &[text(&root)]);
    assert!(!server.put("new", "1").status.success());
    let said = server.stop();
    assert!(said.contains("linkat and renameat2 are forbidden"), "{said}");
}

/// As an old profile of containers does it.
#[test]
#[ignore = "needs strace"]
fn the_server_works_where_new_system_calls_are_forbidden() {
    let (_temp, root) = tree();
    symlink(root.join("file"), root.join("link")).unwrap();
    let calls = ["statx", "openat2", "recvmmsg", "sendmmsg"];
    for (call, error) in calls.into_iter().flat_map(|call| ["EPERM", "ENOSYS"].map(|error| (call, error))) {
        let inject = format!("{call}: {error}");
        let server = without(call, error, &["--overwrite", "--ignore-case", text(&root)]);
        for name in ["file", "FILE", "link"] {
            assert_eq!(server.get(name).stdout, b"text", "{name} {inject}");
        }
        assert!(server.put("file", "other").status.success());
        assert_eq!(server.get("file").stdout, b"other", "{inject}");
        assert!(server.put("file", "text").status.success());
    }
}

/// The server's user is not in the group of the directory, so that it cannot set the bit.
#[test]
#[ignore = "needs root"]
fn new_directories_keep_the_group_of_their_parent() {
    let (_temp, root) = tree();
    chown(&root, Some(NOBODY), Some(5678)).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o2775)).unwrap();
    let server = Server::start(&["--upload", "--mkdir", "--umask", "002", text(&root)]);
    assert!(server.put("sub/deep/new", "text").status.success());
    let found = |name: &str| fs::metadata(root.join(name)).map(|found| (found.mode() & 0o7777, found.gid())).unwrap();
    assert_eq!(["sub", "sub/deep", "sub/deep/new"].map(found), [(0o2775, 5678), (0o2775, 5678), (0o664, 5678)]);
}
