//! Handlers: the code that answers requests.

mod asynchronous;
mod closures;
mod request;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{error::Refusal, handlers::Chain, source::Source};

pub use asynchronous::AsyncHandler;
pub use closures::{ReadFn, WriteFn, read, write};
pub use request::Request;

/// A future that a handler returns. It stays on the thread of its transfer, so it is not `Send`, and need not be.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + 'a>>;

/// Answers read and write requests.
///
/// [`handlers`](crate::handlers) has ready-made ones; [`read`] and [`write`](fn@write) make a handler of a closure.
/// One handler serves all transfers of all threads. Its futures and sources are dropped as soon as their transfer is
/// over, however it ends. A panic in them ends their transfer and nothing else.
///
/// ```
/// use tuffet::{Handler, Refusal, Request, Source, handler::Answer};
///
/// struct Motd(String);
///
/// impl Handler for Motd {
///     fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
///         Box::pin(async move {
///             match request.path() {
///                 "motd" => Ok(Source::from(self.0.clone())),
///                 _ => Err(Refusal::not_found()),
///             }
///         })
///     }
/// }
/// # let _: &dyn Handler = &Motd(String::new());
/// ```
///
/// A type that threads cannot share is no handler:
///
/// ```compile_fail,E0277
/// let count = std::rc::Rc::new(0);
/// tuffet::Server::builder().handler(tuffet::read(async move |_| count.to_string()));
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Returns the bytes of a file, for an RRQ.
    ///
    /// It may take as long as [`ServerBuilder::patience`](crate::ServerBuilder::patience) says; then the client gets
    /// ERROR 0, and the future is dropped. Until then, requests that the client repeats do not call it again.
    ///
    /// ```
    /// use tuffet::{Handler, Request, packet, read};
    ///
    /// # futures_lite::future::block_on(async {
    /// let handler = read(|request: Request| format!("hello {}\n", request.peer().ip()));
    /// let packet = packet::Request::new("motd");
    /// let request = Request::new(([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into(), packet)?;
    /// let source = handler.read(&request).await?;
    /// assert_eq!(source.collect(100).await?, b"hello 192.0.2.7\n");
    /// # Ok::<(), tuffet::Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer; [`Refusal::silent`] to leave the request unanswered.
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source>;

    /// Takes the bytes of a file, for a WRQ.
    ///
    /// The server accepts the request when this function asks for the first chunk of `data`. So a refusal may come
    /// before any byte travels. The server acknowledges the last block after this function has returned `Ok`. If the
    /// client goes away in the middle, the future is dropped.
    ///
    /// ```
    /// use tuffet::{Handler, Refusal, Request, Source, write};
    ///
    /// // It refuses before any byte travels, or takes 1 MiB at most.
    /// let handler = write(async |request: Request, data: Source| match request.path() {
    ///     "switch.cfg" => data.collect(1 << 20).await.map(drop),
    ///     _ => Err(Refusal::denied()),
    /// });
    /// assert!(handler.takes_writes());
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer. Defaults to [`Refusal::denied`].
    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        let _ = (request, data);
        Box::pin(async { Err(Refusal::denied()) })
    }

    /// Whether [`write`](Self::write) may accept anything. Defaults to `false`; a chain asks only handlers that take
    /// writes.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Memory, read};
    ///
    /// assert!(Memory::new().takes_writes() && !read(|_| "hello\n").takes_writes());
    /// ```
    fn takes_writes(&self) -> bool {
        false
    }

    /// Cleans up after the server and all its transfers have ended. It may block for a few seconds. Defaults to
    /// nothing; a chain passes it on.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use tuffet::{Handler, Refusal, Request, Source, handler::Answer};
    ///
    /// struct Scratch(AtomicBool);
    ///
    /// impl Handler for Scratch {
    ///     fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
    ///         Box::pin(async { Err(Refusal::not_found()) })
    ///     }
    ///
    ///     fn close(&self) {
    ///         self.0.store(true, Relaxed);
    ///     }
    /// }
    ///
    /// let scratch = Scratch(AtomicBool::new(false));
    /// scratch.close();
    /// assert!(scratch.0.into_inner());
    /// ```
    fn close(&self) {}

    /// Describes what is served, in a few words for people: `/srv/tftp`, `http://mirror/netboot/`.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Memory};
    ///
    /// assert_eq!(Memory::new().describe(), "memory");
    /// ```
    fn describe(&self) -> String {
        "a handler".into()
    }

    /// A chain of this handler and another, which is asked for the files that this one lacks. See [`Chain`].
    ///
    /// ```
    /// use tuffet::{Handler, Refusal, handlers::Memory, read};
    ///
    /// let handler = read(|_| Err::<&str, _>(Refusal::not_found())).or(Memory::new());
    /// assert!(handler.takes_writes(), "one of them does");
    /// ```
    fn or(self, other: impl Handler) -> Chain
    where
        Self: Sized,
    {
        Chain::default().or(self).or(other)
    }
}

/// Searches this handler for the file of an RRQ. If it has none, searches again without the end mark behind the name.
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
                (request.peer(), crate::shown::text(&request.text()), crate::shown::text(&other.text()));
            log::info!(
                "{peer}: {path} would be refused, so {other} is served: the 0xff behind it ends DHCP's options, which \
                 this client takes for a part of option 67 or of the name in it"
            );
        }
        return answer;
    }
    Err(search.over().unwrap_or(Refusal::not_found()))
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
mod tests;
