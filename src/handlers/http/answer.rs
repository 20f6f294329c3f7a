use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, LOCATION},
};

use crate::Refusal;

/// The same response if its body is the file, and else what the peer is told.
pub(super) fn file(response: Response) -> Result<Response, Refusal> {
    let status = response.status();
    let refusal = match status {
        StatusCode::OK if is_encoded(&response) => {
            return Err(Refusal::internal().because("answered with an encoding that was not asked for"));
        }
        StatusCode::OK => return Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Refusal::not_found(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::denied(),
        _ if leads_to_directory(&response) => return Err(Refusal::not_found().because("is a directory")),
        _ => Refusal::upstream(),
    };
    Err(refusal.because(format_args!("answered {status}")))
}

/// How many bytes will come, if the server said so.
pub(super) fn size(response: &Response) -> Option<u64> {
    response.content_length()
}

pub(super) fn gives_ranges(response: &Response) -> bool {
    response.headers().get(ACCEPT_RANGES).is_some_and(|unit| unit == "bytes")
}

/// Where a 206 that begins at this position ends, if it is of a file of this size.
pub(super) fn end_of_part(response: &Response, position: u64, size: Option<u64>) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    // Of a file of unknown size only the whole rest will do: where a part ends, the file would seem to.
    let is_of_file = match size {
        Some(size) => (total == "*" || total.parse() == Ok(size)) && end <= size,
        None => total == "*" || total.parse() == Ok(end),
    };
    (first.parse() == Ok(position) && end > position && is_of_file).then_some(end)
}

/// Whether the server behind the upstream's name is not there, and any other request would fare the same.
pub(super) fn is_outage(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether the same request may well succeed a little later.
pub(super) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Whether a redirect adds nothing but a slash, as servers do for a directory. Followed, it would give a listing.
pub(super) fn is_directory(from: &Url, to: &Url) -> bool {
    to.path().strip_suffix('/') == Some(from.path())
}

fn leads_to_directory(response: &Response) -> bool {
    let to = response.headers().get(LOCATION).and_then(|to| response.url().join(to.to_str().ok()?).ok());
    response.status().is_redirection() && to.is_some_and(|to| is_directory(response.url(), &to))
}

pub(super) fn is_encoded(response: &Response) -> bool {
    response
        .headers()
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
