//! Uploads.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use futures_lite::{Stream, ready};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderMap},
};

use super::{
    body::Reply,
    conditions::{self, Validators},
    path_locks::PathLock,
    response::{NoAnswer, PRECONDITION_FAILED, header_value, refuse, refuse_with, with_status},
    state::State,
    transfer::Transfer,
};
use crate::{
    Bytes,
    driver::feed::catch_panic,
    error::{ErrorCode, Refusal},
    handler, http1,
    source::Source,
    transfer::Outcome,
};

pub(super) async fn write(
    transfer: &Rc<Transfer>,
    state: &Rc<State>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, NoAnswer> {
    // A client that waits for a 100 sends no body after a refusal.
    let sends_anyway = !request.headers().contains_key(header::EXPECT);
    if let Some((status, text)) = check_upload(transfer, request.headers()).await {
        state.unread.set(sends_anyway);
        let mut no = refuse_with(transfer, status, text, false);
        no.headers_mut().insert(header::CONNECTION, header_value("close"));
        return Ok(no);
    }
    let must_be_new = conditions::must_be_new(request.headers());
    if let Some(ours) = transfer.request.as_ref().ok().filter(|_| must_be_new) {
        ours.note_must_be_new();
    }
    let upload = Rc::<UploadState>::default();
    let taken = receive(transfer, state, request, &upload).await;
    state.source_is_ready();
    state.client.end();
    match taken {
        Ok(created) => {
            state.unread.set(false);
            transfer.set_outcome(Outcome::Complete);
            let status = if created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
            transfer.set_status(status.as_u16());
            Ok(with_status(status, Reply::Empty))
        }
        // The client has gone, so no answer is sent.
        Err(_) if upload.failure.get() == Some(Failure::ClientLeft) => Err(NoAnswer),
        Err(refusal) => {
            let is_unread = !upload.ended.get();
            state.unread.set(is_unread && sends_anyway);
            let has_changed = upload.failure.get() == Some(Failure::Changed);
            let mut no = if has_changed || must_be_new && refusal.code() == ErrorCode::FILE_EXISTS {
                refuse_with(transfer, StatusCode::PRECONDITION_FAILED, PRECONDITION_FAILED, false)
            } else {
                refuse(transfer, refusal, false)?
            };
            if is_unread {
                no.headers_mut().insert(header::CONNECTION, header_value("close"));
            }
            Ok(no)
        }
    }
}

/// The status and the text for an upload that the handler is not asked about.
async fn check_upload(transfer: &Transfer, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    // Browsers tell the site of the page, and other clients have none.
    if headers.contains_key(header::ORIGIN) && !http1::names_an_address(headers) {
        return Some((StatusCode::FORBIDDEN, "A page must be opened by the server's address to upload"));
    }
    if !(headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING)) {
        // RFC 9112 section 6.3: this would be an empty file.
        return Some((StatusCode::LENGTH_REQUIRED, "Length required"));
    }
    let holds = !conditions::has_any(headers) || conditions_hold(transfer, headers).await;
    (!holds).then_some((StatusCode::PRECONDITION_FAILED, PRECONDITION_FAILED))
}

/// Whether the conditions of an upload hold for the file that a GET would have.
async fn conditions_hold(transfer: &Transfer, headers: &HeaderMap) -> bool {
    // Otherwise a handler might share the file that it has opened for this request before.
    let asks_now = |request: &handler::Request| request.clone().received_at(Instant::now());
    match transfer.open(&transfer.request.as_ref().map(asks_now).map_err(Clone::clone)).await {
        Ok(source) => Validators::of(&source, SystemTime::now()).allows_write(headers),
        Err(refusal) => refusal.code() == ErrorCode::FILE_NOT_FOUND && conditions::allows_new(headers),
    }
}

