use std::{cell::Cell, rc::Rc};

use futures_lite::{
    StreamExt,
    future::{block_on, poll_once},
    stream,
};

use super::*;
use crate::generators::{Gen, SendGen};

fn collect(source: impl IntoSource) -> Result<Vec<u8>, Refusal> {
    block_on(source.into_source()?.collect(100))
}

#[test]
fn many_things_are_sources() {
    assert_eq!(collect("text").unwrap(), b"text");
    assert_eq!(collect(Some(vec![1, 2])).unwrap(), [1, 2]);
    assert_eq!(collect(None::<String>), Err(Refusal::not_found()));
    assert_eq!(collect(Err::<Source, _>(Refusal::denied())), Err(Refusal::denied()));
    assert_eq!(collect(Gen::new(async |co| co.yield_("a").await)).unwrap(), b"a");
    assert_eq!(collect(SendGen::new(async |co| co.yield_(Bytes::from("b")).await)).unwrap(), b"b");
}

#[test]
fn a_generator_may_fail_by_a_chunk_or_at_its_end() {
    let by_chunk = Gen::new(async |co| {
        co.yield_(Ok("begun")).await;
        co.yield_(Err(Refusal::disk_full())).await;
    });
    assert_eq!(collect(by_chunk), Err(Refusal::disk_full()));
    let at_end = Gen::new(async |co| {
        co.yield_("begun").await;
        Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied))
    });
    assert_eq!(collect(at_end), Err(Refusal::denied()));
}

#[test]
fn a_source_is_held_to_its_size() {
    assert_eq!(collect(Source::from("1234").with_size(4)).unwrap(), b"1234");
    assert_eq!(collect(Source::from("1234").with_size(5)), Err(Refusal::internal()));
    assert_eq!(collect(Source::from("1234").with_size(3)), Err(Refusal::internal()));
}

/// A generator of these chunks, and the number of chunks that were asked for.
fn counted(chunks: &'static [&'static str]) -> (Source, Rc<Cell<usize>>) {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let generator = Gen::new(async move |co| {
        for chunk in chunks {
            counter.set(counter.get() + 1);
            co.yield_(*chunk).await;
        }
    });
    (generator.into(), count)
}

#[test]
fn a_small_source_that_is_read_ahead_has_a_size() {
    for (chunks, most, size, asked) in [
        (&["123", "", "45"][..], 100, Some(5), 3),
        (&["12345"], 5, Some(5), 1),
        (&[], 5, Some(0), 0),
        (&["123", "456", "789"], 5, None, 2),
        (&["", "123", "45"], 0, None, 2),
    ] {
        let (mut source, count) = counted(chunks);
        block_on(source.read_ahead(most)).unwrap();
        assert_eq!((source.size(), count.get()), (size, asked), "{chunks:?}");
        block_on(source.read_ahead(most)).unwrap();
        assert_eq!(count.get(), asked, "twice is once");
        block_on(source.read_ahead(100)).unwrap();
        assert_eq!(source.size(), Some(chunks.concat().len() as u64), "and more is more");
        assert_eq!(collect(source).unwrap(), chunks.concat().as_bytes());
    }
    let mut source = Source::from("1234");
    block_on(source.read_ahead(100)).unwrap();
    assert_eq!((source.size(), source.ahead.len()), (Some(4), 0), "there is nothing to find out");
}

#[test]
fn bytes_read_ahead_outlive_the_wait_for_more() {
    let chunks = stream::once(Ok(Bytes::from("12"))).chain(stream::pending());
    let mut source = Source::stream(chunks);
    assert_eq!(block_on(poll_once(source.read_ahead(100))), None);
    assert_eq!(source.size(), None);
    assert_eq!(block_on(source.next()).unwrap().unwrap(), "12");
    assert_eq!(block_on(poll_once(source.next())), None, "it goes on where it was");
}

#[test]
fn a_malformed_entity_tag_is_left_out() {
    for (text, is_one) in [
        ("\"a\"", true),
        ("W/\"a\"", true),
        ("\"\"", true),
        ("", false),
        ("a", false),
        ("\"", false),
        ("\"a\nb\"", false),
    ] {
        assert_eq!(Source::from("x").with_etag(text).etag(), Some(text).filter(|_| is_one), "{text}");
    }
}

#[test]
fn a_source_begins_where_it_is_wanted_if_it_can() {
    let source = |start: Start| {
        let from = start.clone();
        let chunks = Gen::new(async move |co| co.yield_(&"0123456789"[from.get() as usize..]).await);
        Source::from(chunks).with_size(10).with_start(start)
    };
    let mut some = source(Start::default());
    assert!(some.begin_at(7));
    assert_eq!(collect(some).unwrap(), b"789", "and its size is right");
    assert_eq!(collect(source(Start::default())).unwrap(), b"0123456789");
    assert!(!Source::from("0123456789").begin_at(7), "this one cannot");
    let mut begun = source(Start::default());
    block_on(begun.next()).unwrap().unwrap();
    assert!(!begun.begin_at(7), "nor one that has begun");
}

#[test]
fn a_failure_ahead_is_reported_at_once() {
    let chunks = [Ok(Bytes::from("12")), Err(Refusal::denied())];
    let mut source = Source::stream(stream::iter(chunks));
    assert_eq!(block_on(source.read_ahead(100)), Err(Refusal::denied()));
}
