//! From a request over HTTP to its answer.

use std::{rc::Rc, time::SystemTime};

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use percent_encoding::percent_decode_str;

use super::{
    Site,
    body::Reply,
    conditions::{Evaluation, Validators},
    kind, put,
    range::Part,
    response::{NoAnswer, PRECONDITION_FAILED, header_value, refuse, refuse_with, text_response, with_status},
    state::State,
    transfer::{Addresses, Transfer},
};
use crate::{
    endpoint::{DropReason, LONGEST_NAME},
    options::Direction,
    packet::Options,
    source::Source,
    transfer::Outcome,
};

/// The headers that affect the answer, for the record.
const RECORDED_HEADERS: [header::HeaderName; 7] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::CONTENT_RANGE,
];

const METHODS: &str = "GET, HEAD, PUT";

pub(super) async fn answer(
    site: Rc<Site>,
    state: Rc<State>,
    addresses: Addresses,
    request: Request<Incoming>,
) -> Result<Response<Reply>, NoAnswer> {
    let is_head = request.method() == Method::HEAD;
    // A client that waits for a 100 sends no body after a refusal.
    state.unread.set(!request.body().is_end_stream() && !request.headers().contains_key(header::EXPECT));
    let (direction, name) = match state.head.check(&request).and_then(|()| target(&request)) {
        Ok(target) => target,
        Err((status, text)) => {
            log::debug!("{}: {} gets {status}: {text}", addresses.peer, request.method());
            return Ok(refuse_head(&site, &state, (status, text), is_head));
        }
    };
    let terms = site.shared.current.terms();
    let permit = match site.gate.enter(&terms, addresses.peer, &state.client) {
        Ok(permit) => permit,
        Err(DropReason::Denied) => return Err(NoAnswer),
        Err(_) => return Ok(text_response(StatusCode::SERVICE_UNAVAILABLE, "Too many requests", is_head)),
    };
    let kind = (direction, asked(request.headers()));
    let transfer = Transfer::begin((site, permit, terms), addresses, (name, request.uri().query()), kind);
    state.begin(transfer.clone());
    let trace = transfer.trace.clone();
    let answered = async {
        match direction {
            Direction::Read => read(&transfer, &state, &request).await,
            Direction::Write => put::write(&transfer, &state, request).await,
        }
    };
    trace.around(answered).await
}

/// The direction of the transfer, and the name of the file.
///
/// # Errors
/// The status and the text of the answer to a request that begins no transfer.
fn target(request: &Request<Incoming>) -> Result<(Direction, Vec<u8>), (StatusCode, &'static str)> {
    let direction = match *request.method() {
        Method::GET | Method::HEAD => Direction::Read,
        Method::PUT => Direction::Write,
        _ => return Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")),
    };
    let path = request.uri().path();
    let name: Vec<u8> = percent_decode_str(path).collect();
    if name.len() > LONGEST_NAME {
        Err((StatusCode::URI_TOO_LONG, "Name too long"))
    } else if !path.starts_with('/') || name.contains(&0) {
        Err((StatusCode::BAD_REQUEST, "Bad name"))
    } else {
        Ok((direction, name))
    }
}

/// The answer to a request that begins no transfer.
fn refuse_head(
    site: &Site,
    state: &State,
    (status, text): (StatusCode, &'static str),
    is_head: bool,
) -> Response<Reply> {
    let mut no = text_response(status, text, is_head);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        no.headers_mut().insert(header::ALLOW, header_value(METHODS));
    } else {
        site.gate.note_malformed();
    }
    if state.unread.get() || matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED) {
        no.headers_mut().insert(header::CONNECTION, header_value("close"));
    }
    no
}

