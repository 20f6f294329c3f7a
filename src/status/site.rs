//! The answer to each request.

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};

use smol::Timer;

use super::{
    Seen,
    mac_addresses::MacAddresses,
    metrics,
    rates::{EVERY, Rates},
};
use crate::{ServerHandle, http1, stats::Outcomes};

/// The most transfers in one answer of the API.
const RUNNING: usize = 256;
/// The page's words.
const WORDS: &str = include_str!("page/words.js");
/// The files of the page.
const PAGE: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/page.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/words.js", SCRIPT, WORDS),
    ("/machines.js", SCRIPT, include_str!("page/machines.js")),
    ("/trouble.js", SCRIPT, include_str!("page/trouble.js")),
    ("/running.js", SCRIPT, include_str!("page/running.js")),
    ("/summary.js", SCRIPT, include_str!("page/summary.js")),
];
/// Only this site's own files are allowed, so that a file name that became markup could still do nothing.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self'; style-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) struct Site {
    handle: ServerHandle,
    about: About,
    seen: Arc<Seen>,
    /// Whether the page is for this machine only.
    private: bool,
    rates: RefCell<Rates>,
    mac_addresses: RefCell<MacAddresses>,
}

/// The facts about the server on the page.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) served: String,
    pub(super) listening: Vec<SocketAddr>,
}

type Answer = (StatusCode, &'static str, Bytes);

impl Site {
    pub(super) fn new(handle: ServerHandle, about: About, seen: Arc<Seen>, private: bool) -> Self {
        Self { handle, about, seen, private, rates: RefCell::default(), mac_addresses: RefCell::default() }
    }

    /// Asks the server for descriptors.
    pub(super) fn want_room(&self) {
        self.handle.0.want_room();
    }

    /// Samples the rates and the MAC addresses for later answers.
    pub(super) async fn watch(&self) {
        loop {
            let counters = self.handle.counters();
            self.rates.borrow_mut().sample(counters.bytes_read.saturating_add(counters.bytes_written));
            self.mac_addresses.borrow_mut().refresh();
            Timer::after(Duration::from_secs(EVERY)).await;
        }
    }

    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (status, kind, body) = self.find(request);
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::DATE, http1::date());
        for (name, value) in [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn find<B>(&self, request: &Request<B>) -> Answer {
        if self.private && !http1::names_an_address(request.headers()) {
            return no(StatusCode::FORBIDDEN, "Open this page by the address of this machine, or as localhost.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return no(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed here.\n");
        }
        let path = request.uri().path();
        if let Some((_, kind, text)) = PAGE.iter().find(|(name, ..)| *name == path) {
            return fixed(kind, text);
        }
        match path {
            "/metrics" => match metrics::text(&self.handle, &self.seen) {
                Ok(text) => (StatusCode::OK, prometheus::TEXT_FORMAT, text.into()),
                Err(error) => {
                    log::error!("status: no metrics: {error}");
                    no(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written; the log says why.\n")
                }
            },
            "/api/transfers" => {
                let since = request.uri().query().and_then(|query| query.strip_prefix("since=")?.parse().ok());
                (StatusCode::OK, "application/json", self.transfers(since.unwrap_or(0)).into())
            }
            "/api/server" => (StatusCode::OK, "application/json", self.server().into()),
            _ => no(
                StatusCode::NOT_FOUND,
                "There is no such page; there are /, /metrics, /api/transfers and /api/server.\n",
            ),
        }
    }

    fn server(&self) -> String {
        let running = self.handle.transfers();
        let running = running.iter().take(RUNNING).map(|transfer| transfer.peer.ip().to_canonical());
        let machines = self.seen.history.machines().into_iter().chain(running);
        let listening: Vec<_> = self.about.listening.iter().map(SocketAddr::to_string).collect();
        let answer = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "served": self.about.served,
            "listening": listening,
            "started": millis(self.seen.started),
            "now": millis(SystemTime::now()),
            "every": EVERY,
            "rates": self.rates.borrow().all(),
            "mac_addresses": self.mac_addresses.borrow().of(machines),
        });
        answer.to_string()
    }

    fn transfers(&self, since: u64) -> String {
        // In this order, a transfer that ends in between is in both lists instead of in none.
        let running = self.handle.transfers();
        let (next, recent) = self.seen.history.since(since);
        let server = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "served": self.about.served,
            "started": millis(self.seen.started),
        });
        let counters = json(&self.handle.counters());
        let unanswered = json(&self.handle.unanswered());
        let now = millis(SystemTime::now());
        let (total, shown) = (running.len(), json(&&running[..running.len().min(RUNNING)]));
        // The records were stored as JSON.
        let recent = recent.join(",");
        let head = format!(r#""server":{server},"now":{now},"counters":{counters},"unanswered":{unanswered}"#);
        let list = format!(r#""running_total":{total},"running":{shown},"next":{next},"recent":[{recent}]"#);
        format!("{{{head},{list}}}")
    }
}

fn fixed(kind: &'static str, text: &'static str) -> Answer {
    (StatusCode::OK, kind, Bytes::from_static(text.as_bytes()))
}

fn no(status: StatusCode, why: &'static str) -> Answer {
    (status, TEXT, Bytes::from_static(why.as_bytes()))
}

fn json(value: &impl serde::Serialize) -> String {
    // Serialization of these values cannot fail.
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

// Without words for an outcome the page does not compile.
const _: () = {
    let mut n = 0;
    while n < Outcomes::NAMES.len() {
        assert!(has_word(WORDS.as_bytes(), Outcomes::NAMES[n].as_bytes()), "words.js has no words for an outcome");
        n += 1;
    }
};

/// Whether a line of the script begins with `  name: [`.
#[allow(dead_code, reason = "Rust 1.85 does not see that a constant uses it")]
const fn has_word(mut script: &[u8], name: &[u8]) -> bool {
    while let [_, rest @ ..] = script {
        if let [b'\n', b' ', b' ', line @ ..] = script {
            let mut same = 0;
            while same < name.len() && same < line.len() && line[same] == name[same] {
                same += 1;
            }
            if same == name.len() && matches!(line.split_at(same).1, [b':', b' ', b'[', ..]) {
                return true;
            }
        }
        script = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_words_for_every_outcome() {
        let manual = include_str!("../../docs/operating.md");
        for name in Outcomes::NAMES {
            assert!(manual.contains(&format!("\n| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn words_are_found_by_whole_names() {
        let has = |name: &str| has_word(b"{\n  failed: [1],\n  x: 2,\n}", name.as_bytes());
        assert!(has("failed") && !has("fail") && !has("ailed") && !has("failed_too") && !has("x"));
    }
}
