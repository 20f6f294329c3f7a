//! ProxyDHCP: the clients that get an answer, its content and its address. These tests need no network.
#![cfg(feature = "dhcp")]

#[path = "dhcp/any.rs"]
mod any;
#[path = "dhcp/client.rs"]
mod client;
#[path = "dhcp/hostile.rs"]
mod hostile;
#[path = "dhcp/others.rs"]
mod others;

use std::net::{Ipv4Addr, SocketAddrV4};

use client::{DISCOVER, INFORM, MAC, Question, REQUEST, Read, XID};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use tuffet::{
    Refusal, Request,
    dhcp::{Arrival, Machine, Menu, NoReply, Proxy, Reply, Rule, ServerPort},
    read,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);

/// The sources have these files.
fn menu(files: &'static [&'static str]) -> Menu {
    smol::block_on(Menu::find(&read(async move |request: Request| {
        files.contains(&request.path()).then_some("...").ok_or(Refusal::not_found())
    })))
}

fn proxy(files: &'static [&'static str]) -> Proxy {
    Proxy::default().menu(menu(files))
}

fn http(proxy: Proxy) -> Proxy {
    proxy.http([SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080)])
}

fn ask(proxy: &Proxy, server_port: ServerPort, from: SocketAddrV4, question: &Question) -> Result<Reply, NoReply> {
    proxy.answer(&question.bytes(), arrival(server_port, from))
}

/// A client without an address asks everybody.
fn arrival(server_port: ServerPort, from: SocketAddrV4) -> Arrival {
    Arrival { server_port, from, local: SERVER, broadcast: from.ip().is_unspecified() }
}

/// The destination of an answer to a client without an address.
#[track_caller]
fn offer(proxy: &Proxy, question: &Question) -> Read {
    let answer = ask(proxy, ServerPort::Dhcp, NOBODY, question).unwrap();
    assert_eq!(answer.to, EVERYBODY);
    let read = Read::of(&answer.bytes);
    assert_eq!((read.kind, read.server, read.message.xid()), (MessageType::Offer, SERVER, XID));
    assert_eq!(read.message.chaddr(), MAC);
    assert!(read.message.flags().broadcast());
    read
}

const ALL: &[&str] =
    &["pxelinux.0", "bootnetx64.efi", "bootia32.efi", "grubaa64.efi", "bootarm.efi", "grubriscv64.efi"];

#[test]
fn each_architecture_has_its_boot_file() {
    let proxy = http(proxy(ALL));
    for (arch, file) in [
        (0, "pxelinux.0"),
        (6, "bootia32.efi"),
        (7, "bootnetx64.efi"),
        (9, "bootnetx64.efi"),
        (10, "bootarm.efi"),
        (11, "grubaa64.efi"),
        (27, "grubriscv64.efi"),
    ] {
        let read = offer(&proxy, &Question::pxe(DISCOVER, arch));
        assert_eq!((read.file.as_str(), read.class()), (file, &b"PXEClient"[..]), "{arch}");
        let Some(DhcpOption::ClientMachineIdentifier(id)) =
            read.message.opts().get(OptionCode::ClientMachineIdentifier)
        else {
            panic!("{read:?}");
        };
        assert_eq!(id[1..], (0..16).collect::<Vec<u8>>());
        // PXE 2.1: take the file of this offer. EFI does not want to know.
        assert_eq!(read.vendor(), (arch == 0).then_some(&[6, 1, 8, 255][..]), "{arch}");
        assert_eq!(read.message.sname(), Some(&b"192.0.2.1\0"[..]));
    }
    for (arch, file) in [(15, "bootia32.efi"), (16, "bootnetx64.efi"), (18, "bootarm.efi"), (19, "grubaa64.efi")] {
        let class = format!("HTTPClient:Arch:{arch:05}:UNDI:003001");
        let question = Question::new(DISCOVER).option(60, class.as_bytes()).option(93, &u16::to_be_bytes(arch));
        let read = offer(&proxy, &question);
        assert_eq!((read.file.as_str(), read.class()), (&*format!("http://192.0.2.1:8080/{file}"), &b"HTTPClient"[..]));
        assert_eq!(read.vendor(), None);
    }
}

