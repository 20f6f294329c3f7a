//! The handler for object stores, before a store in memory.
#![cfg(feature = "object-store")]

mod common;
#[path = "bucket/store.rs"]
mod store;
#[path = "bucket/uploads.rs"]
mod uploads;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use object_store::Error;
use tuffet::{
    ErrorCode, Handler, Refusal, Request, Source,
    handlers::{Bucket, BucketBuilder},
    packet::Packet,
};

use self::{
    common::{Peer, Serving, eventually, file},
    store::Store,
};

const UPSTREAM: Refusal = Refusal::new(ErrorCode::NOT_DEFINED, "Upstream failed");

fn settings(store: &Arc<Store>) -> BucketBuilder {
    Bucket::of(store.clone(), "boot").cache(4 << 20)
}

fn bucket(store: &Arc<Store>) -> Bucket {
    settings(store).build().unwrap()
}

fn request(name: &str) -> Request {
    let any = ([127, 0, 0, 1], 1069).into();
    Request::new(any, any, common::request(name, &[])).unwrap()
}

fn open(bucket: &Bucket, name: &str) -> Result<Source, Refusal> {
    smol::block_on(bucket.read(&request(name)))
}

fn fetch(bucket: &Bucket, name: &str) -> Result<Vec<u8>, Refusal> {
    smol::block_on(open(bucket, name)?.collect(64 << 20))
}

#[test]
fn objects_are_files() {
    let store = Store::new();
    let big = file(1 << 20);
    store.insert("boot/big", big.clone());
    store.insert("boot/empty", "");
    store.insert("other", "not below the prefix");
    for cache in [0, 4 << 20] {
        let bucket = settings(&store).cache(cache).build().unwrap();
        assert_eq!(open(&bucket, "big").unwrap().size(), Some(1 << 20));
        assert!(open(&bucket, "big").unwrap().origin().is_some_and(|origin| origin.ends_with("/boot/big")));
        assert!(fetch(&bucket, "big").unwrap() == big);
        assert_eq!(fetch(&bucket, "empty").unwrap(), b"");
        assert_eq!(fetch(&bucket, "other"), Err(Refusal::not_found()));
        assert_eq!(fetch(&bucket, "..%2fother"), Err(Refusal::not_found()));
        assert_eq!(bucket.cached() > 1 << 20, cache > 0);
    }
}

#[test]
fn errors_of_the_store_become_errors_of_tftp() {
    let store = Store::new();
    for (error, expected) in [
        ((|path| Error::NotFound { path, source: "no".into() }) as store::Says, Refusal::not_found()),
        (|path| Error::PermissionDenied { path, source: "no".into() }, Refusal::denied()),
        (|path| Error::Unauthenticated { path, source: "no".into() }, Refusal::denied()),
        (|_| Error::Generic { store: "test", source: "no".into() }, UPSTREAM),
    ] {
        *store.error.lock().unwrap() = Some(error);
        let refusal = fetch(&bucket(&store), "x").unwrap_err();
        assert_eq!(refusal, expected);
        assert!(refusal.detail().unwrap().starts_with("Store/boot/x: "), "{refusal}");
    }
}

#[test]
fn many_readers_cost_the_store_one_get() {
    let store = Store::new();
    let big = file(1 << 20);
    store.insert("boot/big", big.clone());
    let bucket = settings(&store).fresh(Duration::from_secs(60)).build().unwrap();
    let sources: Vec<_> = (0..50).map(|_| open(&bucket, "big").unwrap()).collect();
    for source in sources {
        assert!(smol::block_on(source.collect(1 << 20)).unwrap() == big);
    }
    assert_eq!(store.gets(), 1);
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    for (cache, is_simple) in [(0, false), (4 << 20, false), (4 << 20, true)] {
        let store = Store::new();
        let big = file(1 << 20);
        store.insert("boot/big", big.clone());
        store.breaks_after.store(300_000, SeqCst);
        store.is_simple.store(is_simple, SeqCst);
        let bucket = settings(&store).cache(cache).build().unwrap();
        assert!(fetch(&bucket, "big").unwrap() == big);
        let gets = store.seen.gets.lock().unwrap();
        assert_eq!(gets.len(), 4);
        assert!(gets[0].range.is_none());
        assert!(gets[1..].iter().all(|get| get.range.is_some() && get.if_match.is_some()), "{gets:?}");
    }
}

