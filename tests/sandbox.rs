//! The privileges that the program gives up once its sockets are bound, seen from outside, and that it still serves.
#![cfg(all(target_os = "linux", feature = "full"))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
#[path = "common/sandboxed.rs"]
mod sandboxed;
#[path = "http/upstream.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod upstream;

use std::{
    fs,
    io::Write,
    net::UdpSocket,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    process::Command,
    thread,
};

use sandboxed::{NOBODY, Server, program, text, tree, tuffet};
use upstream::Upstream;

const LANDLOCKED: &str = "landlock for files, TCP and signals";

/// The port of a web server: each path gets its answer, any number of times.
fn web(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let web = Upstream::new(move |head, stream| {
        let head = answer(head.split(' ').nth(1).unwrap_or_default());
        let text = if head.starts_with("200") { "text" } else { "" };
        _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{text}");
        upstream::close(stream);
    });
    web.url().rsplit([':', '/']).nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_server_serves_and_logs_without_privileges() {
    let (temp, root) = tree();
    symlink(temp.path().join("secret"), root.join("link")).unwrap();
    symlink("/etc/passwd", root.join("passwd")).unwrap();
    let log = temp.path().join("log");
    let options = ["--upload", "--overwrite", "--mkdir", "--keep-versions", "1", "--log-file", text(&log)];
    let server = Server::start(&[&options[..], &[text(&root)]].concat());
    server.assert_has_no_privileges();
    let get = ["get", "-q", "--blksize", "65464", &server.address, "file", "-"];
    assert_eq!(tuffet(&get).output().unwrap().stdout, b"text");
    for round in ["one", "two", "three"] {
        for name in ["new", "sub/new"] {
            let put = server.put(name, round);
            assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
        }
    }
    assert_eq!(fs::read(root.join("sub/new")).unwrap(), b"three");
    assert_eq!(fs::read(root.join("sub/new.~2~")).unwrap(), b"two");
    for name in ["link", "passwd", "../secret"] {
        let refused = server.get(name);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{name}");
    }
    // Threads run by now, and they have no more privileges than the first.
    server.assert_has_no_privileges();
    let said = server.stop();
    // The MTU of the loopback was found out.
    assert!(said.contains(" blksize=65464"), "{said}");
    assert!(said.contains("sandbox: user ") && said.contains("no capabilities, no new privileges"), "{said}");
    assert_eq!(fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(" complete ")).count(), 7);
}

#[test]
fn a_web_server_is_found_by_its_name() {
    let port = web(|path| if path == "/file" { "200 OK".into() } else { "404 Not Found".into() });
    let server = Server::start(&[&format!("http://localhost:{port}/")]);
    for _ in 0..3 {
        assert_eq!(server.get("file").stdout, b"text");
    }
    assert!(String::from_utf8_lossy(&server.get("missing").stderr).contains("ERROR 1"));
    server.assert_has_no_privileges();
}

/// Names come from a resolver that is asked as `/etc/resolv.conf` says, by threads that begin in the sandbox.
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_resolver_is_asked() {
    const RESOLVER: &str = "ip link set lo up; mount -t tmpfs none /mnt
        echo nameserver 127.0.0.1 >/mnt/resolv.conf; mount --bind /mnt/resolv.conf /etc/resolv.conf";
    again!(again::after, &["unshare", "--net", "--mount"], RESOLVER);
    let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = resolver.recv_from(&mut buffer) {
            // A question has its type and class in its last four bytes, and nothing after it is asked for here.
            let end = 12 + buffer[12..len].iter().position(|&byte| byte == 0).unwrap() + 5;
            let is_v4 = buffer[end - 3] == 1;
            let counts = [0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
            let mut answer = [&buffer[..2], &counts, &buffer[12..end]].concat();
            if is_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            resolver.send_to(&answer, from).unwrap();
        }
    });
    let port = web(|_| "200 OK".into());
    let server = Server::start(&[&format!("http://mirror.example:{port}/")]);
    server.assert_is(NOBODY, NOBODY);
    let got = server.get("file");
    assert_eq!(got.stdout, b"text", "{} {}", String::from_utf8_lossy(&got.stderr), server.stop());
}

