//! A client that sends any bytes, and reads any answer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::common::{LONG, Serving};

pub struct Connection {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// As it was sent.
    pub head: String,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn to(server: &Serving) -> Self {
        Self::open(server.http[0])
    }

    pub fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.socket().write_all(text.as_ref()).unwrap();
        self
    }

    /// A GET with these lines in its head.
    pub fn get(&mut self, path: &str, lines: &[&str]) -> Answer {
        self.send(request("GET", path, lines));
        self.answer()
    }

    pub fn head(&mut self, path: &str) -> Answer {
        self.send(request("HEAD", path, &[]));
        self.read_answer(true).expect("an answer")
    }

    pub fn put(&mut self, path: &str, body: &[u8], lines: &[&str]) -> Answer {
        let length = format!("Content-Length: {}", body.len());
        let lines = [&[length.as_str()], lines].concat();
        self.send(request("PUT", path, &lines)).send(body);
        self.answer()
    }

    pub fn answer(&mut self) -> Answer {
        self.read_answer(false).expect("a whole answer")
    }

    /// The next answer; `None` if the connection ends before it does.
    pub fn read_answer(&mut self, is_head: bool) -> Option<Answer> {
        let head = self.read_head()?;
        let status = head.get(9..12)?.parse().ok()?;
        let mut answer = Answer { status, head, body: Vec::new() };
        if is_head || matches!(status, 100 | 204 | 304) {
            return Some(answer);
        }
        answer.body = match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), _) => self.read_exactly(length.parse().unwrap())?,
            (None, Some("chunked")) => self.read_chunks()?,
            _ => {
                let mut body = Vec::new();
                self.stream.read_to_end(&mut body).ok()?;
                body
            }
        };
        Some(answer)
    }

    /// The head of an answer, up to the empty line.
    pub fn read_head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    pub fn read_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            body.extend(self.read_exactly(length)?);
            self.read_exactly(2)?;
            if length == 0 {
                return Some(body);
            }
        }
    }

    /// Whether the server closes the connection and says nothing more.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end too.
        let ended = self.stream.read_to_end(&mut rest);
        let in_time = ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        in_time && rest.is_empty()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub fn request(method: &str, path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: server\r\n{lines}\r\n")
}

pub fn get(server: &Serving, path: &str) -> Answer {
    Connection::to(server).get(path, &[])
}
