use std::time::Duration;

use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT_RANGES, CONTENT_RANGE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING},
};

use crate::{Refusal, operator::setting};

/// The longest wait for a server that is busy.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The same response if its body is the file, or else the refusal for the peer.
///
/// A `Content-Encoding` belongs to the file: the request asked for no encoding, so the header describes the stored
/// bytes, as on mirrors for each `.gz`. The peer gets the stored bytes, as from any other source.
pub(super) fn file(response: Response) -> Result<Response, Refusal> {
    let status = response.status();
    let refusal = match status {
        // A proxy makes a 203 of a 200 (RFC 9110 section 15.3.4).
        StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => return is_decoded(&response).map(|()| response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Refusal::not_found(),
        StatusCode::UNAUTHORIZED => {
            let header = setting("header", "--header");
            let why = format!("answered {status}; http://USER:PASSWORD@HOST/ or `{header}` has credentials");
            return Err(Refusal::denied().because(why));
        }
        StatusCode::FORBIDDEN => Refusal::denied(),
        _ if leads_to_directory(&response) => return Err(Refusal::not_found().because("is a directory")),
        _ => Refusal::upstream(),
    };
    Err(refusal.because(format_args!("answered {status}")))
}

/// The length of the body in bytes, if the server sent it.
pub(super) fn size(response: &Response) -> Option<u64> {
    response.content_length()
}

pub(super) fn gives_ranges(response: &Response) -> bool {
    response.headers().get(ACCEPT_RANGES).is_some_and(|unit| unit == "bytes")
}

/// The end of a 206 that begins at this position, if it is part of a file of this size.
pub(super) fn end_of_part(response: &Response, position: u64, size: Option<u64>) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    // If the size of the file is unknown, only the whole rest is accepted: otherwise the file would seem to end with
    // the part.
    let is_of_file = match size {
        Some(size) => (total == "*" || total.parse() == Ok(size)) && end <= size,
        None => total == "*" || total.parse() == Ok(end),
    };
    (first.parse() == Ok(position) && end > position && is_of_file).then_some(end)
}

/// Whether the same request may well succeed a little later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Whether the server is busy, and the seconds of its `Retry-After` (RFC 9110 section 10.2.3). `None` also for one that
/// is busy for longer than a boot client waits.
pub(super) fn busy(response: &Response) -> Option<Option<Duration>> {
    if !matches!(response.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    let Some(told) = response.headers().get(RETRY_AFTER) else { return Some(None) };
    let pause = Duration::from_secs(told.to_str().ok()?.trim().parse().ok()?);
    (pause <= LONGEST_PAUSE).then_some(Some(pause))
}

/// Whether a redirect only adds a slash, as servers do for a directory. The target would be a listing.
pub(super) fn is_directory(from: &Url, to: &Url) -> bool {
    to.path().strip_suffix('/') == Some(from.path())
}

fn leads_to_directory(response: &Response) -> bool {
    let to = response.headers().get(LOCATION).and_then(|to| response.url().join(to.to_str().ok()?).ok());
    response.status().is_redirection() && to.is_some_and(|to| is_directory(response.url(), &to))
}

/// Refuses a body with a transfer coding such as gzip (RFC 9112 section 7). Nothing here decodes it, and its bytes are
/// not those of the file.
pub(super) fn is_decoded(response: &Response) -> Result<(), Refusal> {
    let lines = response.headers().get_all(TRANSFER_ENCODING).into_iter();
    let codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let known = |coding: &&[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    let mut codings = codings.filter(|coding| !known(coding));
    // The HTTP library decodes the last coding.
    let is_plain =
        codings.next().is_none_or(|first| first.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none();
    if is_plain {
        return Ok(());
    }
    Err(Refusal::upstream().because("answered with a Transfer-Encoding that was not asked for"))
}
