//! What answers requests.

mod asynchronous;

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    marker::PhantomData,
    mem,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    error::Refusal,
    handlers::Chain,
    name,
    options::{Direction, Limits},
    packet::{self, Mode, Options},
    shown,
    source::{IntoSource, Source},
    stats::{Protocol, Record},
};

pub use asynchronous::AsyncHandler;

/// A future that a handler returns. It stays on the thread of its transfer, so it is not `Send`, and need not be.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + 'a>>;

/// Answers read and write requests.
///
/// The ready-made ones are in [`handlers`](crate::handlers); [`read`] and [`write`](fn@write) make one of a closure.
/// One handler serves all transfers of all threads. Its futures and sources are dropped as soon as their transfer is
/// over, however it ends; a panic in them ends their transfer and nothing else.
pub trait Handler: Send + Sync + 'static {
    /// The bytes of a file, for an RRQ.
    ///
    /// # Errors
    /// The refusal that the peer is told; [`Refusal::silent`] to let it wait.
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source>;

    /// Takes the bytes of a file, for a WRQ.
    ///
    /// The request is accepted when the first chunk of `data` is asked for, so that a refusal may come before any byte
    /// travels; the last block is acknowledged after this has returned `Ok`. If the client goes away in the middle,
    /// the future is dropped.
    ///
    /// # Errors
    /// The refusal that the peer is told. Defaults to [`Refusal::denied`].
    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        let _ = (request, data);
        Box::pin(async { Err(Refusal::denied()) })
    }

    /// Lowers what may be granted to this request: options, blksize, windowsize. `limits` holds what the server allows.
    /// It is called once for each request that is answered, on the thread of its transfer. Defaults to no change.
    ///
    /// ```
    /// use tuffet::{Handler, Request, Source, handler::Answer, options::{Direction, Limits}, packet};
    ///
    /// /// Some old firmware cannot take an OACK.
    /// struct Careful<H>(H);
    ///
    /// impl<H: Handler> Handler for Careful<H> {
    ///     fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
    ///         self.0.read(request)
    ///     }
    ///
    ///     fn limit(&self, request: &Request, _: Direction, limits: &mut Limits) {
    ///         limits.answer = !request.path().starts_with("old/");
    ///     }
    /// }
    /// ```
    fn limit(&self, request: &Request, direction: Direction, limits: &mut Limits) {
        let _ = (request, direction, limits);
    }

    /// Whether [`write`](Self::write) may accept anything. Defaults to no; a chain asks this.
    fn takes_writes(&self) -> bool {
        false
    }

    /// The server has ended, and all transfers with it. This may wait a few seconds for what they left to be cleaned up.
    /// Defaults to nothing; a chain passes it on.
    fn close(&self) {}

    /// What is served, in a few words for people: `/srv/tftp`, `http://mirror/netboot/`.
    fn describe(&self) -> String {
        "a handler".into()
    }

    /// This handler, and another for what it does not have. See [`Chain`].
    fn or(self, other: impl Handler) -> Chain
    where
        Self: Sized,
    {
        Chain::default().or(self).or(other)
    }
}

/// A request, as a handler sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    peer: SocketAddr,
    local: SocketAddr,
    path: Arc<str>,
    packet: Arc<packet::Request>,
    received: Option<Instant>,
    /// The bytes of the path, if it is not that of the packet.
    renamed: Option<Arc<[u8]>>,
    query: Option<Arc<str>>,
    ignores_case: bool,
    protocol: Protocol,
    hooks: Hooks,
}

type Hook = Box<dyn FnOnce(&Record) + Send>;

/// What waits for the end of the transfer. It makes no request another one.
#[derive(Clone, Default)]
struct Hooks(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    hooks: Mutex<Vec<Hook>>,
    /// Whether an upload has replaced a file.
    replaced: AtomicBool,
}

impl PartialEq for Hooks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hooks {}

impl Request {
    /// A request of `peer` that came to `local`.
    ///
    /// # Errors
    /// [`Refusal::denied`] if the name leads out of the root by `..`; [`Refusal::not_found`] if nothing is left of it.
    pub fn new(peer: SocketAddr, local: SocketAddr, packet: impl Into<Arc<packet::Request>>) -> Result<Self, Refusal> {
        let packet = packet.into();
        let path = String::from_utf8_lossy(&name::normalise(&packet.filename)?).into();
        let (renamed, query, hooks) = (None, None, Hooks::default());
        let (ignores_case, protocol) = (false, Protocol::Tftp);
        Ok(Self { peer, local, path, packet, received: None, renamed, query, ignores_case, protocol, hooks })
    }

    /// Notes when it came.
    pub(crate) fn received_at(self, now: Instant) -> Self {
        Self { received: Some(now), ..self }
    }

