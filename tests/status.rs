//! The status server: its responses, its clients, and its life.
#![cfg(feature = "status")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Peer, Serving, eventually, file, size};
use serde_json::Value;
use tuffet::{
    Client, Refusal, Request, Source, read,
    stats::Counter,
    status::{Serving as Shown, Status},
};

fn serve() -> (Serving, Shown, SocketAddr) {
    let status = Status::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = status.addr();
    let files = read(async |request: Request| match request.path() {
        "wordy" => Err(Refusal::not_found().because("no such name\n".repeat(10_000))),
        "secret" => Err(Refusal::denied().because("</script>")),
        path if size(&request) > 0 => Ok(Source::from(file(size(&request))).with_origin(format!("made up: {path}"))),
        _ => Err(Refusal::not_found()),
    });
    let serving = Serving::with(files, |builder| {
        let greetings = Counter::new("greetings", "Machines that were greeted.");
        // Neither the same again nor a name that is taken does any harm.
        let more = [greetings.clone(), Counter::new("greetings", "More of them."), Counter::new("requests", "Mine.")];
        more.iter().fold(builder.watch(&status), |builder, counter| builder.counter(counter))
    });
    let shown = status.describe("a \"test\"").listening(&[serving.addr()]).serve(serving.handle.clone()).unwrap();
    (serving, shown, addr)
}

fn get(serving: &Serving, name: &str) -> bool {
    let client = Client::new(serving.addr());
    smol::block_on(client.get(name, async |data| data.collect(1 << 20).await.map(drop))).is_ok()
}

/// The head and the body of the answer.
fn exchange(addr: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.to_ascii_lowercase(), body.to_owned())
}

