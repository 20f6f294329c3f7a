use std::{fmt, ops::ControlFlow, sync::Arc};

use crate::{
    error::{ErrorCode, Refusal},
    handler::{Answer, Handler, Request},
    source::Source,
};

/// Several handlers, which are asked in order.
///
/// The first handler that has the file answers an RRQ. After any refusal the next handler is asked: some object stores
/// say "not allowed" for a missing object, and a dead web server must not hide the files of a directory. Only a refusal
/// that [ends the search](Refusal::ending_search) stops it, so that a handler can forbid a name to the handlers behind
/// it. If no handler has the file, the peer gets the refusal of the first one. If that is ERROR 1 (not found), and
/// another handler answers ERROR 2 (access violation), the peer gets that, because the file is probably there. A WRQ
/// goes to the first handler that [takes writes](Handler::takes_writes), whatever its answer. The
/// [limits](Request::limit) of every handler that was asked hold. Clones share their handlers.
///
/// ```
/// use tuffet::{handlers::Memory, Handler, Refusal, Request, read};
///
/// let made_up = read(|request: Request| match request.path() {
///     "motd" => Ok("hello\n"),
///     _ => Err(Refusal::not_found()),
/// });
/// let handler = made_up.or(Memory::new());
/// assert!(handler.clone().takes_writes());
/// ```
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn Handler>>);

impl Chain {
    /// A chain of these handlers, the first one asked first. An empty chain finds nothing.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::{Chain, Memory}};
    ///
    /// assert!(!Chain::new(Vec::new()).takes_writes());
    /// assert!(Chain::new(vec![Box::new(Memory::new())]).takes_writes());
    /// ```
    pub fn new(handlers: Vec<Box<dyn Handler>>) -> Self {
        Self(handlers.into_iter().map(Arc::from).collect())
    }

    /// Adds a handler, which is asked after the others.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::{Chain, Memory}, read};
    ///
    /// let chain = Chain::default().or(read(|_| "hello\n")).or(Memory::new());
    /// assert!(chain.takes_writes(), "the second one does");
    /// ```
    #[must_use]
    pub fn or(mut self, handler: impl Handler) -> Self {
        self.0.push(Arc::new(handler));
        self
    }
}

