use std::time::Duration;

use super::*;
use crate::packet::{Mode, Options, Request};

const POOL: usize = 64;

fn endpoint(policy: Policy) -> Endpoint {
    Endpoint::new(policy, vec![Pool { listener: 0, ports: (1..=POOL).collect() }], 7)
}

fn single_port() -> Endpoint {
    Endpoint::new(Policy::default(), vec![Pool { listener: 0, ports: vec![0] }], 7)
}

fn client(n: u16) -> Envelope {
    let [high, low] = n.to_be_bytes();
    Envelope::new(([192, 0, high, low], 1069).into())
}

fn rrq(name: &str, options: &str) -> Vec<u8> {
    let options: Options = options.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    Packet::Rrq(Request { filename: name.into(), mode: Mode::Octet, options }.into()).encode()
}

fn begin(endpoint: &mut Endpoint, now: Instant, client: &Envelope, request: &[u8]) -> Start {
    match endpoint.handle(now, 0, client, request) {
        Action::Begin(start) => *start,
        other => panic!("{other:?}"),
    }
}

fn ack(block: u16) -> Vec<u8> {
    Packet::Ack(block).encode()
}

fn an_oack() -> Options {
    Options::from_iter([("blksize", "512")])
}

fn is_error(action: &Action, number: u16) -> bool {
    matches!(action, Action::Reply(Packet::Error { code, .. }) if code.0 == number)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_transfer_gets_the_packets_of_its_client_until_it_has_ended() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
    assert!(matches!(endpoint.handle(now, 0, &client(1), &rrq("x", "")), Action::Repeat(id) if id == start.id));
    let action = endpoint.handle(now, start.port, &client(1), &ack(1));
    assert!(matches!(action, Action::Deliver(id, Packet::Ack(1)) if id == start.id));
    // Another client at this client's port, this client at another port, and a request at the transfer's port.
    assert!(is_error(&endpoint.handle(now, start.port, &client(2), &ack(1)), 5));
    let other = 1 + start.port % POOL;
    assert!(matches!(endpoint.handle(now, other, &client(1), &ack(1)), Action::Drop(DropReason::UnknownTid)));
    let action = endpoint.handle(now, start.port, &client(1), &rrq("x", ""));
    assert!(matches!(action, Action::Drop(DropReason::Misdirected)));
    endpoint.end(now, start.id, Ended::default());
    assert!(endpoint.is_empty());
    assert!(matches!(endpoint.handle(now, start.port, &client(1), &ack(1)), Action::Drop(DropReason::Late)));
    assert!(is_error(&endpoint.handle(now + secs(91), start.port, &client(1), &ack(1)), 5));
    let counts = endpoint.counts();
    assert_eq!((counts.requests, counts.repeated, counts.unknown_tids), (2, 1, 4));
    assert_eq!(endpoint.counts(), Counts::default());
}

#[test]
fn the_last_ack_of_an_upload_is_repeated() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let start = begin(&mut endpoint, now, &client(1), b"\0\x02x\0octet\0");
    endpoint.end(now, start.id, Ended { last_ack: Some(3), ..Ended::default() });
    let data = |block| Packet::Data { block, payload: "x".into() }.encode();
    assert!(matches!(endpoint.handle(now, start.port, &client(1), &data(3)), Action::Reply(Packet::Ack(3))));
    assert!(matches!(endpoint.handle(now, start.port, &client(1), &data(2)), Action::Drop(DropReason::Late)));
}

#[test]
fn the_next_request_of_a_port_is_served_at_once() {
    let (mut endpoint, mut now) = (endpoint(Policy::default()), Instant::now());
    let mut ports = Vec::new();
    for _ in 0..50 {
        now += Duration::from_micros(200);
        let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
        let _ = endpoint.handle(now, start.port, &client(1), &ack(1));
        endpoint.end(now, start.id, Ended::default());
        ports.push(start.port);
    }
    assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "a late packet of one would be taken for the next one's");
}

