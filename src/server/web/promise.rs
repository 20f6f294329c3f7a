//! Bytes of a file that the kernel sends, without a copy in the memory of this process.
//!
//! hyper carries chunks of memory. A promise is a chunk of the right length with meaningless bytes. The wire recognizes
//! it by its address, and makes the kernel send the bytes of the file instead. No other code reads the bytes of a chunk.

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

use crate::{Bytes, source::Plain};

/// The longest promise, in bytes.
pub(super) const LONGEST: usize = 256 << 10;

/// The promises that hyper holds, in order.
#[derive(Default)]
pub(super) struct Promises(RefCell<VecDeque<Promise>>);

struct Promise {
    plain: Arc<dyn Plain>,
    at: u64,
    left: usize,
}

impl Promises {
    /// A chunk that stands for this many bytes of the file, from the position `at` on.
    pub(super) fn add(&self, plain: Arc<dyn Plain>, at: u64, length: usize) -> Bytes {
        let length = length.min(LONGEST);
        self.0.borrow_mut().push_back(Promise { plain, at, left: length });
        blank().slice(..length)
    }

    /// Sends a part of the first slice, if it is a promise. Otherwise returns how many slices come before a promise.
    pub(super) fn poll_send(
        &self,
        stream: &Async<TcpStream>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Result<usize, Poll<io::Result<usize>>> {
        let is_promise = |slice: &IoSlice<'_>| !slice.is_empty() && blank().as_ptr_range().contains(&slice.as_ptr());
        match slices.iter().position(is_promise) {
            Some(first) if slices[..first].iter().all(|slice| slice.is_empty()) => Err(self.poll_first(stream, cx)),
            Some(first) => Ok(first),
            None => Ok(slices.len()),
        }
    }

    fn poll_first(&self, stream: &Async<TcpStream>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut promises = self.0.borrow_mut();
        let Some(promise) = promises.front_mut() else { return Poll::Ready(Err(io::ErrorKind::InvalidData.into())) };
        loop {
            match sendfile(stream, promise.plain.file(), Some(&mut promise.at), promise.left) {
                // The file has become shorter.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    promise.left -= sent;
                    if promise.left == 0 {
                        promises.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::AGAIN) => ready!(stream.poll_writable(cx))?,
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
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
