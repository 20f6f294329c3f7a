//! An object store as an upstream: the requests to the store, and the meaning of its answers.

use std::{error, fmt, sync::Arc, time::Duration};

use futures_lite::{StreamExt, stream::Boxed};
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore,
    client::{HttpError, HttpErrorKind},
    path::Path,
};

use crate::{
    Bytes, Refusal, Source,
    handlers::shared::{Facts, Failure, Part, Upstream, UpstreamReply},
};

/// The longest text of a store's error that is passed on. It may be a page of XML.
const LONGEST_TEXT: usize = 300;

pub(super) struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    /// How long an object is used without asking again.
    pub(super) fresh: Duration,
}

/// The key of an object.
#[derive(Clone)]
pub(super) struct Key {
    /// The bucket, as it appears in logs.
    pub(super) root: String,
    pub(super) path: Path,
}

impl Upstream for Objects {
    type Ask = Key;
    type Validator = ObjectMeta;
    type Body = Boxed<object_store::Result<Bytes>>;

    async fn open(&self, key: &Key, known: Option<&ObjectMeta>) -> Result<UpstreamReply<Self>, Failure> {
        let options = known.map_or_else(GetOptions::default, if_changed);
        match self.store.get_opts(&key.path, options).await {
            Ok(object) => {
                let facts = Facts {
                    size: Some(object.meta.size),
                    validator: has_validator(&object.meta).then(|| object.meta.clone()),
                    may_share: true,
                    fresh: self.fresh,
                    gives_ranges: true,
                };
                Ok(UpstreamReply::File(facts, object.into_stream()))
            }
            Err(Error::NotModified { .. }) => Ok(UpstreamReply::Unchanged(self.fresh)),
            Err(error) => match failure(error) {
                Failure::Final(refusal) => Ok(UpstreamReply::Refused { refusal, may_share: true }),
                failure => Err(failure),
            },
        }
    }

    async fn part(
        &self,
        key: &Key,
        (known, _): (&ObjectMeta, Option<u64>),
        (first, end): (u64, Option<u64>),
    ) -> Result<Part<Self::Body>, Failure> {
        let changed = || Failure::Final(Refusal::upstream().because("the object changed"));
        let end = end.unwrap_or(known.size);
        let options = GetOptions { range: Some(GetRange::Bounded(first..end)), ..if_same(known) };
        match self.store.get_opts(&key.path, options).await {
            // Some stores ignore conditions.
            Ok(object) if !is_same(known, &object.meta) || object.range != (first..end) => Err(changed()),
            Ok(object) => Ok(Part { body: object.into_stream(), first, end: Some(end) }),
            Err(Error::Precondition { .. }) => Err(changed()),
            Err(error) => Err(match failure(error) {
                Failure::Final(refusal) => {
                    Failure::Final(Refusal::upstream().because(refusal.detail().unwrap_or("the object is gone")))
                }
                failure => failure,
            }),
        }
    }

    async fn chunk(&self, body: &mut Self::Body) -> Result<Option<Bytes>, Refusal> {
        body.next().await.transpose().map_err(|error| failure(error).refusal())
    }

    fn is_same(known: &ObjectMeta, now: &ObjectMeta) -> bool {
        is_same(known, now)
    }

    fn label(object: &ObjectMeta, source: Source) -> Source {
        let modified = has_date(object).then(|| object.last_modified.into());
        source.with_some(object.e_tag.as_deref(), Source::with_etag).with_some(modified, Source::with_modified)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.root, self.path)
    }
}

/// Lists the first names below this prefix.
pub(super) async fn listed(store: &dyn ObjectStore, prefix: &Path) -> Result<String, Refusal> {
    match store.list(Some(prefix)).next().await {
        Some(Ok(_)) => Ok("can be listed".into()),
        Some(Err(error)) => Err(failure(error).refusal()),
        None => Ok("can be listed, and has no object there".into()),
    }
}

