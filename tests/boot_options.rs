//! The options that real clients ask for, however odd, and the answers to them.
#![cfg(feature = "sim")]

mod sim;

use tuffet::{
    Refusal,
    options::{Direction, Limits, answer},
    packet::{Malformed, Mode, Packet},
    transfer::Outcome,
};

use sim::{Script, decoded_options};

const NOTHING: [&str; 0] = [];
const COMPLETE: Option<&Outcome> = Some(&Outcome::Complete);

#[test]
fn each_client_gets_what_it_asked_for_in_its_order() {
    for (client, asked, granted) in [
        ("iPXE", "blksize=1432 tsize=0", "blksize=1432 tsize=9000"),
        ("iPXE, tftm scheme", "blksize=1432 tsize=0 multicast=", "blksize=1432 tsize=9000"),
        ("pxelinux", "tsize=0 blksize=1408", "tsize=9000 blksize=1408"),
        ("EDK2, probe", "tsize=0 blksize=1468 windowsize=4", "tsize=9000 blksize=1468 windowsize=4"),
        ("EDK2, download", "blksize=1468 windowsize=4", "blksize=1468 windowsize=4"),
        ("shim", "blksize=512 windowsize=4", "blksize=512 windowsize=4"),
        ("GRUB", "blksize=1024 tsize=0", "blksize=1024 tsize=9000"),
        ("U-Boot", "timeout=5 tsize=0 blksize=1468", "timeout=5 tsize=9000 blksize=1468"),
        (
            "Windows boot manager",
            "tsize=0 blksize=1456 windowsize=4 msftwindow=31416",
            "tsize=9000 blksize=1456 windowsize=4",
        ),
        ("curl", "tsize=0 blksize=512 timeout=6", "tsize=9000 blksize=512 timeout=6"),
        ("busybox", "blksize=1024 tsize=0", "blksize=1024 tsize=9000"),
        (
            "node tftp",
            "blksize=1468 timeout=3000 windowsize=4 rollover=0 tsize=0",
            "blksize=1468 windowsize=4 rollover=0 tsize=9000",
        ),
        ("Raspberry Pi", "tsize=0 blksize=1024", "tsize=9000 blksize=1024"),
        ("BSD tftp", "blksize2=1024 rollover=0 tsize=0 timeout=5", "blksize2=1024 rollover=0 tsize=9000 timeout=5"),
    ] {
        assert_eq!(Script::read(asked, 9000).ask(), [format!("OACK {granted}")], "{client}");
    }
}

#[test]
fn plain_clients_get_data_and_no_oack() {
    for asked in ["", "multicast=", "msftwindow=31416", "timeout=3000", "blksize=0"] {
        assert_eq!(Script::read(asked, 9000).ask(), ["DATA 1"], "{asked}");
        assert_eq!(Script::write(asked, Mode::Octet).ask(), ["ACK 0"], "{asked}");
    }
}

#[test]
fn edk2_is_granted_less_but_never_more() {
    let mut limits = Limits::default();
    (limits.blksize, limits.windowsize) = (1024, 2);
    let mut edk2 = Script::read("tsize=0 blksize=1468 windowsize=4", 9000).with_limits(limits.clone());
    assert_eq!(edk2.ask(), ["OACK tsize=9000 blksize=1024 windowsize=2"]);
    let mut shim = Script::read("blksize=512 windowsize=1", 9000).with_limits(limits);
    assert_eq!(shim.ask(), ["OACK blksize=512 windowsize=1"]);
}

#[test]
fn nvidia_firmware_cannot_take_an_oack() {
    let mut limits = Limits::default();
    limits.answer = false;
    let mut dgx = Script::read("tsize=0 blksize=1468", 600).with_limits(limits);
    assert_eq!(dgx.ask(), ["DATA 1"]);
    assert_eq!(dgx.say("ACK 1"), ["DATA 2"]);
    assert_eq!(dgx.say("ACK 2"), NOTHING);
    assert_eq!(dgx.received.iter().map(Vec::len).collect::<Vec<_>>(), [512, 88]);
    assert_eq!(dgx.outcome(), COMPLETE);
}

