//! A request, as handlers see it.

use std::{
    borrow::Cow,
    fmt, mem,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    error::Refusal,
    name,
    options::Limits,
    packet::{self, Mode, Options},
    path, shown,
    stats::{Protocol, Record},
    sync::Mutex,
};

/// A request, as a handler sees it.
///
/// ```
/// use tuffet::{Request, packet};
///
/// let packet = packet::Request::new("\\Boot\\BCD");
/// let request = Request::new("192.0.2.7:1069".parse()?, "192.0.2.1:69".parse()?, packet)?;
/// assert_eq!((request.path(), request.peer().port()), ("Boot/BCD", 1069));
/// assert_eq!(request.with_path("boot/bcd")?.path(), "boot/bcd");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    peer: SocketAddr,
    local: SocketAddr,
    path: Arc<str>,
    packet: Arc<packet::Request>,
    received: Option<Instant>,
    /// The bytes of the path, if they are not UTF-8.
    raw_path: Option<Arc<[u8]>>,
    /// Whether a rule or handler gave the file another name. Another directory alone is no other name.
    renamed: bool,
    query: Option<Arc<str>>,
    ignores_case: bool,
    protocol: Protocol,
    notes: Notes,
}

type Hook = Box<dyn FnOnce(&Record) + Send>;

/// Facts that the handler of a request tells the server. All copies of the request share it, and requests that differ
/// only in it are equal.
#[derive(Clone, Default)]
struct Notes(Arc<Noted>);

#[derive(Default)]
struct Noted {
    /// The most that the server grants.
    limits: Mutex<Limits>,
    /// The hooks that run at the end of the transfer.
    hooks: Mutex<Vec<Hook>>,
    /// Whether an upload has replaced a file.
    replaced: AtomicBool,
    /// Whether an upload must not replace a file.
    must_be_new: AtomicBool,
    /// Where an upload is stored.
    target: Mutex<Option<Arc<str>>>,
}

impl PartialEq for Notes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Notes {}

impl Request {
    /// A request from `peer` that was sent to `local`.
    ///
    /// ```
    /// use tuffet::{Refusal, Request, packet};
    ///
    /// let request = |name: &str| {
    ///     Request::new(([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into(), packet::Request::new(name))
    /// };
    /// assert_eq!(request("C:\\boot\\\\x").unwrap().path(), "boot/x");
    /// assert_eq!(request("../etc/passwd"), Err(Refusal::denied()));
    /// ```
    ///
    /// # Errors
    /// [`Refusal::denied`] if the name leads out of the root by `..`; [`Refusal::not_found`] if nothing is left of it.
    pub fn new(peer: SocketAddr, local: SocketAddr, packet: impl Into<Arc<packet::Request>>) -> Result<Self, Refusal> {
        let packet = packet.into();
        let (path, raw_path) = path_of(path::normalise(&packet.filename)?);
        let (received, query, notes, protocol) = (None, None, Notes::default(), Protocol::Tftp);
        let (renamed, ignores_case) = (false, false);
        Ok(Self { peer, local, path, raw_path, packet, received, renamed, query, ignores_case, protocol, notes })
    }

    /// Sets when the request arrived.
    pub(crate) fn received_at(self, now: Instant) -> Self {
        Self { received: Some(now), ..self }
    }

    /// Sets what the server allows.
    pub(crate) fn limited_to(self, limits: Limits) -> Self {
        *self.notes.0.limits.lock() = limits;
        self
    }