/// A DHCP client or an editor renames a new file over the old one, and landlock allows the old one only.
#[test]
#[ignore = "needs root and unshare"]
fn a_replaced_file_for_name_resolution_is_reported() {
    const ETC: &str = "mount -t tmpfs none /mnt; cp /etc/passwd /etc/group /etc/nsswitch.conf /mnt
        echo 127.0.0.1 mirror.example >/mnt/hosts; cp /mnt/hosts /mnt/new; mount --bind /mnt /etc";
    again!(again::after, &["unshare", "--mount"], ETC);
    let port = web(|_| "200 OK".into());
    let (named, is_replaced) = (format!("http://mirror.example:{port}/"), "/etc/hosts was replaced, and the sandbox");
    let server = Server::start(&[&named]);
    assert_eq!(server.get("file").stdout, b"text");
    fs::write("/etc/hosts", "127.0.0.1 mirror.example other.example").unwrap();
    let said = server.stop();
    assert!(!said.contains(is_replaced), "it was written to in place: {said}");
    let servers = [&["--no-landlock", &named][..], &[&named]].map(Server::start);
    fs::rename("/etc/new", "/etc/hosts").unwrap();
    let [unbound, bound] = servers.map(Server::stop);
    assert!(!unbound.contains(is_replaced), "{unbound}");
    assert_eq!(bound.matches(is_replaced).count(), usize::from(bound.contains(LANDLOCKED)), "{bound}");
}

/// The kernel denies a connection to a port that no option names. Only landlock can: the web server redirects there.
#[test]
fn only_named_ports_are_connected_to() {
    let elsewhere = web(|_| "200 OK".into());
    let port = web(move |_| format!("302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/file"));
    let url = format!("http://127.0.0.1:{port}/");
    let server = Server::start(&["--no-landlock", &url]);
    assert_eq!(server.get("file").stdout, b"text");
    assert!(server.stop().contains("no landlock (--no-landlock)"));

    let server = Server::start(&[&url]);
    let refused = server.get("file");
    let said = server.stop();
    if said.contains(LANDLOCKED) {
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("Permission denied"), "{said}");
    } else {
        println!("not shown: {said}");
    }
}

#[test]
fn without_the_sandbox_the_server_keeps_its_privileges() {
    let (_temp, root) = tree();
    let own = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t"))).unwrap().replace('\t', " ")
    };
    let server = Server::start(&["--no-sandbox", text(&root)]);
    for name in ["Uid", "Gid", "CapPrm", "CapBnd", "NoNewPrivs"] {
        assert_eq!(server.status(name), own(name), "{name}");
    }
    assert_eq!(server.get("file").stdout, b"text");
    assert!(server.stop().contains("no sandbox: user "));
}

