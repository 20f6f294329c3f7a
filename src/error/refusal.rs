//! The refusal of a request: the ERROR that its peer gets, and the reason for the log.

use std::{fmt, io, sync::Arc};

use super::{Error, ErrorCode};
use crate::{operator::setting, packet::Packet, shown};

/// The answer to a peer whose request or transfer is refused: an ERROR code and a fixed text. RFC 1350's appendix has
/// the texts of its codes.
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
    ///
    /// ```
    /// use tuffet::{ErrorCode, Refusal};
    ///
    /// let refusal = Refusal::new(ErrorCode::ACCESS_VIOLATION, "Not at night");
    /// assert_eq!(refusal.to_string(), "ERROR 2 Not at night");
    /// ```
    pub const fn new(code: ErrorCode, message: &'static str) -> Self {
        Self { code, message, detail: None, told: Told::Error, ends_search: false }
    }

    /// Sends no packet: the peer waits for its own timeout. This refusal [ends the search](Self::ending_search).
    ///
    /// ```
    /// let refusal = tuffet::Refusal::silent();
    /// assert!(refusal.packet().is_none() && refusal.ends_search());
    /// ```
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
    ///
    /// ```
    /// let refusal = tuffet::Refusal::busy();
    /// assert!(refusal.is_busy() && refusal.packet().is_none());
    /// ```
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
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::internal().code(), tuffet::ErrorCode::NOT_DEFINED);
    /// ```
    pub const fn internal() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "Internal error")
    }

    /// ERROR 1.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::not_found().to_string(), "ERROR 1 File not found");
    /// ```
    pub const fn not_found() -> Self {
        Self::new(ErrorCode::FILE_NOT_FOUND, "File not found")
    }

    /// ERROR 2: the policy forbids it.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::denied().to_string(), "ERROR 2 Access violation");
    /// ```
    #[doc(alias = "access_violation")]
    pub const fn denied() -> Self {
        Self::new(ErrorCode::ACCESS_VIOLATION, "Access violation")
    }

    /// ERROR 2: no file of this system can have this name.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::name_too_long().code(), tuffet::ErrorCode::ACCESS_VIOLATION);
    /// ```
    pub const fn name_too_long() -> Self {
        Self::new(ErrorCode::ACCESS_VIOLATION, "file name too long")
    }

    /// ERROR 3: no space is left.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::disk_full().to_string(), "ERROR 3 Disk full or allocation exceeded");
    /// ```
    pub const fn disk_full() -> Self {
        Self::new(ErrorCode::DISK_FULL, "Disk full or allocation exceeded")
    }

    /// ERROR 3: the file has more bytes than are allowed.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::too_big().code(), tuffet::ErrorCode::DISK_FULL);
    /// ```
    pub const fn too_big() -> Self {
        Self::new(ErrorCode::DISK_FULL, "File too big")
    }

    /// ERROR 3 for an upload of more than `most` bytes, which is a setting of the server.
    pub(crate) fn above_max_upload(most: u64) -> Self {
        Self::too_big().because(format_args!("more than {most} bytes: see `{}`", setting("max_upload", "--max-upload")))
    }

    /// ERROR 2 for an upload: this source takes none.
    #[cfg(any(feature = "directory", feature = "object-store"))]
    pub(crate) fn uploads_off() -> Self {
        Self::denied().because(format_args!("uploads are off: see `{}`", setting("uploads", "--upload")))
    }

    /// ERROR 6 for an upload: this source replaces no file.
    pub(crate) fn no_overwrite() -> Self {
        Self::exists().because(format_args!("`{}` lets uploads replace files", setting("overwrite", "--overwrite")))
    }

    /// ERROR 2 for an upload: the server is set to take none under this name.
    pub(crate) fn no_uploads() -> Self {
        let see = setting("Handler::takes_writes", "--upload");
        Self::denied().because(format_args!("no source here takes uploads: see `{see}`"))
    }

    /// ERROR 4: the request is not valid.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::bad_request().to_string(), "ERROR 4 Illegal TFTP operation");
    /// ```
    #[doc(alias = "illegal_operation")]
    pub const fn bad_request() -> Self {
        Self::new(ErrorCode::ILLEGAL_OPERATION, "Illegal TFTP operation")
    }

    /// ERROR 5.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::unknown_tid().to_string(), "ERROR 5 Unknown transfer ID");
    /// ```
    pub const fn unknown_tid() -> Self {
        Self::new(ErrorCode::UNKNOWN_TID, "Unknown transfer ID")
    }

    /// ERROR 6.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::exists().to_string(), "ERROR 6 File already exists");
    /// ```
    #[doc(alias = "already_exists")]
    pub const fn exists() -> Self {
        Self::new(ErrorCode::FILE_EXISTS, "File already exists")
    }

    /// ERROR 8.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::bad_options().code(), tuffet::ErrorCode::OPTION_NEGOTIATION);
    /// ```
    pub const fn bad_options() -> Self {
        Self::new(ErrorCode::OPTION_NEGOTIATION, "Option negotiation failed")
    }

    /// ERROR 0: an upstream server does not answer as it should.
    ///
    /// ```
    /// let refusal = tuffet::Refusal::upstream().because("mirror: connection refused");
    /// assert_eq!(refusal.to_string(), "ERROR 0 Upstream failed (mirror: connection refused)");
    /// ```
    pub const fn upstream() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "Upstream failed")
    }

    /// ERROR 0: the server stops, and this transfer ends with it.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::stopping().code(), tuffet::ErrorCode::NOT_DEFINED);
    /// ```
    pub const fn stopping() -> Self {
        Self::new(ErrorCode::NOT_DEFINED, "The server is stopping")
    }

    /// Adds a detail for the operator, which is logged and never sent. Characters that would harm a log or a terminal
    /// are escaped, so a client's name or an upstream's text cannot start a second line. Of more than 300 characters
    /// the middle is left out.
    ///
    /// ```
    /// let refusal = tuffet::Refusal::denied().because("not in\nthe list");
    /// assert_eq!(refusal.detail(), Some("not in\\nthe list"), "it cannot start a second line");
    /// ```
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(shown::cut(&shown::text(&detail.to_string()), shown::TEXT).into());
        self
    }

    /// Makes this refusal final: no other source is searched for the file. The refusals of rules are final. After any
    /// other refusal, a [`Chain`](crate::handlers::Chain) asks its next handler.
    ///
    /// ```
    /// let refusal = tuffet::Refusal::denied();
    /// assert!(!refusal.ends_search() && refusal.ending_search().ends_search());
    /// ```
    #[must_use]
    pub const fn ending_search(mut self) -> Self {
        self.ends_search = true;
        self
    }

    /// Whether no other source is searched.
    ///
    /// ```
    /// assert!(!tuffet::Refusal::not_found().ends_search(), "another source may have the file");
    /// ```
    pub const fn ends_search(&self) -> bool {
        self.ends_search
    }

    /// Whether this refusal is [`upstream`](Self::upstream).
    pub(crate) fn is_upstream(&self) -> bool {
        *self == Self::upstream()
    }

    /// The code of the ERROR.
    ///
    /// ```
    /// assert_eq!(tuffet::Refusal::not_found().code(), tuffet::ErrorCode(1));
    /// ```
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// The text of the ERROR.
    ///
    /// ```
    /// let refusal = tuffet::Refusal::not_found().because("/srv/tftp/menu");
    /// assert_eq!(refusal.message(), "File not found", "nothing of the detail");
    /// ```
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The detail, for the operator only.
    ///
    /// ```
    /// let refusal = tuffet::Refusal::not_found();
    /// assert_eq!(refusal.detail(), None);
    /// assert_eq!(refusal.because("no row").detail(), Some("no row"));
    /// ```
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Whether this refusal is [`busy`](Self::busy): the server helps if it frees resources elsewhere.
    ///
    /// ```
    /// assert!(tuffet::Refusal::busy().is_busy() && !tuffet::Refusal::silent().is_busy());
    /// ```
    pub const fn is_busy(&self) -> bool {
        matches!(self.told, Told::NothingYet)
    }

    /// The ERROR packet; `None` if the peer gets no answer.
    ///
    /// ```
    /// let packet = tuffet::Refusal::not_found().packet().unwrap();
    /// assert_eq!(packet.encode(), b"\0\x05\0\x01File not found\0");
    /// ```
    pub fn packet(&self) -> Option<Packet> {
        (self.told == Told::Error).then(|| Packet::Error { code: self.code, message: self.message.into() })
    }
}

/// Two refusals are equal if their ERRORs are.
impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        (self.code, self.message, self.told) == (other.code, other.message, other.told)
    }
}

impl Eq for Refusal {}

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

/// For a handler that is itself a client, or opens another handler. The text of that client's peer stays with the
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
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}