/// The answer of dnsmasq with `pxe-service=0,"Raspberry Pi Boot"`, as the documentation of Raspberry Pi shows it.
#[test]
fn a_raspberry_pi_knows_its_server_by_a_menu() {
    let menu = [&[6, 1, 3, 10, 4, 0][..], b"PXE", &[9, 20, 0, 0, 17], b"Raspberry Pi Boot", &[255]].concat();
    let plain = vec![6, 1, 8, 255];
    let both: &[&str] = &["pxelinux.0", "start4.elf"];
    let (proxy, bios) = (proxy(both), proxy(&["pxelinux.0"]));
    for (id, is_pi) in [
        (*b"\0RPi4\x11\x31\xc0\0\xdc\xa6\x32\x01\x1a\x2b\x3c\x4d", true),
        (*b"\0RPi5\x70\x41\xd0\0\xdc\xa6\x32\x01\x1a\x2b\x3c\x4d", true),
        ([[0; 1].as_slice(), &[0x44; 16]].concat().try_into().unwrap(), true),
        (*b"\0\xa2\xef\x56\x44\xa2\xef\x56\x44\xa2\xef\x56\x44\xa2\xef\x56\x44", true),
        ([0; 17], false),
        ([[0; 1].as_slice(), &[0xff; 16]].concat().try_into().unwrap(), false),
        (*b"\0\xa2\xef\x56\x44\xa2\xef\x56\x44\xa2\xef\x56\x44\xa2\xef\x56\x45", false),
    ] {
        let class = b"PXEClient:Arch:00000:UNDI:002001";
        let question = Question::new(DISCOVER).option(60, class).option(93, &[0, 0]).option(97, &id);
        let (file, vendor) = if is_pi { ("start4.elf", &menu) } else { ("pxelinux.0", &plain) };
        let read = offer(&proxy, &question);
        assert_eq!((read.file.as_str(), read.vendor()), (file, Some(&vendor[..])), "{id:?}");
        assert_eq!(offer(&bios, &question).file, "pxelinux.0");
        let ipxe = offer(&proxy, &question.option(175, &[1, 1, 1]));
        assert_eq!(ipxe.vendor(), Some(&plain[..]), "{id:?}");
    }
}

/// The packets are those of the clients of `tests/boot_lan.rs`: EDK2 of November 2022, iPXE of January 2019, U-Boot
/// 2025.01.
#[test]
fn captured_requests() {
    let files = &["pxelinux.0", "bootnetx64.efi", "snponly.efi", "boot.ipxe", "boot.scr.uimg", "bootaa64.efi"];
    let proxy = http(proxy(files));
    let (nobody, machine) = (NOBODY, "192.0.2.111:4011".parse().unwrap());
    let discovery = (ServerPort::Dhcp, nobody, EVERYBODY, MessageType::Offer);
    let script = "http://192.0.2.1:8080/boot.ipxe";
    for (question, (server_port, from, to, kind), shown, file) in [
        (&include_bytes!("dhcp/captured/ipxe_bios.bin")[..], discovery, "BIOS, iPXE", script),
        (include_bytes!("dhcp/captured/ipxe_efi.bin"), discovery, "EFI x64, iPXE", script),
        (include_bytes!("dhcp/captured/edk2_pxe.bin"), discovery, "EFI x64", "snponly.efi"),
        (
            include_bytes!("dhcp/captured/edk2_pxe_4011.bin"),
            (ServerPort::Pxe, machine, machine, MessageType::Ack),
            "EFI x64",
            "snponly.efi",
        ),
        (
            include_bytes!("dhcp/captured/edk2_http.bin"),
            discovery,
            "EFI x64, HTTP boot",
            "http://192.0.2.1:8080/snponly.efi",
        ),
        (include_bytes!("dhcp/captured/uboot.bin"), discovery, "U-Boot", "boot.scr.uimg"),
        // Its class has the architecture in hexadecimal, unlike everybody's.
        (include_bytes!("dhcp/captured/uboot_efi.bin"), discovery, "EFI arm64", "bootaa64.efi"),
    ] {
        let answer = proxy.answer(question, arrival(server_port, from)).unwrap();
        let read = Read::of(&answer.bytes);
        assert_eq!((answer.to, read.kind, read.file.as_str()), (to, kind, file), "{shown}");
        assert_eq!(answer.offer.machine.to_string(), format!("52-54-00-12-34-56 ({shown})"));
        // Its transaction, its flags and its hardware address.
        assert_eq!((&answer.bytes[4..8], &answer.bytes[10..12]), (&question[4..8], &question[10..12]));
        assert_eq!(answer.bytes[28..44], question[28..44]);
        // And whatever is cut from it.
        (0..question.len()).for_each(|length| any::answers(&question[..length]));
    }
    // The request for the address, which is the DHCP server's to answer.
    let request = include_bytes!("dhcp/captured/edk2_pxe_request.bin");
    assert!(proxy.answer(request, arrival(ServerPort::Dhcp, nobody)).is_err());
}