/// The refusal of a client that reads, for an error of the store.
pub(super) fn failure(error: Error) -> Failure {
    let refusal = match &error {
        Error::NotFound { .. } | Error::InvalidPath { .. } => Refusal::not_found(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Refusal::denied(),
        Error::AlreadyExists { .. } => Refusal::exists(),
        _ => Refusal::upstream(),
    };
    let refusal = refusal.because(text(&error));
    match &error {
        Error::Generic { .. } if causes(&error).any(is_no_connection) => Failure::Outage(refusal),
        Error::Generic { .. } | Error::JoinError { .. } => Failure::Passing(refusal),
        _ => Failure::Final(refusal),
    }
}

fn is_no_connection(cause: &(dyn error::Error + 'static)) -> bool {
    cause.downcast_ref::<HttpError>().is_some_and(|error| error.kind() == HttpErrorKind::Connect)
}

fn if_changed(known: &ObjectMeta) -> GetOptions {
    match etag(known) {
        Some(etag) => GetOptions { if_none_match: Some(etag.to_owned()), ..GetOptions::default() },
        None => GetOptions { if_modified_since: Some(known.last_modified), ..GetOptions::default() },
    }
}

fn if_same(known: &ObjectMeta) -> GetOptions {
    match etag(known) {
        Some(etag) => GetOptions { if_match: Some(etag.to_owned()), ..GetOptions::default() },
        None => GetOptions { if_unmodified_since: Some(known.last_modified), ..GetOptions::default() },
    }
}

fn is_same(known: &ObjectMeta, now: &ObjectMeta) -> bool {
    let same = match (etag(known), etag(now)) {
        (Some(known), Some(now)) => known == now,
        _ => has_date(known) && known.last_modified == now.last_modified,
    };
    same && known.size == now.size
}

fn has_validator(object: &ObjectMeta) -> bool {
    etag(object).is_some() || has_date(object)
}

/// A weak ETag does not tell one state from another to the byte.
fn etag(object: &ObjectMeta) -> Option<&str> {
    object.e_tag.as_deref().filter(|etag| !etag.starts_with("W/"))
}

/// A store without dates reports the earliest one.
fn has_date(object: &ObjectMeta) -> bool {
    object.last_modified.timestamp() > 0
}

/// An error with its causes, in one line.
fn text(error: &Error) -> String {
    let mut text = String::new();
    for cause in causes(error).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect()
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn error::Error + 'static)), |error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(e_tag: &str, date: i64, size: u64) -> ObjectMeta {
        let e_tag = Some(e_tag.to_owned()).filter(|etag| !etag.is_empty());
        let last_modified = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(date as u64);
        ObjectMeta { location: Path::from("x"), last_modified: last_modified.into(), size, e_tag, version: None }
    }

    #[test]
    fn what_is_the_same() {
        for (known, now, same) in [
            (object("\"a\"", 1, 5), object("\"a\"", 2, 5), true),
            (object("\"a\"", 1, 5), object("\"b\"", 1, 5), false),
            (object("\"a\"", 1, 5), object("\"a\"", 1, 6), false),
            (object("\"a\"", 1, 5), object("", 1, 5), true),
            (object("", 1, 5), object("", 2, 5), false),
            (object("W/\"a\"", 1, 5), object("W/\"a\"", 2, 5), false),
            (object("", 0, 5), object("", 0, 5), false),
        ] {
            assert_eq!(is_same(&known, &now), same, "{known:?} {now:?}");
        }
    }

    #[test]
    fn an_error_is_one_line_of_bounded_length() {
        let source = format!("<xml>\r\n{}", "x".repeat(1000)).into();
        let text = text(&Error::Generic { store: "S3", source });
        assert!(text.starts_with("Generic S3 error: <xml>  xxx") && text.len() == LONGEST_TEXT, "{text}");
    }

    #[test]
    fn what_errors_mean() {
        let source = || "no".into();
        let path = || "x".to_owned();
        for (error, expected) in [
            (Error::NotFound { path: path(), source: source() }, Refusal::not_found()),
            (Error::PermissionDenied { path: path(), source: source() }, Refusal::denied()),
            (Error::Unauthenticated { path: path(), source: source() }, Refusal::denied()),
            (Error::AlreadyExists { path: path(), source: source() }, Refusal::exists()),
            (Error::Generic { store: "S3", source: source() }, Refusal::upstream()),
        ] {
            assert_eq!(failure(error).refusal(), expected);
        }
    }
}