fn ask(addr: SocketAddr, path: &str) -> (String, String) {
    exchange(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
}

fn transfers(addr: SocketAddr, since: u64) -> Value {
    let (head, body) = ask(addr, &format!("/api/transfers?since={since}"));
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn the_page_and_its_parts_are_there() {
    let (_serving, _shown, addr) = serve();
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "<title>tuffet</title>"),
        ("/page.js", "text/javascript; charset=utf-8", "from \"./words.js\""),
        ("/trouble.js", "text/javascript; charset=utf-8", "export function"),
        ("/page.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/metrics", "text/plain; version=0.0.4", "tuffet_transfers_total"),
    ] {
        let (head, body) = ask(addr, path);
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(body.contains(part), "{path}");
    }
    let (head, body) = exchange(addr, &format!("HEAD / HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
}

/// A page without inline code is safe even if its policy has a gap.
#[test]
fn the_page_has_nothing_inline_and_sets_no_markup() {
    let html = include_str!("../src/status/page/page.html");
    let parts = std::fs::read_dir("src/status/page").unwrap().map(|part| part.unwrap().path());
    let scripts = parts.filter(|part| part.extension().is_some_and(|extension| extension == "js"));
    let script: String = scripts.map(|script| std::fs::read_to_string(script).unwrap()).collect();
    assert!(!html.contains("style=") && !html.contains("<style") && !html.contains("onclick"), "inline code");
    assert!(!html.contains("http://") || html.matches("http://").count() == 1, "only the name space of SVG");
    for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
        assert!(!script.contains(word), "{word}");
    }
}

#[test]
fn malformed_http_requests_are_refused() {
    let (_serving, _shown, addr) = serve();
    let status = |request: &str| exchange(addr, request).0[9..12].to_owned();
    assert_eq!(status(&format!("GET /etc/passwd HTTP/1.1\r\nHost: {addr}\r\n\r\n")), "404");
    assert_eq!(status(&format!("GET /../page.js HTTP/1.1\r\nHost: {addr}\r\n\r\n")), "404");
    assert_eq!(status(&format!("POST / HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\n\r\n")), "405");
    assert_eq!(status(&format!("DELETE /metrics HTTP/1.1\r\nHost: {addr}\r\n\r\n")), "405");
    assert_eq!(status("nonsense\r\n\r\n"), "400");
    // A head without end is not read to its end; the answer may be lost with the connection.
    let mut endless = TcpStream::connect(addr).unwrap();
    let written = (0..10_000).map(|_| endless.write_all(&[b'x'; 1000])).find(Result::is_err);
    assert!(written.is_some(), "it has read ten million bytes");
    // It still answers.
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {addr}\r\n\r\n")), "200");
}

/// A page of another site whose name resolves to this address must not read the status.
#[test]
fn only_names_of_this_machine_are_answered() {
    let (_serving, _shown, addr) = serve();
    let ok = |host: &str| exchange(addr, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")).0[9..12] == *"200";
    for host in ["127.0.0.1", "127.0.0.1:9069", "localhost", "LocalHost:9069", "[::1]:9069"] {
        assert!(ok(host), "{host}");
    }
    for host in ["evil.example", "evil.example:9069", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
        assert!(!ok(host), "{host:?}");
    }
}

#[test]
fn transfers_are_shown_while_they_run_and_after() {
    let (serving, _shown, addr) = serve();
    let before = transfers(addr, 0);
    assert_eq!((&before["running"], &before["recent"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!(before["server"]["served"], "a \"test\"");

    let mut peer = Peer::new(serving.addr());
    peer.rrq("2000/<b>", &[]).expect_data(1, &file(2000)[..512]);
    peer.ack(1);
    peer.expect_data(2, &file(2000)[512..1024]);
    eventually("it shows", || transfers(addr, 0)["running"][0]["bytes"] == 512);
    let now = transfers(addr, 0);
    let running = &now["running"][0];
    assert_eq!(
        (&running["path"], &running["size"], &now["running_total"]),
        (&"2000/<b>".into(), &2000.into(), &1.into())
    );
    assert_eq!(running["client"], peer.socket.local_addr().unwrap().to_string());
    peer.error(0);
    serving.record();
    assert!(!get(&serving, "secret"));
    serving.record();
    let after = transfers(addr, 0);
    let recent = after["recent"].as_array().unwrap();
    assert_eq!(recent.iter().map(|one| &one["outcome"]).collect::<Vec<_>>(), ["aborted", "refused"]);
    assert_eq!((&recent[0]["id"], &recent[0]["origin"]), (&running["id"], &"made up: 2000/<b>".into()));
    assert_eq!(recent[1]["reason"], "Access violation (</script>)");
    assert_eq!((&after["next"], transfers(addr, 1)["recent"].as_array().unwrap().len()), (&2.into(), 1));
    assert!(transfers(addr, 2)["recent"].as_array().unwrap().is_empty());
}

#[test]
fn metrics_have_all_that_is_counted() {
    let (serving, _shown, addr) = serve();
    assert!(get(&serving, "5000") && !get(&serving, "missing") && !get(&serving, "secret"));
    let has = |line: &str| ask(addr, "/metrics").1.lines().any(|found| found == line);
    eventually("all are counted", || has("tuffet_transfers_total{direction=\"read\",outcome=\"refused\"} 2"));
    for line in [
        "tuffet_transfers_total{direction=\"read\",outcome=\"complete\"} 1",
        "tuffet_transfers_total{direction=\"write\",outcome=\"upstream_failed\"} 0",
        "tuffet_refusals_total{code=\"1\"} 1",
        "tuffet_refusals_total{code=\"2\"} 1",
        "tuffet_bytes_total{direction=\"read\"} 5000",
        "tuffet_requests_total 3",
        "tuffet_running_transfers 0",
        "tuffet_greetings_total 0",
        "tuffet_dropped_datagrams_total 0",
        "tuffet_transfer_duration_seconds_count{direction=\"read\"} 1",
        "tuffet_transfer_rate_bytes_per_second_count{direction=\"read\"} 1",
    ] {
        assert!(has(line), "{line} is not in:\n{}", ask(addr, "/metrics").1);
    }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_accepts_the_metrics() {
    let (serving, _shown, addr) = serve();
    assert!(get(&serving, "5000") && !get(&serving, "missing"));
    eventually("it is counted", || serving.counters().running == 0);
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(ask(addr, "/metrics").1.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && text.is_empty(), "{}", String::from_utf8_lossy(&text));
}

/// A connection that sends or reads nothing takes a place for a few seconds only.
#[test]
fn slow_connections_do_not_keep_others_out() {
    let (serving, _shown, addr) = serve();
    let idle: Vec<_> = (0..24).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut deaf = TcpStream::connect(addr).unwrap();
    write!(deaf, "GET /page.js HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
    let begin = Instant::now();
    let (head, _) = ask(addr, "/");
    assert!(head.starts_with("http/1.1 200"), "after {:?}: {head}", begin.elapsed());
    // Transfers do not notice.
    assert!(get(&serving, "100"));
    drop(idle);
}

/// However many there are.
#[test]
fn hundreds_of_silent_connections_do_not_delay_the_metrics() {
    let (_serving, _shown, addr) = serve();
    let idle: Vec<_> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let begin = Instant::now();
    for _ in 0..3 {
        assert!(ask(addr, "/metrics").0.starts_with("http/1.1 200"));
    }
    // Each of them may be silent for 2 s. A wait for one after the other would take a minute.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(idle);
}

/// Clients that request much and read nothing make room for new clients.
#[test]
fn connections_that_do_not_read_give_way() {
    let (serving, _shown, addr) = serve();
    let mut peer = Peer::new(serving.addr());
    for n in 0..1500_u32 {
        // The socket may bear any address of the loopback.
        peer.socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 9, (n % 100) as u8 + 1), 0)).unwrap();
        peer.rrq(&format!("{}{n}", "missing".repeat(100)), &[("color", &"blue".repeat(20))]).receive();
    }
    eventually("there is much to tell", || ask(addr, "/api/transfers").1.len() > 1 << 20);
    let deaf: Vec<_> = (0..12)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&addr.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            write!(stream, "GET /api/transfers HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let begin = Instant::now();
    assert!(ask(addr, "/metrics").0.starts_with("http/1.1 200"));
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(deaf);
}

/// The names of 256 clients are cut, and not held once more for each answer.
#[test]
fn long_names_make_no_long_answers() {
    let (serving, _shown, addr) = serve();
    let peers: Vec<_> = (0..256)
        .map(|n| {
            let mut peer = Peer::new(serving.addr());
            let name = [format!("2000/{n}").into_bytes(), b"\x1b\xff\xe2\x80\xae\x7f".repeat(60)].concat();
            peer.send_bytes(&[b"\0\x01", &name[..], b"\0octet\0"].concat());
            peer.receive();
            peer
        })
        .collect();
    let (head, body) = ask(addr, "/api/transfers");
    assert!(head.contains("200") && body.len() < 256 * 2048, "{} bytes", body.len());
    assert!(!body.chars().any(|char| char.is_control() || char == '\u{202e}'));
    let running = &transfers(addr, 0)["running"];
    assert_eq!(running.as_array().unwrap().len(), peers.len());
    assert!(running[0]["path"].as_str().unwrap().contains(r"\xff\u{202e}\u{7f}\u{1b}"), "{}", running[0]);
}

#[test]
fn facts_that_change_slowly_have_a_path_of_their_own() {
    let (serving, _shown, addr) = serve();
    // Blocks that can be divided by the seconds of a rate, wherever a new one begins between them.
    let client = Client::new(serving.addr()).blksize(1000);
    smol::block_on(client.get("5000", async |data| data.collect(5000).await.map(drop))).unwrap();
    let server = || -> Value { serde_json::from_str(&ask(addr, "/api/server").1).unwrap() };
    let first = server();
    assert_eq!((&first["served"], &first["every"]), (&"a \"test\"".into(), &5.into()));
    assert_eq!(first["listening"], serde_json::json!([serving.addr().to_string()]));
    assert!(first["started"].as_u64() <= first["now"].as_u64() && first["mac_addresses"].is_object());
    let sum = || -> u64 { server()["rates"].as_array().unwrap().iter().map(|rate| rate.as_u64().unwrap()).sum() };
    eventually("its bytes are in the rates", || sum() == 1000);
}

#[test]
fn the_status_server_ends_when_it_is_dropped() {
    let (_serving, shown, addr) = serve();
    let _idle = TcpStream::connect(addr).unwrap();
    ask(addr, "/");
    drop(shown);
    let begin = Instant::now();
    while TcpStream::connect(addr).is_ok() {
        assert!(begin.elapsed() < LONG, "somebody still listens");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let status = Status::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = Status::bind(status.addr()).unwrap_err();
    assert!(error.to_string().contains(&status.addr().to_string()), "{error}");
}

/// At boot a server may start before the network.
#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_not_there_yet_is_waited_for() {
    for address in ["192.0.2.77:0", "[2001:db8::77]:0"].map(|address| address.parse::<SocketAddr>().unwrap()) {
        assert_eq!(Status::bind(address).unwrap().addr().ip(), address.ip());
    }
}

#[test]
fn texts_of_clients_are_cut() {
    let (serving, _shown, addr) = serve();
    assert!(!get(&serving, "wordy"));
    let reason = transfers(addr, 0)["recent"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("File not found (no such name\\nno such name") && reason.len() < 400, "{reason}");
}
