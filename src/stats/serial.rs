//! The serialized form of records. The names of the fields do not change.

use std::{collections::BTreeMap, fmt::Display};

use humantime::format_rfc3339_millis;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{Record, Snapshot, Unanswered, nearest_rfc3339};
use crate::{endpoint::CloseReason, options::Direction, packet::Options, shown, transfer::Outcome};

/// How many options of a request are serialized.
const OPTIONS: usize = 16;
/// How many characters of an option's name or value are serialized. All known options have fewer.
const OPTION: usize = 32;

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (code, reason) = error(self);
        let mut fields = serializer.serialize_struct("Record", 26)?;
        fields.serialize_field("time", &Text(format_rfc3339_millis(nearest_rfc3339(self.started))))?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("client", &Text(self.peer))?;
        fields.serialize_field("server", &Text(self.local))?;
        fields.serialize_field("direction", &self.direction)?;
        fields.serialize_field("filename", &shown::cut(&self.filename, shown::NAME))?;
        fields.serialize_field("path", &shown::cut(&self.path, shown::NAME))?;
        for (name, place) in [("origin", &self.origin), ("target", &self.target)] {
            let place = place.as_deref().map(shown::text);
            fields.serialize_field(name, &place.as_deref().map(|place| shown::cut(place, shown::TEXT)))?;
        }
        fields.serialize_field("outcome", self.outcome.name())?;
        fields.serialize_field("code", &code)?;
        fields.serialize_field("reason", &reason)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("size", &self.size)?;
        fields.serialize_field("seconds", &self.duration.as_secs_f64())?;
        fields.serialize_field("bytes_per_second", &self.rate())?;
        fields.serialize_field("sent", &self.sent)?;
        fields.serialize_field("acked", &self.acked)?;
        fields.serialize_field("retransmits", &self.retransmits)?;
        fields.serialize_field("blksize", &self.blksize)?;
        fields.serialize_field("windowsize", &self.windowsize)?;
        fields.serialize_field("asked", &self.asked)?;
        fields.serialize_field("granted", &self.granted)?;
        fields.serialize_field("hint", &self.hint.as_ref().map(Text))?;
        fields.serialize_field("protocol", self.protocol.name())?;
        fields.serialize_field("status", &self.status)?;
        fields.end()
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Snapshot", 8)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("client", &Text(self.peer))?;
        fields.serialize_field("direction", &self.direction)?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("bytes", &self.bytes)?;
        fields.serialize_field("size", &self.size)?;
        fields.serialize_field("seconds", &self.since.as_secs_f64())?;
        fields.serialize_field("protocol", self.protocol.name())?;
        fields.end()
    }
}

impl Serialize for Unanswered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Unanswered", 4)?;
        fields.serialize_field("client", &Text(self.client))?;
        fields.serialize_field("reason", self.reason)?;
        fields.serialize_field("requests", &self.requests)?;
        fields.serialize_field("last", &self.last.elapsed().as_secs_f64())?;
        fields.end()
    }
}

/// `"read"` or `"write"`.
impl Serialize for Direction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serialized as a map. If an option stands twice, the first counts. Only the first 16 options are serialized.
impl Serialize for Options {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut options = BTreeMap::new();
        let short = |text| shown::cut(&shown::text(text), OPTION).into_owned();
        for (name, value) in self.iter() {
            if options.len() < OPTIONS {
                options.entry(short(name)).or_insert_with(|| short(value));
            }
        }
        serializer.collect_map(options)
    }
}

struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The code and the text of the ERROR that ended the transfer, or another reason.
fn error(record: &Record) -> (Option<u16>, Option<String>) {
    match &record.outcome {
        Outcome::TimedOut if record.port_closed => (None, Some(CloseReason::Unreachable.reason().into())),
        Outcome::Aborted { code, message } => {
            (Some(code.0), Some(shown::cut(&shown::text(message), shown::TEXT).into_owned()))
        }
        Outcome::Replaced(why) => (None, Some((*why).into())),
        Outcome::Refused(refusal) | Outcome::Failed(refusal) => {
            let told = refusal.packet().is_some().then_some(refusal.code().0);
            let reason = match refusal.detail() {
                Some(detail) => format!("{} ({detail})", refusal.message()),
                None => refusal.message().into(),
            };
            (told, Some(reason))
        }
        Outcome::Complete | Outcome::ProbablyComplete | Outcome::Probe => (None, None),
        Outcome::TimedOut | Outcome::Stopped => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{error::Refusal, hint::Hint, stats::Protocol};

    fn record() -> Record {
        let address = "10.0.0.7:2070".parse().unwrap();
        Record {
            id: 7,
            peer: address,
            local: address,
            filename: shown::name(b"/a\x1b\"<b>\xff"),
            path: shown::name(b"a\x1b\"<b>\xff"),
            origin: Some("/srv/a".into()),
            target: None,
            direction: Direction::Read,
            outcome: Outcome::Refused(Refusal::denied().because("a link")),
            bytes: 1024,
            size: None,
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_millis(500),
            asked: [("tsize", "0"), ("TSIZE", "1"), ("tsize", "2")].into_iter().collect(),
            granted: Options::new(),
            sent: 2,
            acked: 1,
            retransmits: 0,
            blksize: 512,
            windowsize: 1,
            port_closed: false,
            hint: Some(Hint::SinglePort),
            protocol: Protocol::Http,
            status: Some(403),
        }
    }

    #[test]
    fn a_record_is_flat_and_complete() {
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","id":7,"client":"10.0.0.7:2070","server":"10.0.0.7:2070",
            "direction":"read","filename":"/a\\u{1b}\"<b>\\xff","path":"a\\u{1b}\"<b>\\xff",
            "origin":"/srv/a","target":null,"outcome":"refused","code":2,"reason":"Access violation (a link)",
            "bytes":1024,"size":null,"seconds":0.5,
            "bytes_per_second":2048,"sent":2,"acked":1,"retransmits":0,"blksize":512,"windowsize":1,
            "asked":{"TSIZE":"1","tsize":"0"},"granted":{},"hint":"HINT","protocol":"http","status":403}"#;
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(
            json,
            expected.lines().map(str::trim_start).collect::<String>().replace("HINT", &Hint::SinglePort.to_string())
        );
    }

    /// A datagram has room for 64 KiB of a name, of options, or of the text of an ERROR.
    #[test]
    fn a_record_is_one_short_line_for_any_request() {
        let long = [0xff, b'\n', 0x1b, b'"', b'a'].repeat(13_000);
        let text = crate::name::text(&long) + &"\u{202e}\u{9b}".repeat(9000);
        let aborted = Outcome::Aborted { code: crate::ErrorCode(0), message: text.clone() };
        let many: Options = (0..9000).map(|n| (n.to_string(), "\u{202e}\u{7f}x".repeat(n % 50))).collect();
        for outcome in [aborted, Outcome::Refused(Refusal::not_found().because(&text))] {
            let (filename, path, origin) = (shown::name(&long), shown::name(&long), Some(text.as_str().into()));
            let (asked, granted) = (many.clone(), many.clone());
            let record = Record { filename, path, origin, outcome, asked, granted, ..record() };
            let (line, json) = (record.to_string(), serde_json::to_string(&record).unwrap());
            assert!(line.len() < 2048, "{}", line.len());
            assert!(json.len() < 8192, "{}", json.len());
            for shown in [&line, &json] {
                assert!(!shown.chars().any(|char| char.is_control() || char == '\u{202e}'), "{shown}");
                assert!(shown.contains("xff"), "{shown}");
            }
        }
    }
}