#[test]
fn curl_fails_on_oack_tsize_0() {
    assert_eq!(Script::read("tsize=0", 0).ask(), ["DATA 1"]);
    let mut curl = Script::read("tsize=0 blksize=512 timeout=6", 0);
    assert_eq!(curl.ask(), ["OACK blksize=512 timeout=6"]);
    assert_eq!(curl.say("ACK 0"), ["DATA 1"]);
    assert_eq!(curl.say("ACK 1"), NOTHING);
    assert_eq!((curl.outcome(), curl.received.concat().len()), (COMPLETE, 0));
}

#[test]
fn curl_gets_text_without_a_size_that_would_be_wrong() {
    let mut curl = Script::read_bytes("tsize=0 blksize=512 timeout=6", Mode::Netascii, b"two\nlines\n");
    assert_eq!(curl.ask(), ["OACK blksize=512 timeout=6"]);
    assert_eq!(curl.say("ACK 0"), ["DATA 1"]);
    assert_eq!(curl.received.concat(), b"two\r\nlines\r\n");
}

#[test]
fn curl_announces_the_size_of_its_upload() {
    let mut curl = Script::write("tsize=3 blksize=512 timeout=6", Mode::Octet);
    assert_eq!(curl.ask(), ["OACK tsize=3 blksize=512 timeout=6"]);
    assert_eq!(curl.say_data(1, b"abc"), ["ACK 1"]);
    assert_eq!((curl.outcome(), &*curl.stored()), (COMPLETE, &b"abc"[..]));
}

#[test]
fn procurve_uploads_in_netascii() {
    let mut switch = Script::write("", Mode::Netascii);
    assert_eq!(switch.ask(), ["ACK 0"]);
    let config = b"hostname sw\r\n".repeat(100);
    assert_eq!(switch.say_data(1, &config[..512]), ["ACK 1"]);
    assert_eq!(switch.say_data(2, &config[512..1024]), ["ACK 2"]);
    assert_eq!(switch.say_data(3, &config[1024..]), ["ACK 3"]);
    assert_eq!((switch.outcome(), &*switch.stored()), (COMPLETE, &b"hostname sw\n".repeat(100)[..]));
}

#[test]
fn tsize_of_a_read_is_a_question_whatever_its_value() {
    for asked in ["tsize=0", "tsize=77", "tsize=x", "tsize=-1", "TSIZE=0", "tsize=18446744073709551616"] {
        let name = asked.split('=').next().unwrap();
        assert_eq!(Script::read(asked, 9000).ask(), [format!("OACK {name}=9000")], "{asked}");
    }
}

#[test]
fn refusals_have_the_codes_that_clients_know() {
    // U-Boot restarts for ever on anything but 1 and 2.
    for (refusal, code) in [
        (Refusal::denied(), 2),
        (Refusal::not_found(), 1),
        (Refusal::exists(), 6),
        (Refusal::disk_full(), 3),
        (Refusal::too_big(), 3),
        (Refusal::bad_request(), 4),
        (Refusal::unknown_tid(), 5),
        (Refusal::bad_options(), 8),
    ] {
        let packet = refusal.because("/srv/secret").packet().expect("it is not silent").encode();
        assert_eq!(packet[..4], [0, 5, 0, code]);
        assert!(!packet.windows(4).any(|bytes| bytes == b"/srv"), "only the operator is told why");
    }
}

#[test]
fn odd_requests_survive() {
    let oack = |tail: &[u8]| {
        let (_, oack) = answer(&decoded_options(tail), Direction::Read, Mode::Octet, &Limits::default(), Some(9));
        oack.to_string()
    };
    assert_eq!(oack(b"multicast\0\0tsize\x000\0"), "tsize=9", "an empty value");
    assert_eq!(oack(b"blksize\x001432"), "blksize=1432", "no last NUL");
    assert_eq!(oack(b"tsize\x000\0\0\0\0\xff"), "tsize=9", "trailing garbage");
    assert_eq!(oack(b"\xff\xfe\x000\0tsize\x000\0"), "tsize=9", "no text");
    assert_eq!(Packet::decode(b"\0\x01file\0octet"), Err(Malformed::Mode));
    assert_eq!(Packet::decode(b"\0\x01file"), Err(Malformed::Filename));
}
