use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_lite::{StreamExt, future, stream};
use tuffet::{Bytes, ErrorCode, Handler, Refusal, Source, handlers::Bucket, packet::Packet};

use super::{
    bucket,
    common::{Peer, Serving, eventually, file},
    fetch, request, settings,
    store::Store,
};

const PART: usize = 5 << 20;

fn taking(store: &Arc<Store>) -> Bucket {
    settings(store).uploads(true).build().unwrap()
}

fn put(bucket: &Bucket, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    smol::block_on(bucket.write(&request(name), Source::stream(stream::iter(chunks))))
}

/// A source that gives so many bytes, and then nothing more.
fn stuck(bytes: usize) -> Source {
    Source::stream(stream::once(Ok(vec![1; bytes].into())).chain(stream::pending()))
}

/// An upload that is dropped when this is true.
fn give_up(bucket: &Bucket, name: &str, data: Source, is_time: impl Fn() -> bool) {
    let request = request(name);
    let time = async {
        while !is_time() {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
        Err(Refusal::silent())
    };
    assert_eq!(smol::block_on(future::or(bucket.write(&request, data), time)), Err(Refusal::silent()));
}

#[test]
fn files_of_any_size_become_objects() {
    for (size, parts) in [
        (0, vec![]),
        (1, vec![]),
        (PART, vec![]),
        (PART + 1, vec![PART, 1]),
        (2 * PART, vec![PART, PART]),
        (2 * PART + 99, vec![PART, PART, 99]),
    ] {
        let (store, bytes) = (Store::new(), file(size));
        let bucket = taking(&store);
        put(&bucket, "x", &bytes).unwrap();
        assert!(store.object("boot/x").unwrap() == bytes, "{size}");
        assert_eq!(*store.seen.parts.lock().unwrap(), parts, "{size}");
        assert!(fetch(&bucket, "x").unwrap() == bytes, "{size}");
        assert_eq!((bucket.uploading(), store.seen.aborted.load(SeqCst)), (0, 0));
    }
}

#[test]
fn uploads_have_to_be_allowed_and_replace_nothing_unless_told_to() {
    let store = Store::new();
    store.insert("boot/x", "old");
    assert_eq!(put(&bucket(&store), "y", b"new"), Err(Refusal::denied()));
    assert_eq!(put(&taking(&store), "x", b"new"), Err(Refusal::exists()));
    assert_eq!(store.object("boot/x").unwrap(), "old");
    put(&settings(&store).uploads(true).overwrite(true).build().unwrap(), "x", b"new").unwrap();
    assert_eq!(store.object("boot/x").unwrap(), "new");
    assert_eq!(store.object("boot/y"), None);
}

#[test]
fn a_store_without_conditional_puts_is_looked_at_before() {
    let store = Store::new();
    store.is_simple.store(true, SeqCst);
    put(&taking(&store), "x", b"first").unwrap();
    assert_eq!(put(&taking(&store), "x", b"second"), Err(Refusal::exists()));
    assert_eq!(store.object("boot/x").unwrap(), "first");
}

#[test]
fn an_object_that_is_there_is_refused_before_any_byte_travels() {
    let store = Store::new();
    store.insert("boot/x", "old");
    let server = Serving::new(taking(&store));
    Peer::new(server.addr()).wrq("x", &[]).expect_error(ErrorCode::FILE_EXISTS.0);
}

/// The store decides: both uploads looked before either object was there.
#[test]
fn one_of_two_uploads_of_a_new_name_is_refused() {
    let store = Store::new();
    store.seen.stopped.store(true, SeqCst);
    let (first, second) = (taking(&store), taking(&store));
    let request = request("x");
    let both = future::zip(first.write(&request, "first".into()), second.write(&request, "second".into()));
    let go = async {
        smol::Timer::after(Duration::from_millis(50)).await;
        store.seen.stopped.store(false, SeqCst);
    };
    let ((first, second), ()) = smol::block_on(future::zip(both, go));
    let (winner, loser) = if first.is_ok() { ("first", second) } else { ("second", first) };
    assert_eq!((store.object("boot/x").unwrap(), loser), (winner.into(), Err(Refusal::exists())));
}

#[test]
fn an_object_that_comes_while_parts_are_put_is_not_replaced() {
    let store = Store::new();
    let bucket = taking(&store);
    let other = store.clone();
    let bytes = move |n: usize| {
        if n == 119 {
            other.insert("boot/x", "quicker");
        }
        Ok(vec![n as u8; PART / 100].into())
    };
    let data = Source::stream(stream::iter(0..120).map(bytes));
    assert_eq!(smol::block_on(bucket.write(&request("x"), data)), Err(Refusal::exists()));
    bucket.close();
    assert_eq!(store.object("boot/x").unwrap(), "quicker");
    assert_eq!((store.seen.completed.load(SeqCst), store.seen.aborted.load(SeqCst)), (0, 1));
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing() {
    let store = Store::new();
    let bucket = taking(&store);
    // Before there was a part, when one is about to be, between two of them, with one on its way, and by a failure.
    give_up(&bucket, "x", stuck(1000), || bucket.uploading() > 0);
    assert_eq!((bucket.uploading(), store.seen.begun.load(SeqCst)), (0, 0));
    store.seen.hesitating.store(true, SeqCst);
    give_up(&bucket, "x", stuck(PART + 1), || store.seen.begun.load(SeqCst) == 1);
    store.seen.hesitating.store(false, SeqCst);
    give_up(&bucket, "x", stuck(PART + 1), || store.seen.parts.lock().unwrap().len() == 1);
    store.seen.stopped.store(true, SeqCst);
    give_up(&bucket, "x", stuck(3 * PART), || store.seen.parts.lock().unwrap().len() == 2);
    store.seen.stopped.store(false, SeqCst);
    let failing = stream::iter([Ok(vec![1; PART + 1].into()), Err(Refusal::internal())]);
    let failed = smol::block_on(bucket.write(&request("x"), Source::stream(failing)));
    assert_eq!(failed, Err(Refusal::internal()));
    eventually("the memory is free", || bucket.uploading() == 0);
    // Only the end of the server waits for the abort of the last upload.
    bucket.close();
    assert_eq!((store.seen.completed.load(SeqCst), store.seen.aborted.load(SeqCst)), (0, 4));
    assert_eq!(store.object("boot/x"), None);
}

#[test]
fn a_client_that_says_error_leaves_nothing() {
    let store = Store::new();
    let server = Serving::new(taking(&store));
    let mut peer = Peer::new(server.addr());
    peer.wrq("x", &[("blksize", "65464")]).expect_oack(&[("blksize", "65464")]);
    for block in 1..=PART / 65464 + 1 {
        peer.data(block as u16, vec![7; 65464]);
        peer.expect(Packet::Ack(block as u16));
    }
    eventually("a part is on its way", || store.seen.parts.lock().unwrap().len() == 1);
    peer.error(0);
    eventually("it is given up", || store.seen.aborted.load(SeqCst) == 1);
    assert_eq!(store.object("boot/x"), None);
}

#[test]
fn the_last_ack_comes_after_the_commit() {
    let store = Store::new();
    store.seen.stopped.store(true, SeqCst);
    let server = Serving::new(taking(&store));
    let mut peer = Peer::new(server.addr());
    peer.wrq("x", &[]).expect(Packet::Ack(0));
    peer.data(1, "all");
    peer.expect_nothing_new();
    assert_eq!(store.object("boot/x"), None);
    store.seen.stopped.store(false, SeqCst);
    peer.expect(Packet::Ack(1));
    assert_eq!(store.object("boot/x").unwrap(), "all");
}

#[test]
fn uploads_hold_two_parts_at_most_and_share_a_bound() {
    let store = Store::new();
    store.seen.stopped.store(true, SeqCst);
    let bucket = settings(&store).uploads(true).upload_memory(2 * PART + PART / 2).build().unwrap();
    give_up(&bucket, "x", stuck(4 * PART), || {
        // Another one finds half a part free, and no more.
        let full = store.seen.parts.lock().unwrap().len() == 1 && bucket.uploading() == 2 * PART;
        full && put(&bucket, "y", &file(PART)) == Err(Refusal::internal())
    });
    store.seen.stopped.store(false, SeqCst);
    eventually("the memory is free", || bucket.uploading() == 0);
    put(&bucket, "y", &file(PART)).unwrap();
}
