//! Handlers that are written with `async fn`.

use std::future::Future;

use super::{Answer, Handler, Request};
use crate::{error::Refusal, source::Source};

/// A handler that is written with `async fn`: every type with this trait is a [`Handler`].
///
/// Its futures may borrow from the handler and the request, and need not be `Send`. The other methods of [`Handler`],
/// such as [`close`](Handler::close), need an implementation of that trait.
///
/// ```
/// use tuffet::{AsyncHandler, Refusal, Request, Server, Source};
///
/// struct Greeter(String);
///
/// impl AsyncHandler for Greeter {
///     async fn read(&self, request: &Request) -> Result<Source, Refusal> {
///         match request.path() {
///             "motd" => Ok(Source::from(format!("{} {}\n", self.0, request.peer().ip()))),
///             _ => Err(Refusal::not_found()),
///         }
///     }
/// }
///
/// let server = Server::builder().handler(Greeter("hello".into()));
/// ```
pub trait AsyncHandler: Send + Sync + 'static {
    /// As [`Handler::read`].
    ///
    /// # Errors
    /// The refusal that the peer is told.
    fn read(&self, request: &Request) -> impl Future<Output = Result<Source, Refusal>>;

    /// As [`Handler::write`]. In a chain it needs [`takes_writes`](Self::takes_writes).
    ///
    /// # Errors
    /// The refusal that the peer is told. Defaults to [`Refusal::denied`].
    fn write(&self, request: &Request, data: Source) -> impl Future<Output = Result<(), Refusal>> {
        let _ = (request, data);
        async { Err(Refusal::denied()) }
    }

    /// As [`Handler::takes_writes`]. Defaults to `false`.
    fn takes_writes(&self) -> bool {
        false
    }
}

impl<H: AsyncHandler> Handler for H {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(AsyncHandler::read(self, request))
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(AsyncHandler::write(self, request, data))
    }

    fn takes_writes(&self) -> bool {
        AsyncHandler::takes_writes(self)
    }
}
