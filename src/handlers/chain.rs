use std::fmt;

use crate::{
    error::{ErrorCode, Refusal},
    handler::{Answer, Handler, Request},
    options::{Direction, Limits},
    source::Source,
};

/// Several handlers, asked in their order.
///
/// An RRQ is answered by the first that does not say [`ErrorCode::FILE_NOT_FOUND`]; any other refusal ends the
/// search, so that a handler can forbid a name to those behind it. A WRQ goes to the first that
/// [takes writes](Handler::takes_writes), whatever its answer. What [any](Handler::limit) of them does not grant is not
/// granted.
///
/// ```
/// use tuffet::{handlers::Memory, Handler, Refusal, Request, read};
///
/// let made_up = read(async |request: Request| match request.path() {
///     "motd" => Ok("hello\n"),
///     _ => Err(Refusal::not_found()),
/// });
/// let handler = made_up.or(Memory::new());
/// assert!(handler.takes_writes());
/// ```
#[derive(Default)]
pub struct Chain(Vec<Box<dyn Handler>>);

impl Chain {
    /// These handlers, the first one asked first. Without any, nothing is found.
    pub fn new(handlers: Vec<Box<dyn Handler>>) -> Self {
        Self(handlers)
    }

    /// Adds a handler that is asked after the others.
    #[must_use]
    pub fn or(mut self, handler: impl Handler) -> Self {
        self.0.push(Box::new(handler));
        self
    }
}

impl Handler for Chain {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let mut refusal = Refusal::not_found();
            for handler in &self.0 {
                match handler.read(request).await {
                    Err(next) if next.code() == ErrorCode::FILE_NOT_FOUND => refusal = next,
                    answer => return answer,
                }
            }
            Err(refusal)
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        match self.0.iter().find(|handler| handler.takes_writes()) {
            Some(handler) => handler.write(request, data),
            None => Box::pin(async { Err(Refusal::denied().because("nothing that is served here takes uploads")) }),
        }
    }

    fn limit(&self, request: &Request, direction: Direction, limits: &mut Limits) {
        for handler in &self.0 {
            handler.limit(request, direction, limits);
        }
    }

    fn takes_writes(&self) -> bool {
        self.0.iter().any(|handler| handler.takes_writes())
    }

    fn close(&self) {
        self.0.iter().for_each(|handler| handler.close());
    }

    fn describe(&self) -> String {
        self.0.iter().map(|handler| handler.describe()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.describe()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::{
        handler::{read, write},
        handlers::testing::request,
    };

    fn only(name: &'static str) -> impl Handler {
        read(move |request: Request| async move {
            match request.path() {
                path if path == name => Ok(name),
                "secret" => Err(Refusal::denied()),
                _ => Err(Refusal::not_found()),
            }
        })
    }

    fn get(chain: &Chain, path: &str) -> Result<Vec<u8>, Refusal> {
        block_on(async { chain.read(&request(path)).await?.collect(100).await })
    }

    #[test]
    fn the_first_that_has_it_answers() {
        let chain = only("a").or(only("b")).or(only("c"));
        assert_eq!(get(&chain, "a").unwrap(), b"a");
        assert_eq!(get(&chain, "c").unwrap(), b"c");
        assert_eq!(get(&chain, "d"), Err(Refusal::not_found()));
        assert_eq!(get(&Chain::default(), "a"), Err(Refusal::not_found()));
    }

    #[test]
    fn another_refusal_ends_the_search() {
        let chain = only("a").or(only("secret"));
        assert_eq!(get(&chain, "secret"), Err(Refusal::denied()));
    }

    #[test]
    fn the_first_that_takes_writes_gets_them() {
        let put = |chain: &Chain| block_on(chain.write(&request("a"), Source::from("data")));
        assert_eq!(put(&only("a").or(only("b"))), Err(Refusal::denied()));
        let full = write(async |_: Request, _: Source| Err(Refusal::disk_full()));
        let empty = write(async |_: Request, _: Source| Ok(()));
        let chain = Chain::new(vec![Box::new(only("a")), Box::new(full), Box::new(empty)]);
        assert!(chain.takes_writes());
        assert_eq!(put(&chain), Err(Refusal::disk_full()));
    }

    #[test]
    fn a_chain_says_what_it_is_made_of() {
        assert_eq!(only("a").or(only("b")).describe(), "a handler, a handler");
    }
}
