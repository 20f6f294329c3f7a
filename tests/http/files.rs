//! An upstream that has one file under every name, knows ranges and validators, and fails as a test says.

use std::{
    collections::VecDeque,
    io::Write,
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::upstream::{self, Upstream};

/// The fault of a response with a body. Responses without a fault are whole.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// After so many bytes of the body the connection is reset.
    Reset(usize),
    /// It is closed, in good order.
    Close(usize),
    /// The upstream sends nothing more.
    Stall(usize),
    /// The response is this status, without the file.
    Status(&'static str),
}

pub struct Files {
    upstream: Upstream,
    pub state: Arc<State>,
}

pub struct State {
    pub content: Mutex<Vec<u8>>,
    /// Lines of the head, each with its end.
    pub headers: Mutex<String>,
    /// The ETag, for answers with 304 and for ranges.
    pub etag: Mutex<Option<&'static str>>,
    pub ranges: Mutex<bool>,
    /// Whether it says 304.
    pub revalidates: Mutex<bool>,
    pub chunked: Mutex<bool>,
    pub faults: Mutex<VecDeque<Fault>>,
    pub heads: Mutex<Vec<String>>,
    /// Bytes of bodies that were sent.
    pub served: AtomicUsize,
    /// Bodies that are being sent.
    pub open: AtomicUsize,
    /// No answer begins while a test holds this.
    pub gate: Mutex<()>,
}

pub fn content(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(size as u64);
    std::iter::repeat_with(|| random.u8(..)).take(size).collect()
}

impl Files {
    pub fn new(size: usize) -> Self {
        let state = Arc::new(State {
            content: Mutex::new(content(size)),
            headers: Mutex::default(),
            etag: Mutex::new(Some("\"one\"")),
            ranges: Mutex::new(true),
            revalidates: Mutex::new(true),
            chunked: Mutex::new(false),
            faults: Mutex::default(),
            heads: Mutex::default(),
            served: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            gate: Mutex::default(),
        });
        let serving = state.clone();
        Self { upstream: Upstream::new(move |head, stream| serving.answer(head, stream)), state }
    }

    pub fn url(&self) -> String {
        self.upstream.url()
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.lock().unwrap().extend(faults);
    }

    pub fn content(&self) -> Vec<u8> {
        self.state.content.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.state.heads.lock().unwrap().len()
    }

    /// The value of this header in the n-th request.
    pub fn asked(&self, n: usize, header: &str) -> Option<String> {
        value(&self.state.heads.lock().unwrap()[n], header)
    }

    pub fn served(&self) -> usize {
        self.state.served.load(SeqCst)
    }
}

fn value(head: &str, header: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(name, _)| name.eq_ignore_ascii_case(header)).map(|(_, value)| value.to_owned())
}

impl State {
    fn answer(&self, head: &str, stream: &mut TcpStream) {
        self.heads.lock().unwrap().push(head.to_owned());
        drop(self.gate.lock().unwrap());
        let content = self.content.lock().unwrap().clone();
        let etag = *self.etag.lock().unwrap();
        let fault = self.faults.lock().unwrap().pop_front();
        if let Some(Fault::Status(status)) = fault {
            return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").unwrap();
        }
        let mut extra = self.headers.lock().unwrap().clone();
        extra += &etag.map(|etag| format!("ETag: {etag}\r\n")).unwrap_or_default();
        if *self.revalidates.lock().unwrap() && etag.is_some() && value(head, "if-none-match").as_deref() == etag {
            return write!(stream, "HTTP/1.1 304 Not Modified\r\n{extra}\r\n").unwrap();
        }
        let range = value(head, "range").filter(|_| *self.ranges.lock().unwrap());
        let same = value(head, "if-range").is_none_or(|validator| Some(validator.as_str()) == etag);
        let first = range.filter(|_| same).map(|range| range["bytes=".len()..].to_owned());
        let part = first.as_ref().and_then(|range| range.split_once('-'));
        let first = part.map(|(first, _)| first.parse().unwrap());
        let end = part.and_then(|(_, last)| last.parse().ok()).map_or(content.len(), |last: usize| last + 1);
        let body = &content[first.unwrap_or(0)..end];
        let status = match first {
            Some(first) => {
                let (last, size) = (end - 1, content.len());
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}")
            }
            None => "200 OK".to_owned(),
        };
        let framing = match *self.chunked.lock().unwrap() {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", body.len()),
        };
        if write!(stream, "HTTP/1.1 {status}\r\n{extra}{framing}\r\n\r\n").is_err() {
            return;
        }
        self.open.fetch_add(1, SeqCst);
        self.body(stream, body, fault);
        self.open.fetch_sub(1, SeqCst);
    }

    fn body(&self, stream: &mut TcpStream, body: &[u8], fault: Option<Fault>) {
        let until = match fault {
            Some(Fault::Reset(n) | Fault::Close(n) | Fault::Stall(n)) => n.min(body.len()),
            _ => body.len(),
        };
        let chunked = *self.chunked.lock().unwrap();
        for piece in body[..until].chunks(16 << 10) {
            // Counted first: the other side may be done with it before this thread runs again.
            self.served.fetch_add(piece.len(), SeqCst);
            let sent = match chunked {
                true => write!(stream, "{:x}\r\n", piece.len())
                    .and_then(|()| stream.write_all(piece))
                    .and_then(|()| stream.write_all(b"\r\n")),
                false => stream.write_all(piece),
            };
            if sent.is_err() {
                self.served.fetch_sub(piece.len(), SeqCst);
                return;
            }
        }
        match fault {
            Some(Fault::Reset(_)) => {
                // A reset discards the bytes that the other side has not read.
                std::thread::sleep(Duration::from_millis(20));
                upstream::reset(stream);
            }
            Some(Fault::Close(_)) => upstream::close(stream),
            Some(Fault::Stall(_)) => upstream::until_closed(stream),
            _ if chunked => drop(stream.write_all(b"0\r\n\r\n")),
            _ => {}
        }
    }
}
