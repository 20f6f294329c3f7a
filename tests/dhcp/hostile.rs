//! Packets that no honest machine sends.

use super::*;

/// The log shows only numbers of a packet.
#[test]
fn a_hostile_packet_writes_no_line_of_its_own() {
    let proxy = proxy(&["bootnetx64.efi"]);
    let evil = b"PXEClient\n\x1b[2J\xe2\x80\xae:Arch:00007\nroot may boot evil:UNDI:000000".as_slice();
    for arch in [0u16, 7, 0x0a1b] {
        let question = Question::new(DISCOVER).option(60, evil).option(93, &arch.to_be_bytes()).option(77, evil);
        let question = question.option(97, &evil[..17]).option(12, evil).option(67, evil).option(43, evil);
        let said = match ask(&proxy, ServerPort::Dhcp, NOBODY, &question) {
            Ok(answer) => answer.offer.to_string(),
            Err(no_reply) => no_reply.to_string(),
        };
        assert!(!said.contains("evil") && said.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{said:?}");
    }
}

#[test]
fn a_packet_as_large_as_can_be_is_answered() {
    let proxy = proxy(ALL);
    let mut question = Question::new(DISCOVER).option(60, b"PXEClient").option(93, &[0, 7]);
    // Empty ones of many codes.
    question.options.extend((176..=254).cycle().take(32_000).flat_map(|code| [code, 0]));
    assert_eq!(offer(&proxy, &question).file, "bootnetx64.efi");
    // And of one code in pieces, all that a datagram holds.
    let pieces = (0..250).fold(Question::pxe(DISCOVER, 7), |question, _| question.option(82, &[1; 255]));
    assert_eq!(offer(&proxy, &pieces).file, "bootnetx64.efi", "that of a relay is longer than an option, and left out");
}

#[test]
fn names_of_any_length_are_told_or_not_at_all() {
    let told = |length: usize| {
        let proxy = Proxy::default().rules(vec![Rule::new("", "x".repeat(length))]);
        ask(&proxy, ServerPort::Dhcp, NOBODY, &Question::pxe(DISCOVER, 0))
            .map(|answer| Read::of(&answer.bytes).file.len())
    };
    for length in [1, 126, 127, 128, 253, 254] {
        assert_eq!(told(length), Ok(length));
    }
    assert!(told(255).is_err() && told(1000).is_err());
}

#[test]
fn options_that_are_odd_hide_none_behind_them() {
    let proxy = proxy(ALL);
    let odd: [(u8, &[u8]); 8] = [
        (12, b"\xff\xfe"),    // A host name that is no text.
        (94, &[1]),           // The network interface, cut.
        (119, &[0xc0, 0xc0]), // A name that leads to itself.
        (121, &[33, 1]),      // A route longer than an address.
        (81, &[]),            // A name without a name.
        (1, &[255]),          // A quarter of a mask.
        (57, &[5]),           // Half of a size.
        (80, &[0]),           // A flag with a value.
    ];
    for (code, value) in odd {
        let question = Question::new(DISCOVER).option(code, value).option(60, b"PXEClient").option(93, &[0, 7]);
        assert_eq!(offer(&proxy, &question).file, "bootnetx64.efi", "{code}");
    }
    // Of several architectures, the first that is known; in pieces, as RFC 3396 has it; with pads between; and without
    // an end.
    let mut question = Question::new(DISCOVER).option(60, b"PXECl").option(60, b"ient").option(93, &[0, 1, 0, 7, 0, 0]);
    question.options.extend([0, 0]);
    assert_eq!(offer(&proxy, &question).file, "bootnetx64.efi");
    let bytes = question.bytes();
    assert!(proxy.answer(&bytes[..bytes.len() - 1], arrival(ServerPort::Dhcp, NOBODY)).is_ok());
    // Options in the fields for names (RFC 2132 section 9.3).
    let mut overloaded = Question::new(DISCOVER).option(52, &[3]).option(60, b"PXE");
    overloaded.header[108..116].copy_from_slice(b"\x3c\x06Client");
    overloaded.header[116] = 255;
    overloaded.header[44..49].copy_from_slice(&[93, 2, 0, 7, 255]);
    assert_eq!(offer(&proxy, &overloaded).file, "bootnetx64.efi");
    overloaded.header[109] = 200;
    assert!(ask(&proxy, ServerPort::Dhcp, NOBODY, &overloaded).is_err(), "an option longer than its field");
    // A length of the hardware address that nothing has room for.
    question.header[2] = 200;
    assert!(ask(&proxy, ServerPort::Dhcp, NOBODY, &question).is_ok_and(|answer| answer.offer.machine.mac.is_none()));
}

#[test]
fn cut_and_flipped_questions_have_an_answer_or_none() {
    let questions: Vec<Vec<u8>> = [0, 7, 11, 16]
        .into_iter()
        .flat_map(|arch| {
            let question = Question::pxe(DISCOVER, arch).option(77, b"iPXE").option(43, &[71, 4, 0, 0, 0, 0, 255]);
            let http = Question::new(DISCOVER).option(60, b"HTTPClient").option(93, &arch.to_be_bytes());
            [
                question.clone(),
                Question::pxe(REQUEST, arch).giaddr([10, 0, 0, 1]).option(82, &[1, 1, 1]),
                http,
                question,
            ]
        })
        .map(|question| question.bytes())
        .collect();
    for question in &questions {
        (0..question.len()).for_each(|length| any::answers(&question[..length]));
    }
    for seed in 0..40_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = questions[random.usize(..questions.len())].clone();
        for _ in 0..random.usize(1..8) {
            let at = match random.bool() {
                true => random.usize(..bytes.len()),
                false => random.usize(236..bytes.len()),
            };
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(200..=bytes.len() + 300).min(bytes.len()));
        any::answers(&bytes);
    }
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(..600);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        if length > 246 {
            bytes[236..246].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1, 60, 9, b'P']);
        }
        any::answers(&bytes);
    }
}
