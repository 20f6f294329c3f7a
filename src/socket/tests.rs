use std::net::{IpAddr, Ipv4Addr};

use futures_lite::future::poll_fn;

use super::*;
use crate::packet::Packet;

fn port(batched: bool, address: &str) -> Port {
    let role = Role { listens: false, serves: true, interface: None, batched };
    Port::bind(Binding { address: address.parse().unwrap(), share: Share::No, role }).unwrap()
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

/// Blocks from number 1 on, to an address where no socket listens.
fn blocks(count: u16) -> VecDeque<Outgoing> {
    blocks_to("127.0.0.1:9".parse().unwrap(), count)
}

fn blocks_to(peer: SocketAddr, count: u16) -> VecDeque<Outgoing> {
    (1..=count).map(|block| Outgoing::new(peer, None, data(block, 8))).collect()
}

fn numbers<'a>(queue: impl IntoIterator<Item = &'a Outgoing>) -> Vec<u16> {
    queue.into_iter().map(|datagram| u16::from_be_bytes([datagram.header[2], datagram.header[3]])).collect()
}

/// Sends the queue to a system that gives these answers. Returns the blocks that it has taken.
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
fn datagrams_that_wait_for_the_socket_keep_their_order() {
    let mut queue = blocks(20);
    assert_eq!(send_to([Ok(3), Err(Kind::Interrupted), Ok(0), Ok(1), Err(Kind::WouldBlock)], &mut queue), [1, 2, 3, 4]);
    assert_eq!(send_to([], &mut queue), [0u16; 0]);
    // More datagrams come while the queue waits, so that it wraps around in its memory.
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

/// A closed port, at an address that no other test uses.
#[cfg(target_os = "linux")]
fn closed(address: &str) -> SocketAddr {
    UdpSocket::bind((address, 0)).and_then(|socket| socket.local_addr()).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_port_is_reported_and_no_datagram_is_lost_for_it() {
    for (batched, ip) in [(true, "127.6.6.6"), (false, "127.6.6.6"), (true, "::1"), (false, "::1")] {
        let any = SocketAddr::new(if ip == "::1" { ip } else { "127.0.0.1" }.parse().unwrap(), 0).to_string();
        // A container often has no IPv6.
        if UdpSocket::bind(&any).is_err() {
            continue;
        }
        let (sender, receiver, closed) = (port(batched, &any), port(true, &any), closed(ip));
        receiver.send(&mut [Outgoing::new(sender.local(), None, Packet::Ack(77))].into());
        // Every second call to send fails because of the previous one.
        let mut inbox = Inbox::new();
        for block in 1..=40 {
            let to = |to, packet| Outgoing::new(to, None, packet);
            sender.send(&mut [to(closed, data(block, 8)), to(receiver.local(), data(block, 8))].into());
        }
        let numbers = receive_all(&receiver, 40);
        assert!((1..=40).map(|block| data(block, 8)).eq(numbers), "batched: {batched}");
        // The packets of a client that still listens arrive all the same.
        sender.receive(&mut inbox, false).unwrap();
        assert_eq!(inbox.datagrams().count(), 1);
        let mut closed_ports = inbox.closed_ports().to_vec();
        while sender.receive(&mut inbox, true).is_ok() {
            closed_ports.extend(inbox.closed_ports());
        }
        assert!(!closed_ports.is_empty() && closed_ports.iter().all(|peer| *peer == closed), "{closed_ports:?}");
        assert_eq!(sender.receive(&mut inbox, false).unwrap_err().kind(), Kind::WouldBlock);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wait_ends_for_a_closed_port_once() {
    use std::time::{Duration, Instant};

    let (ports, closed, mut inbox) = ([port(true, "127.0.0.1:0")], closed("127.6.6.7"), Inbox::new());
    let mut reactor = epoll::Reactor::new(&ports).unwrap();
    let mut wait = |time| reactor.wait(Some(Instant::now() + time)).unwrap().collect::<Vec<_>>();
    assert!(wait(Duration::ZERO).is_empty());
    // The second call reports the error of the first, and the error still ends a wait.
    ports[0].send(&mut blocks_to(closed, 1));
    ports[0].send(&mut blocks_to(closed, 1));
    let ready = std::iter::repeat_with(|| wait(Duration::from_secs(20))).find(|ready| !ready.is_empty()).unwrap();
    assert_eq!(ready, [epoll::Ready { port: 0, readable: true, writable: false, failed: true }]);
    ports[0].receive(&mut inbox, true).unwrap();
    assert_eq!((inbox.len(), inbox.closed_ports()[0]), (0, closed));
    assert!(wait(Duration::from_millis(1)).is_empty(), "nothing of it is left");
    // The same with smol's reactor, which reports no errors.
    ports[0].send(&mut blocks_to(closed, 1));
    receive(&ports[0], &mut inbox);
    assert_eq!((inbox.len(), inbox.closed_ports()[0]), (0, closed));
    let mut pending = |cx: &mut Context<'_>| Poll::Ready(ports[0].poll_receive(cx, &mut inbox).is_pending());
    assert!(smol::block_on(poll_fn(&mut pending)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_in_the_place_of_another_is_watched() {
    let mut ports = [port(true, "127.0.0.1:0"), port(true, "127.0.0.1:0")];
    let mut reactor = epoll::Reactor::new(&ports).unwrap();
    ports[1] = port(true, "127.0.0.1:0");
    reactor.watch(&ports, 1).unwrap();
    ports[0].send(&mut blocks_to(ports[1].local(), 1));
    let mut wait = || reactor.wait(None).unwrap().collect::<Vec<_>>();
    let ready = std::iter::repeat_with(&mut wait).find(|ready| !ready.is_empty()).unwrap();
    assert_eq!(ready, [epoll::Ready { port: 1, readable: true, writable: false, failed: false }]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_only_listens_gets_no_report_of_a_closed_port() {
    let role = Role { listens: true, serves: false, interface: None, batched: true };
    let address = "127.0.0.1:0".parse().unwrap();
    let (port, mut inbox) = (Port::bind(Binding { address, share: Share::No, role }).unwrap(), Inbox::new());
    port.send(&mut blocks_to(closed("127.6.6.8"), 3));
    assert_eq!(port.receive(&mut inbox, true).unwrap_err().kind(), Kind::WouldBlock);
}

#[cfg(target_os = "linux")]
#[test]
fn shards_share_an_address_that_nobody_else_gets() {
    let role = Role { listens: true, serves: false, interface: None, batched: true };
    let bind = |address, share| Port::bind(Binding { address, share, role });
    let first = bind("127.0.0.1:0".parse().unwrap(), Share::First).unwrap();
    let second = bind(first.local(), Share::Join).unwrap();
    for share in [Share::First, Share::No] {
        assert_eq!(bind(first.local(), share).unwrap_err().kind(), Kind::AddrInUse, "{share:?}");
    }
    // The system spreads the datagrams over both sockets.
    let (mut inbox, mut counts) = (Inbox::new(), [0; 2]);
    while counts.contains(&0) {
        port(true, "127.0.0.1:0").send(&mut blocks_to(first.local(), 1));
        for (port, count) in [&first, &second].into_iter().zip(&mut counts) {
            *count += port.receive(&mut inbox, false).map_or(0, |()| inbox.len());
        }
        assert!(counts.iter().sum::<usize>() < 1000, "{counts:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_is_not_there_yet_is_waited_for() {
    let role = Role { listens: true, serves: true, interface: None, batched: true };
    for (address, awaited) in [("192.0.2.77:0", true), ("[2001:db8::77]:0", true), ("127.0.0.1:0", false)] {
        let port = Port::bind(Binding { address: address.parse().unwrap(), share: Share::No, role }).unwrap();
        assert_eq!(port.is_awaited(), awaited, "{address}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_that_does_not_exist_is_named_in_the_error() {
    let bind = |interface| {
        let role = Role { listens: true, serves: true, interface: Some(interface), batched: true };
        Port::bind(Binding { address: "127.0.0.1:0".parse().unwrap(), share: Share::No, role })
    };
    assert_eq!(bind("no-such-if").unwrap_err().to_string(), "interface no-such-if: there is no such interface");
    let (port, mut inbox) = (bind("lo").unwrap(), Inbox::new());
    self::port(true, "127.0.0.1:0").send(&mut blocks_to(port.local(), 1));
    receive(&port, &mut inbox);
    assert_eq!((inbox.len(), inbox.datagrams().next().unwrap().0.broadcast), (1, false));
}

#[cfg(target_os = "linux")]
#[test]
fn windows_of_any_shape_are_cut_as_they_were_made() {
    for segment in [0, 11, 12, 103, 1471, 1472, usize::MAX] {
        let (sender, receiver) = (port(true, "127.0.0.1:0"), port(true, "127.0.0.1:0"));
        sender.narrow.learn(receiver.local().ip(), segment);
        // Runs of equal size, runs with a shorter end, longer ones after shorter ones, and headers alone.
        let sizes = [8, 8, 8, 100, 1468, 1468, 1468, 99, 0, 0, 0, 512, 511, 512, 1468, 1468, 0, 1, 0, 1468];
        let packets: Vec<Packet> = (1..).zip(sizes.repeat(9)).map(|(block, size)| data(block, size)).collect();
        let mut queue = packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet.clone())).collect();
        sender.send(&mut queue);
        assert_eq!(sender.narrow.segment(receiver.local().ip()), segment, "the loopback cuts everything");
        assert_eq!(receive_all(&receiver, packets.len()), packets, "segment {segment}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_for_one_peer_ends_where_another_begins() {
    let sender = port(true, "127.0.0.1:0");
    let receivers = [(); 3].map(|()| port(true, "127.0.0.1:0"));
    let packets: Vec<Packet> = (1..=60).map(|block| data(block, 512)).collect();
    // 1 to 4 blocks for each receiver in turn.
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

    /// Runs this test again in a network where these commands were run. Returns whether this process is in it already.
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
        if !in_own_network(test, "ip link set lo mtu 1500; tc qdisc add dev lo root tbf rate 10mbit burst 3k limit 8m")
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
            assert!(receiver.receive(&mut Inbox::new(), false).is_err(), "more came than was sent");
        }
    }

    #[test]
    #[ignore = "needs root, unshare and iproute2"]
    fn blocks_that_the_kernel_does_not_cut_go_in_fragments() {
        let test = "socket::tests::narrow::blocks_that_the_kernel_does_not_cut_go_in_fragments";
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
            let cut = sender.narrow.segment(receiver.local().ip());
            assert!((1252..1472).contains(&cut) || size == 8192, "after {size} bytes, up to {cut} are left to be cut");
        }
    }

    #[test]
    #[ignore = "needs root, unshare and iproute2"]
    fn a_narrow_path_has_no_other_sent_block_by_block() {
        let test = "socket::tests::narrow::a_narrow_path_has_no_other_sent_block_by_block";
        let route = "ip route add local 127.0.0.2 dev lo table local src 127.0.0.1 mtu 600";
        if !in_own_network(test, &format!("ip link set lo mtu 1500; {route}")) {
            return;
        }
        let sender = port(true, "127.0.0.1:0");
        let (narrow, wide) = (port(true, "127.0.0.2:0"), port(true, "127.0.0.1:0"));
        let packets: Vec<Packet> = (1..=64).map(|block| data(block, 1400)).collect();
        for round in 0..2 {
            for receiver in [&narrow, &wide] {
                let to = |packet: &Packet| Outgoing::new(receiver.local(), None, packet.clone());
                sender.send(&mut packets.iter().map(to).collect());
                assert_eq!(receive_all(receiver, packets.len()), packets, "round {round}");
            }
        }
        let [narrow, wide] = [narrow, wide].map(|receiver| sender.narrow.segment(receiver.local().ip()));
        assert_eq!((narrow, wide), (1403, usize::MAX));
    }
}
