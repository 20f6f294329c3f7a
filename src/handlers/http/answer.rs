use reqwest::{
    Response, StatusCode,
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
        // Of the redirects with a place to go, only those to a directory come here.
        _ if status.is_redirection() && response.headers().contains_key(LOCATION) => {
            return Err(Refusal::not_found().because("is a directory"));
        }
        _ => Refusal::upstream(),
    };
    Err(refusal.because(format_args!("answered {status}")))
}

/// How many bytes will come, if the server said so.
pub(super) fn size(response: &Response) -> Option<u64> {
    response.content_length()
}

fn is_encoded(response: &Response) -> bool {
    response
        .headers()
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
