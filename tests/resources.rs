//! The costs of a server in file descriptors and memory, and that it gives them back. Linux tells what a process has.
#![cfg(all(feature = "net", target_os = "linux"))]

mod common;
#[cfg(feature = "cli")]
#[path = "common/process.rs"]
mod process;

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{Peer, Serving, doomed_socket, eventually, file, ipv6, open_files, request, resident, size};
use tuffet::{Client, Error, ErrorCode, Gen, Handler, Request, packet::Packet, read, transfer::Outcome};

/// These tests measure the whole process, so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn files() -> impl Handler {
    read(async |request: Request| {
        let all = file(size(&request));
        Gen::new(async move |co| {
            for chunk in all.chunks(1000) {
                co.yield_(chunk.to_vec()).await;
            }
        })
    })
}

/// How many files this process may have open.
fn open_files_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}

/// A server that takes uploads, started by a shell with this limit of files.
#[cfg(feature = "cli")]
struct Limited {
    program: process::Process,
    server: std::net::SocketAddr,
    place: tempfile::TempDir,
}

#[cfg(feature = "cli")]
impl Limited {
    fn start(limit: &str) -> Self {
        Self::start_with(limit, &[])
    }

    fn start_with(limit: &str, args: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let mut command = std::process::Command::new("sh");
        process::without_variables(&mut command);
        command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_tuffet")]);
        command.args(["serve", "--quiet", "--upload", "--listen", "127.0.0.1:0"]).args(args).arg(place.path());
        let mut program = process::Process::start(command.stdout(std::process::Stdio::piped()));
        let line = program.first_line();
        let server = line.strip_prefix("listening on ").expect(&line).parse().unwrap();
        Self { program, server, place }
    }

    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.program.id())).unwrap().count()
    }
}

/// The system ends a process that makes a file larger than it may, if the process does not say otherwise.
#[cfg(feature = "cli")]
#[test]
fn an_upload_larger_than_files_may_be_ends_and_the_program_does_not() {
    let _alone = alone();
    // 50 KiB.
    let mut limited = Limited::start("-f 100");
    let server = limited.server;
    let put = |name: &str, size| {
        let mut peer = Peer::new(server);
        peer.wrq(name, &[("blksize", "8192")]).expect_oack(&[("blksize", "8192")]);
        for (block, bytes) in (1..).zip(file(size).chunks(8192)) {
            peer.data(block, bytes);
            match peer.receive() {
                Packet::Ack(acknowledged) => assert_eq!(acknowledged, block),
                refused => return refused,
            }
        }
        Packet::Ack(0)
    };
    let refused = put("big", 500_001);
    assert!(matches!(refused, Packet::Error { code: ErrorCode::DISK_FULL, .. }), "{refused:?}");
    assert_eq!(put("small", 20_001), Packet::Ack(0));
    assert_eq!(fs::read_dir(limited.place.path()).unwrap().count(), 1);
    assert!(limited.program.try_wait().unwrap().is_none());
}

#[cfg(feature = "cli")]
#[test]
fn a_program_that_begins_with_few_files_serves_many_uploads() {
    const UPLOADS: usize = 200;
    let _alone = alone();
    let limited = Limited::start("-Sn 64");
    let mut peers: Vec<Peer> = (0..UPLOADS).map(|_| Peer::new(limited.server)).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.wrq(&n.to_string(), &[]).expect(Packet::Ack(0));
    }
    let open = limited.open_files();
    assert!(open > UPLOADS, "{open} files for {UPLOADS} uploads at once");
    for peer in &mut peers {
        peer.data(1, file(100));
        peer.expect(Packet::Ack(1));
    }
    assert!((0..UPLOADS).all(|n| fs::read(limited.place.path().join(n.to_string())).unwrap() == file(100)));
}