#[test]
fn another_request_replaces_a_transfer_and_a_late_copy_does_not() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let first = begin(&mut endpoint, now, &client(1), &rrq("a", ""));
    endpoint.end(now, first.id, Ended::default());
    let second = begin(&mut endpoint, now, &client(1), &rrq("b", ""));
    let late = endpoint.handle(now, 0, &client(1), &rrq("a", ""));
    assert!(matches!(late, Action::Drop(DropReason::Late)), "{late:?}");
    assert_eq!(endpoint.closed(), None);
    // After a second, the machine has been reset and repeats its first request.
    endpoint.emptied(now + secs(1), |_| true);
    let third = begin(&mut endpoint, now + secs(1), &client(1), &rrq("a", ""));
    assert_eq!((endpoint.closed(), endpoint.closed()), (Some((second.id, CloseReason::Replaced)), None));
    assert_ne!((third.id, third.port), (second.id, second.port));
    endpoint.end(now + secs(1), second.id, Ended::default());
    assert_eq!(endpoint.len(), 1);
}

#[test]
fn a_client_that_is_reset_asks_again_and_gets_another_transfer() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let first = begin(&mut endpoint, now, &client(1), &rrq("a", ""));
    let _ = endpoint.handle(now, first.port, &client(1), &ack(1));
    let early = endpoint.handle(now + Duration::from_millis(900), 0, &client(1), &rrq("a", ""));
    assert!(matches!(early, Action::Repeat(_)));
    endpoint.emptied(now + secs(1), |_| true);
    begin(&mut endpoint, now + secs(1), &client(1), &rrq("a", ""));
    assert_eq!(endpoint.closed(), Some((first.id, CloseReason::Replaced)));
}

/// A busy server may read a listener's queue seconds after the packets that came later to the transfer's port.
#[test]
fn a_copy_that_waited_in_a_queue_does_not_replace_its_transfer() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let after = |millis| now + Duration::from_millis(millis);
    let first = begin(&mut endpoint, after(100), &client(1), &rrq("a", ""));
    let _ = endpoint.handle(after(200), first.port, &client(1), &ack(1));
    // The listener was empty in the turn that read the ACK, before it read the ACK.
    endpoint.emptied(after(200), |port| port == 0);
    endpoint.emptied(after(4000), |port| port != 0);
    let copy = endpoint.handle(after(30_000), 0, &client(1), &rrq("a", ""));
    assert!(matches!(copy, Action::Repeat(id) if id == first.id), "{copy:?}");
    endpoint.emptied(after(30_000), |port| port == 0);
    // Now a request is new.
    let second = begin(&mut endpoint, after(30_000), &client(1), &rrq("a", ""));
    assert_eq!(endpoint.closed(), Some((first.id, CloseReason::Replaced)));
    let _ = endpoint.handle(after(31_000), second.port, &client(1), &ack(1));
    endpoint.emptied(after(31_001), |port| port == 0);
    assert!(matches!(endpoint.handle(after(31_999), 0, &client(1), &rrq("a", "")), Action::Repeat(_)));
    begin(&mut endpoint, after(32_000), &client(1), &rrq("b", ""));
    assert_eq!(endpoint.closed(), Some((second.id, CloseReason::Replaced)));
    // The transfer of `a` has ended since the listener was empty.
    let late = endpoint.handle(after(60_000), 0, &client(1), &rrq("a", ""));
    assert!(matches!(late, Action::Drop(DropReason::Late)), "{late:?}");
}

