//! One request from its arrival to its record: it asks the handler, agrees on the options and runs the transfer.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    outbox::Outgoing,
    settings::Terms,
    shard::Shard,
    tasks::{TaskSlot, Tasks},
    trace::Trace,
};
use crate::{
    driver::{
        self, Wire,
        feed::{catch_panic, upload},
        mailbox::Mailbox,
    },
    endpoint::{Ended, Envelope, Start},
    error::Refusal,
    handler::{self, Request},
    hint::{Hint, Seen},
    options::{Agreed, Direction, Limits},
    packet::{Mode, Options, Packet},
    shown,
    stats::{Protocol, Record, Registered},
    transfer::{Event, FOR_EVER, Outcome, Progress, Timing, Transfer},
};

/// How far a source of unknown size is read ahead if the client asks for the size: a transfer may hold as much anyway.
pub(super) const READ_AHEAD_BYTES: usize = 64 << 10;
/// How long that may take. Without an answer, clients repeat their RRQ after 0.1 s (busybox) to some seconds
/// (firmware). A repeated RRQ changes nothing here, and no client gives up before it has repeated the RRQ several
/// times.
pub(super) const READ_AHEAD_TIME: Duration = Duration::from_secs(2);

/// A request that the server answers.
struct Session {
    start: Start,
    /// The address that answers come from.
    from: Option<IpAddr>,
    /// The address that the client sent its request to.
    local: SocketAddr,
    /// The queue of its packets.
    mailbox: Rc<Mailbox>,
    terms: Arc<Terms>,
}

/// The end of a session.
struct End {
    outcome: Outcome,
    progress: Progress,
    origin: Option<Arc<str>>,
    granted: Options,
    last_ack: Option<u16>,
}

/// Handles a datagram that came to a port of the shard, and begins its transfer, if one begins with it.
pub(crate) fn receive(shard: &Rc<Shard>, tasks: &Rc<Tasks>, port: usize, envelope: &Envelope, datagram: &[u8]) {
    if let Some(start) = shard.handle(tasks, port, envelope, datagram) {
        let session = Session::new(shard, *start);
        tasks.spawn(|slot| session.run(shard.clone(), slot));
    }
}

impl Session {
    fn new(shard: &Shard, start: Start) -> Self {
        let (mailbox, bound) = (shard.open_mailbox(start.id), shard.local(start.listener));
        let from = shard.source(start.listener, &start.envelope);
        let local = (start.envelope.local.unwrap_or(bound.ip()), bound.port()).into();
        Self { start, from, local, mailbox, terms: shard.terms() }
    }

    /// This is not an `async fn`, which would have room for each of its arguments twice.
    fn run(self, shard: Rc<Shard>, slot: TaskSlot) -> impl Future<Output = ()> {
        let Start { direction, request, envelope, .. } = &self.start;
        let trace = Trace::new(envelope.peer, &request.filename, *direction);
        trace.clone().around(async move {
            let _slot = slot;
            self.serve(&shard, &trace).await;
        })
    }

    async fn serve(&self, shard: &Shard, trace: &Trace) {
        let Start { direction, request: packet, began, envelope, .. } = &self.start;
        let (direction, began, peer, started) = (*direction, *began, envelope.peer, shard.clock.date());
        let filename = shown::name(&packet.filename);
        let request = Request::new(peer, self.local, packet.clone())
            .map(|request| request.received_at(began).limited_to(self.limits()));
        let path = request.as_ref().map_or_else(|_| filename.clone(), |request| shown::name(request.path_bytes()));
        let live = shard.shared.begin(peer, path.clone(), (direction, Protocol::Tftp), began);
        let end = match &request {
            Ok(request) => {
                let active = ActiveSession { shard, session: self, live: &live };
                let end = catch_panic(async {
                    let end = match direction {
                        Direction::Read => active.read(request).await,
                        Direction::Write => active.write(request).await,
                    };
                    Ok(end.unwrap_or_else(End::from))
                });
                // A panic here comes from a destructor of the source or sink.
                end.await.unwrap_or_else(|refusal| Outcome::Failed(refusal).into())
            }
            Err(refusal) => {
                shard.refuse(&self.start, self.from, refusal);
                Outcome::Refused(refusal.clone()).into()
            }
        };
        let received = end.outcome == Outcome::Complete && direction == Direction::Write;
        shard.end(
            self.start.id,
            Ended { last_ack: end.last_ack.filter(|_| received), round_trip: end.progress.round_trip },
        );
        let hint = Hint::find(&Seen {
            direction,
            outcome: &end.outcome,
            progress: &end.progress,
            asked: &packet.options,
            granted: &end.granted,
            size: live.size(),
            single_port: self.start.port == self.start.listener,
        });
        // A client that answers by ICMP was reached, so advice about the way to it does not help.
        let port_closed = end.outcome == Outcome::TimedOut && self.mailbox.is_unreachable();
        let hint = hint.filter(|_| !port_closed);
        let names = (filename, path);
        let record = Record {
            id: live.id(),
            origin: end.origin,
            target: request.as_ref().ok().and_then(Request::target),
            outcome: end.outcome,
            port_closed,
            // If the source panicked when it was dropped, only the bytes that are counted already are known.
            bytes: end.progress.bytes.max(live.bytes()),
            size: live.size(),
            duration: shard.clock.now().saturating_duration_since(began),
            granted: end.granted,
            hint,
            ..Record::new((peer, self.local), direction, names, started, packet.options.clone())
                .with_progress(&end.progress)
        };
        shard.shared.end(live, &record, request.as_ref().ok(), trace);
    }

    /// The limits of the server.
    fn limits(&self) -> Limits {
        let Start { blksize, windowsize, .. } = self.start;
        Limits { blksize, windowsize, ..Limits::default() }
    }
}

