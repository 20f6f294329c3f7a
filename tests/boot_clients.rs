//! How real clients behave, each as a script of its packets and the server's.
#![cfg(feature = "sim")]

mod sim;

use tuffet::{ErrorCode, options::Rollover, packet::Mode, transfer::Outcome};

use sim::{Script, Source, blocks, ms, secs};

const NOTHING: [&str; 0] = [];
const COMPLETE: Option<&Outcome> = Some(&Outcome::Complete);

// Rule 5: good-byes.

#[test]
fn edk2_answers_the_probe_with_error_8() {
    let mut probe = Script::read("tsize=0 blksize=1468 windowsize=4", 9000);
    assert_eq!(probe.ask(), ["OACK tsize=9000 blksize=1468 windowsize=4"]);
    assert_eq!(probe.say("ERROR 8"), NOTHING, "never an ERROR in answer to an ERROR");
    assert_eq!(probe.outcome(), Some(&Outcome::Probe));

    let mut download = Script::read("blksize=1468 windowsize=4", 9000);
    assert_eq!(download.ask(), ["OACK blksize=1468 windowsize=4"]);
    assert_eq!(download.say("ACK 0"), blocks(1..=4));
    assert_eq!(download.say("ACK 4"), blocks(5..=7));
    assert_eq!(download.say("ACK 7"), NOTHING);
    assert_eq!(download.outcome(), COMPLETE);
}

#[test]
fn edk2_that_wants_the_file_and_says_error_8_has_aborted() {
    let mut edk2 = Script::read("blksize=1468 windowsize=4", 9000);
    edk2.ask();
    edk2.say("ERROR 8");
    assert!(matches!(edk2.outcome(), Some(Outcome::Aborted { code: ErrorCode(8), .. })), "{:?}", edk2.outcome());
}

#[test]
fn ipxe_and_grub_and_the_raspberry_close_a_probe_with_error_0() {
    for asked in ["blksize=1432 tsize=0", "blksize=1024 tsize=0", "tsize=0"] {
        for first in [None, Some("ACK 0")] {
            let mut client = Script::read(asked, 9000);
            client.ask();
            first.map(|ack| client.say(ack));
            client.say("ERROR 0");
            assert_eq!(client.outcome(), Some(&Outcome::Probe), "{asked} {first:?}");
        }
    }
}

#[test]
fn any_error_after_an_oack_with_tsize_is_a_probe() {
    for code in 0..=20 {
        let mut client = Script::read("tsize=0", 9000);
        client.ask();
        assert_eq!(client.say(&format!("ERROR {code}")), NOTHING);
        assert_eq!(client.outcome(), Some(&Outcome::Probe), "{code}");
    }
}

#[test]
fn error_0_before_the_last_block_is_an_abort() {
    // The disk is full, say, at the first block: atftp says so with ERROR 0.
    for (asked, size, acks) in [
        ("", 100, &[][..]),
        ("", 512, &[]),
        ("", 600, &[]),
        ("blksize=512", 100, &["ACK 0"]),
        ("blksize=512", 0, &["ACK 0"]),
        ("blksize=512 windowsize=4", 600, &["ACK 0"]),
        ("blksize=512 windowsize=4", 2000, &["ACK 0", "ACK 1"]),
        ("blksize=512 windowsize=4", 1024, &["ACK 0", "ACK 1"]),
    ] {
        let mut client = Script::read(asked, size);
        client.ask();
        acks.iter().for_each(|ack| _ = client.say(ack));
        client.say("ERROR 0");
        let message = "words of the client".into();
        let aborted = Outcome::Aborted { code: ErrorCode::NOT_DEFINED, message };
        assert_eq!(client.outcome(), Some(&aborted), "{asked} {size} {acks:?}");
    }
    // And after the options, a complaint is no question for the size.
    let mut client = Script::read("tsize=0", 100);
    client.ask();
    client.say("ACK 0");
    client.say("ERROR 3");
    assert!(matches!(client.outcome(), Some(Outcome::Aborted { .. })), "{:?}", client.outcome());
}

#[test]
fn error_0_at_the_last_block_is_complete() {
    for (asked, size, acks) in [
        ("", 600, &["ACK 1"][..]),
        ("blksize=512 windowsize=4", 2100, &["ACK 0", "ACK 4"]),
        ("", 1024, &["ACK 1", "ACK 2"]),
    ] {
        let mut client = Script::read(asked, size);
        client.ask();
        acks.iter().for_each(|ack| _ = client.say(ack));
        client.say("ERROR 0");
        assert_eq!((client.outcome(), client.record().bytes), (COMPLETE, size as u64), "{asked} {size} {acks:?}");
    }
}