    /// Notes what it came by.
    #[cfg(feature = "web")]
    pub(crate) fn over(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The client's address and port (its TID).
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of ours that was asked.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The name of the file, made comparable: `\` is `/`, no slash at the beginning, none doubled, no drive letter, no
    /// `.` and no `..` left. It is never empty.
    ///
    /// Each sequence of bytes that is not UTF-8 is U+FFFD here, so two names may have the same path. What tells them apart
    /// has [`path_bytes`](Self::path_bytes), as the handlers of this crate, the log and the rules do.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// [`path`](Self::path) with its bytes as they are, for stores whose names need not be UTF-8.
    pub fn path_bytes(&self) -> Vec<u8> {
        if let Some(renamed) = &self.renamed {
            return renamed.to_vec();
        }
        // `new` refuses what has no normal form.
        name::normalise(&self.packet.filename).unwrap_or_default()
    }

    /// [`path`](Self::path) as logs show it: a byte that is not UTF-8 as `\xff`, a control character and what would change
    /// the order of the text as `\u{202e}`, a backslash as `\\`. Of more than 200 characters the middle is left out.
    pub fn shown(&self) -> String {
        shown::cut(&shown::name(&self.path_bytes()), shown::NAME).into_owned()
    }

    /// The name of the file as it was sent.
    pub fn filename(&self) -> &[u8] {
        &self.packet.filename
    }

    /// Refuses a WRQ whose name is that of a directory: its last part is empty, `.` or `..`.
    pub(crate) fn check_upload(&self) -> Result<(), Refusal> {
        match self.filename().rsplit(name::is_separator).next() {
            Some(b"" | b"." | b"..") if self.renamed.is_none() => {
                Err(Refusal::denied().because("the name is that of a directory"))
            }
            _ => Ok(()),
        }
    }

    /// The transfer mode.
    pub fn mode(&self) -> Mode {
        self.packet.mode
    }

    /// What it came by. Over HTTP, the mode is octet and the only option is `tsize`.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// All options as they were asked, known or not.
    pub fn options(&self) -> &Options {
        &self.packet.options
    }

    /// When a server received it; `None` for one that was made otherwise.
    pub fn received(&self) -> Option<Instant> {
        self.received
    }

    /// Has this hook called with the record of the transfer when it is over, on its thread: it should be quick. So the
    /// handler that serves a request learns what becomes of it: `complete`, a
    /// [`Probe`](crate::transfer::Outcome::Probe) that wanted the size alone, `aborted`. Every copy of the request has it
    /// called, also one with [another path](Self::with_path). A request that no server has made has no end.
    ///
    /// ```
    /// use tuffet::{Request, read};
    ///
    /// let handler = read(async |request: Request| {
    ///     request.on_end(|record| {
    ///         if record.outcome.is_success() {
    ///             println!("{} is installed", record.peer.ip());
    ///         }
    ///     });
    ///     "#!ipxe\nchain installer\n"
    /// });
    /// # let _: &dyn tuffet::Handler = &handler;
    /// ```
    pub fn on_end(&self, hook: impl FnOnce(&Record) + Send + 'static) {
        self.hooks.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    pub(crate) fn take_hooks(&self) -> Vec<Hook> {
        mem::take(&mut *self.hooks.0.hooks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that this upload has replaced a file.
    pub(crate) fn note_replaced(&self) {
        self.hooks.0.replaced.store(true, Relaxed);
    }

    #[cfg(feature = "web")]
    pub(crate) fn has_replaced(&self) -> bool {
        self.hooks.0.replaced.load(Relaxed)
    }

    /// What a handler that asks a web server puts behind the `?`, percent-encoded; others ignore it. Defaults to none.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether a file may be served whose name is the same but for upper and lower case (of ASCII), where the store can
    /// look for one, as a directory can. It has no effect on URLs: a web server or a bucket is asked for the name as it
    /// came. Defaults to no. Windows boot managers ask for `\Boot\BCD` and `\boot\bcd` alike.
    pub fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    /// The same request for another file. [`filename`](Self::filename) stays what was sent.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_path(&self, path: &str) -> Result<Self, Refusal> {
        Ok(self.named(name::joined(path.as_bytes())?))
    }

    /// [`path`](Self::path) with its bytes that are not UTF-8 as `\x80` to `\xff`, see [`name`]. It is not for file systems,
    /// of which some take a `\` for a `/`.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self.path.contains(char::REPLACEMENT_CHARACTER) {
            true => name::text(&self.path_bytes()).into(),
            false => (&*self.path).into(),
        }
    }

    /// As [`with_path`](Self::with_path), where `\x80` to `\xff` are bytes.
    #[cfg(feature = "rules")]
    pub(crate) fn with_text(&self, path: &str) -> Result<Self, Refusal> {
        Ok(self.named(name::joined(&name::bytes(path))?))
    }

    /// The same request without the end mark of DHCP's options behind its name, if it has one. Firmware that takes
    /// option 67 for a C string sends it with the name.
    pub(crate) fn without_end_mark(&self) -> Option<Self> {
        let name = self.path_bytes();
        name::without_end_mark(&name).map(|name| self.named(name.to_vec()))
    }

    /// The same request for the file that has this name in normal form.
    fn named(&self, name: Vec<u8>) -> Self {
        Self { path: String::from_utf8_lossy(&name).into(), renamed: Some(name.into()), ..self.clone() }
    }

    /// The same request with a [query](Self::query).
    #[must_use]
    pub fn with_query(self, query: &str) -> Self {
        Self { query: Some(query.into()), ..self }
    }

    /// The same request, with [`ignores_case`](Self::ignores_case) as told.
    #[must_use]
    pub fn ignoring_case(self, ignores_case: bool) -> Self {
        Self { ignores_case, ..self }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.packet.options.to_string();
        write!(f, "{} asks {} for {} ({})", self.peer, self.local, self.shown(), shown::cut(&options, shown::TEXT))
    }
}

/// What this handler has for an RRQ. What is nowhere is looked for without the end mark behind its name, if it has one.
pub(crate) async fn find(handler: &dyn Handler, request: &Request) -> Result<Source, Refusal> {
    use std::ops::ControlFlow;
    let mut search = crate::handlers::Search::default();
    if let ControlFlow::Break(answer) = search.hear(handler.read(request).await) {
        return answer;
    }
    let Some(other) = request.without_end_mark() else { return Err(search.over().unwrap_or(Refusal::not_found())) };
    if let ControlFlow::Break(answer) = search.hear(handler.read(&other).await) {
        if answer.is_ok() {
            let (peer, path, other) =
                (request.peer, crate::shown::text(&request.text()), crate::shown::text(&other.text()));
            log::info!(
                "{peer}: {path} would be refused, so {other} is served: the 0xff behind it ends DHCP's options, which \
                 this client takes for a part of option 67 or of the name in it"
            );
        }
        return answer;
    }
    Err(search.over().unwrap_or(Refusal::not_found()))
}

/// A handler that reads with this closure and takes no writes. The closure is `async` also where it awaits nothing.
///
/// ```
/// use tuffet::{Refusal, Request, read};
///
/// let greeting = "hello".to_owned();
/// let handler = read(async move |request: Request| match request.path() {
///     "motd" => Ok(format!("{greeting} {}\n", request.peer().ip())),
///     _ => Err(Refusal::not_found()),
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
pub fn read<S: IntoSource + 'static>(f: impl AsyncFn(Request) -> S + Send + Sync + 'static) -> impl Handler {
    Read(f, PhantomData)
}

