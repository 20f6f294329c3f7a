use super::*;

fn rrq(bytes: &[u8]) -> Result<Request, Malformed> {
    match Packet::decode(&[&[0, 1], bytes].concat())? {
        Packet::Rrq(request) => Ok(*request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_packet_survives_the_way_there_and_back() {
    let request = Request {
        filename: b"pxelinux.cfg/default".to_vec(),
        mode: Mode::Netascii,
        options: [("blksize", "1408"), ("tsize", "0")].into_iter().collect(),
    };
    for packet in [
        Packet::Rrq(request.clone().into()),
        Packet::Wrq(request.into()),
        Packet::Data { block: 65535, payload: Bytes::from_static(b"bytes") },
        Packet::Ack(0),
        Packet::Error { code: ErrorCode::FILE_NOT_FOUND, message: "File not found".into() },
        Packet::Oack([("blksize", "1408")].into_iter().collect()),
    ] {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
}

#[test]
fn golden_bytes_of_an_oack() {
    let oack = Packet::Oack([("tsize", "17"), ("blksize", "1432")].into_iter().collect());
    assert_eq!(oack.encode(), b"\0\x06tsize\x0017\0blksize\x001432\0");
}

#[test]
fn a_name_may_have_more_than_one_nul_behind_it() {
    let request = rrq(b"pxelinux.0\0\0octet\0tsize\x000\0").unwrap();
    assert_eq!((&request.filename[..], request.options.to_string().as_str()), (&b"pxelinux.0"[..], "tsize=0"));
    assert_eq!(rrq(b"pxelinux.0\0\0\0octet\0"), rrq(b"pxelinux.0\0octet\0"));
    assert_eq!(rrq(b"pxelinux.0\0\xff\0octet\0"), rrq(b"pxelinux.0\0octet\0"), "the end mark behind a NUL");
    assert_eq!(rrq(b"pxelinux.0\0\xffoctet\0"), rrq(b"pxelinux.0\0octet\0"));
    assert_eq!(rrq(b"pxelinux.0\0\0\0"), Err(Malformed::Mode));
}

#[test]
fn odd_options_are_read_as_far_as_they_go() {
    let options = |tail: &[u8]| rrq(&[b"f\0OcTeT\0", tail].concat()).unwrap().options.to_string();
    assert_eq!(options(b""), "");
    assert_eq!(options(b"multicast\0\0tsize\x000\0"), "multicast= tsize=0");
    assert_eq!(options(b"blksize\x001432"), "blksize=1432", "no last NUL");
    assert_eq!(options(b"blksize\0"), "blksize=", "no value");
    assert_eq!(options(b"blksize"), "", "no NUL at all");
    assert_eq!(options(b"color\0bl\xfce\x1b\0"), r"color=bl\xfce\u{1b}", "no UTF-8");
    assert_eq!(options(b"tsize\x000\0\0\0garbage"), "tsize=0", "trailing garbage");
    for empty in [&b"\0"[..], b"\0\0", b"\0\0\0", b"\0x\0", b"\x005\0", b"\0\0\0x\0"] {
        let all = [empty, b"blksize\x001432\0", empty, b"tsize\x000\0", empty].concat();
        assert_eq!(options(&all), "blksize=1432 tsize=0", "{empty:?}");
    }
    assert_eq!(options(&[0; 400]), "", "padding");
}

#[test]
fn malformed_packets_are_named() {
    assert_eq!(Packet::decode(&[]), Err(Malformed::Truncated));
    assert_eq!(Packet::decode(&[1]), Err(Malformed::Truncated));
    assert_eq!(Packet::decode(&[0, 3, 1]), Err(Malformed::Truncated));
    assert_eq!(Packet::decode(&[0, 9, 1]), Err(Malformed::Opcode(9)));
    assert_eq!(rrq(b"name"), Err(Malformed::Filename));
    assert_eq!(rrq(b"\0octet\0"), Err(Malformed::Filename));
    assert_eq!(rrq(b"name\0octet"), Err(Malformed::Mode));
    assert_eq!(rrq(b"name\0mail\0"), Err(Malformed::Mode));
}
