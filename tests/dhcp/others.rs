//! Packets for another server, and fields that this server ignores.

use super::*;

const OTHER: [u8; 4] = [192, 0, 2, 254];

/// PXE 2.1 section 2.2.4: a client that knows the type of its boot server, but not its address, asks all servers.
#[test]
fn who_asks_for_another_server_by_broadcast_gets_no_answer() {
    let proxy = proxy(ALL);
    let machine = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 68);
    let question = Question::pxe(REQUEST, 7).ciaddr([192, 0, 2, 77]);
    let item = |kind: [u8; 2]| [&[71, 4], &kind[..], &[0, 0, 255]].concat();
    for (question, is_for_us) in [
        (question.clone(), true),
        (question.clone().option(54, &SERVER.octets()), true),
        (question.clone().option(43, &item([0, 0])), true),
        (question.clone().option(54, &SERVER.octets()).option(43, &item([0, 0])), true),
        (question.clone().option(54, &OTHER), false),
        (question.clone().option(43, &item([0, 1])), false),
        (question.clone().option(43, &item([0x80, 0])), false),
        (question.clone().option(54, &OTHER).option(43, &item([0, 0])), false),
        // Neither is whole, so neither says anything.
        (question.clone().option(54, &OTHER[..3]), true),
        (question.clone().option(43, &[71, 4, 0, 1]), true),
    ] {
        let mut arrival = arrival(ServerPort::Pxe, machine);
        // A packet to the address of this server is for this server.
        assert!(proxy.answer(&question.bytes(), arrival).is_ok(), "{question:?}");
        arrival.broadcast = true;
        let answer = proxy.answer(&question.bytes(), arrival);
        assert!(matches!(answer, Ok(_) | Err(NoReply::NotForUs(_))));
        assert_eq!(answer.is_ok(), is_for_us, "{question:?}");
    }
}

/// A client that has chosen another server for its address goes on to look for its boot file.
#[test]
fn a_discovery_is_for_all_servers() {
    let proxy = proxy(ALL);
    assert_eq!(offer(&proxy, &Question::pxe(DISCOVER, 7).option(54, &OTHER)).file, "bootnetx64.efi");
    let item = [71, 4, 0, 1, 0, 0, 255];
    assert_eq!(offer(&proxy, &Question::pxe(DISCOVER, 7).option(43, &item)).file, "bootnetx64.efi");
}

#[test]
fn no_other_message_is_answered_at_any_port() {
    let proxy = proxy(ALL);
    // DHCPOFFER, DHCPDECLINE, DHCPACK, DHCPNAK, DHCPRELEASE, and those of leases and of later RFCs.
    for kind in [0, 2, 4, 5, 6, 7, 9, 10, 13, 18, 255] {
        for server_port in [ServerPort::Dhcp, ServerPort::Pxe] {
            let no_reply = ask(&proxy, server_port, NOBODY, &Question::pxe(kind, 7)).unwrap_err();
            assert!(matches!(no_reply, NoReply::NotForUs(_)), "{kind} {no_reply}");
        }
    }
    for kind in [REQUEST, INFORM] {
        let chosen = Question::pxe(kind, 7).option(54, &SERVER.octets());
        assert!(ask(&proxy, ServerPort::Dhcp, NOBODY, &chosen).is_err(), "there is no lease here");
    }
    for op in [0, 2, 3, 255] {
        for (server_port, kind) in [(ServerPort::Dhcp, DISCOVER), (ServerPort::Pxe, REQUEST)] {
            let mut question = Question::pxe(kind, 7);
            question.header[0] = op;
            assert!(matches!(ask(&proxy, server_port, NOBODY, &question), Err(NoReply::NotForUs(_))), "{op}");
        }
    }
}

/// RFC 2131 table 5: a client leaves these fields empty, or they mean nothing.
#[test]
fn fields_that_mean_nothing_change_nothing() {
    let proxy = proxy(ALL);
    let expected = ask(&proxy, ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, 7)).unwrap();
    for (field, value) in [
        (3..4, &[255][..]),      // hops
        (8..10, &[255; 2]),      // secs
        (16..20, &OTHER),        // yiaddr
        (20..24, &OTHER),        // siaddr
        (44..54, b"bootserver"), // sname
        (108..114, b"x.boot"),   // file
    ] {
        let mut question = Question::pxe(DISCOVER, 7);
        question.header[field.clone()].copy_from_slice(value);
        assert_eq!(ask(&proxy, ServerPort::Dhcp, NOBODY, &question).unwrap(), expected, "{field:?}");
    }
}

