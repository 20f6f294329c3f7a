//! ProxyDHCP on real interfaces: broadcasts, a relay, an interface that is not named, two servers on one net.
//!
//! Each test runs once more in namespaces of its own, where it is the server's machine.
#![cfg(all(target_os = "linux", feature = "dhcp"))]

mod common;
#[path = "dhcp/client.rs"]
mod dhcp_client;
#[path = "common/machines.rs"]
#[macro_use]
mod machines;
#[cfg(feature = "full")]
#[path = "common/process.rs"]
mod process;

#[cfg(feature = "full")]
use std::{
    fs,
    process::{Output, Stdio},
    thread,
    time::Instant,
};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

#[cfg(feature = "full")]
use common::{LONG, Link as _, SHORT, eventually};
use dhcp_client::{DISCOVER, Question, REQUEST, Read};
use dhcproto::v4::MessageType;
use machines::{TWO_LINKS, on, on_machines};
#[cfg(feature = "full")]
use process::Process;
use socket2::{Domain, Protocol, Socket, Type};
use tuffet::{
    Refusal, Request, Running, Server,
    dhcp::{CurrentProxy, Interface, Serving, Sockets, interfaces},
    read,
};

/// A server with a boot file for BIOS, and its ProxyDHCP on this interface.
fn serve(interface: &str) -> (Running, Serving) {
    let known = interfaces().unwrap();
    assert!(known.iter().any(|known| known.name == interface), "{known:?}");
    let interface = Interface { name: interface.into(), addresses: Vec::new() };
    let sockets = Sockets::bind(vec![interface], CurrentProxy::default()).unwrap();
    let handler = read(async |request: Request| match request.path() {
        "pxelinux.0" => Ok("..."),
        _ => Err(Refusal::not_found()),
    });
    let builder = Server::builder().listen("0.0.0.0:69").handler(handler).watch_dhcp(&sockets);
    let running = builder.bind().unwrap().spawn().unwrap();
    let serving = sockets.serve(running.handle().clone()).unwrap();
    (running, serving)
}

/// The socket of a client.
fn client(interface: &str, port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind_device(Some(interface.as_bytes())).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
    socket.into()
}

/// The answer and its sender. The request is repeated, as clients do.
fn ask(socket: &UdpSocket, question: &Question, to: &str) -> (Read, String) {
    for _ in 0..60 {
        socket.send_to(&question.bytes(), to).unwrap();
        if let Some((from, answer)) = socket.receive_within(SHORT * 3) {
            return (Read::of(&answer), from.to_string());
        }
    }
    panic!("no answer from {to}");
}