async fn read(
    transfer: &Rc<Transfer>,
    state: &Rc<State>,
    request: &Request<Incoming>,
) -> Result<Response<Reply>, NoAnswer> {
    let is_head = request.method() == Method::HEAD;
    let source = match transfer.open(&transfer.request).await {
        Ok(source) => source,
        Err(refusal) => return refuse(transfer, refusal, is_head),
    };
    transfer.set_origin(source.shared_origin());
    let (size, headers) = (source.size(), request.headers());
    transfer.set_size(size);
    let validators = Validators::of(&source, SystemTime::now());
    let answer = match validators.check(headers) {
        Evaluation::Failed => refuse_with(transfer, StatusCode::PRECONDITION_FAILED, PRECONDITION_FAILED, is_head),
        Evaluation::NotModified => {
            transfer.set_outcome(Outcome::Complete);
            with_status(StatusCode::NOT_MODIFIED, Reply::Empty)
        }
        Evaluation::Proceed => match part(&validators, request, size) {
            Part::Nothing => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let mut answer = refuse_with(transfer, status, "Range not satisfiable", is_head);
                let range = format!("bytes */{}", size.unwrap_or_default());
                answer.headers_mut().insert(header::CONTENT_RANGE, header_value(&range));
                answer
            }
            _ if is_head => {
                transfer.set_outcome(Outcome::Probe);
                let mut answer = with_status(StatusCode::OK, Reply::Empty);
                size.map(|size| answer.headers_mut().insert(header::CONTENT_LENGTH, size.into()));
                answer
            }
            part => {
                state.undelimited.set(size.is_none() && request.version() < Version::HTTP_11);
                whole_or_part(part, source, transfer, state)
            }
        },
    };
    Ok(with_file_headers(answer, transfer, &validators, size))
}

fn part(validators: &Validators, request: &Request<Incoming>, size: Option<u64>) -> Part {
    let headers = request.headers();
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    match (range, size) {
        // A range is defined only for GET (RFC 9110 section 14.2).
        (Some(range), Some(size)) if request.method() == Method::GET && validators.allows_part(headers) => {
            Part::new(range, size)
        }
        _ => Part::Whole,
    }
}

fn whole_or_part(part: Part, source: Source, transfer: &Rc<Transfer>, state: &Rc<State>) -> Response<Reply> {
    let size = source.size();
    let (first, length, status) = match part {
        Part::Of(first, length) => (first, Some(length), StatusCode::PARTIAL_CONTENT),
        _ => (0, size, StatusCode::OK),
    };
    let reply = Reply::file(source, (first, length), transfer.clone(), state.clone());
    let mut answer = with_status(status, reply);
    let headers = answer.headers_mut();
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let (Part::Of(first, length), Some(size)) = (part, size) {
        let range = format!("bytes {first}-{}/{size}", first + length - 1);
        headers.insert(header::CONTENT_RANGE, header_value(&range));
    }
    answer
}

/// Adds the headers that describe the file. No header is ever empty, because EDK2 crashes on one.
fn with_file_headers(
    mut answer: Response<Reply>,
    transfer: &Transfer,
    validators: &Validators,
    size: Option<u64>,
) -> Response<Reply> {
    let status = answer.status();
    transfer.set_status(status.as_u16());
    let headers = answer.headers_mut();
    if status.is_success() {
        let path = transfer.request.as_ref().map_or("", |request| request.path());
        headers.insert(header::CONTENT_TYPE, header_value(kind::of(path)));
    }
    if status.is_success() && size.is_some() {
        headers.insert(header::ACCEPT_RANGES, header_value("bytes"));
    }
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        if let Some(etag) = validators.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::ETAG, etag);
        }
        if let Some(modified) = validators.modified {
            headers.insert(header::LAST_MODIFIED, header_value(&httpdate::fmt_http_date(modified)));
        }
    }
    answer
}

fn asked(headers: &HeaderMap) -> Options {
    let deciding = RECORDED_HEADERS.iter().filter_map(|name| Some((name.as_str(), headers.get(name)?.to_str().ok()?)));
    deciding.collect()
}
