use std::net::SocketAddr;

use super::*;
use crate::packet;

#[test]
fn names_need_not_be_utf8() {
    let packet = packet::Request::new(b"/a\\caf\xe9");
    let address = SocketAddr::from(([127, 0, 0, 1], 69));
    let request = Request::new(address, address, packet).unwrap();
    assert_eq!((request.path(), &*request.text()), ("a/caf\u{fffd}", r"a/caf\xe9"));
    assert_eq!(request.path_bytes(), b"a/caf\xe9");
}

#[test]
fn a_handler_lowers_limits_and_raises_none() {
    use crate::options::OptionName::{Blksize, Timeout, Tsize};
    let address = SocketAddr::from(([127, 0, 0, 1], 69));
    let request = Request::new(address, address, packet::Request::new("x")).unwrap();
    request.limit(|limits| (limits.blksize, limits.windowsize, limits.only) = (1024, 4, Some([Blksize, Tsize].into())));
    let lowered = request.limits();
    request.limit(|limits| (limits.blksize, limits.windowsize, limits.only) = (1468, 64, None));
    assert_eq!(request.limits(), lowered);
    request.limit(|limits| (limits.blksize, limits.only) = (512, Some([Tsize, Timeout].into())));
    let limits = request.limits();
    assert_eq!((limits.blksize, limits.windowsize, limits.only.as_deref()), (512, 4, Some(&[Tsize][..])));
    request.limit(|limits| limits.answer = false);
    request.limit(|limits| limits.answer = true);
    assert!(!request.limits().answer);
}

#[test]
fn other_names_are_made_comparable_too() {
    let packet = packet::Request::new("/C:/x");
    let address = SocketAddr::from(([127, 0, 0, 1], 69));
    let request = Request::new(address, address, packet).unwrap();
    assert_eq!(request.path(), "C:/x", "only what stands first is a drive");
    assert_eq!(request.with_path(request.path()).unwrap().path(), "C:/x");
    let other = request.with_path("/a//./b").unwrap().with_query("q").ignoring_case(true);
    assert_eq!((other.path(), other.path_bytes(), other.filename()), ("a/b", &b"a/b"[..], &b"/C:/x"[..]));
    assert_eq!((other.query(), other.ignores_case(), request.query()), (Some("q"), true, None));
    assert_eq!(request.with_path("../x"), Err(Refusal::denied()));
}
