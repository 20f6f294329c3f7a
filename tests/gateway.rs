//! The program as a gateway in front of Debian's nginx: the load of a crowd on the web server, by its own count, and
//! the fate of the crowd when the web server is killed.
#![cfg(all(target_os = "linux", feature = "cli", feature = "http"))]

mod stock;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use smol::{LocalExecutor, Timer};
use stock::{Process, bytes, daemon, free_tcp_port, server::Server};
use tempfile::TempDir;
use tuffet::Client;

const MIB: usize = 1 << 20;
const SIZE: usize = 64 * MIB;

/// The most memory that the gateway may ever have had beside its cache, in MiB. It has 10 to 20 with 200 transfers.
const MEMORY: usize = 48;

/// nginx before one file of random bytes.
struct Nginx {
    /// None while it is dead.
    daemon: Option<Process>,
    port: u16,
    here: TempDir,
}

impl Nginx {
    fn start(content: &[u8]) -> Self {
        let mut nginx = Self { daemon: None, port: free_tcp_port(), here: tempfile::tempdir().unwrap() };
        let here = nginx.here.path();
        fs::create_dir(here.join("root")).unwrap();
        fs::write(here.join("root/image"), content).unwrap();
        let (port, here) = (nginx.port, here.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {here}/{name};\n"))
            .concat();
        // One process, so that to kill it is to kill all of it.
        let configuration = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error;
            events {{ worker_connections 2048; }}
            http {{
                log_format bytes '$status $body_bytes_sent';
                access_log {here}/access bytes;
                {temporary}
                server {{ listen 127.0.0.1:{port}; root {here}/root; }}
            }}"
        );
        fs::write(nginx.here.path().join("nginx.conf"), configuration).unwrap();
        nginx.restart();
        nginx
    }

    fn restart(&mut self) {
        let (configuration, errors) = (self.here.path().join("nginx.conf"), self.here.path().join("error"));
        // Debian installs it in /usr/sbin, which is in no user's PATH.
        let mut command = Command::new("sh");
        command.args(["-c", "PATH=$PATH:/usr/sbin exec nginx -c \"$0\" -e \"$1\""]).args([configuration, errors]);
        self.daemon = Some(daemon(&mut command));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "nginx does not listen: is it installed?");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it with SIGKILL.
    fn kill(&mut self) {
        self.daemon = None;
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Ends it in good order. Returns the bytes of files that it has sent, and its requests.
    fn served(&self) -> (usize, usize) {
        let pid = fs::read_to_string(self.here.path().join("pid")).unwrap();
        assert!(Command::new("kill").args(["-QUIT", pid.trim()]).status().unwrap().success());
        let process = format!("/proc/{}/stat", pid.trim());
        let began = Instant::now();
        // A zombie has ended.
        while fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < Duration::from_secs(20), "nginx does not end");
            thread::sleep(Duration::from_millis(10));
        }
        let log = fs::read_to_string(self.here.path().join("access")).unwrap();
        let sent = log.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        (sent.sum(), log.lines().count())
    }
}

/// A client that compares each byte, and does not keep them.
async fn get(client: Client, expected: &[u8]) {
    let record = client.get("image", async |mut data| {
        let mut position = 0;
        while let Some(chunk) = data.next().await {
            let chunk = chunk?;
            assert!(expected.get(position..position + chunk.len()) == Some(&chunk[..]), "other bytes at {position}");
            position += chunk.len();
        }
        assert_eq!(position, expected.len());
        Ok(())
    });
    record.await.unwrap();
}

/// This many clients, which begin one after the other within this time.
fn get_all(server: SocketAddr, expected: &[u8], clients: u32, over: Duration, meanwhile: impl Future<Output = ()>) {
    let quick = Client::new(server).blksize(16384).windowsize(4).patience(Duration::from_secs(60));
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..clients)
        .map(|n| {
            let quick = quick.clone();
            executor.spawn(async move {
                Timer::after(over * n / clients).await;
                get(quick, expected).await;
            })
        })
        .collect();
    smol::block_on(executor.run(async {
        meanwhile.await;
        for task in tasks {
            task.await;
        }
    }));
}