#[test]
fn the_class_says_the_architecture_where_no_option_does() {
    let class = |class: &str| Question::new(DISCOVER).option(60, class.as_bytes());
    assert_eq!(offer(&proxy(ALL), &class("PXEClient:Arch:00007:UNDI:003016")).file, "bootnetx64.efi");
    for class_of_efi in
        [&b"PXEClient:Arch:00007"[..], b"PXEClient:Arch:00007\0", b"PXEClient:Arch:00007:UNDI:003016\xff"]
    {
        assert_eq!(offer(&proxy(ALL), &Question::new(DISCOVER).option(60, class_of_efi)).file, "bootnetx64.efi");
    }
    for of_none in ["PXEClient", "PXEClient:Arch:", "PXEClient:Arch:0000b", "PXEClient:Arch:99999", "PXEClientele"] {
        assert_eq!(offer(&proxy(ALL), &class(of_none)).file, "pxelinux.0", "{of_none}");
    }
}

#[test]
fn ipxe_goes_on_with_its_script() {
    let files = &["undionly.kpxe", "ipxe.efi", "pxelinux.0", "bootx64.efi", "boot.ipxe"];
    let plain = proxy(files);
    // Without a script, iPXE is only a boot file.
    assert_eq!(offer(&plain, &Question::pxe(DISCOVER, 0)).file, "undionly.kpxe");
    assert_eq!(offer(&plain, &Question::pxe(DISCOVER, 7)).file, "ipxe.efi");
    for class in [&b"iPXE"[..], b"\x04iPXE", b"\x04iPXE\x03lab", b"\x03lab\x04iPXE"] {
        for arch in [0, 7] {
            let question = Question::pxe(DISCOVER, arch).option(77, class);
            let read = offer(&plain, &question);
            assert_eq!((read.file.as_str(), read.vendor()), ("tftp://192.0.2.1/boot.ipxe", Some(&[6, 1, 8, 255][..])));
            assert_eq!(offer(&http(plain.clone()), &question).file, "http://192.0.2.1:8080/boot.ipxe");
            assert_eq!(offer(&plain.clone().tftp(6969), &question).file, "tftp://192.0.2.1:6969/boot.ipxe");
        }
    }
    let named = Question::pxe(DISCOVER, 0).option(175, &[0xb1, 1, 1, 0xeb, 3, 1, 0, 0]);
    assert_eq!(offer(&plain, &named).file, "tftp://192.0.2.1/boot.ipxe");
    for other in [&b"GRUB"[..], b"\x05iPXE", b"\x03lab\x04", b"\x00"] {
        assert_eq!(offer(&plain, &Question::pxe(DISCOVER, 0).option(77, other)).file, "undionly.kpxe", "{other:?}");
    }
}

