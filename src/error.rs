//! Two errors for two audiences: [`Error`] for the operator, [`Refusal`] for the peer.

use std::{fmt, io, net::SocketAddr, ops::RangeInclusive, path::PathBuf, sync::Arc};

use crate::{packet::Packet, shown, transfer::Outcome};

/// The code of an ERROR packet (RFC 1350 appendix; code 8: RFC 2347).
///
/// ```
/// use tuffet::{ErrorCode, Refusal};
///
/// assert_eq!(Refusal::exists().code(), ErrorCode::FILE_EXISTS);
/// assert_eq!(ErrorCode(9).to_string(), "9", "any code can travel");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// 0: see the text.
    pub const NOT_DEFINED: Self = Self(0);
    /// 1: there is no such file.
    pub const FILE_NOT_FOUND: Self = Self(1);
    /// 2: the policy forbids it.
    pub const ACCESS_VIOLATION: Self = Self(2);
    /// 3: no space is left, or the file is too big.
    pub const DISK_FULL: Self = Self(3);
    /// 4: the request makes no sense.
    pub const ILLEGAL_OPERATION: Self = Self(4);
    /// 5: no transfer has this TID.
    pub const UNKNOWN_TID: Self = Self(5);
    /// 6: the file exists and may not be replaced.
    pub const FILE_EXISTS: Self = Self(6);
    /// 7: obsolete, from the days of mail mode.
    pub const NO_SUCH_USER: Self = Self(7);
    /// 8: client and server cannot agree on the options.
    pub const OPTION_NEGOTIATION: Self = Self(8);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A refusal that the peer is told: an ERROR code and a fixed text. RFC 1350's appendix has the texts of its codes.
///
/// The text is `&'static str` on purpose: a path of the server, an address of an upstream or a message of the system
/// cannot get into it. Details for the operator go into [`because`](Self::because), which is logged and never sent.
///
/// ```
/// use tuffet::Refusal;
///
/// let refusal = Refusal::not_found().because("no such key in the table");
/// assert_eq!(refusal.to_string(), "ERROR 1 File not found (no such key in the table)");
/// ```
#[derive(Clone, Debug)]
pub struct Refusal {
    code: ErrorCode,
    message: &'static str,
    detail: Option<Arc<str>>,
    told: Told,
    ends_search: bool,
}

/// The answer that a refusal sends to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Error,
    Nothing,
    /// Nothing: a later request may get an answer.
    NothingYet,
}

impl Refusal {
    /// A refusal with a code and a text of your own.
    pub const fn new(code: ErrorCode, message: &'static str) -> Self {
        Self { code, message, detail: None, told: Told::Error, ends_search: false }
    }

    /// Sends no packet: the peer waits for its own timeout. This refusal [ends the search](Self::ending_search).
    pub const fn silent() -> Self {
        Self {
            code: ErrorCode::NOT_DEFINED,
            message: "no answer",
            detail: None,
            told: Told::Nothing,
            ends_search: true,
        }
    }

    /// Sends no packet, because a resource of this machine (file descriptors, memory) is used up. A later request may
    /// find some; an ERROR would end a boot for good.
    pub const fn busy() -> Self {
        Self {
            code: ErrorCode::NOT_DEFINED,
            message: "no resources",
            detail: None,
            told: Told::NothingYet,
            ends_search: true,
        }
    }