impl Handler for Chain {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let mut search = Search::default();
            for handler in &self.0 {
                if let ControlFlow::Break(answer) = search.hear(handler.read(request).await) {
                    return answer;
                }
            }
            Err(search.over().unwrap_or(Refusal::not_found()))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        match self.0.iter().find(|handler| handler.takes_writes()) {
            Some(handler) => handler.write(request, data),
            None => Box::pin(async { Err(Refusal::no_uploads()) }),
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

/// The search for a file in one place after the other. This is the one rule for when a search continues and how it
/// ends, for a handler that asks others as [`Chain`] does.
///
/// ```
/// use std::ops::ControlFlow;
/// use tuffet::{Refusal, handlers::Search};
///
/// let mut search = Search::default();
/// assert!(search.hear(Err::<(), _>(Refusal::upstream())).is_continue(), "the next place may have it");
/// assert_eq!(search.hear(Ok("found")), ControlFlow::Break(Ok("found")));
/// ```
#[derive(Debug, Default)]
pub struct Search {
    /// The refusal for the peer, if no place has the file.
    refusal: Option<Refusal>,
    /// The details of the refusals so far, for the operator.
    details: Vec<String>,
}

impl Search {
    /// Takes the answer of a place. `Break` holds the answer to the whole search.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use tuffet::{Refusal, handlers::Search};
    ///
    /// let mut search = Search::default();
    /// let forbidden = search.hear(Err::<(), _>(Refusal::denied().ending_search()));
    /// assert_eq!(forbidden, ControlFlow::Break(Err(Refusal::denied())));
    /// ```
    pub fn hear<T>(&mut self, answer: Result<T, Refusal>) -> ControlFlow<Result<T, Refusal>> {
        match answer {
            Err(refusal) if !refusal.ends_search() => {
                let detail = refusal.detail().map(str::to_owned);
                self.details.extend(detail.filter(|detail| !self.details.contains(detail)));
                // An ERROR 0 of a later place is not preferred: U-Boot asks again and again after it, and must get from
                // a missing file to the next one while a web server behind a directory is dead.
                if self.refusal.as_ref().is_none_or(|told| {
                    (told.code(), refusal.code()) == (ErrorCode::FILE_NOT_FOUND, ErrorCode::ACCESS_VIOLATION)
                }) {
                    self.refusal = Some(refusal);
                }
                ControlFlow::Continue(())
            }
            Ok(found) => {
                if let Some(failed) = self.refusal.take().filter(|told| told.code() == ErrorCode::NOT_DEFINED) {
                    log::warn!("{}; another source has it", failed.detail().unwrap_or(failed.message()));
                }
                ControlFlow::Break(Ok(found))
            }
            refused => ControlFlow::Break(refused),
        }
    }

    /// The refusal after all places have been asked: that of the first place, or the first ERROR 2 if the first place
    /// answered ERROR 1. `None` if there was no place.
    ///
    /// ```
    /// use tuffet::{Refusal, handlers::Search};
    ///
    /// let mut search = Search::default();
    /// let _ = search.hear(Err::<(), _>(Refusal::not_found()));
    /// let _ = search.hear(Err::<(), _>(Refusal::upstream()));
    /// assert_eq!(search.over(), Some(Refusal::not_found()));
    /// ```
    pub fn over(self) -> Option<Refusal> {
        let refusal = self.refusal?;
        Some(if self.details.is_empty() { refusal } else { refusal.because(self.details.join("; ")) })
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
        read(move |request: Request| (request.path() == name).then_some(name))
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
    fn after_any_refusal_the_next_handler_is_asked() {
        for refusal in [Refusal::denied(), Refusal::upstream(), Refusal::internal(), Refusal::not_found()] {
            let refuses = |refusal: Refusal| read(async move |_| Err::<String, _>(refusal.clone()));
            let chain = only("a").or(refuses(refusal.clone())).or(only("b"));
            assert_eq!(get(&chain, "b").unwrap(), b"b");
            let chain = refuses(refusal.clone().because("one")).or(refuses(Refusal::disk_full().because("two")));
            let answer = get(&chain, "b").unwrap_err();
            assert_eq!((&answer, answer.detail()), (&refusal, Some("one; two")), "what the first said");
        }
    }

    #[test]
    fn a_file_that_a_later_handler_denies_is_no_missing_file() {
        let told = |refusals: &[Refusal]| {
            let mut search = Search::default();
            for refusal in refusals {
                assert!(search.hear(Err::<(), _>(refusal.clone())).is_continue());
            }
            search.over().unwrap()
        };
        let [missing, denied, failed] = [Refusal::not_found(), Refusal::denied(), Refusal::upstream()];
        for refusals in [[&missing, &denied], [&denied, &missing], [&denied, &failed]] {
            assert_eq!(told(&refusals.map(Refusal::clone)), denied);
        }
        assert_eq!(told(&[missing.clone(), failed.clone()]), missing, "U-Boot goes on to the next file");
        assert_eq!(told(&[failed.clone(), denied.clone()]), failed);
        let detailed = [missing.clone(), missing, denied.clone().because("one"), failed.because("two")];
        assert_eq!((told(&detailed), told(&detailed).detail()), (denied, Some("one; two")));
    }

    #[test]
    fn a_refusal_may_end_the_search() {
        for refusal in [Refusal::denied().ending_search(), Refusal::silent()] {
            let last = refusal.clone();
            let chain = only("a").or(read(async move |_| Err::<String, _>(last.clone()))).or(only("b"));
            assert_eq!(get(&chain, "b"), Err(refusal));
        }
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