#[test]
fn without_a_script_ipxe_gets_the_file_of_its_firmware() {
    let proxy = http(proxy(&["undionly.kpxe", "pxelinux.0"]));
    let question = Question::pxe(DISCOVER, 0);
    assert_eq!(offer(&proxy, &question).file, "pxelinux.0");
    // From where PXELINUX has its configuration too.
    assert_eq!(offer(&proxy, &question.clone().option(77, b"iPXE")).file, "tftp://192.0.2.1/pxelinux.0");
    // iPXE never gets iPXE as its boot file.
    let alone = self::proxy(&["undionly.kpxe"]);
    assert_eq!(offer(&alone, &question).file, "undionly.kpxe");
    let no_reply = ask(&alone, ServerPort::Dhcp, NOBODY, &question.option(77, b"iPXE")).unwrap_err();
    assert!(no_reply.to_string().contains("no script for iPXE"), "{no_reply}");
}

#[test]
fn a_source_that_fails_has_not_lost_its_files() {
    let sources = |refusal: fn(&str) -> Option<Refusal>| {
        smol::block_on(Menu::find(&read(async move |request: Request| match refusal(request.path()) {
            Some(refusal) => Err(refusal),
            None => ALL_OF_SHIM.contains(&request.path()).then_some("...").ok_or(Refusal::not_found()),
        })))
    };
    const ALL_OF_SHIM: &[&str] = &["pxelinux.0", "shimx64.efi", "grubx64.efi", "ipxe.efi"];
    let fails = |path: &str| (path == "shimx64.efi").then(|| Refusal::upstream().because("HTTP status 503"));
    let down = |_: &str| Some(Refusal::upstream().because("connection refused"));
    let (whole, fails, down) = (sources(|_| None), sources(fails), sources(down));
    let file = |menu: &Menu, arch| {
        let answer =
            ask(&Proxy::default().menu(menu.clone()), ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, arch));
        answer.map(|answer| answer.offer.file).map_err(|no_reply| no_reply.to_string())
    };
    assert_eq!((file(&whole, 7).unwrap().as_str(), whole.failure()), ("shimx64.efi", None));
    // Shim verifies GRUB, so a machine with Secure Boot cannot do with GRUB alone.
    assert!(file(&fails, 7).unwrap_err().contains("shimx64.efi: ERROR 0 Upstream failed (HTTP status 503)"));
    assert_eq!(file(&fails, 0).unwrap(), "pxelinux.0");
    assert!(down.is_empty() && down.failure().unwrap().contains("connection refused"));
    // The files of an earlier search stay known, through any number of failures.
    let kept = down.clone().or_known(&fails.clone().or_known(&whole));
    assert_eq!((file(&kept, 7).unwrap(), file(&kept, 0).unwrap()), ("shimx64.efi".into(), "pxelinux.0".into()));
    assert!(kept.failure().is_some() && file(&kept, 11).unwrap_err().contains("connection refused"));
    // A file that is absent or denied is forgotten.
    for gone in [|| Refusal::not_found(), || Refusal::denied(), || Refusal::silent()] {
        let menu = smol::block_on(Menu::find(&read(async move |request: Request| {
            (request.path() == "grubx64.efi").then_some("...").ok_or(gone())
        })));
        assert_eq!(file(&menu.or_known(&kept), 7).unwrap(), "grubx64.efi");
    }
}

#[test]
fn the_request_at_4011_is_acknowledged() {
    let proxy = proxy(ALL);
    let machine = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 4011);
    for kind in [REQUEST, INFORM] {
        let question = Question::pxe(kind, 7).ciaddr([192, 0, 2, 77]);
        let answer = ask(&proxy, ServerPort::Pxe, machine, &question).unwrap();
        let read = Read::of(&answer.bytes);
        assert_eq!((answer.to, read.kind), (machine, MessageType::Ack));
        assert_eq!((read.file.as_str(), read.message.ciaddr()), ("bootnetx64.efi", *machine.ip()));
        assert_eq!(read.vendor(), None);
        // The answer returns the item that the client chose from a menu.
        let chosen = question.option(43, &[71, 4, 0, 1, 0, 0, 255]);
        let read = Read::of(&ask(&proxy, ServerPort::Pxe, machine, &chosen).unwrap().bytes);
        assert_eq!(read.vendor(), Some(&[71, 4, 0, 1, 0, 0, 255][..]));
    }
    // From a client without an address.
    let answer = ask(&proxy, ServerPort::Pxe, NOBODY, &Question::pxe(REQUEST, 7)).unwrap();
    assert_eq!(answer.to, EVERYBODY);
    assert!(ask(&proxy, ServerPort::Pxe, machine, &Question::pxe(DISCOVER, 7)).is_err());
}