#[test]
fn an_error_in_the_middle_is_an_abort() {
    let mut client = Script::read("tsize=0 blksize=1024", 9000);
    client.ask();
    client.say("ACK 0");
    client.say("ACK 1");
    client.say("ERROR 0");
    assert!(matches!(client.outcome(), Some(Outcome::Aborted { .. })));
}

#[test]
fn pxelinux_closes_on_the_last_full_block() {
    for blocks in [1, 3] {
        let mut pxelinux = Script::read("tsize=0 blksize=1408", 1408 * blocks);
        pxelinux.ask();
        for block in 0..blocks {
            assert_eq!(pxelinux.say(&format!("ACK {block}")), [format!("DATA {}", block + 1)]);
        }
        assert_eq!(pxelinux.say("ERROR 0"), NOTHING);
        assert_eq!(pxelinux.outcome(), COMPLETE);
        assert_eq!(pxelinux.record().bytes, 1408 * blocks as u64, "it has all of them");
    }
}

#[test]
fn pxelinux_sends_error_0_after_the_final_ack() {
    let mut pxelinux = Script::read("tsize=0 blksize=1408", 100);
    pxelinux.ask();
    pxelinux.say("ACK 0");
    pxelinux.say("ACK 1");
    assert_eq!(pxelinux.say("ERROR 0"), NOTHING);
    assert_eq!(pxelinux.outcome(), COMPLETE);
}

#[test]
fn busybox_is_gone_right_after_its_final_ack() {
    let mut busybox = Script::read("tsize=0", 600);
    busybox.ask();
    assert_eq!(busybox.say("ACK 0"), ["DATA 1"]);
    assert_eq!(busybox.say("ACK 1"), ["DATA 2"]);
    let retransmits = busybox.pass(secs(30));
    assert!(retransmits.iter().all(|sent| sent == "DATA 2") && retransmits.len() < 20, "{retransmits:?}");
    assert_eq!(busybox.outcome(), Some(&Outcome::ProbablyComplete));
}

#[test]
fn phones_vanish_in_the_middle() {
    let mut phone = Script::read("", 6000);
    phone.ask();
    phone.say("ACK 1");
    phone.pass(secs(30));
    assert_eq!(phone.outcome(), Some(&Outcome::TimedOut));
}

#[test]
fn tftp_client_sends_no_last_empty_block() {
    let mut client = Script::write("", Mode::Octet);
    client.ask();
    assert_eq!(client.say_data(1, &[7; 512]), ["ACK 1"]);
    client.pass(secs(30));
    assert_eq!(client.outcome(), Some(&Outcome::TimedOut), "it cannot be known that this was all");
}

// Rule 6: duplicates.

#[test]
fn uboot_repeats_its_last_ack_after_loss() {
    let mut uboot = Script::read("timeout=5 tsize=0 blksize=1468", 9000);
    uboot.ask();
    uboot.pass(ms(10));
    assert_eq!(uboot.say("ACK 0"), ["DATA 1"]);
    uboot.pass(ms(10));
    assert_eq!(uboot.say("ACK 1"), ["DATA 2"]);
    // DATA 2 is lost. The server repeats it long before any timer of the client.
    assert!(uboot.pass(secs(1)).contains(&"DATA 2".into()));
    let before = uboot.pass(secs(3)).len();
    assert!(before <= 3, "{before} more");
    // And the report is answered at once, but once.
    assert_eq!(uboot.say("ACK 1"), ["DATA 2"]);
    assert_eq!(uboot.say("ACK 1"), NOTHING);
    assert_eq!(uboot.say("ACK 2"), ["DATA 3"]);
}

#[test]
fn ipxe_and_pxelinux_repeat_their_last_ack_before_any_timer() {
    let mut ipxe = Script::read("blksize=1432 tsize=0", 9000);
    ipxe.ask();
    ipxe.pass(ms(30));
    assert_eq!(ipxe.say("ACK 0"), ["DATA 1"]);
    ipxe.pass(ms(30));
    assert_eq!(ipxe.say("ACK 1"), ["DATA 2"]);
    assert_eq!(ipxe.pass(ms(40)), NOTHING);
    assert_eq!(ipxe.say("ACK 1"), ["DATA 2"], "lost, says the client");
    assert_eq!(ipxe.pass(ms(20)), NOTHING);
    assert_eq!(ipxe.say("ACK 1"), NOTHING, "not before a round trip has passed");
    assert_eq!(ipxe.pass(ms(20)), NOTHING);
    assert_eq!(ipxe.say("ACK 1"), NOTHING, "nor before 50 ms");
    assert_eq!(ipxe.pass(ms(15)), NOTHING);
    assert_eq!(ipxe.say("ACK 1"), ["DATA 2"], "lost again");
}