    /// ERROR 0: something broke in this server or client.
    pub const fn internal() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "Internal error")
    }

    /// ERROR 1.
    pub const fn not_found() -> Self {
        Self::new(ErrorCode::FILE_NOT_FOUND, "File not found")
    }

    /// ERROR 2: the policy forbids it.
    pub const fn denied() -> Self {
        Self::new(ErrorCode::ACCESS_VIOLATION, "Access violation")
    }

    /// ERROR 2: no file of this system can have this name.
    pub const fn name_too_long() -> Self {
        Self::new(ErrorCode::ACCESS_VIOLATION, "file name too long")
    }

    /// ERROR 3: no space is left.
    pub const fn disk_full() -> Self {
        Self::new(ErrorCode::DISK_FULL, "Disk full or allocation exceeded")
    }

    /// ERROR 3: the file has more bytes than are allowed.
    pub const fn too_big() -> Self {
        Self::new(ErrorCode::DISK_FULL, "File too big")
    }

    /// ERROR 4: the request is not valid.
    pub const fn bad_request() -> Self {
        Self::new(ErrorCode::ILLEGAL_OPERATION, "Illegal TFTP operation")
    }

    /// ERROR 5.
    pub const fn unknown_tid() -> Self {
        Self::new(ErrorCode::UNKNOWN_TID, "Unknown transfer ID")
    }

    /// ERROR 6.
    pub const fn exists() -> Self {
        Self::new(ErrorCode::FILE_EXISTS, "File already exists")
    }

    /// ERROR 8.
    pub const fn bad_options() -> Self {
        Self::new(ErrorCode::OPTION_NEGOTIATION, "Option negotiation failed")
    }

    /// ERROR 0: an upstream server does not answer as it should.
    pub const fn upstream() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "Upstream failed")
    }

    /// ERROR 0: the server stops, and this transfer ends with it.
    pub const fn stopping() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "The server is stopping")
    }

    /// Adds a detail for the operator, which is logged and never sent. Characters that would harm a log or a terminal
    /// are escaped, so a client's name or an upstream's text cannot start a second line. Of more than 300 characters
    /// the middle is left out.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(shown::cut(&shown::text(&detail.to_string()), shown::TEXT).into());
        self
    }

    /// Makes this refusal final: no other source is searched for the file. The refusals of rules are final. After any
    /// other refusal, a [`Chain`](crate::handlers::Chain) asks its next handler.
    #[must_use]
    pub const fn ending_search(mut self) -> Self {
        self.ends_search = true;
        self
    }

    /// Whether no other source is searched.
    pub const fn ends_search(&self) -> bool {
        self.ends_search
    }

    /// Whether this refusal is [`upstream`](Self::upstream).
    pub(crate) fn is_upstream(&self) -> bool {
        *self == Self::upstream()
    }

    /// The code of the ERROR.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The text of the ERROR.
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The detail, which only the operator is told.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Whether this refusal is [`busy`](Self::busy): the server helps if it frees resources elsewhere.
    pub const fn is_busy(&self) -> bool {
        matches!(self.told, Told::NothingYet)
    }

    /// The ERROR packet; `None` if the peer is told nothing.
    pub fn packet(&self) -> Option<Packet> {
        (self.told == Told::Error).then(|| Packet::Error { code: self.code, message: self.message.into() })
    }
}

/// Two refusals are equal if the peer is told the same.
impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        (self.code, self.message, self.told) == (other.code, other.message, other.told)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.told {
            Told::Error => write!(f, "ERROR {} {}", self.code, self.message)?,
            Told::Nothing | Told::NothingYet => f.write_str(self.message)?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Whether this is `ErrorKind::InvalidFilename`, a name that the oldest supported Rust lacks.
pub(crate) fn is_invalid_filename(kind: io::ErrorKind) -> bool {
    kind.to_string() == "invalid filename"
}

/// The error of a file system becomes the TFTP code for it; the system's text goes to the operator.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let refusal = match error.kind() {
            Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory => Self::not_found(),
            kind if is_invalid_filename(kind) => Self::not_found(),
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::denied(),
            Kind::AlreadyExists => Self::exists(),
            Kind::StorageFull | Kind::QuotaExceeded => Self::disk_full(),
            Kind::FileTooLarge => Self::too_big(),
            Kind::OutOfMemory => Self::busy(),
            _ if is_out_of_descriptors(&error) => Self::busy(),
            _ => Self::internal(),
        };
        match (error.kind(), error.get_ref()) {
            // Systems have two texts for this error, and neither says more.
            (Kind::NotFound, None) => refusal,
            _ => refusal.because(error),
        }
    }
}

/// For a handler that is itself a client, or opens another handler. What the peer of that client said stays with the
/// operator.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal,
            Error::Directory(_, error) | Error::File(error) | Error::Io(error) => error.into(),
            Error::Peer { code: ErrorCode::FILE_NOT_FOUND, .. } => Self::not_found(),
            Error::Peer { .. } | Error::TimedOut => Self::upstream().because(error),
            Error::Bind(..) | Error::Config(_) => Self::internal().because(error),
        }
    }
}

/// Whether this process or the system is out of descriptors. `EMFILE` and `ENFILE` have these numbers on every Unix.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// The errors of a server or a client as a whole.
///
/// `{:?}` prints the same text as `{}`, so that a program whose `main` returns the error says what to do.
///
/// ```
/// use tuffet::Error;
///
/// let error = Error::Bind("0.0.0.0:69".parse()?, std::io::ErrorKind::AddrInUse.into());
/// assert!(error.to_string().contains("another socket uses this port"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[non_exhaustive]
pub enum Error {
    /// A socket could not be bound to this address.
    Bind(SocketAddr, io::Error),
    /// A setting makes no sense; the text says which one and why.
    Config(String),
    /// The files of this directory cannot be served.
    Directory(PathBuf, io::Error),
    /// A local file could not be read or written.
    File(io::Error),
    /// A socket failed.
    Io(io::Error),
    /// The peer ended the transfer with an ERROR.
    Peer {
        /// The code of the ERROR.
        code: ErrorCode,
        /// The text of the ERROR.
        message: String,
    },
    /// The peer was silent for longer than the patience of the transfer.
    TimedOut,
    /// This server or client ended the transfer.
    Refused(Refusal),
}