#[test]
fn answers_go_where_rfc_2131_has_them() {
    let proxy = proxy(ALL);
    let to = |from: [u8; 4], question: Question| {
        ask(&proxy, ServerPort::Dhcp, SocketAddrV4::new(from.into(), 67), &question).map(|answer| answer.to.to_string())
    };
    let question = Question::pxe(DISCOVER, 0);
    assert_eq!(to([0; 4], question.clone()).unwrap(), "255.255.255.255:68");
    assert_eq!(to([192, 0, 2, 7], question.clone().ciaddr([192, 0, 2, 7])).unwrap(), "192.0.2.7:68");
    // By the relay that it came by, whatever the client's address is.
    let relayed = question.clone().giaddr([198, 51, 100, 1]).ciaddr([198, 51, 100, 7]);
    assert_eq!(to([203, 0, 113, 9], relayed).unwrap(), "198.51.100.1:67");
    for nonsense in [[255; 4], [127, 0, 0, 1], [224, 0, 0, 1]] {
        assert!(to([203, 0, 113, 9], question.clone().giaddr(nonsense)).is_err());
    }
}

#[test]
fn a_relay_gets_its_option_back() {
    let relay = [1, 3, b'p', b'o', b'1', 2, 2, 0, 9];
    let question = Question::pxe(DISCOVER, 0).giaddr([198, 51, 100, 1]).option(82, &relay);
    let answer =
        ask(&proxy(ALL), ServerPort::Dhcp, SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 67), &question).unwrap();
    // RFC 3046 section 2.1: it is the last.
    let end = answer.bytes.iter().rposition(|byte| *byte == 255).unwrap();
    assert_eq!(answer.bytes[end - relay.len() - 2..end], [&[82, relay.len() as u8], &relay[..]].concat());
    assert_eq!(Read::of(&answer.bytes).message.giaddr(), Ipv4Addr::new(198, 51, 100, 1));
}

/// U-Boot with `CONFIG_SERVERIP_FROM_PROXYDHCP` reads the fields of the answer. With lwIP it also wants the options of
/// a PXE server's DHCPOFFER.
#[test]
fn u_boot_is_told_the_server() {
    let question = |arch: Option<u16>| {
        let question = Question::new(DISCOVER).option(60, b"U-Boot.armv8").option(94, &[1, 0, 0]);
        arch.into_iter().fold(question, |question, arch| question.option(93, &arch.to_be_bytes()))
    };
    let told = |proxy: &Proxy, arch| {
        let answer = ask(proxy, ServerPort::Dhcp, NOBODY, &question(arch)).unwrap();
        let message = dhcproto::Decodable::from_bytes(&answer.bytes).unwrap();
        let message: dhcproto::v4::Message = message;
        assert_eq!((message.siaddr(), message.yiaddr(), answer.to), (SERVER, Ipv4Addr::UNSPECIFIED, EVERYBODY));
        assert_eq!(message.opts().msg_type(), Some(MessageType::Offer));
        for (code, option) in [
            (OptionCode::ServerIdentifier, DhcpOption::ServerIdentifier(SERVER)),
            (OptionCode::ClassIdentifier, DhcpOption::ClassIdentifier(b"PXEClient".to_vec())),
        ] {
            assert_eq!(message.opts().get(code), Some(&option));
        }
        let has_option = message.opts().get(OptionCode::BootfileName).is_some();
        let file = String::from_utf8(message.fname().unwrap_or_default().to_vec()).unwrap();
        assert_eq!(has_option, !file.is_empty());
        (file, answer.offer.to_string())
    };
    let (file, said) = told(&proxy(ALL), Some(22));
    assert_eq!((file.as_str(), said.contains(" (U-Boot) is told the server: ")), ("", true), "{said}");
    let scripts = proxy(&["boot.scr.uimg", "boot.scr", "pxelinux.0"]);
    let (file, said) = told(&scripts, None);
    assert!(file.trim_end_matches('\0') == "boot.scr.uimg" && said.ends_with("boot.scr.uimg: found in the sources"));
    // Without an architecture it is no BIOS.
    let rule = |arch: &str| scripts.clone().rules(vec![Rule::new("", "by-rule").arch(arch.parse().unwrap())]);
    assert_eq!(told(&rule("bios"), None).0.trim_end_matches('\0'), "boot.scr.uimg");
    assert_eq!(told(&rule("22"), Some(22)).0.trim_end_matches('\0'), "by-rule");
}