#[test]
fn the_oldest_half_open_transfer_gives_way() {
    let policy = Policy { max_transfers: 100, max_transfers_per_client: Some(1), ..Policy::default() };
    let (mut endpoint, now) = (endpoint(policy), Instant::now());
    let mut starts = Vec::new();
    for n in 0..100 {
        let start = begin(&mut endpoint, now, &client(n), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, &Options::new());
        starts.push(start);
    }
    // The first client has sent an ACK, the second has repeated its request.
    let _ = endpoint.handle(now, starts[0].port, &client(0), &ack(1));
    let _ = endpoint.handle(now, 0, &client(1), &rrq("x", ""));
    for n in 100..198 {
        begin(&mut endpoint, now, &client(n), &rrq("x", ""));
        let expected = &starts[usize::from(n) - 98];
        assert_eq!(endpoint.closed(), Some((expected.id, CloseReason::Evicted)));
        endpoint.end(now, expected.id, Ended::default());
    }
    // Transfers that wait for their handlers keep their places for ten seconds. So the second transfer, which waits
    // for its client, is evicted first.
    begin(&mut endpoint, now, &client(198), &rrq("x", ""));
    assert_eq!(endpoint.closed(), Some((starts[1].id, CloseReason::Evicted)));
    assert!(matches!(endpoint.handle(now, 0, &client(199), &rrq("x", "")), Action::LeaveUnanswered(DropReason::Full)));
    begin(&mut endpoint, now + secs(10), &client(199), &rrq("x", ""));
    assert!(matches!(endpoint.closed(), Some((_, CloseReason::Evicted))));
    let action = endpoint.handle(now, starts[0].port, &client(0), &ack(2));
    assert!(matches!(action, Action::Deliver(..)), "a client that was heard keeps its place for ten seconds");
}

/// A forger need not see the first block to acknowledge it at all ports that the transfer may have.
#[test]
fn silent_clients_that_have_answered_give_way() {
    let policy = Policy { max_transfers: 100, ..Policy::default() };
    let (mut endpoint, now) = (endpoint(policy), Instant::now());
    // One client has begun in earnest, and all others have acknowledged their first block.
    for n in 0..100 {
        let start = begin(&mut endpoint, now, &client(n), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, &Options::new());
        for block in 1..=if n == 50 { 16 } else { 1 } {
            let _ = endpoint.handle(now, start.port, &client(n), &ack(block));
        }
    }
    let another = |endpoint: &mut Endpoint, now, n| {
        let action = endpoint.handle(now, 0, &client(n), &rrq("x", ""));
        if let Action::Begin(start) = &action {
            endpoint.granted(now, start.id, 512, &Options::new());
        }
        (matches!(action, Action::Begin(_)), endpoint.closed())
    };
    let soon = now + Duration::from_millis(900);
    assert_eq!(another(&mut endpoint, soon, 100), (false, None), "they may answer any moment");
    let later = now + secs(1);
    for n in 100..199 {
        let (begins, closed) = another(&mut endpoint, later, n);
        assert!(begins && matches!(closed, Some((id, CloseReason::Evicted)) if id.0 != 50), "{n}: {closed:?}");
        endpoint.end(later, closed.unwrap().0, Ended::default());
    }
    // A client that has sent many packets has more time.
    for (at, is_evicted) in [(now + secs(9), false), (now + secs(10), true)] {
        let mut endpoint = self::endpoint(Policy { max_transfers: 1, ..Policy::default() });
        let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, &Options::new());
        for block in 1..=16 {
            let _ = endpoint.handle(now, start.port, &client(1), &ack(block));
        }
        let closed = is_evicted.then_some((start.id, CloseReason::Evicted));
        assert_eq!(another(&mut endpoint, at, 2), (is_evicted, closed));
    }
}

/// As above: the forger begins a transfer every quarter of a millisecond, and an honest client answers after one.
#[test]
fn a_forger_that_answers_does_not_lock_a_client_out() {
    let policy = Policy { max_transfers: 5000, max_requests_per_client: 0, ..Policy::default() };
    let (mut endpoint, start) = (endpoint(policy), Instant::now());
    let mut next_block = 1;
    let mut honest: Option<Start> = None;
    for n in 0..40_000_u32 {
        let now = start + Duration::from_micros(250) * n;
        let forged = Envelope::new(([198, 18, (n >> 8) as u8, n as u8], 2000).into());
        if let Action::Begin(start) = endpoint.handle(now, 0, &forged, &rrq("x", "")) {
            endpoint.granted(now, start.id, 512, &Options::new());
            let _ = endpoint.handle(now, start.port, &forged, &ack(1));
        }
        // It begins in the middle of the flood.
        if n >= 30_000 && n % 4 == 0 {
            let action = match &honest {
                None => endpoint.handle(now, 0, &client(1), &rrq("x", "")),
                Some(start) => endpoint.handle(now, start.port, &client(1), &ack(next_block)),
            };
            match action {
                Action::Begin(start) => {
                    endpoint.granted(now, start.id, 512, &Options::new());
                    honest = Some(*start);
                }
                Action::Deliver(..) => next_block += 1,
                other => panic!("{other:?} at {n}"),
            }
        }
        while let Some((id, _)) = endpoint.closed() {
            assert!(honest.as_ref().is_none_or(|start| start.id != id), "it lost its place at {n}");
            endpoint.end(now, id, Ended::default());
        }
    }
    assert!(next_block > 2000 && endpoint.len() <= 5001 && endpoint.transfers.tickets() < 20_000);
}