/// A client repeats its request, and gets the place of a client that never sent an ACK. No ERROR ends its boot.
#[cfg(feature = "cli")]
#[test]
fn more_silent_uploads_than_files_lock_no_client_out() {
    const LIMIT: usize = 1024;
    let _alone = alone();
    let limited = Limited::start(&format!("-n {LIMIT}"));
    let silent: Vec<Peer> = (0..LIMIT + 100).map(|_| Peer::new(limited.server)).collect();
    for (n, peer) in silent.iter().enumerate() {
        peer.send(Packet::Wrq(request(&format!("silent-{n}"), &[])));
    }
    let upload = |name: &str| {
        let mut client = Peer::new(limited.server);
        for _ in 0..10 {
            client.wrq(name, &[]);
            if let Some((from, packet)) = client.receive_within(Duration::from_secs(2)) {
                client.to = from;
                assert_eq!(packet, Packet::Ack(0), "it should not be refused");
                client.data(1, file(100));
                while client.receive() != Packet::Ack(1) {}
                return;
            }
        }
        panic!("{name} was not answered");
    };
    upload("one");
    let open = limited.open_files();
    assert!(open > LIMIT / 4 && open <= LIMIT, "{open} files, the attack is none");
    (0..5).for_each(|n| upload(&n.to_string()));
    assert_eq!(fs::read(limited.place.path().join("one")).unwrap(), file(100));
}

