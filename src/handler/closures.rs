//! Closures that are handlers.

use std::marker::PhantomData;

use super::{Answer, Handler, Request};
use crate::{
    error::Refusal,
    source::{IntoSource, Source},
};

/// A handler that serves reads with this closure and refuses writes.
///
/// The closure takes a [`Request`] and returns anything that is [`IntoSource`]: text, bytes, a generator, a file, an
/// `Option` or a `Result` of these. It is a plain closure, an `async` one, or a function. The shard serves nothing else
/// while a plain closure runs, so one that waits for something is `async`. The parameter has a type, as in
/// `|request: Request|`, unless it is not used.
///
/// ```
/// use tuffet::{Refusal, Request, read};
///
/// let handler = read(|request: Request| format!("hello {}\n", request.peer().ip()));
/// # let _: &dyn tuffet::Handler = &handler;
///
/// let greeting = "hello".to_owned();
/// let handler = read(async move |request: Request| match request.path() {
///     "motd" => Ok(format!("{greeting} {}\n", request.peer().ip())),
///     _ => Err(Refusal::not_found()),
/// });
/// # let _: &dyn tuffet::Handler = &handler;
///
/// async fn motd(request: Request) -> Result<String, tuffet::Error> {
///     Ok(format!("hello {}\n", request.peer().ip()))
/// }
/// let handler = read(motd);
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
///
/// A closure that returns something else does not compile:
///
/// ```compile_fail,E0277
/// tuffet::read(|_| 7);
/// ```
pub fn read<M: 'static>(f: impl ReadFn<M>) -> impl Handler {
    Read(f, PhantomData)
}

/// A handler that takes writes with this closure and has no files to read.
///
/// The closure is `async`, or it returns a future: the bytes arrive while it waits for them.
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

/// The closures that [`read`] takes, plain and `async`.
///
/// The compiler finds `M`, which tells the two kinds apart. Other types cannot implement this trait; they implement
/// [`Handler`].
///
/// ```
/// use tuffet::{Handler, handler::ReadFn};
///
/// fn twice<M: 'static>(f: impl ReadFn<M> + Clone) -> impl Handler {
///     tuffet::read(f.clone()).or(tuffet::read(f))
/// }
/// # let _: &dyn Handler = &twice(|_| "hello");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer reads",
    label = "this should take a `tuffet::Request` and return a source",
    note = "`tuffet::read` takes `Fn(Request) -> S` or `AsyncFn(Request) -> S`, where `S` is `tuffet::IntoSource`"
)]
pub trait ReadFn<M>: Send + Sync + 'static {
    #[doc(hidden)]
    fn answer<'a>(&'a self, request: &'a Request, _: sealed::Sealed) -> Answer<'a, Source>;
}

impl<F, S> ReadFn<sealed::Plain<S>> for F
where
    F: Fn(Request) -> S + Send + Sync + 'static,
    S: IntoSource,
{
    fn answer<'a>(&'a self, request: &'a Request, _: sealed::Sealed) -> Answer<'a, Source> {
        Box::pin(async { Ok(self(request.clone()).into_source()?.into_local()) })
    }
}

impl<F, S> ReadFn<sealed::Async<S>> for F
where
    F: AsyncFn(Request) -> S + Send + Sync + 'static,
    S: IntoSource,
{
    fn answer<'a>(&'a self, request: &'a Request, _: sealed::Sealed) -> Answer<'a, Source> {
        Box::pin(async { Ok(self(request.clone()).await.into_source()?.into_local()) })
    }
}

/// Types that other crates cannot name.
mod sealed {
    use std::marker::PhantomData;

    #[derive(Debug)]
    pub struct Sealed;
    #[derive(Debug)]
    pub struct Plain<S>(PhantomData<S>);
    #[derive(Debug)]
    pub struct Async<S>(PhantomData<S>);
}

struct Read<F, M>(F, PhantomData<fn() -> M>);
struct Write<F>(F);

impl<F: ReadFn<M>, M: 'static> Handler for Read<F, M> {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        self.0.answer(request, sealed::Sealed)
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
