//! A connection's stream for hyper, which reports its progress.

use std::{
    io::{self, IoSlice},
    net::{Shutdown, TcpStream},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_lite::{AsyncRead, AsyncWrite, ready};
use hyper::rt::{Read, ReadBufCursor, Write};
use smol::Async;
use smol_hyper::rt::FuturesIo;

use super::state::State;

/// How many bytes of a head are read at once.
const HEAD: usize = 4096;

pub(super) struct Wire {
    stream: Rc<Async<TcpStream>>,
    state: Rc<State>,
}

impl Wire {
    pub(super) fn new(stream: Rc<Async<TcpStream>>, state: Rc<State>) -> Self {
        Self { stream, state }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.state.wrote(*bytes as u64),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.client.begin(),
        }
        written
    }
}

impl Read for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.state.is_busy() {
            return Pin::new(&mut FuturesIo::new(&*self.stream)).poll_read(cx, buffer);
        }
        let mut bytes = [0; HEAD];
        let most = buffer.remaining().min(HEAD);
        let length = ready!(Pin::new(&mut &*self.stream).poll_read(cx, &mut bytes[..most]))?;
        self.state.head.add(&bytes[..length]);
        buffer.put_slice(&bytes[..length]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        let slices = match self.state.placeholders.poll_send(&self.stream, cx, slices) {
            Ok(before) => &slices[..before],
            Err(sent) => return self.wrote(sent),
        };
        self.wrote(Pin::new(&mut &*self.stream).poll_write_vectored(cx, slices))
    }

    /// Chunks go to the kernel directly, without a copy in hyper's buffer.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut &*self.stream).poll_flush(cx))?;
        self.state.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}