fn assert_small(server: &Server, cache: usize) {
    let peak = server.peak() as usize >> 10;
    println!("peak memory {peak} MiB with a cache of {cache} MiB");
    assert!(peak < cache + MEMORY, "{peak} MiB");
}

#[test]
#[ignore = "needs nginx"]
fn a_crowd_costs_nginx_little() {
    let content = bytes(SIZE);
    for (cache, over, most) in [("128M", 0, 1.2), ("128M", 3, 1.2), ("16M", 0, 2.0), ("16M", 3, 5.0)] {
        let nginx = Nginx::start(&content);
        let server = Server::start(&["--cache", cache, &nginx.url()]);
        get_all(server.address, &content, 200, Duration::from_secs(over), async {});
        let (bytes, requests) = nginx.served();
        let times = bytes as f64 / SIZE as f64;
        println!("cache {cache}, within {over} s: {times:.2} times the file, {requests} requests");
        assert!(times <= most, "{times} times");
        assert_small(&server, cache.trim_end_matches('M').parse().unwrap());
        assert_eq!(server.stop_after_success().len(), 200);
    }
}

#[test]
#[ignore = "needs nginx"]
fn a_crowd_outlives_nginx() {
    let content = bytes(SIZE);
    for cache in ["128M", "2M"] {
        let mut nginx = Nginx::start(&content);
        let server = Server::start(&["--cache", cache, &nginx.url()]);
        let again = async {
            // The web server is killed in the middle of the file and is back after a while, twice.
            for _ in 0..2 {
                Timer::after(Duration::from_millis(700)).await;
                nginx.kill();
                Timer::after(Duration::from_millis(1500)).await;
                nginx.restart();
            }
        };
        // All of them have begun before it dies: a client that comes meanwhile can only be refused.
        get_all(server.address, &content, 50, Duration::from_millis(400), again);
        let answers = fs::read_to_string(nginx.here.path().join("access")).unwrap();
        assert!(answers.lines().any(|line| line.starts_with("206 ")), "nothing went on: {answers}");
        let log = server.stop_with_warnings();
        assert_eq!(log.iter().filter(|line| line.outcome == "complete").count(), 50, "{log:?}");
    }
}

/// As on the smallest router: many machines, and nothing kept for them.
#[test]
#[ignore = "needs nginx"]
fn without_a_cache_a_crowd_is_served_too() {
    let content = bytes(4 * MIB);
    let nginx = Nginx::start(&content);
    let server = Server::start(&["--cache", "0", &nginx.url()]);
    get_all(server.address, &content, 200, Duration::ZERO, async {});
    println!("{:?}", nginx.served());
    let peak = server.peak() as usize >> 10;
    assert!(peak < 2 * MEMORY, "{peak} MiB");
    assert_eq!(server.stop_after_success().len(), 200);
}

/// No client waits for the end of such a file, and the server need not hold it.
#[test]
#[ignore = "needs nginx"]
fn a_thousand_transfers_of_a_large_file_stay_small() {
    let here = Nginx::start(b"");
    let image = fs::File::create(here.here.path().join("root/image")).unwrap();
    image.set_len(1 << 30).unwrap();
    let server = Server::start(&[&here.url()]);
    let client = Client::new(server.address).blksize(1468).windowsize(8);
    let executor = LocalExecutor::new();
    let got = std::rc::Rc::new(std::cell::Cell::new(0));
    for n in 0..1000 {
        let (client, got) = (client.clone(), got.clone());
        let read = async move {
            Timer::after(Duration::from_millis(2 * n)).await;
            let sink = async |mut data: tuffet::SendSource| {
                while let Some(chunk) = data.next().await {
                    got.set(got.get() + chunk?.len());
                }
                Ok(())
            };
            _ = client.get("image", sink).await;
        };
        executor.spawn(read).detach();
    }
    smol::block_on(executor.run(async {
        Timer::after(Duration::from_secs(10)).await;
        let began = Instant::now();
        while got.get() < 100 * MIB {
            assert!(began.elapsed() < Duration::from_secs(120), "only {} bytes arrived", got.get());
            Timer::after(Duration::from_millis(100)).await;
        }
    }));
    println!("{} MiB arrived", got.get() >> 20);
    assert_small(&server, 2);
    assert_eq!(Path::new(&here.here.path().join("root/image")).metadata().unwrap().len(), 1 << 30);
}