#[test]
fn half_open_transfers_are_few_where_descriptors_are_few() {
    let policy = Policy { max_half_open: 10, ..Policy::default() };
    let (mut endpoint, now) = (endpoint(policy), Instant::now());
    for n in 0..1000 {
        let start = begin(&mut endpoint, now, &client(n), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, &Options::new());
        while let Some((id, why)) = endpoint.closed() {
            assert_eq!(why, CloseReason::Evicted);
            endpoint.end(now, id, Ended::default());
        }
        assert!(endpoint.len() <= 10);
        // Every other peer is a real client, which sends an ACK and ends.
        if n % 2 == 0 {
            let _ = endpoint.handle(now, start.port, &client(n), &ack(1));
            endpoint.end(now, start.id, Ended::default());
        }
    }
    endpoint.make_room(now);
    assert!(endpoint.closed().is_some());
}

#[test]
fn silent_clients_make_room_for_descriptors() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    for n in 0..100 {
        let start = begin(&mut endpoint, now, &client(n), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, &Options::new());
        let _ = endpoint.handle(now, start.port, &client(n), &ack(1));
    }
    let mut closed_at = |at| {
        endpoint.make_room(at);
        std::iter::from_fn(|| endpoint.closed()).filter(|(_, why)| *why == CloseReason::Evicted).count()
    };
    assert_eq!((closed_at(now), closed_at(now + secs(1))), (0, 8));
}

#[test]
fn forged_requests_take_no_memory() {
    let policy = Policy { max_transfers: 50, max_requests_per_client: 0, ..Policy::default() };
    let (mut endpoint, mut now) = (endpoint(policy), Instant::now());
    for n in 0..100_000 {
        let start = begin(&mut endpoint, now, &client(n as u16), &rrq("x", "tsize=0"));
        endpoint.granted(now, start.id, 512, &Options::new());
        endpoint.set_deadline(start.id, now + secs(30));
        while let Some((id, _)) = endpoint.closed() {
            endpoint.end(now, id, Ended::default());
        }
        now += Duration::from_micros(50);
    }
    assert!(endpoint.len() <= 51 && endpoint.transfers.tickets() < 300, "{}", endpoint.transfers.tickets());
}

