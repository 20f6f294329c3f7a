use std::net::{IpAddr, Ipv4Addr};

use futures_lite::future::poll_fn;

use super::*;
use crate::packet::Packet;

fn port(batched: bool, address: &str) -> Port {
    Port::bind(Binding { address: address.parse().unwrap(), shared: false, listens: false, batched }).unwrap()
}

fn receive(port: &Port, inbox: &mut Inbox) {
    smol::block_on(poll_fn(|cx| port.poll_receive(cx, inbox))).unwrap();
}

#[test]
fn both_ways_carry_the_same() {
    for (from, to) in [(true, true), (true, false), (false, true), (false, false)] {
        let (sender, receiver) = (port(from, "127.0.0.1:0"), port(to, "127.0.0.1:0"));
        let packets: Vec<Packet> = (0..150u16)
            .map(|block| Packet::Data { block, payload: vec![block as u8; usize::from(block) * 9].into() })
            .chain([Packet::Ack(7), Packet::Data { block: 1, payload: vec![9; 65464].into() }])
            .collect();
        let mut queue = packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet.clone())).collect();
        sender.send(&mut queue);
        assert!(queue.is_empty());
        let (mut inbox, mut received) = (Inbox::new(), Vec::new());
        while received.len() < packets.len() {
            receive(&receiver, &mut inbox);
            for (envelope, bytes) in inbox.datagrams() {
                assert_eq!(envelope.peer, sender.local());
                received.push(Packet::decode(bytes).unwrap());
            }
        }
        assert_eq!(received, packets);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let (server, client) = (port(true, "0.0.0.0:0"), port(true, "127.0.0.1:0"));
    let asked: IpAddr = Ipv4Addr::new(127, 0, 0, 77).into();
    let mut inbox = Inbox::new();
    client.send(&mut [Outgoing::new((asked, server.local().port()).into(), None, Packet::Ack(1))].into());
    receive(&server, &mut inbox);
    let (envelope, _) = inbox.datagrams().next().unwrap();
    assert_eq!(envelope.local, Some(asked));
    assert_ne!(envelope.interface, 0);
    server.send(&mut [Outgoing::new(envelope.peer, envelope.local, Packet::Ack(1))].into());
    receive(&client, &mut inbox);
    assert_eq!(inbox.datagrams().next().unwrap().0.peer, (asked, server.local().port()).into());
}

#[test]
fn a_datagram_that_cannot_be_sent_does_not_stop_the_others() {
    for batched in [true, false] {
        let (sender, receiver) = (port(batched, "127.0.0.1:0"), port(batched, "127.0.0.1:0"));
        let nowhere = "[::1]:9".parse().unwrap();
        let to = [nowhere, receiver.local(), nowhere, receiver.local()];
        let mut queue = to.iter().map(|to| Outgoing::new(*to, None, Packet::Ack(3))).collect();
        sender.send(&mut queue);
        assert!(queue.is_empty());
        let (mut inbox, mut count) = (Inbox::new(), 0);
        while count < 2 {
            receive(&receiver, &mut inbox);
            count += inbox.datagrams().count();
        }
    }
}

fn data(block: u16, size: usize) -> Packet {
    Packet::Data { block, payload: vec![block as u8; size].into() }
}

/// Blocks to an address where nobody is, from number 1 on.
fn blocks(count: u16) -> VecDeque<Outgoing> {
    (1..=count).map(|block| Outgoing::new("127.0.0.1:9".parse().unwrap(), None, data(block, 8))).collect()
}

fn numbers<'a>(queue: impl IntoIterator<Item = &'a Outgoing>) -> Vec<u16> {
    queue.into_iter().map(|datagram| u16::from_be_bytes([datagram.header[2], datagram.header[3]])).collect()
}

/// Has the queue sent to a system that answers so. Returns what it has taken.
fn send_to(answers: impl IntoIterator<Item = Result<usize, Kind>>, queue: &mut VecDeque<Outgoing>) -> Vec<u16> {
    let (mut answers, mut taken) = (answers.into_iter(), Vec::new());
    send_all(queue, |queue| {
        let count = answers.next().unwrap_or(Err(Kind::WouldBlock))?;
        taken.extend(numbers(queue.iter().take(count)));
        Ok(count)
    });
    taken
}

#[test]
fn what_is_not_taken_at_once_keeps_its_order() {
    let mut queue = blocks(20);
    assert_eq!(send_to([Ok(3), Err(Kind::Interrupted), Ok(0), Ok(1), Err(Kind::WouldBlock)], &mut queue), [1, 2, 3, 4]);
    assert_eq!(send_to([], &mut queue), [0u16; 0]);
    // More comes while it waits, so that the queue goes round in its memory.
    queue.extend(blocks(30).drain(20..));
    let mut taken = vec![];
    while !queue.is_empty() {
        taken.extend(send_to([Ok(5.min(queue.len()))], &mut queue));
    }
    assert_eq!(taken, (5..=30).collect::<Vec<_>>());
}

