//! The same requests to nginx, whose answers are the reference for ranges and conditions.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

use tuffet::handlers::Directory;

use super::{
    MODIFIED,
    client::{Connection, request},
    common::eventually,
    program::run::Process,
    put, serve,
};

struct Nginx {
    _child: Process,
    addr: SocketAddr,
}

impl Nginx {
    /// One that serves this directory, if the machine has it.
    fn start(place: &std::path::Path, files: &std::path::Path) -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            println!("skipped: there is no nginx here");
            return None;
        }
        // The next that wants a port gets another, most likely.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = format!(
            "daemon off; master_process off; pid {pid}; error_log stderr crit;
             events {{ worker_connections 64; }}
             http {{
                 access_log off; sendfile on; max_ranges 1; if_modified_since before;
                 client_body_temp_path {temp}; proxy_temp_path {temp}; fastcgi_temp_path {temp};
                 uwsgi_temp_path {temp}; scgi_temp_path {temp};
                 server {{ listen {addr}; root {files}; }}
             }}",
            pid = place.join("pid").display(),
            temp = place.join("temp").display(),
            files = files.display(),
        );
        let path = place.join("nginx.conf");
        fs::write(&path, configuration).unwrap();
        let child = Process::start(Command::new("nginx").arg("-c").arg(&path).arg("-p").arg(place));
        eventually("nginx listens", || TcpStream::connect(addr).is_ok());
        Some(Self { _child: child, addr })
    }
}

