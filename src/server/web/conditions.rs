//! Conditional requests (RFC 9110 section 13): whether the client has the file already, or a part of another state of
//! it.

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap, HeaderName};

use crate::source::Source;

/// A file that was modified a moment ago may be modified again within the same step of the clock. Then both states have
/// the same time, and so the same tag.
const SETTLED: Duration = Duration::from_secs(3);

/// Tells one state of a file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    /// The time of modification, in whole seconds as in HTTP, and not in the future.
    pub(super) modified: Option<SystemTime>,
    /// Whether no other state of the file can have this time.
    is_settled: bool,
}

/// The result of the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evaluation {
    Proceed,
    NotModified,
    Failed,
}

impl Validators {
    pub(super) fn of(source: &Source, now: SystemTime) -> Self {
        let modified = source.modified().filter(|modified| *modified <= now);
        let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age >= SETTLED);
        let is_settled = modified.is_some_and(is_old);
        let made = || {
            let (modified, size) = (modified?, source.size()?);
            let since = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let weak = if is_settled { "" } else { "W/" };
            Some(format!("{weak}\"{:x}.{:x}-{size:x}\"", since.as_secs(), since.subsec_nanos()))
        };
        let etag = source.etag().map(str::to_owned).or_else(made);
        Self { etag, modified: modified.and_then(to_seconds), is_settled }
    }

    /// Checks the conditions in the order of RFC 9110 section 13.2.2.
    pub(super) fn check(&self, headers: &HeaderMap) -> Evaluation {
        let date = |name| text(headers, name).and_then(|text| httpdate::parse_http_date(text).ok());
        if let Some(tags) = all(headers, header::IF_MATCH) {
            if !self.is_in(&tags, is_same_strongly) {
                return Evaluation::Failed;
            }
        } else if let (Some(date), Some(modified)) = (date(header::IF_UNMODIFIED_SINCE), self.modified) {
            if modified > date {
                return Evaluation::Failed;
            }
        }
        let is_known = match all(headers, header::IF_NONE_MATCH) {
            Some(tags) => self.is_in(&tags, is_same_weakly),
            None => {
                let since = date(header::IF_MODIFIED_SINCE);
                since.zip(self.modified).is_some_and(|(date, modified)| modified <= date)
            }
        };
        if is_known { Evaluation::NotModified } else { Evaluation::Proceed }
    }

    /// Whether an upload may replace the file.
    pub(super) fn allows_write(&self, headers: &HeaderMap) -> bool {
        match self.check(headers) {
            Evaluation::Proceed => true,
            // `If-Modified-Since` is defined only for GET and HEAD (RFC 9110 section 13.1.3).
            Evaluation::NotModified => !headers.contains_key(header::IF_NONE_MATCH),
            Evaluation::Failed => false,
        }
    }

    /// Whether the client's other parts belong to the same state of the file.
    pub(super) fn allows_part(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = text(headers, header::IF_RANGE) else { return !headers.contains_key(header::IF_RANGE) };
        match httpdate::parse_http_date(condition) {
            // RFC 9110 sections 13.1.5 and 8.8.2.2: a time that another state may have does not do.
            Ok(date) => self.modified == Some(date) && self.is_settled,
            Err(_) => self.etag.as_deref().is_some_and(|etag| is_same_strongly(etag, condition)),
        }
    }

    fn is_in(&self, tags: &str, is_same: fn(&str, &str) -> bool) -> bool {
        // `*` asks whether there is a file at all.
        tags.trim() == "*" || self.etag.as_deref().is_some_and(|etag| listed(tags).any(|tag| is_same(etag, tag)))
    }
}

/// Whether an upload has a condition.
pub(super) fn has_any(headers: &HeaderMap) -> bool {
    let all = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
    all.iter().any(|name| headers.contains_key(name))
}

/// Whether an upload may make a file that does not exist.
pub(super) fn allows_new(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::IF_MATCH)
}

/// Whether an upload may only make a new file (`If-None-Match: *`).
pub(super) fn must_be_new(headers: &HeaderMap) -> bool {
    all(headers, header::IF_NONE_MATCH).is_some_and(|tags| tags.trim() == "*")
}