    /// Sets the protocol of the request.
    #[cfg(feature = "web")]
    pub(crate) fn over(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The client's address and port (its TID).
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.peer().to_string(), "192.0.2.7:1069");
    /// ```
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The server's address that the request was sent to.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.local().to_string(), "192.0.2.1:69");
    /// ```
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The name of the file in a normal form: `\` becomes `/`, and there is no slash at the beginning, no doubled
    /// slash, no drive letter, no `.` and no `..`. It is never empty.
    ///
    /// Each sequence of bytes that is not UTF-8 becomes U+FFFD here, so two names may have the same path. Code that
    /// must tell them apart uses [`path_bytes`](Self::path_bytes), as the handlers of this crate, the log and the
    /// rules do.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new("\\Boot\\.\\BCD")).unwrap();
    /// assert_eq!(request.path(), "Boot/BCD");
    /// ```
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The [`path`](Self::path) as bytes, without U+FFFD, for stores whose names need not be UTF-8.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new(b"/caf\xe9")).unwrap();
    /// assert_eq!((request.path(), request.path_bytes()), ("caf\u{fffd}", &b"caf\xe9"[..]));
    /// ```
    pub fn path_bytes(&self) -> &[u8] {
        self.raw_path.as_deref().unwrap_or(self.path.as_bytes())
    }

    /// The [`path`](Self::path) as logs show it. A byte that is not UTF-8 becomes `\xff`, a backslash `\\`, and a
    /// control character or one that changes the order of the text `\u{202e}`. Of more than 200 characters the middle
    /// is left out.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new(b"caf\xe9\n")).unwrap();
    /// assert_eq!(request.shown(), "caf\\xe9\\n");
    /// ```
    pub fn shown(&self) -> String {
        shown::cut(&shown::name(self.path_bytes()), shown::NAME).into_owned()
    }

    /// The name of the file as the client sent it.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new("\\Boot\\BCD")).unwrap();
    /// assert_eq!(request.filename(), b"\\Boot\\BCD");
    /// ```
    pub fn filename(&self) -> &[u8] {
        &self.packet.filename
    }

    /// Refuses a WRQ whose name is that of a directory: its last part is empty, `.` or `..`.
    pub(crate) fn check_upload(&self) -> Result<(), Refusal> {
        match path::last_part(self.filename()) {
            b"" | b"." | b".." if !self.renamed => Err(Refusal::denied().because("the name is that of a directory")),
            _ => Ok(()),
        }
    }

    /// The transfer mode.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.mode(), tuffet::packet::Mode::Octet);
    /// ```
    pub fn mode(&self) -> Mode {
        self.packet.mode
    }

    /// The protocol of the request. Over HTTP, the mode is octet and the only option is `tsize`.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.protocol(), tuffet::stats::Protocol::Tftp);
    /// ```
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// All options of the request, known or not.
    ///
    /// ```
    /// # let mut packet = tuffet::packet::Request::new("menu");
    /// # packet.options.push("BLKSIZE", "1468");
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, packet).unwrap();
    /// assert_eq!(request.options().value("blksize"), Some("1468"));
    /// ```
    pub fn options(&self) -> &Options {
        &self.packet.options
    }

    /// When the server received the request; `None` for a request that no server received.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert!(request.received().is_none(), "a test made it");
    /// ```
    pub fn received(&self) -> Option<Instant> {
        self.received
    }

    /// Lowers what the server may grant to this request: options, blksize, windowsize. The closure receives the
    /// [`limits`](Self::limits) so far, and cannot raise them. The handler that serves a request calls it before it
    /// returns the source, or before it asks for the first chunk of an upload; later calls change nothing. All copies
    /// of the request share their limits, also those with [another path](Self::with_path). HTTP has no options, so it
    /// ignores them.
    ///
    /// ```
    /// use tuffet::{Request, read};
    ///
    /// let handler = read(|request: Request| {
    ///     // Some old firmware cannot take an OACK.
    ///     request.limit(|limits| limits.answer = !request.path().starts_with("old/"));
    ///     "firmware\n"
    /// });
    /// # let _: &dyn tuffet::Handler = &handler;
    /// ```
    pub fn limit(&self, lower: impl FnOnce(&mut Limits)) {
        let so_far = self.limits();
        let mut limits = so_far.clone();
        lower(&mut limits);
        *self.notes.0.limits.lock() = limits.at_most(&so_far);
    }

    /// The most that the server grants to this request. [`Limits::default`] for a request that no server received.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// request.limit(|limits| limits.windowsize = 4);
    /// assert_eq!(request.limits().windowsize, 4);
    /// ```
    pub fn limits(&self) -> Limits {
        self.notes.0.limits.lock().clone()
    }

    /// Calls this hook with the record of the transfer when the transfer is over. The hook runs on the transfer's
    /// thread, so it should be quick. The handler that serves a request learns its outcome in this way: `complete`,
    /// `aborted`, or a [`Probe`](crate::transfer::Outcome::Probe) by a client that wanted only the size. The hook is
    /// called for every copy of the request too, also for one with [another path](Self::with_path). It is never called
    /// for a request that no server received.
    ///
    /// ```
    /// use tuffet::{Request, read};
    ///
    /// let handler = read(|request: Request| {
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
        self.notes.0.hooks.lock().push(Box::new(hook));
    }

    pub(crate) fn take_hooks(&self) -> Vec<Hook> {
        mem::take(&mut *self.notes.0.hooks.lock())
    }

    /// Whether an upload must not replace a file, even if others may: the client of a PUT said so with `If-None-Match:
    /// *`. A handler refuses it with [`Refusal::exists`] if there is such a file when the upload is complete, as the
    /// handlers of this crate do. The server itself looks before the upload begins, and when its last byte has arrived.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert!(!request.must_be_new(), "TFTP cannot say so");
    /// ```
    pub fn must_be_new(&self) -> bool {
        self.notes.0.must_be_new.load(Relaxed)
    }

    #[cfg(feature = "web")]
    pub(crate) fn note_must_be_new(&self) {
        self.notes.0.must_be_new.store(true, Relaxed);
    }

    /// Notes that this upload is stored: in this file, or under this URL.
    pub(crate) fn note_target(&self, target: String) {
        *self.notes.0.target.lock() = Some(target.into());
    }

    pub(crate) fn target(&self) -> Option<Arc<str>> {
        self.notes.0.target.lock().clone()
    }

    /// Notes that this upload has replaced a file.
    pub(crate) fn note_replaced(&self) {
        self.notes.0.replaced.store(true, Relaxed);
    }

    #[cfg(feature = "web")]
    pub(crate) fn has_replaced(&self) -> bool {
        self.notes.0.replaced.load(Relaxed)
    }

    /// The percent-encoded query that a handler of a web server puts behind the `?`; other handlers ignore it.
    /// Defaults to none.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.query(), None);
    /// assert_eq!(request.with_query("mac=52%3A54").query(), Some("mac=52%3A54"));
    /// ```
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether the name matches files whose names differ only in upper and lower case (of ASCII). Stores that can
    /// search for such files, as a directory can, serve one. The setting has no effect on URLs: a web server or a
    /// bucket is asked for the name as the client sent it. Defaults to `false`. Windows boot managers ask for
    /// `\Boot\BCD` and `\boot\bcd` alike.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert!(!request.ignores_case() && request.ignoring_case(true).ignores_case());
    /// ```
    pub fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    /// The same request for another file. [`filename`](Self::filename) stays as the client sent it.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// let other = request.with_path("menus/lab")?;
    /// assert_eq!((other.path(), other.filename()), ("menus/lab", &b"menu"[..]));
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_path(&self, path: &str) -> Result<Self, Refusal> {
        Ok(self.named(path::joined(path.as_bytes())?))
    }

    /// The [`path`](Self::path), with `\x80` to `\xff` for each byte that is not UTF-8, see [`name`]. It is not for
    /// file systems: some take a `\` for a `/`.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.raw_path {
            Some(bytes) => name::text(bytes).into(),
            None => (&*self.path).into(),
        }
    }

    /// As [`with_path`](Self::with_path), with `\x80` to `\xff` for bytes.
    #[cfg(feature = "rules")]
    pub(crate) fn with_text(&self, path: &str) -> Result<Self, Refusal> {
        Ok(self.named(path::joined(&name::bytes(path))?))
    }

    /// The same request without the end mark of DHCP's options behind its name, if there is one. Firmware that reads
    /// option 67 as a C string sends the mark with the name. A server tries this for an RRQ when nothing has the file.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new(b"pxelinux.0\xff")).unwrap();
    /// assert_eq!(request.without_end_mark().unwrap().path(), "pxelinux.0");
    /// ```
    pub fn without_end_mark(&self) -> Option<Self> {
        name::without_end_mark(self.path_bytes()).map(|name| self.named(name.to_vec()))
    }

    /// The same request for the file with this name, which is in normal form.
    fn named(&self, name: Vec<u8>) -> Self {
        let renamed = self.renamed || path::last_part(&name) != path::last_part(self.path_bytes());
        let (path, raw_path) = path_of(name);
        Self { path, raw_path, renamed, ..self.clone() }
    }

    /// The same request with this [query](Self::query).
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert_eq!(request.with_query("a=1").query(), Some("a=1"));
    /// ```
    #[must_use]
    pub fn with_query(self, query: &str) -> Self {
        Self { query: Some(query.into()), ..self }
    }

    /// The same request with [`ignores_case`](Self::ignores_case) set.
    ///
    /// ```
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = tuffet::Request::new(client, server, tuffet::packet::Request::new("BOOT.CFG")).unwrap();
    /// assert!(request.ignoring_case(true).ignores_case());
    /// ```
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

/// The path with this name, and its bytes if they are not UTF-8.
fn path_of(name: Vec<u8>) -> (Arc<str>, Option<Arc<[u8]>>) {
    match String::from_utf8(name) {
        Ok(path) => (path.into(), None),
        Err(error) => (String::from_utf8_lossy(error.as_bytes()).into(), Some(error.into_bytes().into())),
    }
}