#[test]
fn edk2_acks_expected_minus_one_up_to_w_times_per_loss() {
    let mut edk2 = Script::read("blksize=1468 windowsize=4", 1468 * 20);
    edk2.ask();
    edk2.pass(ms(2));
    assert_eq!(edk2.say("ACK 0"), blocks(1..=4));
    edk2.pass(ms(2));
    // DATA 2 was lost: 3 and 4 bring an ACK 1 each. The first could be of a client that acknowledges every block.
    assert_eq!(edk2.say("ACK 1"), NOTHING);
    assert_eq!(edk2.say("ACK 1"), blocks(2..=5));
    assert_eq!(edk2.say("ACK 1"), NOTHING);
    edk2.pass(ms(2));
    assert_eq!(edk2.say("ACK 5"), blocks(6..=9));
    edk2.pass(ms(2));
    assert_eq!(edk2.say("ACK 9"), blocks(10..=13));
    edk2.pass(ms(2));
    assert_eq!(edk2.say("ACK 13"), blocks(14..=17));
    edk2.pass(ms(2));
    // DATA 14 was lost: three ACKs.
    let answers = [(); 3].map(|()| edk2.say("ACK 13"));
    assert_eq!(answers.concat(), blocks(14..=17), "one rewind for one gap");
}

#[test]
fn grub_acks_every_old_block_again() {
    let mut grub = Script::read("blksize=1024 tsize=0", 1024 * 9);
    grub.ask();
    assert_eq!(grub.say("ACK 0"), ["DATA 1"]);
    for block in 1..=5 {
        assert_eq!(grub.say(&format!("ACK {block}")), [format!("DATA {}", block + 1)]);
    }
    for old in ["ACK 4", "ACK 3", "ACK 0", "ACK 4", "ACK 77"] {
        assert_eq!(grub.say(old), NOTHING, "{old}");
    }
    assert_eq!(grub.say("ACK 6"), ["DATA 7"]);
}

#[test]
fn an_upload_acks_old_data_once_for_each_copy() {
    let mut client = Script::write("blksize=512", Mode::Octet);
    client.ask();
    assert_eq!(client.say_data(1, &[1; 512]), ["ACK 1"]);
    assert_eq!(client.say_data(1, &[1; 512]), ["ACK 1"]);
    assert_eq!(client.say_data(2, &[2; 512]), ["ACK 2"]);
    assert_eq!(client.say_data(1, &[1; 512]), NOTHING, "nobody needs to know");
    assert_eq!(client.say_data(2, &[2; 512]), ["ACK 2"]);
    assert_eq!(client.say_data(3, b"end"), ["ACK 3"]);
    assert_eq!(client.say_data(3, b"end"), ["ACK 3"], "after the end as well");
    assert_eq!(client.stored().len(), 1027);
}

// Rules 7 and 9: repeats and silence.

#[test]
fn busybox_repeats_its_request_from_the_same_port() {
    let mut busybox = Script::read("tsize=0", 600);
    assert_eq!(busybox.ask(), ["OACK tsize=600"]);
    for wait in [100, 150, 230, 330] {
        busybox.pass(ms(wait));
        assert_eq!(busybox.ask(), ["OACK tsize=600"]);
    }
    assert_eq!(busybox.say("ACK 0"), ["DATA 1"]);
    assert_eq!(busybox.ask(), NOTHING);
    assert_eq!(busybox.say("ACK 1"), ["DATA 2"]);
}

#[test]
fn a_repeated_upload_request_is_answered_until_data_has_come() {
    for (asked, answer) in [("", "ACK 0"), ("tsize=512", "OACK tsize=512")] {
        let mut busybox = Script::write(asked, Mode::Octet);
        assert_eq!([busybox.ask(), busybox.ask(), busybox.ask()], [[answer]; 3]);
        assert_eq!(busybox.say_data(1, &[7; 512]), ["ACK 1"]);
        assert_eq!(busybox.ask(), NOTHING);
        assert_eq!(busybox.say_data(2, b""), ["ACK 2"]);
        assert_eq!(busybox.outcome(), COMPLETE);
    }
}

