//! Machines of their own: a server with several addresses, broadcasts, narrow links, a NAT, forged packets.
//!
//! Each test runs once more in namespaces of its own, where it is the server's machine; the others are namespaces that
//! threads of it enter.
#![cfg(all(target_os = "linux", feature = "net"))]

mod common;
#[path = "common/machines.rs"]
#[macro_use]
mod machines;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use common::{LONG, Link as _, SHORT, Serving, eventually, file, files, request};
use machines::{TWO_LINKS, enter, forge, on, on_machines, peer};
use tuffet::{Client, packet::Packet, transfer::Outcome};

/// Two clients behind a translator that has one address for both.
const BEHIND_NAT: &str = "
    ip netns add nat; ip netns add one; ip netns add two
    ip link add s0 type veth peer name outside netns nat
    ip address add 10.9.0.1/24 dev s0
    ip link set s0 up
    ip -n nat address add 10.9.0.254/24 dev outside
    ip -n nat link set outside up
    for n in 1 2; do
        name=$(echo one two | cut -d' ' -f$n)
        ip -n nat link add in$n type veth peer name c0 netns $name
        ip -n nat address add 192.168.$n.254/24 dev in$n
        ip -n nat link set in$n up
        ip -n $name address add 192.168.$n.7/24 dev c0
        ip -n $name link set lo up; ip -n $name link set c0 up
        ip -n $name route add default via 192.168.$n.254
    done
    ip netns exec nat sysctl -q -w net.ipv4.ip_forward=1
    ip netns exec nat nft 'add table ip nat'
    ip netns exec nat nft 'add chain ip nat post { type nat hook postrouting priority 100; }'
    ip netns exec nat nft 'add rule ip nat post oifname outside masquerade'";

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn answers_come_from_the_address_that_was_asked() {
    again!(on_machines, TWO_LINKS);
    for single_port in [false, true] {
        let serving = Serving::on(&["0.0.0.0:69", "[::]:69"], files(), |builder| builder.single_port(single_port));
        on("client", || {
            for address in ["10.9.0.1:69", "10.9.0.2:69", "10.9.1.1:69", "[fd09::1]:69", "[fd09::2]:69"] {
                let mut peer = peer(address);
                peer.rrq("1000", &[]);
                // Anything from another address is not counted as an answer.
                peer.expect_data(1, &file(1000)[..512]);
                peer.take_rest(1000);
                assert_eq!(peer.to.port() == 69, single_port);
                assert_eq!(serving.record().local, address.parse().unwrap());
                // An upload and an ERROR as well.
                peer.wrq("up", &[]).expect_error(2);
                serving.record();
            }
        });
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn broadcasts_are_answered_from_the_interface() {
    again!(on_machines, TWO_LINKS);
    let serving = Serving::on(&["0.0.0.0:69"], files(), |builder| builder);
    on("client", || {
        for address in ["10.9.0.255:69", "255.255.255.255:69"] {
            let mut peer = peer(address);
            peer.socket.set_broadcast(true).unwrap();
            // A file that is not there may be another server's (RFC 1123 section 4.2.3.5).
            peer.rrq("missing", &[]).expect_silence();
            assert!(matches!(serving.record().outcome, Outcome::Refused(_)));
            peer.send_bytes(b"\0\x01no end");
            peer.expect_silence();
            peer.rrq("1000", &[("blksize", "1000")]).expect_oack(&[("blksize", "1000")]);
            assert_eq!(peer.to.ip(), Ipv4Addr::new(10, 9, 0, 1), "{address}");
            peer.ack(0);
            peer.expect_data(1, file(1000));
            peer.ack(1);
            peer.expect_data(2, []);
            peer.ack(2);
            assert_eq!(serving.record().outcome, Outcome::Complete);
        }
        peer("10.9.0.1:69").rrq("missing", &[]).expect_error(1);
    });
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn blocks_fit_the_link_that_they_go_by() {
    again!(on_machines, TWO_LINKS);
    let serving = Serving::on(&["0.0.0.0:69", "[::]:69"], files(), |builder| builder);
    on("client", || {
        for (address, blksize) in [("10.9.0.1:69", 1368), ("10.9.1.1:69", 8968), ("[fd09::1]:69", 1348)] {
            let mut peer = peer(address);
            // A larger block would come in fragments.
            let granted = blksize.to_string();
            peer.rrq("20000", &[("blksize", "65464")]).expect_oack(&[("blksize", &granted)]);
            peer.ack(0);
            peer.expect_data(1, &file(20000)[..blksize]);
            peer.error(0);
            serving.record();
        }
    });
    let fragments = |machine| {
        on(machine, || {
            let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
            let mut lines = counters.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
            let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
            let at = names.position(|name| name == "ReasmReqds").unwrap();
            values.nth(at).unwrap().parse::<u64>().unwrap()
        })
    };
    assert_eq!(fragments("client"), 0);
    // One that the operator wants goes in pieces, and arrives.
    let serving = Serving::on(&["0.0.0.0:6969", "[::]:6969"], files(), |builder| builder.blksize(8192));
    for server in ["10.9.0.1:6969", "[fd09::1]:6969"] {
        on("client", || {
            let client = Client::new(server.parse().unwrap()).blksize(8192).windowsize(4);
            let got = smol::block_on(client.get("100000", async |data| {
                assert!(data.collect(100_000).await? == file(100_000));
                Ok(())
            }));
            assert_eq!(got.unwrap().blksize, 8192);
        });
        assert!(serving.record().outcome.is_success() && fragments("client") > 0);
    }
}

#[test]
#[ignore = "needs root, unshare, iproute2 and nftables"]
fn a_single_port_passes_a_nat() {
    again!(on_machines, BEHIND_NAT);
    let get = |machine, patience| {
        on(machine, || {
            // The same port on both machines: the translator has to change one of them.
            let client = Client::new("10.9.0.1:69".parse().unwrap()).windowsize(8).patience(patience);
            smol::block_on(client.get("300000", async |data| {
                assert!(data.collect(300_000).await? == file(300_000));
                Ok(())
            }))
        })
    };
    let serving = Serving::on(&["0.0.0.0:69"], files(), |builder| builder.single_port(true));
    thread::scope(|threads| {
        let transfers: Vec<_> = ["one", "two"].iter().flat_map(|machine| [machine; 5]).collect();
        let transfers: Vec<_> =
            transfers.into_iter().map(|machine| threads.spawn(move || get(machine, LONG))).collect();
        for transfer in transfers {
            assert_eq!(transfer.join().unwrap().unwrap().bytes, 300_000);
        }
    });
    for _ in 0..10 {
        let record = serving.record();
        assert_eq!(record.peer.ip(), Ipv4Addr::new(10, 9, 0, 254), "all have one address");
        assert!(record.outcome.is_success(), "{record}");
    }
    // Two machines that ask from the same port at the same time are two clients.
    let same_port = |machine| {
        on(machine, || {
            let mut peer = peer("10.9.0.1:69");
            peer.socket = UdpSocket::bind("0.0.0.0:2070").unwrap();
            peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
            peer
        })
    };
    let (mut one, mut two) = (same_port("one"), same_port("two"));
    for peer in [&mut one, &mut two] {
        peer.take_rest(600);
    }
    drop(serving);
    // Without it the translator knows nothing of the ports that the transfers come from.
    let serving = Serving::on(&["0.0.0.0:69"], files(), |builder| builder.patience(Duration::from_secs(1)));
    assert!(get("one", Duration::from_secs(2)).is_err());
    assert!(!serving.record().outcome.is_success());
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn requests_from_impossible_addresses_are_ignored() {
    again!(on_machines, TWO_LINKS);
    for single_port in [false, true] {
        let serving = Serving::on(&["0.0.0.0:69"], files(), |builder| builder.single_port(single_port));
        let rrq = Packet::Rrq(request("100000", &[])).encode();
        let malformed = b"\0\x01file without an end".to_vec();
        for payload in [&rrq, &malformed] {
            // The server asks itself.
            forge("127.0.0.1:69", "127.0.0.1:69", payload);
            forge("10.9.0.1:69", "10.9.0.1:69", payload);
            // No client has such an address.
            on("client", || forge("10.9.0.7:0", "10.9.0.1:69", payload));
            on("client", || forge("224.0.0.1:5", "10.9.0.1:69", payload));
        }
        thread::sleep(SHORT);
        assert!(serving.transfers().is_empty(), "{:?}", serving.transfers());
        assert!(serving.records().is_empty());
        // From a possible address, a forged packet does come in.
        on("client", || {
            let mut peer = peer("10.9.0.1:69");
            let from = SocketAddr::from(([10, 9, 0, 7], peer.socket.local_addr().unwrap().port()));
            forge(&from.to_string(), "10.9.0.1:69", &rrq);
            peer.expect_data(1, &file(100_000)[..512]);
            peer.error(0);
        });
        serving.record();
        // That this is a broadcast address only the system knows, which sends nothing there.
        on("client", || {
            let listening = UdpSocket::bind("0.0.0.0:5").unwrap();
            forge("10.9.0.255:5", "10.9.0.1:69", &rrq);
            assert_eq!(listening.receive_within(SHORT * 3), None);
        });
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn forged_requests_do_not_lock_anybody_out() {
    // Forged addresses are behind a router: as neighbours they would fill the system's table.
    let with_route = format!("{TWO_LINKS}; ip route add default via 10.9.0.7 dev s0");
    again!(on_machines, &with_route);
    // A handler that works for each request would be the victim of the flood.
    let made = tuffet::Bytes::from(file(100_000));
    let handler = tuffet::read(move |_| made.clone());
    let serving = Serving::on(&["0.0.0.0:69"], handler, |builder| builder.max_transfers(500));
    on("client", || {
        let rrq = Packet::Rrq(request("100000", &[])).encode();
        thread::scope(|threads| {
            let flood = threads.spawn(|| {
                enter("client");
                for n in 0..5000u32 {
                    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + n);
                    forge(&format!("{from}:2070"), "10.9.0.1:69", &rrq);
                    thread::sleep(Duration::from_micros(500));
                }
            });
            eventually("it is full", || serving.transfers().len() == 500);
            // A few repeated requests, as every client has it, are enough; the places would be free after 30 s. Where
            // the machine is so busy that the client answers after it has lost its place, it begins again.
            let client = Client::new("10.9.0.1:69".parse().unwrap()).patience(Duration::from_secs(4));
            let boots = || {
                let got = smol::block_on(client.get("100000", async |data| {
                    assert!(data.collect(100_000).await? == file(100_000));
                    Ok(())
                }));
                got.is_ok_and(|record| record.outcome == Outcome::Complete)
            };
            assert!((0..5).any(|_| boots()));
            assert!(serving.transfers().len() <= 500);
            flood.join().unwrap();
        });
    });
}

#[cfg(feature = "rules")]
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn rules_know_the_card_of_a_neighbour() {
    use tuffet::{
        Request,
        handlers::Ruled,
        read,
        rules::{Rule, Rules},
    };

    let machines = format!("{TWO_LINKS}\nip -n client link set c0 address 52:54:00:12:34:56");
    again!(on_machines, &machines);
    let rule = Rule::new("by card").client("52:54:00".parse().unwrap()).target("${mac}/${path}").unwrap();
    let said = read(async |request: Request| request.path().to_owned());
    let handler = Ruled::new(Rules::new(vec![rule]).unwrap(), said);
    let serving = Serving::on(&["0.0.0.0:69", "[::]:69"], handler, |builder| builder);
    on("client", || {
        // The last is another card of the same machine.
        for (address, expected) in
            [("10.9.0.1:69", "52-54-00-12-34-56/x"), ("[fd09::1]:69", "52-54-00-12-34-56/x"), ("10.9.1.1:69", "x")]
        {
            let mut peer = peer(address);
            peer.rrq("x", &[]).expect_data(1, expected);
            peer.ack(1);
            serving.record();
        }
    });
    let mut peer = peer("127.0.0.1:69");
    peer.rrq("x", &[]).expect_data(1, "x");
    peer.ack(1);
}

/// Forged requests cost a lookup each, which finds nothing. The card of a new client is known all the same.
#[cfg(feature = "rules")]
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_flood_takes_no_card_away() {
    use std::{
        process::Command,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
    };
    use tuffet::{
        Request,
        handlers::Ruled,
        read,
        rules::{Rule, Rules},
    };

    let addresses = "for n in $(seq 20 39); do ip -n client address add 10.9.0.$n/24 dev c0; done";
    let machines = format!("{TWO_LINKS}\nip -n client link set c0 address 52:54:00:12:34:56\n{addresses}");
    again!(on_machines, &machines);
    let rule = Rule::new("by card").target("${mac}/${path}").unwrap();
    let said = read(async |request: Request| request.path().to_owned());
    let handler = Ruled::new(Rules::new(vec![rule]).unwrap(), said);
    let serving = Serving::on(&["0.0.0.0:69"], handler, |builder| builder.max_requests_per_client(0));
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            on("client", || {
                let rrq = Packet::Rrq(request("x", &[])).encode();
                for n in (0..50_000u32).cycle().take_while(|_| !over.load(SeqCst)) {
                    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + n);
                    forge(&format!("{from}:2070"), "10.9.0.1:69", &rrq);
                    thread::sleep(Duration::from_micros(100));
                }
            });
        });
        // Also when this thread panics.
        let _end = Ends(&over);
        for n in 20..40 {
            let before = serving.counters().requests;
            eventually("it is flooded", || serving.counters().requests > before + 300);
            // As when it has asked for our address a moment ago.
            let neighbour = format!("ip neigh replace 10.9.0.{n} lladdr 52:54:00:12:34:56 nud stale dev s0");
            // The table may be full for a moment.
            eventually("it is known", || Command::new("sh").args(["-c", &neighbour]).status().unwrap().success());
            on("client", || {
                let mut peer = peer("10.9.0.1:69");
                peer.socket = UdpSocket::bind((Ipv4Addr::new(10, 9, 0, n), 0)).unwrap();
                // As any client in a flood, it asks again.
                let said = (0..60).find_map(|_| peer.rrq("x", &[]).receive_within(SHORT * 4));
                let (from, data) = said.expect("an answer");
                assert_eq!(data, Packet::Data { block: 1, payload: "52-54-00-12-34-56/x".into() });
                peer.to = from;
                peer.ack(1);
            });
        }
    });
}

/// Ends a flood when it is dropped.
#[cfg(feature = "rules")]
struct Ends<'a>(&'a std::sync::atomic::AtomicBool);

#[cfg(feature = "rules")]
impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
