//! Bytes of a file that the kernel sends, without a copy in the memory of this process.
//!
//! hyper carries chunks of memory. A placeholder is a chunk of the right length with meaningless bytes. The wire
//! recognizes it by its address, and makes the kernel send the bytes of the file instead. This works because hyper
//! passes the same memory on. If hyper ever copies a placeholder, the connection fails before the copy is sent.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    net::TcpStream,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use futures_lite::ready;
use rustix::{
    fs::sendfile,
    io::{Errno, ReadWriteFlags, preadv2},
};
use smol::Async;

use crate::{Bytes, error::Refusal, source::Plain};

/// The longest placeholder, in bytes.
pub(super) const LONGEST: usize = 256 << 10;

/// The placeholders that hyper holds, in order.
#[derive(Default)]
pub(super) struct Placeholders {
    queue: RefCell<VecDeque<Placeholder>>,
    /// Why the bytes of a file could not be sent, if the client is not the reason.
    failure: RefCell<Option<Refusal>>,
}

struct Placeholder {
    plain: Arc<dyn Plain>,
    at: u64,
    left: usize,
}

impl Placeholders {
    /// A chunk that stands for this many bytes of the file, from the position `at` on.
    pub(super) fn add(&self, plain: Arc<dyn Plain>, at: u64, length: usize) -> Bytes {
        let length = length.min(LONGEST);
        self.queue.borrow_mut().push_back(Placeholder { plain, at, left: length });
        blank().slice(..length)
    }

    /// Sends a part of the first slice, if it is a placeholder. Otherwise returns how many slices come before a
    /// placeholder. hyper queues fewer slices than it writes at once, so the first placeholder is among them.
    pub(super) fn poll_send(
        &self,
        stream: &Async<TcpStream>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Result<usize, Poll<io::Result<usize>>> {
        let is_placeholder =
            |slice: &IoSlice<'_>| !slice.is_empty() && blank().as_ptr_range().contains(&slice.as_ptr());
        match slices.iter().position(is_placeholder) {
            Some(first) if slices[..first].iter().all(|slice| slice.is_empty()) => {
                Err(self.poll_first(stream, cx, slices[first].len()))
            }
            Some(first) => Ok(first),
            None if self.queue.borrow().is_empty() => Ok(slices.len()),
            None => Err(Poll::Ready(Err(self.fail(copied())))),
        }
    }

    /// Why the bytes of a file could not be sent, if the client is not the reason.
    pub(super) fn failure(&self) -> Option<Refusal> {
        self.failure.take()
    }

    fn fail(&self, why: Refusal) -> io::Error {
        let error = io::Error::other(why.to_string());
        self.failure.replace(Some(why));
        error
    }

    /// Sends a part of the first placeholder. `length` is the length of the slice that stands for it.
    fn poll_first(&self, stream: &Async<TcpStream>, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let mut placeholders = self.queue.borrow_mut();
        let placeholder = placeholders.front_mut().filter(|placeholder| placeholder.left == length);
        let Some(placeholder) = placeholder else { return Poll::Ready(Err(self.fail(copied()))) };
        loop {
            match sendfile(stream, placeholder.plain.file(), Some(&mut placeholder.at), placeholder.left) {
                // The file has become shorter.
                Ok(0) => {
                    let changed = placeholder.plain.check().err();
                    let short = || Refusal::internal().because("the file ended too early");
                    return Poll::Ready(Err(self.fail(changed.unwrap_or_else(short))));
                }
                Ok(sent) => {
                    placeholder.left -= sent;
                    if placeholder.left == 0 {
                        placeholders.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::AGAIN) => ready!(stream.poll_writable(cx))?,
                Err(Errno::INTR) => {}
                Err(error) if is_file_error(error) => {
                    return Poll::Ready(Err(self.fail(io::Error::from(error).into())));
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

fn copied() -> Refusal {
    Refusal::internal().because("hyper copied the placeholder of a file's bytes")
}

/// Whether `sendfile` failed because of the file. Otherwise the socket is the reason.
fn is_file_error(error: Errno) -> bool {
    matches!(error, Errno::IO | Errno::STALE | Errno::INVAL | Errno::OVERFLOW)
}

/// Memory that is never read, so the kernel need not provide pages for it.
fn blank() -> &'static Bytes {
    static BLANK: OnceLock<Bytes> = OnceLock::new();
    BLANK.get_or_init(|| vec![0; LONGEST].into())
}

/// Whether this part of a file can be sent without a wait for the disk, judged by its first and last byte.
pub(super) fn is_cached(file: &File, at: u64, length: usize) -> bool {
    let has = |at| preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) == Ok(1);
    length > 0 && has(at) && has(at + length as u64 - 1)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use futures_lite::future::{block_on, poll_fn};

    use super::*;

    impl Plain for File {
        fn file(&self) -> &File {
            self
        }

        fn check(&self) -> Result<(), Refusal> {
            Ok(())
        }
    }

    fn send(
        placeholders: &Placeholders,
        stream: &Async<TcpStream>,
        slices: &[&[u8]],
    ) -> io::Result<Result<usize, usize>> {
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        block_on(poll_fn(|cx| match placeholders.poll_send(stream, cx, &slices) {
            Ok(before) => Poll::Ready(Ok(Ok(before))),
            Err(Poll::Ready(sent)) => Poll::Ready(sent.map(Err)),
            Err(Poll::Pending) => Poll::Pending,
        }))
    }

    #[test]
    fn a_placeholder_becomes_the_bytes_of_the_file_and_a_copy_of_it_is_refused() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "0123456789").unwrap();
        let file: Arc<dyn Plain> = Arc::new(File::open(place.path().join("file")).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Async::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();

        let placeholders = Placeholders::default();
        assert_eq!(send(&placeholders, &stream, &[b"head"]).unwrap(), Ok(1));
        let chunk = placeholders.add(file.clone(), 3, 5);
        assert_eq!(send(&placeholders, &stream, &[b"head", &chunk]).unwrap(), Ok(1), "what comes before goes first");
        let copy = chunk.to_vec();
        assert!(send(&placeholders, &stream, &[&copy]).is_err(), "a copy");
        assert!(send(&placeholders, &stream, &[&chunk[..4]]).is_err(), "another length");
        assert_eq!(send(&placeholders, &stream, &[&chunk]).unwrap(), Err(5));
        let mut sent = [0; 5];
        other.read_exact(&mut sent).unwrap();
        assert_eq!(&sent, b"34567");
        assert_eq!(send(&placeholders, &stream, &[b"head"]).unwrap(), Ok(1));
        assert!(placeholders.failure().is_some(), "the copies");
        let beyond = placeholders.add(file, 8, 5);
        assert_eq!(send(&placeholders, &stream, &[&beyond]).unwrap(), Err(2));
        assert!(send(&placeholders, &stream, &[&beyond[2..]]).is_err(), "the file ends");
        assert_eq!(placeholders.failure().unwrap().detail(), Some("the file ended too early"));
    }
}
