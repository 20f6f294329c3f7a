use super::*;

fn options(text: &str) -> Options {
    text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect()
}

fn read(asked: &str, limits: &Limits, size: Option<u64>) -> (Agreed, String) {
    let (agreed, oack) = answer(&options(asked), Direction::Read, Mode::Octet, limits, size);
    (agreed, oack.to_string())
}

fn oack(asked: &str) -> String {
    read(asked, &Limits::default(), Some(1000)).1
}

#[test]
fn requested_and_supported_in_request_order() {
    assert_eq!(oack("tsize=0 blksize=1468 windowsize=4"), "tsize=1000 blksize=1468 windowsize=4");
    assert_eq!(oack("blksize=1432 multicast= tsize=0"), "blksize=1432 tsize=1000");
    assert_eq!(oack("BlkSize=1024 TSIZE=5"), "BlkSize=1024 TSIZE=1000", "any case, any question");
    assert_eq!(oack("msftwindow=31416"), "");
    assert_eq!(oack("blksize=512 blksize=1024 blksize2=2048"), "blksize=512", "the first counts");
}

#[test]
fn bad_values_drop_their_option_only() {
    assert_eq!(oack("blksize=7 tsize=0"), "tsize=1000");
    assert_eq!(oack("blksize=7 windowsize=0 timeout=3000 rollover=2 utimeout=9999 tsize=x"), "tsize=1000");
    assert_eq!(oack("blksize=+512"), "");
    assert_eq!(oack("timeout=5"), "timeout=5", "an exact echo");
    assert_eq!(oack("utimeout=20000"), "utimeout=20000");
    assert_eq!(oack("rollover=1"), "rollover=1");
}

#[test]
fn every_value_has_one_right_answer_and_our_own_client_takes_it() {
    let mut limits = Limits { windowsize: 65535, ..Limits::default() };
    let long = "9".repeat(400);
    let bad = ["", " ", "-1", "+8", " 8", "8 ", "0x8", "8.0", "1e3", "eight", "\u{ff18}", "8\n"];
    for (name, answers) in [
        (
            "blksize",
            &[
                ("0", ""),
                ("7", ""),
                ("8", "8"),
                ("0512", "512"),
                ("65464", "65464"),
                ("65465", "65464"),
                ("65535", "65464"),
                ("65536", "65464"),
                ("18446744073709551616", "65464"),
                (&long, "65464"),
            ][..],
        ),
        ("blksize2", &[("7", ""), ("8", "8"), ("0009", "8"), ("1500", "1024"), ("65536", "32768"), (&long, "32768")]),
        (
            "windowsize",
            &[("0", ""), ("1", "1"), ("007", "7"), ("65535", "32767"), ("65536", "32767"), (&long, "32767")],
        ),
        ("timeout", &[("0", ""), ("1", "1"), ("005", "5"), ("255", "255"), ("256", ""), (&long, "")]),
        (
            "utimeout",
            &[("9999", ""), ("10000", "10000"), ("0020000", "20000"), ("255000000", "255000000"), ("255000001", "")],
        ),
        ("rollover", &[("0", "0"), ("1", "1"), ("01", "1"), ("2", ""), (&long, "")]),
    ] {
        for (value, right) in answers.iter().copied().chain(bad.map(|value| (value, ""))) {
            let asked: Options = [(name, value)].into_iter().collect();
            for direction in [Direction::Read, Direction::Write] {
                let (agreed, oack) = answer(&asked, direction, Mode::Octet, &limits, Some(9));
                let granted = oack.value(name).unwrap_or_default();
                assert_eq!(granted, right, "{name}={value}");
                let taken = accept(&asked, &oack, Mode::Octet).expect("the client asked for it");
                assert_eq!(taken, agreed, "{name}={value}");
            }
        }
    }
    limits.blksize = 1468;
    assert_eq!(read("blksize=65536", &limits, None).1, "blksize=1468");
    // An upload whose size has too many digits is too big for every server.
    let asked = options(&format!("tsize={long}"));
    let (agreed, _) = answer(&asked, Direction::Write, Mode::Octet, &limits, None);
    assert_eq!(agreed.tsize(), Some(u64::MAX));
    // A second value of an option does not count: the client would not know which of them was granted.
    assert_eq!(oack("timeout=0 timeout=5 TIMEOUT=6 blksize=x blksize=512 blksize2=512"), "blksize2=512");
}