#[test]
fn an_object_that_changed_is_not_mixed() {
    for is_simple in [false, true] {
        let store = Store::new();
        store.insert("boot/big", vec![1; 1 << 20]);
        store.breaks_after.store(300_000, SeqCst);
        store.is_simple.store(is_simple, SeqCst);
        let bucket = bucket(&store);
        let mut source = open(&bucket, "big").unwrap();
        let first = smol::block_on(source.next()).unwrap().unwrap();
        store.insert("boot/big", vec![2; 1 << 20]);
        let rest = smol::block_on(source.collect(1 << 20));
        assert_eq!((first[0], rest), (1, Err(UPSTREAM)));
        store.breaks_after.store(0, SeqCst);
        assert!(fetch(&bucket, "big").unwrap() == [2; 1 << 20]);
    }
}

#[test]
fn an_object_in_the_cache_is_asked_about_and_not_fetched() {
    let store = Store::new();
    store.insert("boot/x", "first");
    let bucket = bucket(&store);
    assert_eq!(fetch(&bucket, "x").unwrap(), b"first");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(fetch(&bucket, "x").unwrap(), b"first");
    assert_eq!(store.gets(), 2);
    assert!(store.seen.gets.lock().unwrap()[1].if_none_match.is_some());
    store.insert("boot/x", "second");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(fetch(&bucket, "x").unwrap(), b"second");
}

#[test]
fn a_missing_object_is_remembered_for_a_while_and_not_after_an_upload() {
    let store = Store::new();
    let bucket = settings(&store).uploads(true).remember_misses(Duration::from_secs(600)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(fetch(&bucket, "x"), Err(Refusal::not_found()));
    }
    assert_eq!(store.gets(), 1);
    smol::block_on(bucket.write(&request("x"), Source::from("new"))).unwrap();
    assert_eq!(fetch(&bucket, "x").unwrap(), b"new");
}

#[test]
fn a_store_that_fails_is_left_for_what_was_had_before() {
    let store = Store::new();
    store.insert("boot/x", "old");
    let bucket = settings(&store).stale_if_error(true).build().unwrap();
    assert_eq!(fetch(&bucket, "x").unwrap(), b"old");
    *store.error.lock().unwrap() = Some(|_| Error::Generic { store: "test", source: "no".into() });
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(fetch(&bucket, "x").unwrap(), b"old");
    assert_eq!(fetch(&bucket, "y"), Err(UPSTREAM));
}

#[test]
fn two_servers_before_one_store_serve_what_came_through_the_other() {
    let store = Store::new();
    let new = || Serving::with(settings(&store).uploads(true).build().unwrap(), |builder| builder);
    let servers = [new(), new()];
    for (n, (to, from)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let (name, text) = (format!("config-{n}"), format!("text {n}"));
        let mut peer = Peer::new(servers[to].addr());
        peer.wrq(&name, &[]).expect(Packet::Ack(0));
        peer.data(1, &text);
        peer.expect(Packet::Ack(1));
        let mut peer = Peer::new(servers[from].addr());
        peer.rrq(&name, &[]).expect_data(1, &text);
        peer.ack(1);
    }
}

#[test]
fn a_bucket_has_its_place_in_a_chain() {
    let store = Store::new();
    store.insert("boot/x", "of the store");
    let first = tuffet::handlers::Memory::new();
    let chain = first.or(settings(&store).uploads(true).build().unwrap());
    let get = |name: &str| smol::block_on(async { chain.read(&request(name)).await?.collect(100).await });
    assert_eq!(get("x").unwrap(), b"of the store");
    smol::block_on(chain.write(&request("x"), Source::from("of memory"))).unwrap();
    assert_eq!(get("x").unwrap(), b"of memory");
    eventually("the store is as it was", || store.object("boot/x").unwrap() == "of the store");
}
