//! Handlers that are written with `async fn`.

use std::future::Future;

use super::{Answer, Handler, Request};
use crate::{error::Refusal, source::Source};

/// A handler that is written with `async fn`: every type with this trait is a [`Handler`].
///
/// Its futures may borrow from the handler and the request, and need not be `Send`. A [`Source`] may not borrow,
/// because it outlives the call: it gets a clone of what it needs, such as an [`Arc`](std::sync::Arc). The other
/// methods of [`Handler`], such as [`close`](Handler::close), need an implementation of that trait.
///
/// ```
/// use std::sync::Arc;
/// use tuffet::{AsyncHandler, Gen, Refusal, Request, Server, Source};
///
/// struct Greeter(Arc<str>);
///
/// impl AsyncHandler for Greeter {
///     async fn read(&self, request: &Request) -> Result<Source, Refusal> {
///         if request.path() != "motd" {
///             return Err(Refusal::not_found());
///         }
///         let (greeting, client) = (self.0.clone(), request.peer().ip());
///         Ok(Gen::new(async move |co| co.yield_(format!("{greeting} {client}\n")).await).into())
///     }
/// }
///
/// let server = Server::builder().handler(Greeter("hello".into()));
/// ```
pub trait AsyncHandler: Send + Sync + 'static {
    /// As [`Handler::read`].
    ///
    /// ```
    /// use tuffet::{AsyncHandler, Refusal, Request, Source};
    ///
    /// struct Doubled(Vec<u8>);
    ///
    /// impl AsyncHandler for Doubled {
    ///     async fn read(&self, _: &Request) -> Result<Source, Refusal> {
    ///         Ok(Source::from(self.0.repeat(2)))
    ///     }
    /// }
    ///
    /// # let (client, server) = (([192, 0, 2, 7], 1069).into(), ([192, 0, 2, 1], 69).into());
    /// # let request = Request::new(client, server, tuffet::packet::Request::new("x"))?;
    /// # futures_lite::future::block_on(async {
    /// let source = AsyncHandler::read(&Doubled(b"ab".into()), &request).await?;
    /// assert_eq!(source.size(), Some(4));
    /// # Ok::<(), Refusal>(())
    /// # })?;
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer.
    fn read(&self, request: &Request) -> impl Future<Output = Result<Source, Refusal>>;

    /// As [`Handler::write`]. In a chain it needs [`takes_writes`](Self::takes_writes).
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use tuffet::{AsyncHandler, Handler, Refusal, Request, Source};
    ///
    /// struct Last(Mutex<Vec<u8>>);
    ///
    /// impl AsyncHandler for Last {
    ///     async fn read(&self, _: &Request) -> Result<Source, Refusal> {
    ///         Ok(Source::from(self.0.lock().unwrap().clone()))
    ///     }
    ///
    ///     async fn write(&self, _: &Request, data: Source) -> Result<(), Refusal> {
    ///         *self.0.lock().unwrap() = data.collect(1 << 20).await?;
    ///         Ok(())
    ///     }
    ///
    ///     fn takes_writes(&self) -> bool {
    ///         true
    ///     }
    /// }
    ///
    /// assert!(Handler::takes_writes(&Last(Mutex::default())));
    /// ```
    ///
    /// # Errors
    /// The refusal for the peer. Defaults to [`Refusal::denied`].
    fn write(&self, request: &Request, data: Source) -> impl Future<Output = Result<(), Refusal>> {
        let _ = (request, data);
        async { Err(Refusal::denied()) }
    }

    /// As [`Handler::takes_writes`]. Defaults to `false`.
    ///
    /// ```
    /// use tuffet::{AsyncHandler, Refusal, Request, Source};
    ///
    /// struct Empty;
    ///
    /// impl AsyncHandler for Empty {
    ///     async fn read(&self, _: &Request) -> Result<Source, Refusal> {
    ///         Ok(Source::from(""))
    ///     }
    /// }
    ///
    /// assert!(!AsyncHandler::takes_writes(&Empty));
    /// ```
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
