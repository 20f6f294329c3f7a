//! The facts in hooks and records: at the beginning, at the end, and for requests that are refused.
#![cfg(feature = "sim")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{file, simulated::Simulated, size};
use tuffet::{Gen, Handler, Refusal, Request, Source, read, transfer::Outcome, write};

type Told = Arc<Mutex<Vec<String>>>;

fn tell(told: &Told, what: String) {
    told.lock().unwrap().push(what);
}

fn taken(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

/// A handler without files, then one for reads and one for writes. Each has a hook for the end.
fn handlers(told: &Told) -> impl Handler {
    let (reads, writes) = (told.clone(), told.clone());
    let nothing = read(async |_: Request| Err::<Source, _>(Refusal::not_found()));
    let reads = read(async move |request: Request| {
        let reads = reads.clone();
        request.on_end(|_| panic!("a hook that panics keeps no other from the record"));
        request.on_end(move |record| tell(&reads, format!("read {} {}", record.outcome.name(), record.bytes)));
        match request.path() {
            "missing" => Err(Refusal::not_found()),
            _ => Ok(file(1000)),
        }
    });
    let writes = write(async move |request: Request, data: Source| {
        let writes = writes.clone();
        request.on_end(move |record| tell(&writes, format!("write {} {}", record.outcome.name(), record.bytes)));
        data.collect(1 << 20).await.map(drop)
    });
    nothing.or(reads).or(writes)
}

#[test]
fn a_handler_learns_what_became_of_what_it_served() {
    let told = Told::default();
    let server = Simulated::new(handlers(&told));
    let mut peer = server.peer();
    peer.rrq("file", &[]).expect_data(1, &file(1000)[..512]);
    peer.expect_second(1000);
    assert_eq!(taken(&told), [""; 0], "it is not over");
    peer.ack(2);
    server.record();
    assert_eq!(taken(&told), ["read complete 1000"]);

    let mut peer = server.peer();
    peer.rrq("file", &[("tsize", "0")]).expect_oack(&[("tsize", "1000")]);
    peer.error(8);
    server.record();
    assert_eq!(taken(&told), ["read probe 0"]);

    let mut peer = server.peer();
    peer.rrq("file", &[]).expect_data(1, &file(1000)[..512]);
    peer.expect_second(1000);
    peer.error(3);
    server.record();
    assert_eq!(taken(&told), ["read aborted 512"]);

    let mut peer = server.peer();
    peer.rrq("missing", &[]).expect_error(1);
    server.record();
    assert_eq!(taken(&told), ["read refused 0"]);

    let mut peer = server.peer();
    peer.wrq("file", &[]).receive();
    peer.data(1, [7; 100]);
    server.record();
    assert_eq!(taken(&told), ["write complete 100"]);
}

#[test]
fn a_transfer_begins_before_its_handler_is_asked_and_ends_once() {
    let told = Told::default();
    let (begun, asked, ended) = (told.clone(), told.clone(), told.clone());
    let handler = read(async move |request: Request| {
        tell(&asked, format!("asked for {}", request.path()));
        "bytes"
    });
    let server = Simulated::with(handler, |builder| {
        builder
            .on_begin(move |transfer| tell(&begun, format!("{} {} {}", transfer.id, transfer.direction, transfer.path)))
            .on_begin(|_| panic!("a hook that panics keeps no transfer from its beginning"))
            .on_end(move |record| tell(&ended, format!("{} {}", record.id, record.outcome)))
    });
    let mut peer = server.peer();
    peer.rrq("/a//file", &[]).expect_data(1, "bytes");
    assert_eq!(taken(&told), ["1 read a/file", "asked for a/file"]);
    peer.ack(1);
    server.record();
    assert_eq!(taken(&told), ["1 complete"]);
    // A request that is refused before the handler is asked has a beginning and an end as well.
    server.peer().rrq("../file", &[]).expect_error(2);
    let ends = server.record().outcome.to_string();
    assert_eq!(taken(&told), ["2 read ../file".to_owned(), format!("2 {ends}")]);
}

fn impatient(handler: impl Handler) -> Simulated {
    Simulated::with(handler, |builder| builder.patience(Duration::from_secs(2)))
}

#[test]
fn the_record_has_a_hint_where_the_cause_is_known() {
    let server = impatient(read(async |request: Request| file(size(&request))));
    server.peer().rrq("600", &[]);
    assert_eq!(server.record().hint, None, "nothing is known of a client that says no more");
    let mut peer = server.peer();
    peer.rrq("2000", &[("blksize", "1000")]).expect_oack(&[("blksize", "1000")]);
    peer.ack(0);
    let better = tuffet::hint::Hint::SmallerBlocks { blksize: 1000, better: 512 };
    assert_eq!(server.record().hint, Some(better));
    let mut peer = server.peer();
    peer.rrq("9", &[]).expect_data(1, file(9));
    peer.ack(1);
    assert_eq!(server.record().hint, None);
}

#[test]
fn a_record_tells_how_it_ended() {
    let server = impatient(read(async |request: Request| {
        let all = file(size(&request));
        Gen::new(async move |co| co.yield_(all).await)
    }));
    let mut peer = server.peer();
    let options = [("tsize", "0"), ("blksize", "1000"), ("unknown", "1")];
    peer.rrq("2000", &options).expect_oack(&[("tsize", "2000"), ("blksize", "1000")]);
    peer.error(8);
    let probe = server.record();
    assert_eq!((probe.outcome, probe.bytes, probe.path.as_str()), (Outcome::Probe, 0, "2000"));
    assert_eq!(
        (probe.asked.to_string(), probe.granted.to_string()),
        ("tsize=0 blksize=1000 unknown=1".to_owned(), "tsize=2000 blksize=1000".to_owned())
    );
    assert_eq!((probe.peer, probe.local), (peer.socket.addr(), server.addr()));
    // The size of an empty file is not sent, so its first packet is DATA.
    for code in 0..=9 {
        peer.rrq("0", &[("tsize", "0")]).expect_data(1, b"");
        peer.error(code);
        assert_eq!(server.record().outcome, Outcome::Probe, "{code}");
        peer.rrq("0", &[("tsize", "0"), ("blksize", "1000")]).expect_oack(&[("blksize", "1000")]);
        peer.error(code);
        assert_eq!(server.record().outcome, Outcome::Probe, "{code}");
        peer.rrq("0", &[]).expect_data(1, b"");
        peer.error(code);
        assert_eq!(server.record().outcome.name(), "aborted", "{code}");
    }
    // Silence.
    peer.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    let silent = server.record();
    assert_eq!((silent.outcome, silent.acked), (Outcome::TimedOut, 0));
    // Silence at the very end.
    peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    peer.expect_second(600);
    let record = server.record();
    assert_eq!((record.outcome, record.bytes), (Outcome::ProbablyComplete, 512));
    assert!(server.records().is_empty(), "one record of each transfer");
}