#[test]
fn other_dhcp_packets_get_no_answer() {
    let proxy = http(proxy(ALL));
    let not_for_us = |server_port, question: &Question| {
        let no_reply = ask(&proxy, server_port, NOBODY, question).unwrap_err();
        assert!(matches!(no_reply, NoReply::NotForUs(_)), "{no_reply}");
    };
    let plain = Question::new(DISCOVER);
    not_for_us(ServerPort::Dhcp, &plain);
    for class in ["MSFT 5.0", "udhcp 1.35.0", "android-dhcp-14", "u-boot", "U-Boo", "PXE", "HTTP", "xPXEClient"] {
        not_for_us(ServerPort::Dhcp, &plain.clone().option(60, class.as_bytes()));
    }
    // Whatever else than a discovery comes to 67 is for the server that leases addresses.
    for kind in [0, 2, REQUEST, 4, 5, 6, 7, INFORM, 9, 255] {
        not_for_us(ServerPort::Dhcp, &Question::pxe(kind, 7));
    }
    // An answer of another server.
    let mut reply = Question::pxe(DISCOVER, 7);
    reply.header[0] = 2;
    not_for_us(ServerPort::Dhcp, &reply);
    // BOOTP.
    let mut bootp = Question::pxe(DISCOVER, 7);
    bootp.options.drain(..3);
    not_for_us(ServerPort::Dhcp, &bootp);
}

#[test]
fn a_relay_that_is_the_server_makes_no_loop() {
    let proxy = proxy(ALL);
    for giaddr in [[192, 0, 2, 7], [192, 0, 2, 255]] {
        let question = Question::pxe(DISCOVER, 0).giaddr(giaddr);
        let answer = ask(&proxy, ServerPort::Dhcp, SocketAddrV4::new(giaddr.into(), 67), &question).unwrap();
        assert_eq!(answer.to, SocketAddrV4::new(giaddr.into(), 67));
        // The answer that comes back is no question.
        let back = arrival(ServerPort::Dhcp, SocketAddrV4::new(SERVER, 67));
        assert!(matches!(proxy.answer(&answer.bytes, back), Err(NoReply::NotForUs(_))));
    }
    // One with the address of the server itself is no relay, and no machine has this address.
    let question = Question::pxe(DISCOVER, 0);
    for own in [question.clone().giaddr(SERVER.octets()), question.ciaddr(SERVER.octets())] {
        let no_reply = ask(&proxy, ServerPort::Dhcp, SocketAddrV4::new(SERVER, 67), &own).unwrap_err();
        assert!(matches!(no_reply, NoReply::NotForUs(_)), "{no_reply}");
    }
}

#[test]
fn two_on_one_net_do_not_answer_each_other() {
    let (one, other) = (proxy(ALL), proxy(ALL));
    let question = Question::pxe(DISCOVER, 0);
    let answers = [&one, &other].map(|proxy| ask(proxy, ServerPort::Dhcp, NOBODY, &question).unwrap());
    assert_eq!(answers[0], answers[1], "the client takes either");
    for answer in answers {
        for server_port in [ServerPort::Dhcp, ServerPort::Pxe] {
            let from = SocketAddrV4::new(SERVER, 67);
            assert!(other.answer(&answer.bytes, arrival(server_port, from)).is_err());
        }
    }
}