#[test]
fn a_system_without_memory_loses_one_datagram_at_a_time() {
    let mut queue = blocks(6);
    let no_memory = Kind::OutOfMemory;
    assert_eq!(send_to([Ok(1), Err(no_memory), Ok(2), Err(no_memory), Ok(1)], &mut queue), [1, 3, 4, 6]);
    assert!(queue.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn windows_of_any_shape_are_cut_as_they_were_made() {
    for segment in [0, 11, 12, 103, 1471, 1472, usize::MAX] {
        let (sender, receiver) = (port(true, "127.0.0.1:0"), port(true, "127.0.0.1:0"));
        sender.segment.set(segment);
        // Runs of equals, runs with a shorter end, longer ones after shorter ones, nothing but a header.
        let sizes = [8, 8, 8, 100, 1468, 1468, 1468, 99, 0, 0, 0, 512, 511, 512, 1468, 1468, 0, 1, 0, 1468];
        let packets: Vec<Packet> = (1..).zip(sizes.repeat(9)).map(|(block, size)| data(block, size)).collect();
        let mut queue = packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet.clone())).collect();
        sender.send(&mut queue);
        assert_eq!(sender.segment.get(), segment, "the loopback cuts everything");
        assert_eq!(receive_all(&receiver, packets.len()), packets, "segment {segment}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_for_one_peer_ends_where_another_begins() {
    let sender = port(true, "127.0.0.1:0");
    let receivers = [(); 3].map(|()| port(true, "127.0.0.1:0"));
    let packets: Vec<Packet> = (1..=60).map(|block| data(block, 512)).collect();
    // 1 to 4 blocks for each in turn.
    let whose = |block: usize| (block * 2 / 5) % 3;
    let to = |(i, packet): (usize, &Packet)| Outgoing::new(receivers[whose(i)].local(), None, packet.clone());
    sender.send(&mut packets.iter().enumerate().map(to).collect());
    for (n, receiver) in receivers.iter().enumerate() {
        let expected: Vec<Packet> = (0..60).filter(|&i| whose(i) == n).map(|i| packets[i].clone()).collect();
        assert_eq!(receive_all(receiver, expected.len()), expected);
    }
}

fn receive_all(port: &Port, count: usize) -> Vec<Packet> {
    let (mut inbox, mut packets) = (Inbox::new(), Vec::new());
    while packets.len() < count {
        receive(port, &mut inbox);
        packets.extend(inbox.datagrams().map(|(_, bytes)| Packet::decode(bytes).unwrap()));
    }
    packets
}

/// Tests in a network of their own, whose loopback is as narrow as they need it.
#[cfg(target_os = "linux")]
mod narrow {
    use std::{env, process::Command, time::Duration};

    use socket2::SockRef;

    use super::*;

    /// Runs this test again where these commands were run before. Returns whether this is there already.
    fn in_own_network(test: &str, commands: &str) -> bool {
        const THERE: &str = "TUFFET_TEST_HAS_OWN_NETWORK";
        if env::var_os(THERE).is_some() {
            return true;
        }
        let script = format!("ip link set lo up; {commands}; exec \"$0\" --ignored --exact {test}");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-ec", &script]).arg(env::current_exe().unwrap()).env(THERE, "yes");
        assert!(command.status().expect("unshare").success());
        false
    }

    #[test]
    #[ignore = "needs root, unshare and iproute2"]
    fn a_full_socket_loses_and_doubles_nothing() {
        let test = "socket::tests::narrow::a_full_socket_loses_and_doubles_nothing";
        if !in_own_network(test, "ip link set lo mtu 1500; tc qdisc add dev lo root tbf rate 100mbit burst 3k limit 8m")
        {
            return;
        }
        for (batched, size) in [(true, 512), (true, 1468), (true, 1), (false, 1468)] {
            let (sender, receiver) = (port(batched, "127.0.0.1:0"), port(true, "127.0.0.1:0"));
            SockRef::from(&*sender.socket).set_send_buffer_size(1).unwrap();
            let packets: Vec<Packet> = (1..=1000).map(|block| data(block, size)).collect();
            let mut queue: VecDeque<Outgoing> =
                packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet.clone())).collect();
            let (mut waits, mut received) = (0, Vec::new());
            while !queue.is_empty() {
                let before = queue.len();
                sender.send(&mut queue);
                received.extend(receive_all(&receiver, before - queue.len()));
                if !queue.is_empty() {
                    waits += 1;
                    smol::block_on(poll_fn(|cx| sender.poll_writable(cx))).unwrap();
                }
            }
            assert!(waits > 1, "the socket was never full");
            assert!(received == packets, "{size} bytes, batched: {batched}");
            std::thread::sleep(Duration::from_millis(20));
            assert!(receiver.receive(&mut Inbox::new()).is_err(), "more came than was sent");
        }
    }

    #[test]
    #[ignore = "needs root, unshare and iproute2"]
    fn what_the_kernel_does_not_cut_goes_in_fragments() {
        let test = "socket::tests::narrow::what_the_kernel_does_not_cut_goes_in_fragments";
        if !in_own_network(test, "ip link set lo mtu 1280") {
            return;
        }
        let (sender, receiver) = (port(true, "127.0.0.1:0"), port(true, "127.0.0.1:0"));
        for size in [8192, 1468, 1248, 512] {
            let packets: Vec<Packet> = (1..=64).map(|block| data(block, size)).collect();
            let mut queue =
                packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet.clone())).collect();
            sender.send(&mut queue);
            assert_eq!(receive_all(&receiver, packets.len()), packets, "{size} bytes");
            let cut = sender.segment.get();
            assert!((1252..1472).contains(&cut) || size == 8192, "after {size} bytes, up to {cut} are left to be cut");
        }
    }
}