#[test]
fn a_user_that_cannot_be_had_is_an_error() {
    let (_temp, root) = tree();
    for (user, why) in [("no-such-user", "no such user"), ("0:no-such-group", "no such group"), ("", "no such user")] {
        let output = tuffet(&["serve", "--listen", "127.0.0.1:0", "--user", user, text(&root)]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("--user") && said.contains(why), "{said}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_becomes_nobody() {
    let (_temp, root) = tree();
    for options in [&[][..], &["--user", "nobody"], &["--user", "65534:65534"]] {
        let server = Server::start(&[options, &[text(&root)]].concat());
        server.assert_is(NOBODY, NOBODY);
        assert_eq!(server.status("Groups"), NOBODY.to_string());
        assert_eq!(server.status("CapBnd"), "0000000000000000");
        server.assert_has_no_privileges();
        assert_eq!(server.get("file").stdout, b"text");
        let said = server.stop();
        assert!(said.contains("65534:65534") && !said.contains(" warn "), "{said}");
    }
    // With nothing on the disk as well, and where HTTP starts threads.
    let port = web(|_| "200 OK".into());
    let server = Server::start(&["memory:", &format!("http://localhost:{port}/")]);
    assert_eq!(server.get("file").stdout, b"text");
    server.assert_is(NOBODY, NOBODY);
    server.assert_has_no_privileges();
}

#[test]
#[ignore = "needs root"]
fn root_becomes_the_owner_of_the_directory() {
    let (_temp, root) = tree();
    chown(&root, Some(1234), Some(5678)).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::start(&["--upload", text(&root)]);
    server.assert_is(1234, 5678);
    assert_eq!(server.status("Groups"), "5678");
    server.assert_has_no_privileges();
    assert_eq!(server.get("file").stdout, b"text");
    assert!(server.put("new", "text").status.success());
    let new = fs::metadata(root.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o777), (1234, 5678, 0o644));
}

#[test]
#[ignore = "needs root"]
fn the_log_goes_on_in_a_new_file() {
    let (temp, root) = tree();
    chown(&root, Some(1234), Some(5678)).unwrap();
    let logs = temp.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let (log, old) = (logs.join("log"), logs.join("log.1"));
    let server = Server::start(&["--log-file", text(&log), text(&root)]);
    let reload = |server: &Server| {
        server.child.signal("-HUP");
        assert_eq!(server.get("file").stdout, b"text");
    };
    // In a directory of root's it has the file that is there; it was given it.
    reload(&server);
    assert_eq!(fs::metadata(&log).unwrap().uid(), 1234);
    // In a directory that belongs to its user, the server makes a new log.
    chown(&logs, Some(1234), None).unwrap();
    fs::rename(&log, &old).unwrap();
    for _ in 0..100 {
        reload(&server);
        if log.exists() {
            break;
        }
    }
    let said = server.stop();
    assert!(log.exists() && !said.contains("cannot open the log"), "{said}");
    let lines = |path| fs::read_to_string(path).unwrap().lines().count();
    assert!(lines(&old) > 0 && lines(&log) > 0);
}

#[test]
#[ignore = "needs root"]
fn root_stays_where_nobody_else_could_serve() {
    let (_temp, root) = tree();
    // It may not write there.
    let server = Server::start(&["--upload", text(&root)]);
    server.assert_is(0, 0);
    server.assert_has_no_privileges();
    assert_eq!(server.status("CapBnd"), "0000000000000000");
    assert!(server.put("new", "text").status.success());
    let said = server.stop();
    assert!(said.contains("nobody may not write") && said.contains("--user"), "{said}");
    assert_eq!(said.contains(" warn "), !said.contains("landlock for files"), "{said}");
    let said = Server::start(&["--upload", "--no-landlock", text(&root)]).stop();
    assert!(said.contains(" warn  sandbox: user root"), "{said}");
    // It may not read there.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::start(&[text(&root)]);
    server.assert_is(0, 0);
    assert_eq!(server.get("file").stdout, b"text");
    assert!(server.stop().contains("nobody may not read"));
    let output = tuffet(&["serve", "--listen", "127.0.0.1:0", "--user", "nobody", text(&root)]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("chmod"), "{said}");
    // Said of uploads, but no reason not to serve.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start(&["--upload", "--user", "nobody", text(&root)]);
    assert!(String::from_utf8_lossy(&server.put("other", "text").stderr).contains("ERROR 2"));
    assert!(server.stop().contains("will be refused"));
}

/// Files that were made beforehand for all to write, as other servers want them.
#[test]
#[ignore = "needs root"]
fn files_are_written_over_where_none_can_be_made() {
    let (_temp, root) = tree();
    let sticky = root.join("sticky");
    fs::create_dir(&sticky).unwrap();
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["switch.cfg", "sticky/switch.cfg"] {
        fs::write(root.join(name), "older and longer").unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let server = Server::start(&["--upload", "--overwrite", "--user", "nobody", text(&root)]);
    for name in ["switch.cfg", "sticky/switch.cfg"] {
        let put = server.put(name, "new");
        assert!(put.status.success(), "{name}: {put:?}");
        assert_eq!(fs::read(root.join(name)).unwrap(), b"new");
    }
    assert!(String::from_utf8_lossy(&server.put("other", "text").stderr).contains("ERROR 2"));
    assert!(String::from_utf8_lossy(&server.put("file", "text").stderr).contains("ERROR 2"));
    server.stop();
}

/// In a directory where everybody may replace files.
#[test]
#[ignore = "needs root"]
fn files_of_other_users_stay_theirs() {
    let (_temp, root) = tree();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    let owner = |name: &str| fs::metadata(root.join(name)).map(|found| (found.uid(), found.gid())).unwrap();
    let files = [("all.cfg", 0o666, 1234, 5678), ("group.cfg", 0o660, 1234, NOBODY), ("mine.cfg", 0o640, NOBODY, 5678)];
    for (name, mode, uid, gid) in files {
        fs::write(root.join(name), "older and longer").unwrap();
        chown(root.join(name), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let server = Server::start(&["--upload", "--overwrite", "--user", "nobody", text(&root)]);
    for (name, _, uid, gid) in files {
        assert!(server.put(name, "new").status.success(), "{name}");
        assert_eq!((owner(name), fs::read(root.join(name)).unwrap()), ((uid, gid), b"new".to_vec()), "{name}");
    }
    // A file that its user may not write to can only be replaced.
    assert!(server.put("file", "new").status.success());
    assert_eq!((owner("file"), fs::read(root.join("file")).unwrap()), ((NOBODY, NOBODY), b"new".to_vec()));
    server.stop();
}

#[test]
#[ignore = "needs root and setpriv"]
fn a_user_who_is_not_root_gives_up_its_capabilities() {
    let (temp, root) = tree();
    let program = &program::copy(temp.path());
    // As it is started with CAP_NET_BIND_SERVICE, to have port 69.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=+net_bind_service,+setuid", "--ambient-caps=+net_bind_service,+setuid"]);
    command.arg(program).args(["serve", "--listen", "127.0.0.1:0", text(&root)]);
    let server = Server::run(&mut command);
    server.assert_is(NOBODY, NOBODY);
    server.assert_has_no_privileges();
    assert_eq!(server.get("file").stdout, b"text");
    server.stop();
    // With no right to it.
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).args(["serve", "--listen", "127.0.0.1:0", "--user", "root", text(&root)]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("only root can change its user"), "{said}");
    // The user of this process.
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).args(["serve", "--listen", "127.0.0.1:0", "--user", "nobody", text(&root)]);
    assert_eq!(Server::run(&mut command).get("file").stdout, b"text");
    // The message must not give advice that cannot help.
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).args(["serve", "--listen", "127.0.0.1:0", "--upload", text(&root)]);
    let said = Server::run(&mut command).stop();
    assert!(said.contains("chmod -R o+rX") && said.contains("change its owner") && !said.contains("--user"), "{said}");
}

/// A container whose root is the only user, and one whose root may not change its user.
#[test]
#[ignore = "needs root, unshare and setpriv"]
fn root_of_a_container_stays_what_it_must() {
    let (_temp, root) = tree();
    let serve = [env!("CARGO_BIN_EXE_tuffet"), "serve", "--listen", "127.0.0.1:0", text(&root)];
    let ways = [
        (&["unshare", "--user", "--map-root-user"][..], "has no other users"),
        (&["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"], "may not become another"),
    ];
    for (way, why) in ways {
        let server = Server::run(Command::new(way[0]).args(&way[1..]).args(serve));
        server.assert_has_no_privileges();
        assert_eq!(server.get("file").stdout, b"text");
        let said = server.stop();
        assert!(said.contains(why), "{said}");
    }
}
