//! The making of answers. Those to refused requests have fixed texts, which contain no path of the server.

use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};

use super::{body::Reply, transfer::Transfer};
use crate::{
    error::{ErrorCode, Refusal},
    http1,
};

/// The line for a 400.
const BAD_REQUEST: &str = "Bad request";

/// The text of a 412.
pub(super) const PRECONDITION_FAILED: &str = "Precondition failed";

/// No answer, on purpose: the connection is closed.
#[derive(Debug)]
pub(super) struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer, on purpose")
    }
}

impl std::error::Error for NoAnswer {}

/// The HTTP status of a refusal.
fn status(refusal: &Refusal) -> StatusCode {
    match refusal.code() {
        _ if refusal.is_busy() || *refusal == Refusal::stopping() => StatusCode::SERVICE_UNAVAILABLE,
        _ if *refusal == Refusal::too_big() => StatusCode::PAYLOAD_TOO_LARGE,
        _ if *refusal == Refusal::upstream() => StatusCode::BAD_GATEWAY,
        ErrorCode::FILE_NOT_FOUND => StatusCode::NOT_FOUND,
        ErrorCode::ACCESS_VIOLATION | ErrorCode::NO_SUCH_USER => StatusCode::FORBIDDEN,
        ErrorCode::DISK_FULL => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::FILE_EXISTS => StatusCode::CONFLICT,
        ErrorCode::ILLEGAL_OPERATION | ErrorCode::UNKNOWN_TID | ErrorCode::OPTION_NEGOTIATION => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer of a refused transfer, which ends with it.
pub(super) fn refuse(transfer: &Transfer, refusal: Refusal, is_head: bool) -> Result<Response<Reply>, NoAnswer> {
    let has_answer = refusal.packet().is_some() || refusal.is_busy();
    if refusal.is_busy() {
        // The client may ask again, and then there may be room.
        transfer.want_room();
    }
    let status = status(&refusal);
    // The text of this one is about TFTP.
    let text = if refusal == Refusal::bad_request() { BAD_REQUEST } else { refusal.message() };
    transfer.refuse(refusal);
    if !has_answer {
        return Err(NoAnswer);
    }
    transfer.set_status(status.as_u16());
    Ok(text_response(status, text, is_head))
}

/// The answer of a transfer that ends because of the request itself, with this status.
pub(super) fn refuse_with(
    transfer: &Transfer,
    status: StatusCode,
    text: &'static str,
    is_head: bool,
) -> Response<Reply> {
    transfer.refuse(Refusal::new(ErrorCode::ILLEGAL_OPERATION, text));
    transfer.set_status(status.as_u16());
    text_response(status, text, is_head)
}

/// An answer with this status and a line with the reason. The answer to a HEAD has no line.
pub(super) fn text_response(status: StatusCode, text: &str, is_head: bool) -> Response<Reply> {
    let text = format!("{text}\n");
    let (length, text) = (text.len(), text.into());
    let mut response = with_status(status, if is_head { Reply::Empty } else { Reply::Text(text) });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // iPXE waits for this many seconds and asks again.
        headers.insert(header::RETRY_AFTER, header_value("1"));
    }
    response
}

pub(super) fn with_status(status: StatusCode, reply: Reply) -> Response<Reply> {
    let mut answer = Response::new(reply);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::DATE, http1::date());
    answer
}

/// A header value of ASCII text that the server makes itself.
pub(super) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it is made of ASCII that can be seen")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_answer_has_the_date_of_the_clock() {
        let before = SystemTime::now();
        let answer = text_response(StatusCode::NOT_FOUND, "File not found", true);
        let date = httpdate::parse_http_date(answer.headers()[header::DATE].to_str().unwrap()).unwrap();
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!((since(before)..=since(SystemTime::now())).contains(&since(date)));
    }

    #[test]
    fn every_refusal_has_its_status() {
        for (refusal, expected) in [
            (Refusal::not_found(), 404),
            (Refusal::denied(), 403),
            (Refusal::name_too_long(), 403),
            (Refusal::exists(), 409),
            (Refusal::too_big(), 413),
            (Refusal::disk_full(), 507),
            (Refusal::bad_request(), 400),
            (Refusal::upstream(), 502),
            (Refusal::busy(), 503),
            (Refusal::stopping(), 503),
            (Refusal::internal(), 500),
        ] {
            assert_eq!(status(&refusal).as_u16(), expected, "{refusal}");
        }
    }
}