#[test]
fn ranges_and_conditions_are_answered_as_nginx_does() {
    let place = tempfile::tempdir().unwrap();
    let files = place.path().join("files");
    put(&files, "file", &(0..10_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    put(&files, "empty", b"");
    let Some(nginx) = Nginx::start(place.path(), &files) else { return };
    let server = serve(Directory::new(&files).unwrap());
    let etag = |addr| Connection::open(addr).get("/file", &[]).header("etag").unwrap().to_owned();
    let (ours, theirs) = (etag(server.http[0]), etag(nginx.addr));
    let (before, after) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
    let ranges = [
        "bytes=0-0",
        "bytes=0-99",
        "bytes=9999-",
        "bytes=10000-",
        "bytes=-1",
        "bytes=-10000",
        "bytes=-20000",
        "bytes=-0",
        "bytes=5-4",
        "bytes=-",
        "bytes=",
        "bytes=x-y",
        "bytes=0",
        "bytes=0-x",
        "bytes=99999999999999999999-",
        "lines=0-1",
        "bytes",
        "bytes=0-1,5-6",
        "bytes= 0 - 5",
        "bytes=5-5 ",
    ];
    let mut conditions: Vec<Vec<String>> = vec![vec![]];
    conditions.extend(ranges.map(|range| vec![format!("Range: {range}")]));
    // A malformed date is ignored (RFC 9110 section 13.1.4); nginx takes it for the earliest date.
    conditions.push(vec!["If-Modified-Since: nonsense".into()]);
    for date in [before, MODIFIED, after] {
        for name in ["If-Modified-Since", "If-Unmodified-Since"] {
            conditions.push(vec![format!("{name}: {date}")]);
        }
        conditions.push(vec![format!("If-Range: {date}"), "Range: bytes=5-9".into()]);
        conditions.push(vec!["If-None-Match: \"x\"".into(), format!("If-Modified-Since: {date}")]);
    }
    for tag in ["ETAG", "\"x\"", "W/ETAG", "*", "\"x\", ETAG", "\"x\",\"y\"", "W/\"x\", W/ETAG"] {
        conditions.push(vec![format!("If-None-Match: {tag}")]);
        conditions.push(vec![format!("If-Match: {tag}")]);
        conditions.push(vec![format!("If-None-Match: {tag}"), "Range: bytes=5-9".into()]);
    }
    for tag in ["ETAG", "\"x\"", "W/ETAG"] {
        conditions.push(vec![format!("If-Range: {tag}"), "Range: bytes=5-9".into()]);
    }
    let mut differences = Vec::new();
    for method in ["GET", "HEAD"] {
        for path in ["/file", "/empty", "/missing", "//file", "/./file", "/%66ile"] {
            for lines in &conditions {
                // nginx sends parts in answer to a HEAD, and RFC 9110 section 14.2 has ranges for GET alone.
                if method == "HEAD" && lines.iter().any(|line| line.starts_with("Range:")) {
                    continue;
                }
                let ask = |addr, etag: &str| {
                    let lines: Vec<_> = lines.iter().map(|line| line.replace("ETAG", etag)).collect();
                    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
                    let mut connection = Connection::open(addr);
                    connection.send(request(method, path, &lines));
                    let answer = connection.read_answer(method == "HEAD").unwrap();
                    let is_file = matches!(answer.status, 200 | 206 | 304);
                    let told = ["content-range", "last-modified"].map(|name| answer.header(name).map(str::to_owned));
                    let length = answer.header("content-length").filter(|_| is_file).map(str::to_owned);
                    (answer.status, told, length, if is_file { answer.body } else { Vec::new() })
                };
                let (here, there) = (ask(server.http[0], &ours), ask(nginx.addr, &theirs));
                // The texts of errors may differ.
                if here != there {
                    differences.push(format!(
                        "{method} {path} {lines:?}: {:?}, nginx {:?}",
                        summary(&here),
                        summary(&there)
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

/// Heads that no usual client sends: the status, and whether the connection goes on.
#[test]
fn odd_heads_are_answered_as_nginx_does() {
    let place = tempfile::tempdir().unwrap();
    let files = place.path().join("files");
    put(&files, "file", b"0123456789");
    let Some(nginx) = Nginx::start(place.path(), &files) else { return };
    let server = serve(Directory::new(&files).unwrap());
    let ask = |addr, said: &str| {
        let mut connection = Connection::open(addr);
        connection.send(said.replace('\n', "\r\n"));
        let status = connection.read_answer(said.starts_with("HEAD")).map(|answer| answer.status);
        _ = connection.socket().write_all(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n");
        (status, connection.read_answer(false).is_some_and(|answer| answer.body == b"0123456789"))
    };
    let mut differences = Vec::new();
    for said in [
        "GET /file HTTP/1.1\nHost: x\n\n",
        "GET /file HTTP/1.1\n\n",
        "GET /file HTTP/1.1\nHost: x\nHost: x\n\n",
        "GET /file HTTP/1.1\nHost: x/y\n\n",
        "GET http://x/file HTTP/1.1\nHost: x\n\n",
        "GET http://x/file HTTP/1.1\n\n",
        "GET file HTTP/1.1\nHost: x\n\n",
        "GET * HTTP/1.1\nHost: x\n\n",
        "GET /file HTTP/1.0\n\n",
        "GET /file HTTP/1.0\nConnection: keep-alive\n\n",
        "GET /file HTTP/1.0\nHost: x\nHost: x\n\n",
        "GET /file HTTP/1.1\nHost: x\nConnection: close\n\n",
        "HEAD /missing HTTP/1.1\nHost: x\n\n",
        "GET /%66ile?x HTTP/1.1\nHost: x\n\n",
        "GET /file#x HTTP/1.1\nHost: x\n\n",
        "GET /x/../file HTTP/1.1\nHost: x\n\n",
        "GET /file%00 HTTP/1.1\nHost: x\n\n",
        "GET /caf\u{e9} HTTP/1.1\nHost: x\n\n",
        "\nGET /file HTTP/1.1\nHost: x\n\n",
        "GET /file HTTP/1.1\nHost : x\n\n",
        "GET /file HTTP/1.1\nHost: x\nX: \0\n\n",
        "GET /file HTTP/1.1\nHost: x\nContent-Length: 5\n\n12345",
        "GET /file HTTP/1.1\nHost: x\nContent-Length: x\n\n",
        "GET /file HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n",
        "GET /file HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
        "GET /file HTTP/1.1\nHost: x\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        "GET /file HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n0\n\n",
        "GET /file HTTP/1.0\nTransfer-Encoding: chunked\n\n0\n\n",
        "GET /file HTTP/1.1\nHost: x\nUpgrade: h2c\nConnection: upgrade\n\n",
        "POST /file HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
        "OPTIONS /file HTTP/1.1\nHost: x\n\n",
    ] {
        let (here, there) = (ask(server.http[0], said), ask(nginx.addr, said));
        if here != there {
            differences.push(format!("{said:?}: {here:?}, nginx {there:?}"));
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
    // RFC 9112 sections 5 and 6.3, and RFC 9110 sections 8.6, 9.1 and 10.1.1 allow these answers, or demand them.
    for (said, here, there) in [
        ("GET /file HTTP/1.1\nHost: x\nX\n\n", (Some(400), false), (Some(200), true)),
        ("GET /file HTTP/1.1\nHost: x\nTransfer-Encoding: gzip\n\n", (Some(400), false), (Some(501), false)),
        (
            "GET /file HTTP/1.1\nHost: x\nContent-Length: 5\nContent-Length: 5\n\n12345",
            (Some(200), true),
            (Some(400), false),
        ),
        ("GET /file HTTP/1.1\nHost:\n\n", (Some(200), true), (Some(400), false)),
        ("TRACE /file HTTP/1.1\nHost: x\n\n", (Some(405), true), (Some(405), false)),
        ("CONNECT x:80 HTTP/1.1\nHost: x\n\n", (Some(405), true), (Some(400), false)),
        ("GET /file HTTP/1.1\nHost: x\nExpect: 100-continue\n\n", (Some(200), true), (Some(100), true)),
    ] {
        assert_eq!((ask(server.http[0], said), ask(nginx.addr, said)), (here, there), "{said:?}");
    }
}

type Told = (u16, [Option<String>; 2], Option<String>, Vec<u8>);

fn summary((status, told, length, body): &Told) -> String {
    format!("{status} {told:?} {length:?} {} bytes", body.len())
}
