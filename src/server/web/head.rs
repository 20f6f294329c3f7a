//! The head of a request: the checks that hyper lacks.

use std::{cell::RefCell, time::Duration};

use hyper::{Request, StatusCode, Uri, Version, header};

/// The time limit for the head of a request, from the end of the last answer. It is no longer than the server's
/// patience. Firmware unpacks between two files.
pub(super) const HEAD: Duration = Duration::from_secs(30);
/// The size of hyper's buffer for each direction, which also bounds the head of a request.
pub(super) const BUFFER: usize = 16 << 10;

/// The bytes of the head of the next request, as the client sent them. hyper drops a `Content-Length` beside a
/// `Transfer-Encoding`, so only the bytes tell that there was one.
///
/// If a client sends a request before the answer to the last one, the bytes of its head are missing or incomplete.
#[derive(Default)]
pub(super) struct Head(RefCell<Vec<u8>>);

impl Head {
    /// Adds bytes that came while no request was running.
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut head = self.0.borrow_mut();
        let room = BUFFER - head.len();
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Checks the request with this head, and begins with the head of the next one.
    ///
    /// # Errors
    /// The status and the text of the answer.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
        let head = self.0.take();
        let headers = request.headers();
        let mut hosts = headers.get_all(header::HOST).iter();
        // RFC 9112 section 3.2.
        match (hosts.next(), hosts.next()) {
            (None, _) if request.version() < Version::HTTP_11 => {}
            (None, _) => return Err((StatusCode::BAD_REQUEST, "Host missing")),
            (Some(host), None) if is_host(host.as_bytes()) => {}
            _ => return Err((StatusCode::BAD_REQUEST, "Bad Host")),
        }
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => Ok(()),
            // RFC 9112 section 6.3: this may be an attempt to hide a request in another.
            _ if has_length(&head) => Err((StatusCode::BAD_REQUEST, "Both Content-Length and Transfer-Encoding")),
            (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
            // RFC 9112 section 6.1.
            _ => Err((StatusCode::NOT_IMPLEMENTED, "Transfer coding not implemented")),
        }
    }
}

/// Whether this is a host, with or without a port. It is empty if the client's URI has no host.
fn is_host(host: &[u8]) -> bool {
    let is_authority = |uri: Uri| {
        let without_user = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        uri.scheme().is_none() && without_user
    };
    host.is_empty() || Uri::try_from(host).is_ok_and(is_authority)
}

/// Whether a head has a `Content-Length`. A body may follow the head.
fn has_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut head = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    head.any(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in ["", "server", "server:80", "192.0.2.1", "[2001:db8::1]:8080", "a_b.example"] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in ["/", "/x", "*", "a b", "a/b", "user@server", "http://server/", "a, b", "[::1", "\u{fc}"] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
    }

    #[test]
    fn lengths_in_heads() {
        for (head, expected) in [
            ("PUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\n", true),
            ("PUT /x HTTP/1.1\nX: y\ncontent-LENGTH:5\n\n", true),
            ("\r\n\r\nPUT /x HTTP/1.1\r\nContent-Length: 5\r\n\r\n", true),
            ("PUT /x HTTP/1.1\r\nX: y\r\n\r\nContent-Length: 5\r\n\r\n", false),
            ("PUT /x HTTP/1.1\nX: y\n\nContent-Length: 5\n", false),
            ("PUT /Content-Length: HTTP/1.1\r\nX-Content-Length: 5\r\nContent-Lengths: 5\r\n\r\n", false),
            ("", false),
        ] {
            assert_eq!(has_length(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn a_head_is_of_one_request_and_bounded() {
        let head = Head::default();
        let request = Request::builder().header("Host", "x").header("Transfer-Encoding", "chunked").body(()).unwrap();
        head.add(b"PUT /x HTTP/1.1\r\nConte");
        head.add(b"nt-Length: 5\r\n\r\n");
        assert!(head.check(&request).is_err());
        assert!(head.check(&request).is_ok(), "that was the head of the last request");
        (0..3).for_each(|_| head.add(&[b'x'; BUFFER - 1]));
        assert_eq!(head.0.borrow().len(), BUFFER);
    }
}