/// The end of a session whose transfer has not begun.
impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        let progress = Progress::new(Agreed::plain(Mode::Octet));
        Self { outcome, progress, origin: None, granted: Options::new(), last_ack: None }
    }
}

/// A running session.
struct ActiveSession<'a> {
    shard: &'a Shard,
    session: &'a Session,
    live: &'a Registered,
}

impl ActiveSession<'_> {
    async fn read(&self, request: &Request) -> Result<End, Outcome> {
        let handler = &self.session.terms.handler;
        let mut source = self.wait_for_handler(catch_panic(handler::find(handler.as_ref(), request))).await?;
        if source.size().is_none() && self.session.start.asked.tells_size(request.mode(), &request.limits()) {
            self.wait_at_most(READ_AHEAD_TIME, catch_panic(source.read_ahead(READ_AHEAD_BYTES))).await?;
        }
        let (agreed, oack) = self.answer(request, source.size());
        self.live.set_size(source.size());
        let mut transfer = Transfer::send(oack.clone(), agreed, self.timing());
        let (outcome, last_ack) = driver::run(self, &mut transfer, &mut source).await;
        let (progress, origin) = (transfer.progress(), source.shared_origin());
        Ok(End { outcome, progress, origin, granted: oack, last_ack })
    }

    async fn write(&self, request: &Request) -> Result<End, Outcome> {
        let (size, most) = (self.session.start.asked.told_size(), self.session.terms.settings.max_upload);
        if size.is_some_and(|size| size > most) {
            return Err(self.refuse(Refusal::above_max_upload(most)));
        }
        self.live.set_size(size);
        let handler = &self.session.terms.handler;
        let mut upload = upload(size, most, |data| handler.write(request, data.into()));
        self.wait_for_handler(poll_fn(|cx| upload.poll_accepts(cx))).await?;
        let (agreed, oack) = self.answer(request, None);
        let mut transfer = Transfer::receive(oack.clone(), agreed, self.timing());
        let (outcome, last_ack) = driver::run(self, &mut transfer, &mut upload).await;
        Ok(End { outcome, progress: transfer.progress(), origin: None, granted: oack, last_ack })
    }

    fn answer(&self, request: &Request, size: Option<u64>) -> (Agreed, Options) {
        let Start { id, direction, asked, .. } = &self.session.start;
        let (options, mode) = (request.options(), request.mode());
        let (agreed, oack) = asked.answer(options, *direction, mode, &request.limits(), size);
        let described = |options: &Options| match options.is_empty() {
            true => "no options".into(),
            false => shown::cut(&options.to_string(), shown::TEXT).into_owned(),
        };
        log::debug!("{}: asked for {}, granted {}", self.peer(), described(options), described(&oack));
        self.shard.endpoint().granted(self.shard.now(), *id, agreed.blksize(), &oack);
        (agreed, oack)
    }

    /// Waits for the handler, for as long as the client waits.
    async fn wait_for_handler<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Outcome> {
        let opened = self.wait_at_most(self.session.terms.settings.timing.patience, work).await?;
        opened.ok_or_else(|| self.refuse(Refusal::internal().because("the handler took too long")))
    }

    /// Waits for the handler or the source, for at most this time; `None` if the time is over.
    async fn wait_at_most<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Option<T>, Outcome> {
        let mut work = pin!(work);
        self.set_deadline(self.batch_time() + limit.min(FOR_EVER));
        let mailbox = self.mailbox();
        let done = poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result.map(Some).map_err(|refusal| self.refuse(refusal)));
            }
            while let Some(event) = mailbox.take() {
                match event {
                    Event::Packet(Packet::Error { code, message }) => {
                        return Poll::Ready(Err(Outcome::Aborted { code, message }));
                    }
                    Event::Replaced(why) => return Poll::Ready(Err(Outcome::Replaced(why))),
                    Event::Stop => {
                        self.refuse(Refusal::stopping());
                        return Poll::Ready(Err(Outcome::Stopped));
                    }
                    Event::Failed(refusal) => return Poll::Ready(Err(Outcome::Refused(refusal))),
                    Event::Unreachable => return Poll::Ready(Err(Outcome::TimedOut)),
                    Event::Timeout => return Poll::Ready(Ok(None)),
                    // A repeated request needs nothing: its answer is on the way.
                    _ => {}
                }
            }
            mailbox.register(cx, true);
            Poll::Pending
        });
        done.await
    }

    fn timing(&self) -> Timing {
        let Start { round_trip, amplification, .. } = self.session.start;
        Timing { round_trip, amplification: Some(amplification), ..self.session.terms.settings.timing }
    }

    fn peer(&self) -> SocketAddr {
        self.session.start.envelope.peer
    }

    /// Refuses the request before the transfer has begun.
    fn refuse(&self, refusal: Refusal) -> Outcome {
        self.shard.refuse(&self.session.start, self.session.from, &refusal);
        Outcome::of(refusal)
    }
}

impl Wire for ActiveSession<'_> {
    fn send(&self, packet: Packet) {
        if let Packet::Data { block: 1, .. } = &packet {
            self.shard.endpoint().first_block(self.session.start.id);
        }
        self.shard.send(self.session.start.port, Outgoing::new(self.peer(), self.session.from, packet));
    }

    fn set_deadline(&self, deadline: Instant) {
        self.session.mailbox.forget_timeout();
        self.shard.endpoint().set_deadline(self.session.start.id, deadline);
    }

    fn mailbox(&self) -> &Mailbox {
        &self.session.mailbox
    }

    fn now(&self) -> Instant {
        self.shard.clock.now()
    }

    fn batch_time(&self) -> Instant {
        self.shard.now()
    }

    fn progressed(&self, bytes: u64) {
        self.live.set_bytes(bytes);
    }
}