#[test]
fn busybox_repeats_its_request_while_the_upstream_is_slow() {
    let mut busybox = Script::read_source("", Source::of(&[7; 9000]).after(secs(1)));
    assert_eq!(busybox.ask(), NOTHING);
    for wait in [100, 150, 230, 330] {
        assert_eq!(busybox.pass(ms(wait)), NOTHING);
        assert_eq!(busybox.ask(), NOTHING);
    }
    assert_eq!(busybox.pass(ms(190)), ["DATA 1"]);
    assert_eq!(busybox.say("ACK 1"), ["DATA 2"]);
    busybox.pass(ms(40));
    assert_eq!(busybox.say("ACK 1"), ["DATA 2"], "no copy of DATA 1 explains this");
}

#[test]
fn grub_stops_acking_for_seconds() {
    for silence in [3, 12, 28] {
        let mut grub = Script::read("blksize=1024 tsize=0", 1024 * 9);
        grub.ask();
        grub.pass(ms(1));
        assert_eq!(grub.say("ACK 0"), ["DATA 1"]);
        grub.pass(ms(1));
        assert_eq!(grub.say("ACK 1"), ["DATA 2"]);
        let copies = grub.pass(secs(silence)).len();
        assert!(copies <= 14, "{copies} copies in {silence} s");
        // All copies were queued, and each brings an ACK.
        assert_eq!(grub.say("ACK 2"), ["DATA 3"]);
        for _ in 0..copies {
            assert_eq!(grub.say("ACK 2"), NOTHING);
        }
        for block in 3..=9 {
            assert_eq!(grub.say(&format!("ACK {block}")), [format!("DATA {}", block + 1)]);
        }
        grub.say("ACK 10");
        assert_eq!(grub.outcome(), COMPLETE);
    }
}

#[test]
fn retransmits_back_off_to_the_timeout_that_was_agreed() {
    for (asked, ceiling) in [("timeout=1", secs(1)), ("utimeout=100000", ms(100)), ("timeout=3", secs(3))] {
        let mut client = Script::read(asked, 9000);
        client.ask();
        client.pass(ms(1));
        assert_eq!(client.say("ACK 0"), ["DATA 1"]);
        assert_eq!(client.say("ACK 1"), ["DATA 2"]);
        // Not for long, where they are many: the ACKs of the client pay for them.
        client.pass(ceiling * 8);
        assert_eq!(client.pass(ceiling), ["DATA 2"], "one in each {ceiling:?}");
    }
}

#[test]
fn uboot_rolls_over_inside_a_window() {
    for (asked, rollover, after) in [("", Rollover::Zero, 0), (" rollover=1", Rollover::One, 1)] {
        let mut uboot = Script::read(&format!("blksize=8 windowsize=16{asked}"), 8 * 65560);
        uboot.ask();
        let mut sent = uboot.say("ACK 0");
        for block in (16..=65520).step_by(16) {
            sent = uboot.say(&format!("ACK {block}"));
        }
        let expected = (65521..=65536).map(|index| u64::from(rollover.number(index)));
        assert_eq!(sent, blocks(expected));
        assert_eq!(sent.last().unwrap(), &format!("DATA {after}"));
        assert_eq!(uboot.say(&format!("ACK {after}"))[0], format!("DATA {}", after + 1));
    }
}

#[test]
fn uboot_says_once_that_a_block_of_a_window_is_lost() {
    let mut uboot = Script::read("blksize=1468 windowsize=8", 1468 * 40);
    uboot.ask();
    uboot.pass(ms(2));
    assert_eq!(uboot.say("ACK 0"), blocks(1..=8));
    uboot.pass(ms(2));
    assert_eq!(uboot.say("ACK 2"), NOTHING);
    assert_eq!(uboot.pass(ms(15)), blocks(3..=10), "no other ACK came in a round trip and some ms");
}

#[test]
#[cfg_attr(miri, ignore = "65536 blocks")]
fn an_upload_may_roll_over_to_1_unasked() {
    const BLOCKS: u64 = 65540;
    for (options, rollover) in
        [("blksize=8", Rollover::Zero), ("blksize=8", Rollover::One), ("blksize=8 rollover=1", Rollover::One)]
    {
        let mut client = Script::write(options, Mode::Octet);
        client.ask();
        let data = |index: u64| index.to_be_bytes();
        for index in 1..=BLOCKS {
            let number = rollover.number(index);
            assert_eq!(client.say_data(number, &data(index)), [format!("ACK {number}")], "{options} {index}");
            // Its copy is no new block.
            if (65535..65538).contains(&index) {
                assert_eq!(client.say_data(number, &data(index)), [format!("ACK {number}")], "{options} {index}");
            }
        }
        let number = rollover.number(BLOCKS + 1);
        assert_eq!(client.say_data(number, b""), [format!("ACK {number}")]);
        assert_eq!(client.stored(), (1..=BLOCKS).flat_map(data).collect::<Vec<_>>());
    }
}
