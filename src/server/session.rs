//! One request from its arrival to its record: ask the handler, agree on the options, run the transfer.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Instant, SystemTime},
};

use super::{
    Terms,
    shard::{Key, Shard},
    tasks::Place,
};
use crate::{
    driver::{
        self, Wire,
        feed::{Feed, Upload, caught, caught_now},
        mailbox::Mailbox,
    },
    error::{ErrorCode, Refusal},
    handler::Request,
    hint::{Hint, Seen},
    options::{self, Agreed, Direction},
    packet::{self, Mode, Options, Packet},
    socket::Outgoing,
    stats::{Record, Registered},
    transfer::{Event, Outcome, Progress, Transfer},
};

/// What the shard knows of a transfer.
pub(super) struct Session {
    /// Where its packets come and go.
    pub(super) key: Key,
    /// Where its request came.
    pub(super) asked: Asked,
    pub(super) from: Option<IpAddr>,
    pub(super) local: SocketAddr,
    pub(super) direction: Direction,
    pub(super) request: Arc<packet::Request>,
    /// Largest blksize for this client.
    pub(super) blksize: u16,
    pub(super) began: Instant,
    /// When the first packet went out, if the handler has come that far.
    pub(super) answered: Cell<Option<Instant>>,
    /// When the peer was last heard, if it has answered.
    pub(super) heard: Cell<Option<Instant>>,
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) terms: Arc<Terms>,
}

/// By what a repeated request is known: the port that it came to, who sent it, and which address it asked.
pub(super) type Asked = (usize, SocketAddr, Option<IpAddr>);

/// What one session ends with.
struct End {
    outcome: Outcome,
    progress: Progress,
    origin: Option<Arc<str>>,
    granted: Options,
    last_ack: Option<u16>,
}

impl Session {
    pub(super) async fn run(self: Rc<Self>, shard: Rc<Shard>, _place: Place) {
        let started = SystemTime::now();
        let filename = String::from_utf8_lossy(&self.request.filename).into_owned();
        let request = Request::new(self.key.1, self.local, self.request.clone());
        let path = request.as_ref().map_or(filename.as_str(), Request::path).to_owned();
        let live = shard.shared.registry.register(self.key.1, path.clone(), self.direction, self.began);
        let end = match request {
            Ok(request) => {
                let request = request.received_at(self.began);
                let line = Line { shard: &shard, session: &self, live: &live };
                let end = caught(async {
                    let end = match self.direction {
                        Direction::Read => line.read(&request).await,
                        Direction::Write => line.write(&request).await,
                    };
                    Ok(end.unwrap_or_else(End::from))
                });
                // What panics here is the end of the user's side: a destructor.
                end.await.unwrap_or_else(|refusal| Outcome::Failed(refusal).into())
            }
            Err(refusal) => {
                shard.refuse_request(self.key, self.from, &refusal);
                Outcome::Refused(refusal).into()
            }
        };
        let received = end.outcome == Outcome::Complete && self.direction == Direction::Write;
        shard.end(&self, end.last_ack.filter(|_| received));
        let hint = Hint::find(&Seen {
            direction: self.direction,
            outcome: &end.outcome,
            progress: &end.progress,
            asked: &self.request.options,
            granted: &end.granted,
            size: live.size(),
            single_port: self.terms.settings.single_port,
        });
        let record = Record {
            id: live.id(),
            peer: self.key.1,
            local: self.local,
            filename,
            path,
            origin: end.origin,
            direction: self.direction,
            outcome: end.outcome,
            // Of a transfer whose source panicked when it was dropped, they are counted already, and no more is known.
            bytes: end.progress.bytes.max(live.bytes()),
            size: live.size(),
            started,
            duration: self.began.elapsed(),
            asked: self.request.options.clone(),
            granted: end.granted,
            sent: end.progress.sent,
            acked: end.progress.acked,
            retransmits: end.progress.retransmits,
            blksize: end.progress.agreed.blksize(),
            windowsize: end.progress.agreed.windowsize(),
            hint,
        };
        let level = if record.outcome == Outcome::Probe { log::Level::Debug } else { log::Level::Info };
        log::log!(target: "tuffet::transfers", level, "{record}");
        if let Some(hint) = &record.hint {
            log::info!("{}: {hint}", record.peer);
        }
        for hook in &shard.shared.on_end {
            // One that panics has been logged, and keeps neither the others nor the counters from the record.
            let _ = caught_now(|| hook(&record));
        }
        live.end(&record);
    }
}

