//! A browser without a window, by chromedriver's WebDriver protocol over plain HTTP.

#[path = "../common/process.rs"]
mod process;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use process::Process;
use serde_json::{Value, json};

pub struct Browser {
    _driver: Process,
    port: u16,
    session: String,
    /// Its profile.
    _home: tempfile::TempDir,
}

impl Browser {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut driver = Process::start(Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()));
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let mut ports = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let port = ports.next().expect("chromedriver did not start");
        let mut browser = Self { _driver: driver, port, session: String::new(), _home: home };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", browser._home.path().display()),
        ];
        let wanted = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let started = browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("/session/{}", started["sessionId"].as_str().unwrap());
        browser
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs a script. Returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    pub fn text_of(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.textContent ?? ''", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// The messages of the page and of the browser in the console.
    pub fn console(&self) -> Vec<Value> {
        self.post("/se/log", &json!({"type": "browser"})).as_array().cloned().unwrap_or_default()
    }

    /// A window of this width and height, in CSS pixels; dark or light.
    pub fn resize(&self, width: u32, height: u32, dark: bool) {
        let (mobile, scheme) = (width < 600, if dark { "dark" } else { "light" });
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.debug("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.debug("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    /// Writes a screenshot into a PNG file.
    pub fn screenshot(&self, path: &Path) {
        let all = self.debug("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        std::fs::write(path, from_base64(all["data"].as_str().unwrap())).unwrap();
    }

    fn debug(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.exchange(method, path, body).expect("chromedriver does not answer");
        let body = answer.split_once("\r\n\r\n").expect("no body").1;
        let mut value: Value = serde_json::from_str(body).expect(body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {value}");
        value["value"].take()
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (host, body) = (format!("127.0.0.1:{}", self.port), body.to_string());
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n")?;
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1 << 16];
        // It may leave the connection open.
        while !is_whole(&answer) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.exchange("DELETE", &self.session, &json!({}));
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0u32);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|&digit| digit == byte)) {
        held = held << 6 | digit as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}