#[test]
fn names_and_options_are_short() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let longest = "n".repeat(LONGEST_NAME);
    begin(&mut endpoint, now, &client(1), &rrq(&longest, ""));
    for len in [LONGEST_NAME + 1, 60_000] {
        assert!(is_error(&endpoint.handle(now, 0, &client(2), &rrq(&"n".repeat(len), "")), 4));
    }
    let many: String = (0..4000).map(|n| format!("option{n}=1 blksize=x ")).collect();
    let start = begin(&mut endpoint, now, &client(3), &rrq("x", &format!("{many} blksize=1000")));
    let held: usize = start.request.options.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(held <= 1024, "{held}");
    assert!(start.request.options.iter().any(|pair| pair == ("blksize", "1000")));
    let text = Packet::Error { code: crate::ErrorCode(0), message: "é".repeat(20_000) }.encode();
    match endpoint.handle(now, start.port, &client(3), &text) {
        Action::Deliver(_, Packet::Error { message, .. }) => assert_eq!(message, "é".repeat(256)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broadcast_is_answered_only_if_the_file_exists() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let everybody = Envelope { broadcast: true, ..client(1) };
    let start = begin(&mut endpoint, now, &everybody, &rrq("x", ""));
    assert_eq!(endpoint.refuse(now, start.id), Err(DropReason::Broadcast));
    let bad = endpoint.handle(now, 0, &everybody, b"\0\x01x");
    assert!(matches!(bad, Action::Drop(DropReason::Broadcast)), "{bad:?}");
    let start = begin(&mut endpoint, now, &client(2), &rrq("x", ""));
    assert_eq!(endpoint.refuse(now, start.id), Ok(()));
}

/// A machine that boots asks for files that do not exist, and waits for each ERROR.
#[test]
fn a_flood_of_misses_takes_no_error_from_a_client_that_was_served() {
    let policy = Policy { max_requests_per_client: 0, ..Policy::default() };
    let (mut endpoint, now) = (endpoint(policy), Instant::now());
    let start = begin(&mut endpoint, now, &client(1), &rrq("pxelinux.0", ""));
    endpoint.end(now, start.id, Ended { round_trip: Some(Duration::from_millis(1)), ..Ended::default() });
    let mut may_refuse = |n| {
        let start = begin(&mut endpoint, now, &client(n), &rrq("no", ""));
        let allowed = endpoint.refuse(now, start.id);
        endpoint.end(now, start.id, Ended::default());
        allowed
    };
    assert!((0..30_000).filter(|n| may_refuse(2 + n).is_ok()).count() < 25_000);
    assert_eq!((may_refuse(2), may_refuse(1)), (Err(DropReason::Errors), Ok(())));
}

#[test]
fn a_first_block_that_never_arrives_makes_the_next_transfer_smaller() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    endpoint.set_mtu(|_, _| 1468);
    let mut granted = Vec::new();
    for n in 0..4 {
        // Each request comes from another port while the previous transfer still runs.
        let mut client = client(1);
        client.peer.set_port(2000 + n);
        let start = begin(&mut endpoint, now, &client, &rrq("x", "blksize=1468"));
        granted.push(start.blksize);
        endpoint.granted(now, start.id, start.blksize, &an_oack());
        let _ = endpoint.handle(now, start.port, &client, &ack(0));
        endpoint.first_block(start.id);
        endpoint.first_block(start.id);
    }
    assert_eq!(granted, [1468, 1228, 512, 512]);
    let other = begin(&mut endpoint, now, &client(2), &rrq("x", "blksize=1468"));
    assert_eq!(other.blksize, 1468, "that counts for one address");
    let later = begin(&mut endpoint, now + secs(601), &client(3), &rrq("x", "blksize=1468"));
    assert_eq!(later.blksize, 1468);
}

#[test]
fn a_client_that_comes_each_minute_gets_large_blocks_again() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    endpoint.set_mtu(|_, _| 1468);
    let mut granted = Vec::new();
    for minute in 0..12 {
        let now = now + secs(60 * minute);
        let start = begin(&mut endpoint, now, &client(1), &rrq("x", "blksize=1468"));
        granted.push(start.blksize);
        endpoint.granted(now, start.id, start.blksize, &an_oack());
        let _ = endpoint.handle(now, start.port, &client(1), &ack(0));
        // The line is down for a moment.
        (0..2).filter(|_| minute == 0).for_each(|_| endpoint.first_block(start.id));
        endpoint.end(now, start.id, Ended { round_trip: Some(secs(1)), ..Ended::default() });
    }
    assert_eq!(granted, [1468, 1228, 1228, 1228, 1228, 1228, 1228, 1228, 1228, 1228, 1468, 1468]);
}

#[test]
fn a_first_block_that_arrives_changes_nothing() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    endpoint.set_mtu(|_, _| 1468);
    let start = begin(&mut endpoint, now, &client(1), &rrq("x", "blksize=1468"));
    endpoint.granted(now, start.id, start.blksize, &an_oack());
    for block in [0, 1] {
        let _ = endpoint.handle(now, start.port, &client(1), &ack(block));
        endpoint.first_block(start.id);
    }
    endpoint.first_block(start.id);
    endpoint.end(now, start.id, Ended { round_trip: Some(secs(1)), ..Ended::default() });
    let next = begin(&mut endpoint, now, &client(1), &rrq("x", "blksize=1468"));
    assert_eq!((next.blksize, next.round_trip), (1468, Some(secs(1))));
}

