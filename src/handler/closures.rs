//! Closures that are handlers.

use std::marker::PhantomData;

use super::{Answer, Handler, Request};
use crate::{
    error::Refusal,
    source::{IntoSource, Source},
};

/// A handler that serves reads with this closure and refuses writes.
///
/// The closure is `async` even if it awaits nothing, or it is an `async fn`. A plain closure returns a future.
///
/// ```
/// use tuffet::{Refusal, Request, read};
///
/// let greeting = "hello".to_owned();
/// let handler = read(async move |request: Request| match request.path() {
///     "motd" => Ok(format!("{greeting} {}\n", request.peer().ip())),
///     _ => Err(Refusal::not_found()),
/// });
/// # let _: &dyn tuffet::Handler = &handler;
///
/// async fn motd(request: Request) -> String {
///     format!("hello {}\n", request.peer().ip())
/// }
/// let handler = read(motd);
/// # let _: &dyn tuffet::Handler = &handler;
///
/// let handler = read(|_| std::future::ready("hello\n"));
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
pub fn read<S: IntoSource + 'static>(f: impl AsyncFn(Request) -> S + Send + Sync + 'static) -> impl Handler {
    Read(f, PhantomData)
}

/// A handler that takes writes with this closure and has no files to read.
///
/// ```
/// use tuffet::{Refusal, Request, Source, write};
///
/// let handler = write(async |request: Request, data: Source| {
///     let bytes = data.collect(1 << 20).await?;
///     println!("{} sent {} bytes for {}", request.peer(), bytes.len(), request.path());
///     Ok::<(), Refusal>(())
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
pub fn write(f: impl AsyncFn(Request, Source) -> Result<(), Refusal> + Send + Sync + 'static) -> impl Handler {
    Write(f)
}

struct Read<F, S>(F, PhantomData<fn() -> S>);
struct Write<F>(F);

impl<F, S> Handler for Read<F, S>
where
    F: AsyncFn(Request) -> S + Send + Sync + 'static,
    S: IntoSource + 'static,
{
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Ok(self.0(request.clone()).await.into_source()?.into_local()) })
    }
}

impl<F> Handler for Write<F>
where
    F: AsyncFn(Request, Source) -> Result<(), Refusal> + Send + Sync + 'static,
{
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Err(Refusal::not_found()) })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(self.0(request.clone(), data))
    }

    fn takes_writes(&self) -> bool {
        true
    }
}
