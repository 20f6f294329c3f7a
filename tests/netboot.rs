//! Debian's installer, as a room of machines would fetch it: from a directory, and through the server from a web
//! server that it could not hold.
#![cfg(all(target_os = "linux", feature = "cli", feature = "http"))]

mod stock;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use stock::{Process, assert_holds, client::Client, daemon, free_tcp_port, server::Server};
use tuffet::packet::Mode::Octet;

/// The most memory that the server may ever have had, in KiB: a router has some to spare, but not the 47 MB of these
/// files. It takes 15.3 MiB, and on a busy machine, where the four drift apart, once 16.3 MiB.
const MEMORY: u64 = 18 << 10;

const KERNEL: &str = "debian-installer/amd64/linux";
const INITRD: &str = "debian-installer/amd64/initrd.gz";

/// Where the package has its tree.
fn tree() -> PathBuf {
    const PACKAGE: &str = "debian-installer-12-netboot-amd64";
    let output = Command::new("dpkg").args(["-L", PACKAGE]).output().expect("dpkg");
    let files = String::from_utf8(output.stdout).unwrap();
    let root = files.lines().find_map(|file| file.strip_suffix(INITRD).filter(|root| root.ends_with("/text/")));
    root.unwrap_or_else(|| panic!("not installed: {PACKAGE}")).into()
}

/// The names of all files below, through links as well.
fn names(root: &Path, directory: &Path, names: &mut Vec<String>) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        // This follows links.
        if path.metadata().unwrap().is_dir() {
            self::names(root, &path, names);
        } else {
            names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// A plain web server in front of this directory, and its URL.
fn web_server(root: &Path) -> (Process, String) {
    let address = format!("127.0.0.1:{}", free_tcp_port());
    let daemon = daemon(Command::new("busybox").args(["httpd", "-f", "-p", &address, "-h"]).arg(root));
    let began = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "httpd does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    (daemon, format!("http://{address}/"))
}

/// Everything that a boot may ask for arrives, several times and several at a time, and the server stays small.
fn installs(title: &str, server: Server, root: &Path) {
    let here = tempfile::tempdir().unwrap();
    let copy = here.path().join("copy");
    let mut expected = 0;
    let mut gets = |client: Client, name: &str| {
        expected += 1;
        client.gets(server.address, Octet, name, &copy, &fs::read(root.join(name)).unwrap());
    };

    let mut all = Vec::new();
    names(root, root, &mut all);
    for link in ["pxelinux.0", "ldlinux.c32", "pxelinux.cfg/default", "debian-installer/amd64/pxelinux.cfg/default"] {
        assert!(all.iter().any(|name| name == link), "{link}");
    }
    for name in &all {
        // As pxelinux asks for blocks, and with the 512 bytes of old.
        gets(Client::Curl(&["--tftp-blksize", "1408"]), name);
        // This client is slow with large files, which come in blocks of 512 below.
        let small = root.join(name).metadata().unwrap().len() < 5 << 20;
        gets(if small { Client::Hpa } else { Client::Busybox(Some("1432")) }, name);
    }
    let after_all = server.peak();

    for name in [KERNEL, INITRD] {
        gets(Client::Tuffet(&["--windowsize", "1"]), name);
        gets(Client::Tuffet(&["--windowsize", "16"]), name);
        gets(Client::Atftp(&["blksize 1428", "windowsize 16"]), name);
    }
    gets(Client::Curl(&[]), INITRD);

    let initrd = fs::read(root.join(INITRD)).unwrap();
    thread::scope(|threads| {
        for (n, client) in [
            Client::Curl(&["--tftp-blksize", "1408"]),
            Client::Busybox(Some("1432")),
            Client::Atftp(&["blksize 1468", "windowsize 4", "tsize enable"]),
            Client::Tuffet(&[]),
        ]
        .into_iter()
        .enumerate()
        {
            let (server, here, initrd) = (server.address, here.path(), &initrd);
            threads.spawn(move || client.gets(server, Octet, INITRD, &here.join(format!("machine-{n}")), initrd));
        }
    });
    expected += 4;

    let peak = server.peak();
    println!("{title}: {} files, peak memory {after_all} KiB one by one, {peak} KiB with four machines", all.len());
    assert!(peak < MEMORY, "{title}: {peak} KiB");
    assert_eq!(server.stop_after_success().len(), expected);
}

#[test]
#[ignore = "needs debian-installer-12-netboot-amd64, tftp-hpa, atftp, curl and busybox"]
fn debians_installer_comes_from_a_directory() {
    let root = tree();
    installs("directory", Server::start(&[root.to_str().unwrap()]), &root);
}

#[test]
#[ignore = "needs debian-installer-12-netboot-amd64, tftp-hpa, atftp, curl and busybox"]
fn debians_installer_comes_from_a_web_server() {
    let root = tree();
    let (_daemon, url) = web_server(&root);
    installs("http", Server::start(&[&url]), &root);
}

#[test]
#[ignore = "needs debian-installer-12-netboot-amd64, tftp-hpa, atftp, curl and busybox"]
fn debians_installer_comes_from_a_web_server_with_overrides() {
    const MENU: &str = "debian-installer/amd64/boot-screens/txt.cfg";
    const OWN: &str = "pxelinux.cfg/01-52-54-00-12-34-56";
    let root = tree();
    let (_daemon, url) = web_server(&root);
    let directories = tempfile::tempdir().unwrap();
    let [overrides, here] = ["overrides", "here"].map(|name| directories.path().join(name));
    fs::create_dir(&here).unwrap();
    for name in [MENU, OWN] {
        let file = overrides.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("# {name} of this room\n")).unwrap();
    }
    let server = Server::start(&[overrides.to_str().unwrap(), &url]);
    let copy = here.join("copy");
    for client in [Client::Hpa, Client::Atftp(&["windowsize 16"]), Client::Curl(&[]), Client::Busybox(Some("1432"))] {
        for name in [MENU, OWN] {
            client.gets(server.address, Octet, name, &copy, format!("# {name} of this room\n").as_bytes());
        }
        // The directory of the override has not got these.
        for name in ["debian-installer/amd64/boot-screens/menu.cfg", "pxelinux.cfg/default", "pxelinux.0", KERNEL] {
            client.gets(server.address, Octet, name, &copy, &fs::read(root.join(name)).unwrap());
        }
        // These are in neither directory; the last is a directory in both.
        for name in ["pxelinux.cfg/C0A84D29", "missing", "debian-installer/amd64/boot-screens"] {
            let output = client.get(server.address, Octet, name, &copy);
            assert!(client.reports(&output, 1), "{client:?} {name}: {}", stock::said(&output));
        }
    }
    let initrd = here.join("initrd.gz");
    Client::Tuffet(&[]).gets(server.address, Octet, INITRD, &initrd, &fs::read(root.join(INITRD)).unwrap());
    assert_holds(&overrides.join(MENU), format!("# {MENU} of this room\n").as_bytes());

    let peak = server.peak();
    println!("overrides and http: peak memory {peak} KiB");
    assert!(peak < MEMORY, "{peak} KiB");
    let lines = server.stop();
    let (complete, refused): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.outcome == "complete");
    assert_eq!((complete.len(), refused.len()), (4 * 6 + 1, 4 * 3));
    for line in refused {
        assert!(line.outcome.starts_with("refused: ERROR 1 "), "{line:?}");
    }
}
