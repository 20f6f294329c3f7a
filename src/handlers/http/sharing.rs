//! Whether an answer may be shared, and for how long (RFC 9111).

use std::time::Duration;

use reqwest::header::{AGE, CACHE_CONTROL, HeaderMap, VARY};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sharing {
    /// `private`, `no-store`, or a `Vary` on a header that differs between requests. Requests from here differ only in
    /// the headers that describe the client.
    pub(super) forbidden: bool,
    /// `public`: for all clients, even if the upstream knows the client.
    pub(super) public: bool,
    /// How long the answer is used without asking again.
    pub(super) fresh: Duration,
}

impl Sharing {
    /// `asked`: the headers that describe the client.
    pub(super) fn of(headers: &HeaderMap, asked: &HeaderMap) -> Self {
        let differs = |field: &str| field == "*" || asked.contains_key(field);
        let mut sharing = Self { forbidden: values(headers, VARY.as_str()).any(differs), ..Self::default() };
        let (mut max_age, mut shared_max_age, mut no_cache) = (None, None, false);
        for directive in values(headers, CACHE_CONTROL.as_str()) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let seconds = value.trim_matches('"').parse().ok();
            match name.to_ascii_lowercase().as_str() {
                "no-store" | "private" => sharing.forbidden = true,
                "public" => sharing.public = true,
                "no-cache" => no_cache = true,
                "max-age" => max_age = seconds,
                "s-maxage" => shared_max_age = seconds,
                _ => {}
            }
        }
        let age = values(headers, AGE.as_str()).find_map(|age| age.parse().ok()).unwrap_or(0);
        let seconds: u32 = shared_max_age.or(max_age).filter(|_| !no_cache).unwrap_or(0);
        sharing.fresh = Duration::from_secs(seconds.saturating_sub(age).into());
        sharing
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(headers: &[(&'static str, &str)]) -> Sharing {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let asked = [("x-tftp-ip".parse().unwrap(), "10.0.0.7".parse().unwrap())];
        Sharing::of(&headers.collect(), &asked.into_iter().collect())
    }

    #[test]
    fn cache_control_says_what_may_be_shared() {
        assert_eq!(sharing(&[]), Sharing::default());
        for (name, value) in [("vary", "*"), ("cache-control", "max-age=1, Private"), ("cache-control", "no-store")] {
            assert!(sharing(&[(name, value)]).forbidden, "{name}: {value}");
        }
        assert!(!sharing(&[("vary", "Accept-Encoding")]).forbidden);
        assert!(sharing(&[("vary", "Accept-Encoding, X-TFTP-IP"), ("cache-control", "public")]).forbidden);
        assert!(sharing(&[("cache-control", "Public, max-age=60")]).public);
    }

    #[test]
    fn how_long_it_is_fresh() {
        for (control, age, seconds) in [
            ("max-age=60", "0", 60),
            ("max-age=60", "20", 40),
            ("max-age=60", "80", 0),
            ("max-age=60, s-maxage=5", "0", 5),
            ("max-age=60, no-cache", "0", 0),
            ("max-age=\"60\"", "x", 60),
            ("max-age=-1", "0", 0),
            ("max-age=99999999999999", "0", 0),
        ] {
            let fresh = sharing(&[("cache-control", control), ("age", age)]).fresh;
            assert_eq!(fresh, Duration::from_secs(seconds), "{control}, age {age}");
        }
    }
}