fn to_seconds(time: SystemTime) -> Option<SystemTime> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The values of all header lines of this name, joined.
fn all(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// The entity tags of a list. A tag may contain a comma.
fn listed(mut list: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let open = list.find('"')?;
        let close = open + 1 + list[open + 1..].find('"')?;
        let (tag, rest) = list.split_at(close + 1);
        list = rest;
        Some(tag)
    })
}

fn is_same_strongly(ours: &str, theirs: &str) -> bool {
    ours == theirs && !ours.starts_with("W/")
}

fn is_same_weakly(ours: &str, theirs: &str) -> bool {
    let bare = |tag| str::strip_prefix(tag, "W/").unwrap_or(tag).to_owned();
    bare(ours) == bare(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators(etag: &str) -> Validators {
        let modified = httpdate::parse_http_date(DATE).ok();
        Validators { etag: Some(etag.into()).filter(|etag: &String| !etag.is_empty()), modified, is_settled: true }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn conditions() {
        use Evaluation::{Failed, NotModified, Proceed};
        for (etag, lines, expected) in [
            ("\"a\"", &[][..], Proceed),
            ("\"a\"", &[("if-none-match", "\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "W/\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\", \"a\"")], NotModified),
            ("\"a,b\"", &[("if-none-match", "\"x\",\"a,b\"")], NotModified),
            ("\"a\"", &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], NotModified),
            ("\"a\"", &[("if-none-match", "*")], NotModified),
            ("", &[("if-none-match", "*")], NotModified),
            ("", &[("if-none-match", "\"a\"")], Proceed),
            ("\"a\"", &[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], Proceed),
            ("\"a\"", &[("if-modified-since", DATE)], NotModified),
            ("\"a\"", &[("if-modified-since", AFTER)], NotModified),
            ("\"a\"", &[("if-modified-since", BEFORE)], Proceed),
            ("\"a\"", &[("if-modified-since", "yesterday")], Proceed),
            ("\"a\"", &[("if-match", "\"a\"")], Proceed),
            ("\"a\"", &[("if-match", "*")], Proceed),
            ("\"a\"", &[("if-match", "\"b\"")], Failed),
            ("W/\"a\"", &[("if-match", "W/\"a\"")], Failed),
            ("\"a\"", &[("if-unmodified-since", BEFORE)], Failed),
            ("\"a\"", &[("if-unmodified-since", DATE)], Proceed),
        ] {
            assert_eq!(validators(etag).check(&headers(lines)), expected, "{etag} {lines:?}");
        }
    }

    #[test]
    fn parts_are_of_the_same_file() {
        for (etag, condition, allowed) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "\"b\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("\"a\"", DATE, true),
            ("\"a\"", AFTER, false),
            ("\"a\"", "nonsense", false),
        ] {
            let headers = headers(&[("if-range", condition)]);
            assert_eq!(validators(etag).allows_part(&headers), allowed, "{etag} {condition}");
        }
        assert!(validators("").allows_part(&HeaderMap::new()));
        let fresh = Validators { is_settled: false, ..validators("\"a\"") };
        assert!(!fresh.allows_part(&headers(&[("if-range", DATE)])), "the file may change within this second");
        assert!(fresh.allows_part(&headers(&[("if-range", "\"a\"")])));
    }

    #[test]
    fn a_tag_is_made_of_time_and_size() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let of = |age| Validators::of(&Source::from("12345").with_modified(now - age), now);
        let old = of(Duration::from_millis(4500));
        assert_eq!(old.etag.as_deref(), Some("\"f423b.1dcd6500-5\""));
        assert_eq!(old.modified, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(999_995)), "in whole seconds");
        assert_eq!(of(Duration::from_secs(1)).etag.as_deref(), Some("W/\"f423f.0-5\""), "it may change again");
        let future = Source::from("12345").with_modified(now + Duration::from_secs(9));
        assert_eq!(Validators::of(&future, now), Validators::default());
        assert_eq!(Validators::of(&Source::from("1").with_etag("\"x\""), now).etag.as_deref(), Some("\"x\""));
    }
}
