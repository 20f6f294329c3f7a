//! The metrics, in the text format of Prometheus.

use std::{fmt::Debug, time::SystemTime};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, Result, TextEncoder};

use super::Seen;
use crate::{
    ServerHandle,
    stats::{Counter, Protocol, Record},
};

/// The bounds of durations, in seconds: from a small file on the same link to an image over a slow one.
const DURATIONS: &[f64] = &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// The bounds of rates, in bytes per second: from a serial line to loopback.
const RATES: &[f64] = &[1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9];

/// Metrics beyond the counters, taken at the end of each transfer.
#[derive(Debug)]
pub(super) struct Histograms {
    duration: HistogramVec,
    rate: HistogramVec,
    /// The transfers over HTTP.
    http: IntCounterVec,
    http_bytes: IntCounterVec,
}

impl Histograms {
    pub(super) fn new() -> Self {
        let new = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            HistogramVec::new(opts, &["direction"]).expect("the name and the buckets are fixed, and valid")
        };
        let http = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("the name and the labels are fixed, and valid")
        };
        let help = "Transfers over HTTP that have ended, by outcome.";
        Self {
            http: http("tuffet_http_transfers_total", help, &["direction", "outcome"]),
            http_bytes: http(
                "tuffet_http_bytes_total",
                "Bytes of files that were transferred over HTTP.",
                &["direction"],
            ),
            duration: new("tuffet_transfer_duration_seconds", "Duration of complete transfers, in seconds.", DURATIONS),
            rate: new(
                "tuffet_transfer_rate_bytes_per_second",
                "Rate of complete transfers, in bytes per second.",
                RATES,
            ),
        }
    }

    pub(super) fn observe(&self, record: &Record) {
        if record.protocol == Protocol::Http {
            let direction = &record.direction.to_string();
            self.http.with_label_values::<&str>(&[direction, record.outcome.name()]).inc();
            self.http_bytes.with_label_values(&[direction]).inc_by(record.bytes);
        }
        if !record.outcome.is_success() {
            return;
        }
        let direction = &[record.direction.to_string()];
        self.duration.with_label_values(direction).observe(record.duration.as_secs_f64());
        if record.bytes > 0 {
            self.rate.with_label_values(direction).observe(record.rate() as f64);
        }
    }
}

/// A registry that is filled for one answer.
struct Page(Registry);

impl Page {
    fn counter<const N: usize, L: AsRef<str> + Debug>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([L; N], u64)>,
    ) -> Result<()> {
        let counter = IntCounterVec::new(Opts::new(name, help), &labels)?;
        for (labels, value) in values {
            counter.with_label_values(&labels).inc_by(value);
        }
        self.0.register(Box::new(counter))
    }

    fn gauge<const N: usize>(&self, name: &str, help: &str, labels: [(&str, &str); N], value: u64) -> Result<()> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &labels.map(|(label, _)| label))?;
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        gauge.with_label_values(&labels.map(|(_, of)| of)).set(value);
        self.0.register(Box::new(gauge))
    }
}

pub(super) fn text(handle: &ServerHandle, seen: &Seen) -> Result<String> {
    let counters = handle.counters();
    let page = Page(Registry::new());
    page.gauge("tuffet_build_info", "The version of the program.", [("version", env!("CARGO_PKG_VERSION"))], 1)?;
    let started = seen.started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    page.gauge("tuffet_start_time_seconds", "When the server started, in seconds since 1970.", [], started)?;
    page.gauge("tuffet_running_transfers", "Transfers that are running.", [], counters.running)?;

    let directions = [("read", &counters.reads), ("write", &counters.writes)];
    let outcomes = directions
        .into_iter()
        .flat_map(|(direction, outcomes)| outcomes.iter().map(move |(name, count)| ([direction, name], count)));
    let help = "Transfers that have ended, by outcome.";
    page.counter("tuffet_transfers_total", help, ["direction", "outcome"], outcomes)?;
    let codes = counters.refused.iter().map(|(code, count)| ([code.to_string()], *count));
    page.counter("tuffet_refusals_total", "Transfers that were refused, by the code of the ERROR.", ["code"], codes)?;
    let bytes = [(["read"], counters.bytes_read), (["write"], counters.bytes_written)];
    page.counter("tuffet_bytes_total", "Bytes of files that have arrived.", ["direction"], bytes)?;
    let unanswered = [(["limit"], counters.over_limit), (["other"], counters.unanswered)];
    let help = "Requests that were not answered.";
    page.counter("tuffet_unanswered_requests_total", help, ["reason"], unanswered)?;
    for (name, help, value) in [
        ("tuffet_requests_total", "Well-formed requests.", counters.requests),
        (
            "tuffet_repeated_requests_total",
            "Requests that the client repeated while they were served.",
            counters.repeated,
        ),
        ("tuffet_retransmits_total", "Packets sent again.", counters.retransmits),
        ("tuffet_received_datagrams_total", "Datagrams received.", counters.received),
        ("tuffet_sent_datagrams_total", "Datagrams sent.", counters.sent),
        ("tuffet_malformed_datagrams_total", "Datagrams and HTTP requests that were malformed.", counters.malformed),
        ("tuffet_stray_datagrams_total", "Packets with an unknown transfer ID.", counters.unknown_tids),
        ("tuffet_dropped_datagrams_total", "Datagrams lost at full receive buffers.", counters.dropped),
    ] {
        page.counter::<0, &str>(name, help, [], [([], value)])?;
    }
    for (name, value) in &counters.own {
        let help = handle.own_counters().iter().find(|own| own.name() == *name).map_or("", Counter::help);
        // A name that Prometheus rejects, or that the server uses itself, must not hide all other metrics.
        if let Err(error) = page.counter::<0, &str>(&format!("tuffet_{name}_total"), help, [], [([], *value)]) {
            log::debug!("status: no metric for the counter {name}: {error}");
        }
    }
    page.0.register(Box::new(seen.histograms.duration.clone()))?;
    page.0.register(Box::new(seen.histograms.rate.clone()))?;
    page.0.register(Box::new(seen.histograms.http.clone()))?;
    page.0.register(Box::new(seen.histograms.http_bytes.clone()))?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}
