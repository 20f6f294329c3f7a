//! Chains of sources, some of which are wrong, dead or silent.

use tuffet::handlers::{Chain, Directory};

use super::*;

/// Files that are there: `local`.
fn directory() -> (tempfile::TempDir, Directory) {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("local"), "local").unwrap();
    let directory = Directory::new(here.path()).unwrap();
    (here, directory)
}

fn answering(status: &'static str) -> Upstream {
    Upstream::new(move |_, stream| write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap())
}

fn get(chain: &Chain, name: &str) -> Result<Vec<u8>, Refusal> {
    smol::block_on(async { chain.read(&request(name)).await?.collect(100).await })
}

#[test]
fn the_next_source_is_asked_after_a_refusal() {
    let (_here, last) = directory();
    let last = Arc::new(last);
    for (status, said) in [
        ("401 Unauthorized", Refusal::denied()),
        ("403 Forbidden", Refusal::denied()),
        ("404 Not Found", Refusal::not_found()),
        ("405 Method Not Allowed", Refusal::upstream()),
        ("410 Gone", Refusal::not_found()),
        ("418 I'm a teapot", Refusal::upstream()),
        ("429 Too Many Requests", Refusal::upstream()),
        ("500 Internal Server Error", Refusal::upstream()),
        ("503 Service Unavailable", Refusal::upstream()),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked", Refusal::upstream()),
    ] {
        let upstream = answering(status);
        let first = Arc::new(http(&upstream.url()));
        let two = first.clone().or(last.clone());
        assert_eq!(get(&two, "local").unwrap(), b"local", "{status}");
        assert_eq!(get(&two, "none"), Err(said.clone()), "{status}");
        // Behind a source with other files.
        let (_there, other) = directory();
        let three = Chain::new(vec![Box::new(other), Box::new(first), Box::new(last.clone())]);
        assert_eq!(get(&three, "local").unwrap(), b"local");
        let told = if said == Refusal::denied() { said } else { Refusal::not_found() };
        assert_eq!(get(&three, "none"), Err(told), "{status}");
    }
}

#[test]
fn a_file_that_a_proxy_has_changed_is_a_file() {
    let head = "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 5\r\n\r\n";
    let upstream = Upstream::new(move |_, stream| write!(stream, "{head}hello").unwrap());
    let file = smol::block_on(async { http(&upstream.url()).read(&request("local")).await?.collect(100).await });
    assert_eq!(file.unwrap(), b"hello");
}

#[test]
fn the_next_source_is_asked_after_a_dead_or_silent_one() {
    let (_closed, dead) = upstream::closed_port();
    let silent = Upstream::new(|_, stream| upstream::until_closed(stream));
    let hangs_up = Upstream::new(|_, stream| upstream::close(stream));
    let stranger = Upstream::secure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    for url in [dead, "http://mirror.invalid/".to_owned(), silent.url(), hangs_up.url(), stranger.url()] {
        let (_here, last) = directory();
        let first = settings(&url).upstream_timeout(Duration::from_millis(500)).build().unwrap();
        let chain = first.or(answered_404()).or(last);
        // More requests than the breaker lets through.
        for _ in 0..5 {
            assert_eq!(get(&chain, "local").unwrap(), b"local", "{url}");
        }
        let refusal = get(&chain, "none").unwrap_err();
        assert_eq!(refusal, Refusal::upstream(), "{url}");
        assert!(refusal.detail().unwrap().contains("answered 404"), "the operator is told of each: {refusal}");
    }
}

fn answered_404() -> Http {
    http(&answering("404 Not Found").url())
}

#[cfg(feature = "object-store")]
#[test]
fn a_bucket_may_stand_anywhere() {
    use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
    use tuffet::handlers::Bucket;

    let store = InMemory::new();
    smol::block_on(store.put(&Path::from("boot/object"), "object".into())).unwrap();
    let store = Arc::new(store);
    let forbidding = answering("403 Forbidden");
    for place in 0..3 {
        let (_here, directory) = directory();
        let mut handlers: Vec<Box<dyn Handler>> = vec![Box::new(http(&forbidding.url())), Box::new(directory)];
        handlers.insert(place, Box::new(Bucket::of(store.clone(), "boot").build().unwrap()));
        let chain = Chain::new(handlers);
        assert_eq!(get(&chain, "object").unwrap(), b"object", "{place}");
        assert_eq!(get(&chain, "local").unwrap(), b"local", "{place}");
        let said = if place == 0 { Refusal::not_found() } else { Refusal::denied() };
        assert_eq!(get(&chain, "none"), Err(said), "{place}");
    }
}