#[test]
fn windows_are_as_large_as_an_ack_pays_for() {
    let (mut pooled, mut single, now) = (endpoint(Policy::default()), single_port(), Instant::now());
    let asked = |blksize| rrq("x", &format!("windowsize=64 blksize={blksize}"));
    for (blksize, in_pool, in_single) in [(512, 64, 4), (1428, 64, 3), (1468, 64, 3), (8968, 11, 1)] {
        let start = begin(&mut pooled, now, &client(blksize), &asked(blksize));
        assert_eq!(start.windowsize, in_pool, "{blksize}");
        assert!(u32::from(in_pool) * u32::from(blksize + 32) <= start.amplification * 32, "{blksize}");
        let start = begin(&mut single, now, &client(blksize), &asked(blksize));
        assert_eq!((start.windowsize, start.amplification), (in_single, 150), "{blksize}");
    }
    // In an upload the server sends no blocks.
    let upload = begin(&mut single, now, &client(1), b"\0\x02x\0octet\0windowsize\x0064\0");
    assert_eq!(upload.windowsize, 64);
    // The operator may allow more.
    single.set_policy(Policy { windowsize: Some(64), ..Policy::default() });
    assert_eq!(begin(&mut single, now, &client(2), &asked(1468)).windowsize, 64);
}

#[test]
fn transfers_of_few_bytes_an_ack_share_few_ports() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let mut ports = |request: &[u8]| {
        let drawn = (0..2000).map(|n| begin(&mut endpoint, now, &client(n), request));
        let drawn: std::collections::BTreeSet<_> = drawn.map(|start| (start.port, start.amplification)).collect();
        assert!(drawn.iter().all(|(_, amplification)| *amplification == 50 * drawn.len() as u32));
        drawn.len()
    };
    assert_eq!(ports(&rrq("a", "")), LEAST);
    assert_eq!(ports(&rrq("b", "windowsize=16 blksize=1468")), 19);
    assert_eq!(ports(&rrq("c", "windowsize=64 blksize=1468")), POOL);
    assert_eq!(ports(b"\0\x02d\0octet\0"), POOL);
}

#[test]
fn an_icmp_error_closes_the_transfer() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
    endpoint.unreachable(now, start.port, client(2).peer);
    assert_eq!(endpoint.closed(), None);
    endpoint.unreachable(now, start.port, client(1).peer);
    assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Unreachable)));
}

#[test]
fn a_server_that_stops_takes_no_requests() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
    endpoint.stop();
    assert!(matches!(
        endpoint.handle(now, 0, &client(2), &rrq("x", "")),
        Action::LeaveUnanswered(DropReason::Stopping)
    ));
    assert!(matches!(endpoint.handle(now, start.port, &client(1), &ack(1)), Action::Deliver(..)));
    assert_eq!(endpoint.counts().unanswered, 1);
}

#[test]
fn a_client_that_answers_as_a_server_loses_its_transfer() {
    let (mut endpoint, now) = (endpoint(Policy::default()), Instant::now());
    let (none, oack) = (Options::new(), Packet::Oack(an_oack()).encode());
    for (answer, granted) in [(ack(0), &none), (oack.clone(), &none), (oack, &an_oack())] {
        let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
        endpoint.granted(now, start.id, 512, granted);
        assert!(is_error(&endpoint.handle(now, start.port, &client(1), &answer), 4));
        assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Server)));
        endpoint.end(now, start.id, Ended::default());
    }
    let start = begin(&mut endpoint, now, &client(1), &rrq("x", ""));
    endpoint.granted(now, start.id, 512, &an_oack());
    assert!(
        matches!(endpoint.handle(now, start.port, &client(1), &ack(0)), Action::Deliver(..)),
        "it answers the OACK"
    );
}