#[test]
fn http_boot_clients_need_http() {
    let question = Question::new(DISCOVER).option(60, b"HTTPClient:Arch:00016:UNDI:003001").option(93, &[0, 16]);
    let no_reply = ask(&proxy(ALL), ServerPort::Dhcp, NOBODY, &question).unwrap_err();
    assert!(matches!(&no_reply, NoReply::NoBootFile(machine, _) if machine.http), "{no_reply}");
    let elsewhere = proxy(ALL).http(["203.0.113.5:80".parse().unwrap()]);
    assert_eq!(offer(&elsewhere, &question).file, "http://203.0.113.5/bootnetx64.efi");
    // Of several addresses the machines of each network get their own, where there is one.
    let told = |addresses: &[&str]| {
        let several = proxy(ALL).http(addresses.iter().map(|address| address.parse().unwrap()));
        offer(&several, &question).file
    };
    let (first, own, any) = ("203.0.113.5:80", "192.0.2.1:8080", "0.0.0.0:8000");
    assert_eq!(told(&[first, any, own]), "http://192.0.2.1:8080/bootnetx64.efi");
    assert_eq!(told(&[first, any]), "http://192.0.2.1:8000/bootnetx64.efi");
    assert_eq!(told(&[first, "203.0.113.6:80"]), "http://203.0.113.5/bootnetx64.efi");
}

#[test]
fn rules_know_architecture_uuid_and_mac() {
    let uuid = "03020100-0504-0706-0809-0a0b0c0d0e0f";
    let rules = || {
        vec![
            Rule::new("by uuid", "uuid.efi").uuid(uuid.parse().unwrap()).arch("x64".parse().unwrap()),
            Rule::new("by mac", "dir/a b.0").mac("52:54:00".parse().unwrap()).arch("bios".parse().unwrap()),
            Rule::new("no answer", "").arch("arm64".parse().unwrap()),
            Rule::new("ipxe", "ipxe.efi").arch("11".parse().unwrap()),
        ]
    };
    let proxy = proxy(ALL).rules(rules());
    assert_eq!(offer(&proxy, &Question::pxe(DISCOVER, 7)).file, "uuid.efi");
    assert_eq!(offer(&proxy, &Question::pxe(DISCOVER, 0)).file, "dir/a b.0");
    // In a URL it is percent-encoded.
    let ipxe = offer(&proxy, &Question::pxe(DISCOVER, 0).option(77, b"iPXE"));
    assert_eq!(ipxe.file, "tftp://192.0.2.1/dir/a%20b.0");
    assert_eq!(offer(&proxy, &Question::pxe(DISCOVER, 6)).file, "bootia32.efi", "the sources have the rest");
    let no_reply = ask(&proxy, ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, 11)).unwrap_err();
    assert!(no_reply.to_string().ends_with("no answer gives it no answer"), "{no_reply}");
    // Either order of the UUID's first groups is the same machine.
    let turned = Rule::new("turned", "turned.efi").uuid("00010203-0405-0607-0809-0a0b0c0d0e0f".parse().unwrap());
    assert_eq!(offer(&self::proxy(&[]).rules(vec![turned]), &Question::pxe(DISCOVER, 7)).file, "turned.efi");
}

#[test]
fn an_offer_is_logged_with_its_reason() {
    let proxy = proxy(ALL);
    let machine = Machine::new("x64".parse().unwrap()).mac("52:54:00:12:34:56".parse().unwrap());
    let answer = ask(&proxy, ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, 7)).unwrap();
    let expected = "52-54-00-12-34-56 (EFI x64) may boot bootnetx64.efi: found in the sources";
    assert_eq!((answer.offer.to_string().as_str(), answer.offer.machine.mac), (expected, machine.mac));
    let nothing = ask(&self::proxy(&[]), ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, 11)).unwrap_err();
    let expected = "52-54-00-12-34-56 (EFI arm64) gets no answer: none of its boot files exists: shimaa64.efi, ";
    assert!(nothing.to_string().starts_with(expected), "{nothing}");
}
