use reqwest::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};

use crate::Source;

/// Tells one state of a file from another (RFC 9110 section 8.8), to the byte, which a weak ETag alone does not.
#[derive(Clone, Debug)]
pub(super) struct Validator {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    /// Some servers give a file and its encoded form the same date.
    encoding: Option<HeaderValue>,
}

impl Validator {
    fn new(headers: &HeaderMap) -> Self {
        let value = |name| headers.get(name).cloned();
        Self { etag: value(ETAG), modified: value(LAST_MODIFIED), encoding: value(CONTENT_ENCODING) }
    }

    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let validator = Self::new(headers);
        validator.strongest().is_some().then_some(validator)
    }

    /// Whether an answer with these headers belongs to the same state of the file.
    pub(super) fn is_of(&self, headers: &HeaderMap) -> bool {
        self.is_same(&Self::new(headers))
    }

    /// Whether this newer validator belongs to the same state of the file.
    pub(super) fn is_same(&self, newer: &Self) -> bool {
        // A partial answer may leave out headers of the first one (RFC 9110 section 15.3.7).
        let other_encoding = newer.encoding.is_some() && newer.encoding != self.encoding;
        match (&self.etag, &newer.etag) {
            _ if other_encoding => false,
            (Some(ours), Some(theirs)) if ours != theirs => false,
            (Some(ours), Some(_)) if is_strong(ours) => true,
            _ => newer.modified.is_some() && newer.modified == self.modified,
        }
    }

    /// The headers that ask for these bytes of the file, or for all from the first one on, if it is still the same.
    pub(super) fn part(&self, first: u64, end: Option<u64>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if (first, end) != (0, None) {
            let last = end.map_or_else(String::new, |end| (end - 1).to_string());
            let range = HeaderValue::try_from(format!("bytes={first}-{last}")).expect("digits are a header value");
            headers.insert(RANGE, range);
            headers.extend(self.strongest().map(|validator| (IF_RANGE, validator.clone())));
        }
        headers
    }

    /// The headers that ask for the file if it has changed. For `If-Modified-Since` most servers look for a newer date
    /// only, so a file that took the place of a newer one would not have changed. As the condition of a range the date
    /// has to be the same, so without an ETag the first byte is asked for.
    pub(super) fn if_changed(&self) -> HeaderMap {
        if self.etag.is_none() {
            return self.part(0, Some(1));
        }
        let etag = self.etag.iter().map(|etag| (IF_NONE_MATCH, etag.clone()));
        let modified = self.modified.iter().map(|date| (IF_MODIFIED_SINCE, date.clone()));
        etag.chain(modified).collect()
    }

    /// Gives the source the same validator.
    pub(super) fn label(&self, source: Source) -> Source {
        let text =
            |value: &Option<HeaderValue>| value.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
        let modified = text(&self.modified).and_then(|date| httpdate::parse_http_date(&date).ok());
        source.with_some(text(&self.etag), Source::with_etag).with_some(modified, Source::with_modified)
    }

    fn strongest(&self) -> Option<&HeaderValue> {
        self.etag.as_ref().filter(|etag| is_strong(etag)).or(self.modified.as_ref())
    }
}

fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().starts_with(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(etag: &str, modified: &str) -> HeaderMap {
        let both = [(ETAG, etag), (LAST_MODIFIED, modified)];
        both.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_is_the_same() {
        for (ours, theirs, same) in [
            (("\"a\"", ""), ("\"a\"", ""), true),
            (("\"a\"", "Mon"), ("\"a\"", ""), true),
            (("\"a\"", "Mon"), ("\"b\"", "Mon"), false),
            (("\"a\"", ""), ("", ""), false),
            (("\"a\"", ""), ("", "Mon"), false),
            (("\"a\"", "Mon"), ("", "Mon"), true),
            (("", "Mon"), ("\"a\"", "Mon"), true),
            (("", "Mon"), ("", "Tue"), false),
            (("W/\"a\"", "Mon"), ("W/\"a\"", "Mon"), true),
            (("W/\"a\"", "Mon"), ("W/\"a\"", "Tue"), false),
            (("W/\"a\"", "Mon"), ("W/\"a\"", ""), false),
        ] {
            let validator = Validator::of(&headers(ours.0, ours.1)).unwrap();
            assert_eq!(validator.is_of(&headers(theirs.0, theirs.1)), same, "{ours:?} {theirs:?}");
        }
        assert!(Validator::of(&headers("W/\"a\"", "")).is_none());
        assert!(Validator::of(&headers("", "")).is_none());
    }

    #[test]
    fn a_part_is_labelled_as_the_whole_or_not_at_all() {
        let labelled = |encoding: &'static str| {
            let mut headers = headers("\"a\"", "");
            headers.extend((!encoding.is_empty()).then(|| (CONTENT_ENCODING, encoding.parse().unwrap())));
            headers
        };
        for (ours, theirs, same) in
            [("x-gzip", "x-gzip", true), ("x-gzip", "", true), ("", "gzip", false), ("x-gzip", "br", false)]
        {
            assert_eq!(Validator::of(&labelled(ours)).unwrap().is_of(&labelled(theirs)), same, "{ours} {theirs}");
        }
    }

    #[test]
    fn validators_that_are_passed_on() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let labelled = Validator::of(&headers("W/\"a\"", date)).unwrap().label(Source::from("x"));
        let modified = labelled.modified().map(httpdate::fmt_http_date);
        assert_eq!((labelled.etag(), modified.as_deref()), (Some("W/\"a\""), Some(date)));
        let unclear = Validator::of(&headers("\"a\"", "Mon")).unwrap().label(Source::from("x"));
        assert_eq!((unclear.etag(), unclear.modified()), (Some("\"a\""), None));
    }

    #[test]
    fn what_is_asked() {
        let validator = Validator::of(&headers("W/\"a\"", "Mon")).unwrap();
        let rest = validator.part(7, None);
        assert_eq!((&rest[RANGE], &rest[IF_RANGE]), (&"bytes=7-".parse().unwrap(), &"Mon".parse().unwrap()));
        assert_eq!(validator.part(0, Some(8))[RANGE], "bytes=0-7");
        assert!(validator.part(0, None).is_empty());
        assert_eq!(validator.if_changed().len(), 2);
        let dated = Validator::of(&headers("", "Mon")).unwrap().if_changed();
        assert_eq!((&dated[RANGE], &dated[IF_RANGE]), (&"bytes=0-0".parse().unwrap(), &"Mon".parse().unwrap()));
    }
}