/// Takes the upload. Returns whether the file is new.
async fn receive(
    transfer: &Rc<Transfer>,
    state: &Rc<State>,
    request: Request<Incoming>,
    upload: &Rc<UploadState>,
) -> Result<bool, Refusal> {
    let ours = transfer.request.as_ref().map_err(Clone::clone)?;
    if request.headers().contains_key(header::CONTENT_RANGE) {
        // RFC 9110 section 14.5: otherwise the rest of the file would be lost.
        return Err(Refusal::bad_request().because("a part of a file is no upload"));
    }
    let (head, body) = request.into_parts();
    let (size, most) = (body.size_hint().exact(), transfer.terms.settings.max_upload);
    transfer.set_size(size);
    if size.is_some_and(|size| size > most) {
        return Err(Refusal::above_max_upload(most));
    }
    let last_check = conditions::has_any(&head.headers).then(|| last_check(transfer, head.headers, upload));
    let data =
        Data { body, left: most, transfer: transfer.clone(), state: state.clone(), upload: upload.clone(), last_check };
    let data = Source::stream(data).with_size_hint(size);
    let mut work = pin!(catch_panic(transfer.terms.handler.write(ours, data)));
    poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if let Some(failure) = upload.failure.get() {
            return Poll::Ready(Err(failure.refusal()));
        }
        // The server waits either for the client or for the handler.
        if polled.is_pending() && !upload.waits_for_bytes.get() {
            state.wait_for_source();
        } else {
            state.source_is_ready();
        }
        polled
    })
    .await?;
    transfer.set_target(ours.target());
    Ok(!ours.has_replaced())
}

/// Checks the conditions of an upload whose last byte has arrived: another upload may have replaced the file.
fn last_check(transfer: &Rc<Transfer>, headers: HeaderMap, upload: &Rc<UploadState>) -> LastCheck {
    let (transfer, upload) = (transfer.clone(), upload.clone());
    Box::pin(async move {
        upload.lock.replace(Some(transfer.lock_path().await));
        conditions_hold(&transfer, &headers).await
    })
}

type LastCheck = Pin<Box<dyn Future<Output = bool>>>;

/// What the body and the handler report to the answer.
#[derive(Default)]
struct UploadState {
    /// The handler waits for bytes of the client.
    waits_for_bytes: Cell<bool>,
    /// The body has ended.
    ended: Cell<bool>,
    /// Nothing more comes after it.
    failure: Cell<Option<Failure>>,
    /// An upload with conditions keeps the lock until the handler has taken it.
    lock: RefCell<Option<PathLock>>,
}

/// Why an upload ends that the handler has not refused. The handler is dropped, so that it cannot take this for the end
/// of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The client left before the end.
    ClientLeft,
    /// The client sent a malformed chunk.
    Malformed,
    /// The conditions do not hold any more.
    Changed,
}

impl Failure {
    fn refusal(self) -> Refusal {
        match self {
            Self::ClientLeft => Refusal::internal(),
            Self::Malformed => Refusal::bad_request().because("the chunks of the upload are malformed"),
            Self::Changed => Refusal::new(ErrorCode::ILLEGAL_OPERATION, PRECONDITION_FAILED),
        }
    }
}

/// The bytes of an upload. The first poll accepts it: then hyper answers `Expect: 100-continue`.
struct Data {
    body: Incoming,
    /// How many bytes may still come.
    left: u64,
    transfer: Rc<Transfer>,
    state: Rc<State>,
    upload: Rc<UploadState>,
    /// For an upload with conditions.
    last_check: Option<LastCheck>,
}

impl Stream for Data {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.upload.failure.get().is_some() {
            return Poll::Pending;
        }
        if !self.upload.ended.get() {
            if let Some(chunk) = ready!(self.poll_chunk(cx)) {
                return Poll::Ready(Some(chunk));
            }
            self.upload.ended.set(true);
            self.state.client.end();
        }
        if let Some(check) = &mut self.last_check {
            let holds = ready!(check.as_mut().poll(cx));
            self.last_check = None;
            if !holds {
                return self.fail(Failure::Changed);
            }
        }
        Poll::Ready(None)
    }
}

impl Data {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        loop {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            self.upload.waits_for_bytes.set(polled.is_pending());
            if polled.is_pending() {
                self.state.client.begin();
            }
            let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) if is_malformed(&error) => return self.fail(Failure::Malformed),
                Err(_) => return self.fail(Failure::ClientLeft),
            };
            // Trailers are ignored.
            let Ok(chunk) = frame.into_data() else { continue };
            self.state.client.progress(chunk.len() as u64);
            let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
                let most = self.transfer.terms.settings.max_upload;
                return Poll::Ready(Some(Err(Refusal::above_max_upload(most))));
            };
            self.left = left;
            self.transfer.count_bytes(chunk.len());
            return Poll::Ready(Some(Ok(chunk)));
        }
    }

    fn fail<T>(&self, failure: Failure) -> Poll<T> {
        self.upload.failure.set(Some(failure));
        Poll::Pending
    }
}

/// Whether the client sent a malformed chunk (RFC 9112 section 7.1). Otherwise the connection has ended.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}