impl Error {
    /// Refuses a setting that is out of its bounds.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "servers and clients have settings"))]
    pub(crate) fn check_setting(name: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), Self> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let (least, most) = bounds.into_inner();
        let bounds = if most == u64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        Err(Self::Config(format!("{name} cannot be {value}: it must be {bounds}")))
    }

    /// The result of a client's transfer with this outcome.
    #[cfg_attr(not(any(feature = "net", feature = "sim")), allow(dead_code, reason = "clients use it"))]
    pub(crate) fn check(outcome: &Outcome) -> Result<(), Self> {
        match outcome.clone() {
            Outcome::Complete | Outcome::ProbablyComplete => Ok(()),
            Outcome::Aborted { code, message } => Err(Self::Peer { code, message }),
            Outcome::Refused(refusal) | Outcome::Failed(refusal) => Err(Self::Refused(refusal)),
            Outcome::Probe | Outcome::TimedOut | Outcome::Replaced(_) | Outcome::Stopped => Err(Self::TimedOut),
        }
    }
}

/// Whether this is a link-local address without an interface.
fn is_unscoped(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(f, "cannot bind {address}: {error}")?;
                f.write_str(match error.kind() {
                    io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
                    io::ErrorKind::AddrInUse => "; another socket uses this port: choose another port",
                    io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
                    io::ErrorKind::InvalidInput if is_unscoped(address) => {
                        "; a link-local address needs the number of its interface, such as [fe80::1%2]:69"
                    }
                    _ => "",
                })
            }
            Self::Config(text) => f.write_str(text),
            Self::Directory(path, error) => {
                write!(f, "cannot serve {}: {error}", path.display())?;
                f.write_str(match error.kind() {
                    io::ErrorKind::NotFound => "; create it, or name another directory",
                    io::ErrorKind::NotADirectory => "; name the directory that it is in",
                    io::ErrorKind::PermissionDenied => "; this user must be able to read it",
                    _ => "",
                })
            }
            Self::File(error) | Self::Io(error) => error.fmt(f),
            Self::Peer { code, message } => write!(f, "the peer sent ERROR {code} {}", shown::text(message)),
            Self::TimedOut => f.write_str("the peer does not answer"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// The output of a program whose `main` returns an [`Error`].
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, error) | Self::Directory(_, error) | Self::File(error) | Self::Io(error) => Some(error),
            Self::Refused(refusal) => Some(refusal),
            Self::Config(_) | Self::Peer { .. } | Self::TimedOut => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_rfc_1350_says() {
        for (refusal, code, text) in [
            (Refusal::not_found(), 1, "File not found"),
            (Refusal::denied(), 2, "Access violation"),
            (Refusal::disk_full(), 3, "Disk full or allocation exceeded"),
            (Refusal::bad_request(), 4, "Illegal TFTP operation"),
            (Refusal::unknown_tid(), 5, "Unknown transfer ID"),
            (Refusal::exists(), 6, "File already exists"),
        ] {
            assert_eq!((refusal.code().0, refusal.message()), (code, text));
        }
    }

    #[test]
    fn an_error_within_a_handler_is_the_refusal_of_its_kind() {
        let peer = |code| Error::Peer { code, message: "/srv/secret".into() };
        for (error, refusal) in [
            (Error::Refused(Refusal::exists()), Refusal::exists()),
            (Error::File(io::ErrorKind::StorageFull.into()), Refusal::disk_full()),
            (Error::Io(io::ErrorKind::NotFound.into()), Refusal::not_found()),
            (peer(ErrorCode::FILE_NOT_FOUND), Refusal::not_found()),
            (peer(ErrorCode::ACCESS_VIOLATION), Refusal::upstream()),
            (Error::TimedOut, Refusal::upstream()),
            (Error::Config("no such mirror".into()), Refusal::internal()),
        ] {
            assert_eq!(Refusal::from(error), refusal);
        }
        let refusal = Refusal::from(peer(ErrorCode::NOT_DEFINED));
        assert!(refusal.detail().unwrap().contains("/srv/secret") && !refusal.message().contains("secret"));
    }

    #[test]
    fn debug_shows_what_display_does_and_what_to_do() {
        let address = SocketAddr::from(([0, 0, 0, 0], 69));
        for (kind, fix) in [
            (io::ErrorKind::PermissionDenied, "ports below 1024 need root"),
            (io::ErrorKind::AddrInUse, "choose another port"),
            (io::ErrorKind::AddrNotAvailable, "no such address"),
        ] {
            let error = Error::Bind(address, kind.into());
            assert_eq!(format!("{error:?}"), error.to_string());
            assert!(error.to_string().contains("0.0.0.0:69") && error.to_string().contains(fix), "{error}");
        }
        for (address, is_explained) in [("[fe80::1]:69", true), ("[fe80::1%2]:69", false), ("[::1]:69", false)] {
            let error = Error::Bind(address.parse().unwrap(), io::ErrorKind::InvalidInput.into());
            assert_eq!(error.to_string().contains("the number of its interface"), is_explained, "{error}");
        }
    }
}