/// Transfers may hold all descriptors, also of clients that have answered. HTTP needs some.
#[cfg(feature = "full")]
#[test]
fn silent_clients_of_tftp_leave_descriptors_to_http() {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    const LIMIT: usize = 256;
    let _alone = alone();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limited = Limited::start_with(&format!("-n {LIMIT}"), &["--patience=600s", &format!("--http={free}")]);
    for n in 0..=LIMIT {
        let path = limited.place.path().join(n.to_string());
        fs::write(&path, file(100_000)).unwrap();
        // The server becomes another user.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }
    let mut silent: Vec<Peer> = (0..LIMIT).map(|_| Peer::new(limited.server)).collect();
    for (n, peer) in silent.iter_mut().enumerate() {
        peer.rrq(&n.to_string(), &[]);
        // The last ones get nothing.
        if let Some((from, _)) = peer.receive_within(Duration::from_millis(300)) {
            peer.to = from;
            peer.ack(1);
        }
    }
    eventually("nearly all descriptors are taken", || limited.open_files() > LIMIT - 16);
    let get = || {
        let mut stream = TcpStream::connect(free)?;
        write!(stream, "GET /{LIMIT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&file(100_000)))
    };
    eventually("HTTP has descriptors", || get().is_ok_and(|whole| whole));
}

/// The outcome of a client that gets a file.
async fn outcome(client: Client, size: usize) -> Result<Outcome, Error> {
    let name = size.to_string();
    let record = client.get(&name, async |data| {
        assert!(data.collect(size).await? == file(size));
        Ok(())
    });
    Ok(record.await?.outcome)
}

async fn get(client: Client, size: usize) {
    assert_eq!(outcome(client, size).await.unwrap(), Outcome::Complete);
}

#[test]
fn a_thousand_clients_at_once() {
    // The shards may still be about to open theirs when an idle server's are counted.
    const SLACK: usize = 80;
    // All of them take turns in one thread, on a machine that may be busy.
    const PATIENCE: Duration = Duration::from_secs(600);
    let _alone = alone();
    let clients = 1000.min(open_files_limit() - 300);
    let before = open_files();
    for shards in [1, 2] {
        let serving = Serving::with(files(), |builder| builder.shards(shards).patience(PATIENCE));
        let idle = open_files();
        // Most of them are the ports that transfers are served from.
        assert!(idle < before + 100 * shards, "{before} files before, {idle} for an idle server");
        let executor = smol::LocalExecutor::new();
        let client = |n: usize| Client::new(serving.addr()).windowsize(1 + n as u16 % 8).patience(PATIENCE);
        let tasks: Vec<_> = (0..clients).map(|n| executor.spawn(get(client(n), 20_000))).collect();
        smol::block_on(executor.run(async {
            smol::future::yield_now().await;
            let with_clients = open_files();
            assert!(with_clients - idle <= clients + SLACK, "{} files for {clients} clients", with_clients - idle);
            for task in tasks {
                task.await;
            }
        }));
        // A request that came twice, the second time after the end, makes a transfer whose client never answers.
        eventually("all sessions are gone", || serving.transfers().iter().all(|transfer| transfer.bytes == 0));
        let complete = serving.records().iter().filter(|record| record.outcome.is_success()).count();
        assert!(complete >= clients, "{complete} of {clients}");
        assert!(open_files() <= idle + SLACK);
    }
    assert!(open_files() <= before + SLACK, "{} files before, {} after", before, open_files());
}

#[test]
fn a_server_that_has_ended_leaves_no_file_open() {
    let _alone = alone();
    let round = |end: &dyn Fn(&Serving)| {
        let addresses: Vec<_> = ["127.0.0.1:0"].into_iter().chain(ipv6()).collect();
        let mut serving =
            Serving::on(&addresses, files(), |builder| builder.shards(2).drain(Duration::from_millis(50)));
        smol::block_on(get(Client::new(*serving.addrs.last().unwrap()), 5000));
        // One that is left in the middle.
        Peer::new(serving.addr()).rrq("5000", &[]).receive();
        end(&serving);
        serving.join();
    };
    round(&|serving| serving.abort());
    let before = open_files();
    for _ in 0..20 {
        round(&|serving| serving.abort());
        round(&|serving| serving.stop());
    }
    // A server that never ran.
    for _ in 0..20 {
        tuffet::Server::builder().listen("127.0.0.1:0").bind().unwrap();
    }
    assert!(open_files() <= before, "{} files before, {} after", before, open_files());
}

#[test]
fn memory_comes_back_after_a_flood() {
    let _alone = alone();
    let serving = Serving::with(files(), |builder| builder.patience(Duration::from_millis(200)));
    let wire = [
        Packet::Rrq(request("40000", &[("windowsize", "64")])).encode(),
        Packet::Rrq(request("40000", &[])).encode(),
        Packet::Wrq(request("up", &[])).encode(),
        b"\0\x01no mode".to_vec(),
        [&b"\0\x01name\0octet\0"[..], &[b'x'; 9000]].concat(),
    ];
    let flood = || {
        for n in 0..1500 {
            let socket = doomed_socket();
            socket.send_to(&wire[n % wire.len()], serving.addr()).unwrap();
        }
        eventually("all sessions are gone", || serving.transfers().is_empty());
        serving.records();
        // The server's patience is short, and the machine may be busy.
        eventually("it is served", || {
            smol::block_on(outcome(Client::new(serving.addr()), 20_000)).is_ok_and(|outcome| outcome.is_success())
        });
    };
    // The first floods fill all memory that is kept: buffers, recent transfers, the allocator's own.
    flood();
    flood();
    let before = resident();
    (0..6).for_each(|_| flood());
    let after = resident();
    assert!(after < before + 16 * 1024, "{before} KiB before, {after} KiB after");
}

/// A client that connects and sends nothing is the cheapest attack.
#[cfg(feature = "full")]
#[test]
fn an_idle_connection_over_http_takes_little_memory() {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    const COUNT: usize = 200;
    let _alone = alone();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limited = Limited::start_with("-n 1024", &[&format!("--http={free}")]);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", limited.program.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()
    };
    // Connections are accepted one after the other, so an answer to the last one means that all are.
    let connect = |count| {
        let idle: Vec<_> = (0..count).map(|_| TcpStream::connect(free).unwrap()).collect();
        let mut last = TcpStream::connect(free).unwrap();
        last.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        last.read_to_end(&mut Vec::new()).unwrap();
        idle
    };
    let (_first, before) = (connect(20), resident());
    let _others = connect(COUNT);
    let each = resident().saturating_sub(before) / COUNT;
    assert!(each < 24, "{each} KiB");
}