#[test]
fn limits_lower_what_is_granted() {
    let limits = Limits { blksize: 1468, windowsize: 8, ..Limits::default() };
    let (agreed, oack) = read("blksize=8192 windowsize=64", &limits, None);
    assert_eq!((agreed.blksize(), agreed.windowsize()), (1468, 8));
    assert_eq!(oack, "blksize=1468 windowsize=8");
    assert_eq!(read("blksize2=65536", &limits, None).1, "blksize2=1024", "a power of two");
    let (agreed, oack) = read("blksize=1024 tsize=0", &Limits { answer: false, ..limits }, None);
    assert_eq!((agreed.blksize(), agreed.tsize_asked(), oack.as_str()), (512, true, ""));
}

#[test]
fn only_some_options_may_be_granted() {
    let only = |names: &[OptionName]| Limits { only: Some(names.into()), ..Limits::default() };
    assert_eq!(read("TSize=0 blksize=1468", &only(&[OptionName::Tsize]), Some(9)).1, "TSize=9");
    let (agreed, oack) = read("tsize=0 blksize=1468", &only(&[]), Some(9));
    assert_eq!((agreed.blksize(), agreed.tsize(), oack.as_str()), (512, None, ""));
    let all: Vec<String> = OptionName::ALL.iter().map(|name| format!("{name}=1")).collect();
    let ignored = ["blksize", "blksize2", "utimeout"]; // 1 is out of their range.
    let granted = read(&all.join(" "), &Limits::default(), Some(9)).1;
    assert_eq!(granted.split(' ').count(), OptionName::ALL.len() - ignored.len(), "{granted}");
}

#[test]
fn the_size_is_granted_where_it_is_known() {
    let limits = Limits::default();
    assert_eq!(read("tsize=0", &limits, None).1, "");
    assert_eq!(read("tsize=0", &limits, Some(0)).1, "", "curl takes tsize 0 for an error");
    let (_, oack) = answer(&options("tsize=0"), Direction::Read, Mode::Netascii, &limits, Some(9));
    assert!(oack.is_empty());
    let (agreed, oack) = answer(&options("tsize=77"), Direction::Write, Mode::Netascii, &limits, None);
    assert_eq!((agreed.tsize(), oack.to_string().as_str()), (Some(77), "tsize=77"));
}

#[test]
fn the_client_takes_no_more_than_it_asked_for() {
    let asked = options("blksize=1428 tsize=0 windowsize=16 timeout=3");
    let judged = |oack: &str| accept(&asked, &options(oack), Mode::Octet);
    let agreed = judged("blksize=1024 tsize=9 windowsize=4 timeout=3").unwrap();
    assert_eq!((agreed.blksize(), agreed.windowsize(), agreed.tsize()), (1024, 4, Some(9)));
    for bad in ["blksize=1429", "blksize=4", "windowsize=17", "windowsize=0", "timeout=2", "rollover=0", "blksize="] {
        assert_eq!(judged(bad), None, "{bad}");
    }
}

#[test]
fn numbers_roll_over_both_ways() {
    for rollover in [Rollover::Zero, Rollover::One] {
        for base in (0..400_000).step_by(977).chain(65_500..65_600).chain(131_000..131_200) {
            for ahead in [0, 1, 63, 30_000] {
                let number = rollover.number(base + ahead);
                assert_eq!(rollover.distance(base, number), ahead, "{rollover:?} {base} {ahead}");
            }
        }
    }
    assert_eq!([65535, 65536].map(|i| Rollover::Zero.number(i)), [65535, 0]);
    assert_eq!([65535, 65536].map(|i| Rollover::One.number(i)), [65535, 1]);
}
