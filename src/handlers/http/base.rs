use std::fmt;

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use reqwest::{RequestBuilder, Url};

use crate::{Error, name::ENCODED, shown::without_password};

/// All characters that are encoded in a path. `url`'s own path setters remove tabs and line ends from a segment *after*
/// the check for dots, so ".\t." would lead upward.
const PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The directory of all files. Its URL has no credentials, and ends with a slash.
#[derive(Clone)]
pub(super) struct Base {
    url: Url,
    user: Option<String>,
    password: Option<String>,
}

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let no = |why: &str| Error::Config(format!("{:?} is not a base for HTTP: {why}", without_password(text)));
        let mut url = Url::parse(text).map_err(|error| no(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(no("it is neither http nor https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(no("it has a query or a fragment"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded);
        let password = url.password().map(decoded);
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(no("it has no host"));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self { url, user, password })
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL of a file. The path is a [`Request::path_bytes`](crate::Request::path_bytes), so it has no dot segments.
    pub(super) fn join(&self, path: &[u8]) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{}", self.url.path(), percent_encode(path, PATH)));
        url
    }

    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.user, &self.password) {
            (None, None) => request,
            (user, password) => request.basic_auth(user.as_deref().unwrap_or(""), password.as_deref()),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    fn join(base: &str, path: &str) -> String {
        Base::parse(base).unwrap().join(path.as_bytes()).into()
    }

    #[test]
    fn a_base_is_a_directory() {
        assert_eq!(join("http://h", "x"), "http://h/x");
        assert_eq!(join("http://h/a", "x"), "http://h/a/x");
        assert_eq!(join("https://h:8443/a%20b/", "x/y"), "https://h:8443/a%20b/x/y");
        assert_eq!(join("http://[::1]:80/a/../b", "x"), "http://[::1]/b/x");
    }

    #[test]
    fn names_stay_names() {
        for (name, expected) in [
            (&b"a b"[..], "a%20b"),
            (b"a?b=c#d", "a%3Fb%3Dc%23d"),
            (b"%2e%2e/%2fx", "%252e%252e/%252fx"),
            ("ä/ü".as_bytes(), "%C3%A4/%C3%BC"),
            (b"01-00:11", "01-00%3A11"),
            (b"http://evil/x", "http%3A/evil/x"),
            (b"//evil/x", "evil/x"),
            (b"@evil", "%40evil"),
            (b".\t./.\t./x", ".%09./.%09./x"),
            (b"..\n/x", "..%0A/x"),
            (b"x\r\nHost: evil", "x%0D%0AHost%3A%20evil"),
            (b"...", "..."),
            (b"x.efi\xff", "x.efi%FF"),
            (b"\xeaonboard/\xc3\xaa", "%EAonboard/%C3%AA"),
        ] {
            let packet = crate::packet::Request {
                filename: name.into(),
                mode: crate::packet::Mode::Octet,
                options: Default::default(),
            };
            let any = ([127, 0, 0, 1], 1).into();
            let request = Request::new(any, any, packet).unwrap();
            let url = Base::parse("http://h/base").unwrap().join(request.path_bytes());
            assert_eq!(url.as_str(), format!("http://h/base/{expected}"), "{name:?}");
        }
    }

    #[test]
    fn a_bad_base_is_explained_without_its_password() {
        for (base, why) in [
            ("mirror/netboot", "relative URL without a base"),
            ("ftp://u:secret@h/", "neither http nor https"),
            ("file:///srv/tftp", "neither http nor https"),
            ("http://u:secret@h:99999/", "invalid port number"),
            ("http://", "empty host"),
            ("http://u:secret@h/a?b", "query or a fragment"),
            ("https://h/a#b", "query or a fragment"),
        ] {
            let text = Base::parse(base).err().unwrap().to_string();
            assert!(text.contains(why) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn credentials_leave_the_url() {
        let base = Base::parse("http://me%40home:p%3Ass@h/a").unwrap();
        assert_eq!((base.user.as_deref(), base.password.as_deref()), (Some("me@home"), Some("p:ss")));
        assert_eq!(base.to_string(), "http://h/a/");
        assert_eq!(base.join(b"x").as_str(), "http://h/a/x");
    }
}
