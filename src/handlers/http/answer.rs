use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_ENCODING, LOCATION},
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

/// Whether a redirect adds nothing but a slash, as servers do for a directory. Followed, it would give a listing.
pub(super) fn is_directory(from: &Url, to: &Url) -> bool {
    to.path().strip_suffix('/') == Some(from.path())
}

fn leads_to_directory(response: &Response) -> bool {
    let to = response.headers().get(LOCATION).and_then(|to| response.url().join(to.to_str().ok()?).ok());
    response.status().is_redirection() && to.is_some_and(|to| is_directory(response.url(), &to))
}

fn is_encoded(response: &Response) -> bool {
    response
        .headers()
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