/// The end of what has not begun.
impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        let progress = Progress::new(Agreed::plain(Mode::Octet));
        Self { outcome, progress, origin: None, granted: Options::new(), last_ack: None }
    }
}

/// A session at work.
struct Line<'a> {
    shard: &'a Shard,
    session: &'a Session,
    live: &'a Registered,
}

impl Line<'_> {
    async fn read(&self, request: &Request) -> Result<End, Outcome> {
        let handler = &self.session.terms.handler;
        let source = self.opened(caught(async { handler.read(request).await })).await?;
        let (agreed, oack) = self.answer(request, source.size())?;
        self.live.set_size(source.size());
        let origin = source.shared_origin();
        let transfer = Transfer::send(oack.clone(), agreed, self.session.terms.settings.timing);
        let end = self.drive(transfer, Feed::Read(source), oack).await;
        Ok(End { origin, ..end })
    }

    async fn write(&self, request: &Request) -> Result<End, Outcome> {
        let (agreed, oack) = self.answer(request, None)?;
        let most = self.session.terms.settings.max_upload;
        if agreed.tsize().is_some_and(|size| size > most) {
            return Err(self.refuse(Refusal::too_big()));
        }
        self.live.set_size(agreed.tsize());
        let handler = &self.session.terms.handler;
        let mut upload = Upload::new(agreed.tsize(), most, |data| handler.write(request, data));
        self.opened(poll_fn(|cx| upload.poll_accepts(cx))).await?;
        let transfer = Transfer::receive(oack.clone(), agreed, self.session.terms.settings.timing);
        Ok(self.drive(transfer, Feed::Write(upload), oack).await)
    }

    fn answer(&self, request: &Request, size: Option<u64>) -> Result<(Agreed, Options), Outcome> {
        let (options, direction) = (request.options(), self.session.direction);
        let mut limits =
            options::Limits { blksize: self.session.blksize, ..self.session.terms.settings.limits.clone() };
        let limited = caught_now(|| self.session.terms.handler.limit(request, direction, &mut limits));
        limited.map_err(|refusal| self.refuse(refusal))?;
        let (agreed, oack) = options::answer(options, direction, request.mode(), &limits, size);
        log::debug!("{}: asked for {options}, granted {oack}", self.session.key.1);
        Ok((agreed, oack))
    }

    /// Waits for the handler, for as long as the client does.
    async fn opened<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Outcome> {
        let mut work = pin!(work);
        self.set_deadline(self.batch_time() + self.session.terms.settings.timing.patience);
        let mailbox = self.mailbox();
        let opened = poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|refusal| self.refuse(refusal)));
            }
            while let Some(event) = mailbox.take() {
                match event {
                    Event::Packet(Packet::Error { code, message }) => {
                        return Poll::Ready(Err(Outcome::Aborted { code, message }));
                    }
                    Event::Stop => {
                        self.refuse(Refusal::stopping());
                        return Poll::Ready(Err(Outcome::Stopped));
                    }
                    Event::Timeout => {
                        let refusal = Refusal::internal().because("the handler had no answer for too long");
                        return Poll::Ready(Err(self.refuse(refusal)));
                    }
                    // A repeated request: the answer is on its way.
                    _ => {}
                }
            }
            mailbox.register(cx);
            Poll::Pending
        });
        opened.await
    }

    async fn drive(&self, mut transfer: Transfer, mut feed: Feed<'_>, granted: Options) -> End {
        let (outcome, last_ack) = driver::run(self, &mut transfer, &mut feed).await;
        End { outcome, progress: transfer.progress(), origin: None, granted, last_ack }
    }

    /// Says no before the transfer has begun.
    fn refuse(&self, refusal: Refusal) -> Outcome {
        self.shard.refuse_request(self.session.key, self.session.from, &refusal);
        if refusal.code() == ErrorCode::NOT_DEFINED && refusal.packet().is_some() {
            Outcome::Failed(refusal)
        } else {
            Outcome::Refused(refusal)
        }
    }
}

impl Wire for Line<'_> {
    fn send(&self, packet: Packet) {
        if self.session.answered.get().is_none() {
            self.session.answered.set(Some(self.shard.now()));
        }
        self.shard.send(self.session.key.0, Outgoing::new(self.session.key.1, self.session.from, packet));
    }

    fn set_deadline(&self, deadline: Instant) {
        self.shard.set_deadline(&self.session.mailbox, deadline);
    }

    fn mailbox(&self) -> &Mailbox {
        &self.session.mailbox
    }

    fn batch_time(&self) -> Instant {
        self.shard.now()
    }

    fn progressed(&self, bytes: u64) {
        self.live.set_bytes(bytes);
    }
}
