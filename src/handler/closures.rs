//! Closures that are handlers.

use std::{marker::PhantomData, sync::Arc};

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
/// `|request: Request|`, unless it is not used. Clones of the handler share the closure.
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
/// In a closure with `?` on a `Result`, the last `Ok` says which error that becomes. With `?` on an `Option` it need
/// not:
///
/// ```
/// use tuffet::{Refusal, Request, read};
///
/// let handler = read(|request: Request| {
///     let mac = request.path().strip_prefix("menu-").ok_or(Refusal::denied())?;
///     Ok::<_, Refusal>(format!("# {mac}\n"))
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// let handler = read(|request: Request| {
///     let mac = request.path().strip_prefix("menu-")?;
///     Some(format!("# {mac}\n"))
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
///
/// A closure that returns something else does not compile:
///
/// ```compile_fail,E0277
/// tuffet::read(|_| 7);
/// ```
pub fn read<M: 'static>(f: impl ReadFn<M>) -> impl Handler + Clone {
    Read(Arc::new(f), PhantomData)
}

/// A handler that takes writes with this closure and has no files to read. Its clones share the closure.
///
/// An `async` closure, or one that returns a future, takes a [`Request`] and the [`Source`] of the upload. Its bytes
/// arrive while the closure waits for them.
///
/// ```
/// use tuffet::{Refusal, Request, Source, write};
///
/// let handler = write(async |request: Request, data: Source| {
///     let bytes = data.collect(1 << 20).await?;
///     println!("{} sent {} bytes for {}", request.peer(), bytes.len(), request.path());
///     Ok(())
/// });
/// # let _: &dyn tuffet::Handler = &handler;
/// ```
///
/// A plain closure takes a [`Request`] and returns a writer, or why there is none, as a `Result` with any error that
/// becomes a [`Refusal`]. The upload goes into the writer as [`Source::write_to_blocking`] says. This form needs the
/// feature `net`.
///
/// ```
/// # #[cfg(not(feature = "net"))]
/// # fn main() {}
/// # #[cfg(feature = "net")]
/// # fn main() {
/// use std::fs::File;
/// use tuffet::{Request, write};
///
/// let handler = write(|request: Request| File::create_new(format!("/srv/logs/{}", request.peer().ip())));
/// # let _: &dyn tuffet::Handler = &handler;
/// # }
/// ```
///
/// The parameters have types, unless they are not used. A closure that returns something else does not compile:
///
/// ```compile_fail,E0277
/// tuffet::write(|_| 7);
/// ```
pub fn write<M: 'static>(f: impl WriteFn<M>) -> impl Handler + Clone {
    Write(Arc::new(f), PhantomData)
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
    note = "`tuffet::read` takes `Fn(Request) -> S` or `AsyncFn(Request) -> S`, where `S` is `tuffet::IntoSource`: \
            text, bytes, a file, a generator of chunks, an `Option`, or a `Result` whose error becomes a \
            `tuffet::Refusal`, by `map_err` if need be"
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

/// The closures that [`write`](fn@write) takes, plain and `async`. The compiler finds `M`, as for [`ReadFn`].
///
/// ```
/// use tuffet::{Handler, Request, Source, handler::WriteFn};
///
/// fn logged<M: 'static>(f: impl WriteFn<M>) -> impl Handler {
///     tuffet::write(f).or(tuffet::read(|_| "nothing to read\n"))
/// }
/// let handler = logged(async |_: Request, data: Source| data.collect(1 << 20).await.map(drop));
/// # let _: &dyn Handler = &handler;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take writes",
    label = "this should take the bytes of an upload",
    note = "`tuffet::write` takes `AsyncFn(Request, Source) -> Result<(), Refusal>`, or `Fn(Request) -> Result<W, E>`, \
            where `W` is `std::io::Write + Send` and `E` becomes a `tuffet::Refusal`"
)]
pub trait WriteFn<M>: Send + Sync + 'static {
    #[doc(hidden)]
    fn take<'a>(&'a self, request: &'a Request, data: Source, _: sealed::Sealed) -> Answer<'a, ()>;
}

impl<F> WriteFn<sealed::Async<()>> for F
where
    F: AsyncFn(Request, Source) -> Result<(), Refusal> + Send + Sync + 'static,
{
    fn take<'a>(&'a self, request: &'a Request, data: Source, _: sealed::Sealed) -> Answer<'a, ()> {
        Box::pin(self(request.clone(), data))
    }
}

#[cfg(feature = "net")]
impl<F, W, E> WriteFn<sealed::Plain<(W, E)>> for F
where
    F: Fn(Request) -> Result<W, E> + Send + Sync + 'static,
    W: std::io::Write + Send + 'static,
    E: Into<Refusal>,
{
    fn take<'a>(&'a self, request: &'a Request, data: Source, _: sealed::Sealed) -> Answer<'a, ()> {
        Box::pin(async {
            let writer = self(request.clone()).map_err(Into::into)?;
            data.write_to_blocking(writer).await.map(drop)
        })
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

struct Read<F, M>(Arc<F>, PhantomData<fn() -> M>);
struct Write<F, M>(Arc<F>, PhantomData<fn() -> M>);

impl<F, M> Clone for Read<F, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<F, M> Clone for Write<F, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<F: ReadFn<M>, M: 'static> Handler for Read<F, M> {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        self.0.answer(request, sealed::Sealed)
    }
}

impl<F: WriteFn<M>, M: 'static> Handler for Write<F, M> {
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Err(Refusal::not_found()) })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        self.0.take(request, data, sealed::Sealed)
    }

    fn takes_writes(&self) -> bool {
        true
    }
}