#[test]
fn a_card_that_is_no_ethernet_card_has_no_mac_address() {
    let proxy = proxy(ALL);
    for (htype, hlen) in [(1, 0), (1, 5), (1, 7), (1, 16), (1, 17), (1, 255), (32, 0), (32, 6), (0, 6), (255, 20)] {
        let mut question = Question::pxe(DISCOVER, 7);
        (question.header[1], question.header[2]) = (htype, hlen);
        let answer = ask(&proxy, ServerPort::Dhcp, NOBODY, &question).unwrap();
        assert_eq!((answer.offer.machine.mac, answer.to), (None, EVERYBODY), "{htype} {hlen}");
        assert_eq!(answer.bytes[1..3], [htype, hlen]);
        assert_eq!(answer.bytes[28..44], question.header[28..44]);
    }
}

#[test]
fn a_uuid_has_16_bytes_of_type_0() {
    let proxy = proxy(ALL);
    for (length, first, is_uuid) in [(17, 0, true), (17, 1, false), (16, 0, false), (18, 0, false), (1, 0, false)] {
        let id: Vec<u8> = (0..length).map(|n| if n == 0 { first } else { n }).collect();
        let question = Question::new(DISCOVER).option(60, b"PXEClient").option(93, &[0, 7]).option(97, &id);
        let answer = ask(&proxy, ServerPort::Dhcp, NOBODY, &question).unwrap();
        assert_eq!(answer.offer.machine.uuid.is_some(), is_uuid, "{id:?}");
        // The answer returns the client's option.
        let read = Read::of(&answer.bytes);
        let echoed = read.message.opts().get(OptionCode::ClientMachineIdentifier);
        assert_eq!(echoed, Some(&DhcpOption::ClientMachineIdentifier(id)));
    }
}

#[test]
fn of_several_architectures_the_first_known_one_counts() {
    let proxy = proxy(ALL);
    for (list, file) in [
        (&[0, 7, 0, 0][..], "bootnetx64.efi"),
        (&[0, 0, 0, 7], "pxelinux.0"),
        (&[0, 1, 0, 7], "bootnetx64.efi"),
        (&[0xff, 0xff, 0, 13, 0, 11], "grubaa64.efi"),
        (&[0, 7, 0], "bootnetx64.efi"),
        // Half of a number: the class has it.
        (&[0], "bootarm.efi"),
        (&[], "bootarm.efi"),
    ] {
        let question = Question::new(DISCOVER).option(60, b"PXEClient:Arch:00010:UNDI:003016").option(93, list);
        assert_eq!(offer(&proxy, &question).file, file, "{list:?}");
    }
    let unknown = Question::new(DISCOVER).option(60, b"PXEClient").option(93, &[0, 13, 0, 14]);
    let no_reply = ask(&proxy, ServerPort::Dhcp, NOBODY, &unknown).unwrap_err();
    assert!(no_reply.to_string().contains("architecture 13"), "{no_reply}");
}

/// RFC 2132 section 9.10.
#[test]
fn an_answer_is_no_longer_than_the_client_takes() {
    let relayed = |longest: Option<&[u8]>, name: usize| {
        let question = Question::pxe(DISCOVER, 7).giaddr([192, 0, 2, 9]).option(82, &[1; 120]);
        let question = longest.into_iter().fold(question, |question, longest| question.option(57, longest));
        let proxy = Proxy::default().rules(vec![Rule::new("", "x".repeat(name))]);
        ask(&proxy, ServerPort::Dhcp, NOBODY, &question).map(|answer| answer.bytes.len())
    };
    // Every client takes an answer of the usual length.
    assert!(relayed(Some(&[2, 64]), 60).is_ok_and(|length| length <= 548));
    let length = relayed(None, 200).unwrap();
    assert!(length > 548);
    for (longest, has_room) in
        [(length + 28, true), (length + 27, false), (576, false), (68, false), (0, false), (65535, true)]
    {
        let answer = relayed(Some(&(longest as u16).to_be_bytes()), 200);
        assert_eq!(answer.is_ok(), has_room, "{longest}");
        assert!(answer.is_ok_and(|answer| answer == length) == has_room);
        // Less than RFC 2132 allows counts as the least.
        assert!(relayed(Some(&(longest as u16).to_be_bytes()), 60).is_ok(), "{longest}");
    }
    assert!(relayed(Some(&[5]), 200).is_ok(), "half of a number");
}
