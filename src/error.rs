//! Two errors for two audiences: [`Error`] for the operator, [`Refusal`] for the peer.

mod refusal;

use std::{fmt, io, net::SocketAddr, ops::RangeInclusive, path::PathBuf};

pub use crate::error_code::ErrorCode;
use crate::shown;
pub use refusal::Refusal;
#[cfg(feature = "directory")]
pub(crate) use refusal::is_invalid_filename;

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
    pub(crate) fn check_setting(name: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), Self> {
        if bounds.contains(&value) {
            return Ok(());
        }
        let (least, most) = bounds.into_inner();
        let bounds = if most == u64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        Err(Self::Config(format!("{name} cannot be {value}: it must be {bounds}")))
    }
}

/// Whether this is a link-local address without an interface.
fn is_unscoped(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0)
}

/// Advice for an operator who names a directory that is not there.
fn missing(name: &str) -> &'static str {
    let is_quote = |char| matches!(char, '"' | '\'' | '\u{201c}' | '\u{201d}');
    match name {
        name if name.starts_with(is_quote) && name.ends_with(is_quote) => {
            "; the quotation marks are a part of this name: leave them out"
        }
        name if name.starts_with('~') || name.contains('$') => {
            "; only a shell replaces `~` and `$`: write the whole path"
        }
        name if name.starts_with(['\u{2013}', '\u{2014}']) => {
            "; it begins with a dash: options begin with two hyphens (--)"
        }
        name if name.starts_with("http:") || name.starts_with("https:") => "; a URL begins with http:// or https://",
        name if name.trim() != name => "; its name begins or ends with a space",
        _ => "; create it, or name another directory",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(f, "cannot bind {address}: {error}")?;
                f.write_str(match error.kind() {
                    _ if refusal::is_out_of_descriptors(error) => {
                        "; this process may open too few files: raise `ulimit -n`"
                    }
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
                    io::ErrorKind::NotFound => missing(&path.to_string_lossy()),
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

    #[cfg(unix)]
    #[test]
    fn without_descriptors_the_limit_is_named() {
        let error = Error::Bind(SocketAddr::from(([0, 0, 0, 0], 69)), io::Error::from_raw_os_error(24));
        assert!(error.to_string().contains("`ulimit -n`"), "{error}");
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
        for (name, fix) in [
            ("/no/such", "create it"),
            ("\"/srv/tftp\"", "leave them out"),
            ("\u{201c}/srv/tftp\u{201d}", "leave them out"),
            ("~/tftp", "only a shell"),
            ("${HOME}/tftp", "only a shell"),
            ("\u{2013}upload", "two hyphens"),
            ("http:/mirror/", "begins with http://"),
            ("httpboot", "create it"),
            ("/srv/tftp ", "ends with a space"),
        ] {
            let error = Error::Directory(name.into(), io::ErrorKind::NotFound.into());
            assert!(error.to_string().contains(fix), "{error}");
        }
        for (address, is_explained) in [("[fe80::1]:69", true), ("[fe80::1%2]:69", false), ("[::1]:69", false)] {
            let error = Error::Bind(address.parse().unwrap(), io::ErrorKind::InvalidInput.into());
            assert_eq!(error.to_string().contains("the number of its interface"), is_explained, "{error}");
        }
    }
}