fn is_silent(socket: &UdpSocket) -> bool {
    socket.receive_within(SHORT * 3).is_none()
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn machines_on_the_named_interface_are_answered_and_no_others() {
    again!(on_machines, TWO_LINKS);
    let (running, _serving) = serve("s0");
    on("client", || {
        let (named, other) = (client("c0", 68), client("c1", 68));
        let question = Question::pxe(DISCOVER, 0);
        other.send_to(&question.bytes(), "255.255.255.255:67").unwrap();
        let (read, from) = ask(&named, &question, "255.255.255.255:67");
        assert_eq!((read.kind, read.file.as_str(), from.as_str()), (MessageType::Offer, "pxelinux.0", "10.9.0.1:67"));
        assert_eq!(read.server, Ipv4Addr::new(10, 9, 0, 1));
        assert!(is_silent(&other));
        // A client that does not boot by PXE.
        drain(&named);
        named.send_to(&Question::new(DISCOVER).option(60, b"udhcp").bytes(), "255.255.255.255:67").unwrap();
        assert!(is_silent(&named));
        // A client asks at port 4011 of another address of the server, and gets that address as the server.
        let at_4011 = client("c0", 4011);
        let question = Question::pxe(REQUEST, 0).ciaddr([10, 9, 0, 7]);
        let (read, from) = ask(&at_4011, &question, "10.9.0.2:4011");
        assert_eq!((read.kind, from.as_str()), (MessageType::Ack, "10.9.0.2:4011"));
        assert_eq!(read.server, Ipv4Addr::new(10, 9, 0, 2));
    });
    let answers =
        running.handle().own_counters().iter().find(|counter| counter.name() == "dhcp_answers").unwrap().value();
    assert!(answers >= 2, "{answers}");
}

fn drain(socket: &UdpSocket) {
    while !is_silent(socket) {}
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_relay_is_answered_by_unicast() {
    again!(on_machines, TWO_LINKS);
    let (_running, _serving) = serve("s0");
    on("client", || {
        let relay = client("c0", 67);
        let question = Question::pxe(DISCOVER, 0).giaddr([10, 9, 0, 7]).option(82, &[1, 2, b'p', b'1']);
        let (read, from) = ask(&relay, &question, "10.9.0.1:67");
        assert_eq!((read.file.as_str(), from.as_str()), ("pxelinux.0", "10.9.0.1:67"));
        assert_eq!(read.message.giaddr(), Ipv4Addr::new(10, 9, 0, 7));
        // A forged address would have the answer sent to everybody.
        for last in [255, 0] {
            relay.send_to(&question.clone().giaddr([10, 9, 0, last]).bytes(), "10.9.0.1:67").unwrap();
            assert!(is_silent(&relay), "10.9.0.{last}");
        }
    });
}

/// The commands that remove the first link, and create it again under its name.
const MADE_ANEW: &str = "
    ip link del s0; sleep 0.1
    ip link add s0 type veth peer name c0 netns client
    ip link set s0 up; ip -n client link set c0 up
    ip address add 10.9.0.1/24 dev s0; ip -n client address add 10.9.0.7/24 brd + dev c0";

fn make_anew() {
    assert!(Command::new("sh").args(["-ec", MADE_ANEW]).status().unwrap().success());
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn an_interface_that_is_made_anew_is_bound_again() {
    again!(on_machines, TWO_LINKS);
    let (_running, _serving) = serve("s0");
    for is_anew in [false, true, true] {
        if is_anew {
            make_anew();
        }
        on("client", || {
            let (read, _) = ask(&client("c0", 68), &Question::pxe(DISCOVER, 0), "255.255.255.255:67");
            assert_eq!(read.file, "pxelinux.0");
        });
    }
}

/// The program in the network of this thread, which serves a directory with `pxelinux.0`.
#[cfg(feature = "full")]
struct Program {
    child: Process,
    place: tempfile::TempDir,
}

#[cfg(feature = "full")]
impl Program {
    fn start(args: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let files = place.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("pxelinux.0"), "...").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
        process::without_variables(&mut command).arg("serve").arg(files).args(args).stdout(Stdio::piped());
        let mut child = Process::start(command.stderr(fs::File::create(place.path().join("log")).unwrap()));
        let line = child.first_line();
        let program = Self { child, place };
        assert!(line.starts_with("listening on "), "{}", program.said());
        program
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap()
    }
}

/// The program has given up the right to bind its ports, so it ends, and the service manager restarts it.
#[cfg(feature = "full")]
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_server_that_may_not_bind_again_asks_to_be_started_anew() {
    again!(on_machines, TWO_LINKS);
    for args in [&["--dhcp", "--dhcp-interface", "s0"][..], &["--interface", "s0"]] {
        let mut program = Program::start(&[args, &["--drain", "1s"]].concat());
        make_anew();
        eventually("it has ended", || program.child.try_wait().unwrap().is_some());
        let said = program.said();
        assert_eq!(program.child.wait().unwrap().code(), Some(75), "{said}");
        assert!(
            said.contains("s0 was removed and created again, and this server may not bind its ports again"),
            "{said}"
        );
    }
}

#[cfg(feature = "full")]
fn get(server: &str, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tuffet")).args(["get", "-q", server, name, "-"]).output().unwrap()
}

/// Forged questions, each of another machine, neither fill the log nor keep a client from its file.
#[cfg(feature = "full")]
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_flood_of_questions_is_summed_up_and_delays_no_transfer() {
    again!(on_machines, TWO_LINKS);
    let mut program = Program::start(&["--dhcp", "--dhcp-interface", "s0"]);
    let began = Instant::now();
    let answered = on("client", || {
        let socket = client("c0", 68);
        socket.set_nonblocking(true).unwrap();
        let mut answered = 0;
        let mut answer = [0; 1500];
        for n in 0u32.. {
            let mut question = Question::pxe(DISCOVER, 0);
            question.header[30..34].copy_from_slice(&n.to_be_bytes());
            _ = socket.send_to(&question.bytes(), "255.255.255.255:67");
            while socket.recv_from(&mut answer).is_ok() {
                answered += 1;
            }
            if answered >= 2500 {
                break;
            }
            // On a busy machine the server has little time for answers.
            assert!(began.elapsed() < 6 * LONG, "{answered} answers");
            if n % 100 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            if n == 5000 {
                let got = get("10.9.0.1", "pxelinux.0");
                assert_eq!((got.stdout.as_slice(), got.status.code()), (&b"..."[..], Some(0)), "{got:?}");
            }
        }
        answered
    });
    let took = began.elapsed().as_secs();
    program.child.signal("-TERM");
    assert!(program.child.wait().unwrap().success());
    let said = program.said();
    let lines = said.matches(" may boot pxelinux.0: ").count();
    assert!((1000..1050 + 20 * took as usize).contains(&lines) && lines < answered, "{lines} lines in {took} s");
    assert!(said.contains(" more requests for a boot file by DHCP, from "), "{said}");
}

/// Rules for files use the facts that a machine sent by DHCP, and the kernel knows its address.
#[cfg(feature = "full")]
#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_machine_that_asked_for_its_boot_file_is_known_to_rules() {
    again!(on_machines, TWO_LINKS);
    let uuid = "uuid=03020100-0504-0706-0809-0a0b0c0d0e0f,arch=bios ^pxelinux.0$=>of-bios";
    let program =
        Program::start(&["--dhcp", "--dhcp-interface", "s0", "--map", uuid, "--map", "arch=x64 ^pxelinux.0$=>of-x64"]);
    for name in ["of-bios", "of-x64"] {
        fs::write(program.place.path().join("files").join(name), name).unwrap();
    }
    on("client", || {
        let output = Command::new("ip").args(["-br", "link", "show", "c0"]).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let mac: tuffet::rules::Mac = output.split_whitespace().nth(2).unwrap().parse().unwrap();
        let got = || String::from_utf8(get("10.9.0.1", "pxelinux.0").stdout).unwrap();
        assert_eq!(got(), "...", "it has not asked yet");
        for (arch, expected) in [(0, "of-bios"), (7, "of-x64")] {
            let mut question = Question::pxe(DISCOVER, arch);
            question.header[28..34].copy_from_slice(&mac.0);
            let socket = client("c0", 68);
            // There is no boot file for x64, and so no answer.
            eventually("it is known", || {
                socket.send_to(&question.bytes(), "255.255.255.255:67").unwrap();
                got() == expected
            });
        }
    });
}

/// A second server, on a net with a switch.
const TWO_SERVERS: &str = "
    ip netns add client; ip netns add other
    ip link add lan type bridge; ip address add 10.9.0.1/24 brd + dev lan; ip link set lan up
    for name in client other; do
        ip link add $name type veth peer name c0 netns $name
        ip link set $name master lan up
        ip -n $name link set lo up; ip -n $name link set c0 up
    done
    ip -n client address add 10.9.0.7/24 brd + dev c0
    ip -n other address add 10.9.0.2/24 brd + dev c0";

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn two_servers_on_one_net() {
    again!(on_machines, TWO_SERVERS);
    let (one, _one) = serve("lan");
    let (other, _other) = on("other", || serve("c0"));
    on("client", || {
        let socket = client("c0", 68);
        let question = Question::pxe(DISCOVER, 0);
        let mut from = std::collections::BTreeSet::new();
        // Either may be the later one by any time.
        eventually("both answer", || {
            let (read, server) = ask(&socket, &question, "255.255.255.255:67");
            assert_eq!((read.file.as_str(), format!("{}:67", read.server)), ("pxelinux.0", server.clone()));
            from.insert(server);
            from.len() == 2
        });
    });
    // Neither server takes an answer of the other one for a request.
    for server in [one, other] {
        let nothing =
            server.handle().own_counters().iter().find(|counter| counter.name() == "dhcp_nothing").unwrap().value();
        assert_eq!(nothing, 0);
    }
}