/// A handler that writes with this closure and has nothing to read.
///
/// ```
/// use tuffet::{Refusal, Request, Source, write};
///
/// let handler = write(async |request: Request, data: Source| {
///     let bytes = data.collect(1 << 20).await?;
///     println!("{} sent {} bytes for {}", request.peer(), bytes.len(), request.path());
///     Ok::<(), Refusal>(())
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
pub fn write(f: impl AsyncFn(Request, Source) -> Result<(), Refusal> + Send + Sync + 'static) -> impl Handler {
    Write(f)
}

struct Read<F, S>(F, PhantomData<fn() -> S>);
struct Write<F>(F);

impl<F, S> Handler for Read<F, S>
where
    F: AsyncFn(Request) -> S + Send + Sync + 'static,
    S: IntoSource + 'static,
{
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Ok(self.0(request.clone()).await.into_source()?.into_local()) })
    }
}

impl<F> Handler for Write<F>
where
    F: AsyncFn(Request, Source) -> Result<(), Refusal> + Send + Sync + 'static,
{
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Err(Refusal::not_found()) })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(self.0(request.clone(), data))
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

macro_rules! pointer {
    ($([$($generics:tt)*] $pointer:ty)*) => {$(
        impl $($generics)* Handler for $pointer {
            fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
                (**self).read(request)
            }

            fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
                (**self).write(request, data)
            }

            fn limit(&self, request: &Request, direction: Direction, limits: &mut Limits) {
                (**self).limit(request, direction, limits);
            }

            fn takes_writes(&self) -> bool {
                (**self).takes_writes()
            }

            fn close(&self) {
                (**self).close();
            }

            fn describe(&self) -> String {
                (**self).describe()
            }
        }
    )*};
}
pointer!([<H: Handler + ?Sized>] Arc<H> [] Box<dyn Handler>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_not_be_utf8() {
        let packet =
            packet::Request { filename: b"/a\\caf\xe9".into(), mode: Mode::Octet, options: Options::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 69));
        let request = Request::new(address, address, packet).unwrap();
        assert_eq!((request.path(), &*request.text()), ("a/caf\u{fffd}", r"a/caf\xe9"));
        assert_eq!(request.path_bytes(), b"a/caf\xe9");
    }

    #[test]
    fn other_names_are_made_comparable_too() {
        let packet = packet::Request { filename: b"/C:/x".into(), mode: Mode::Octet, options: Options::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 69));
        let request = Request::new(address, address, packet).unwrap();
        assert_eq!(request.path(), "C:/x", "only what stands first is a drive");
        assert_eq!(request.with_path(request.path()).unwrap().path(), "C:/x");
        let other = request.with_path("/a//./b").unwrap().with_query("q").ignoring_case(true);
        assert_eq!(
            (other.path(), other.path_bytes().as_slice(), other.filename()),
            ("a/b", &b"a/b"[..], &b"/C:/x"[..])
        );
        assert_eq!((other.query(), other.ignores_case(), request.query()), (Some("q"), true, None));
        assert_eq!(request.with_path("../x"), Err(Refusal::denied()));
    }
}
