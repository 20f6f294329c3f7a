//! A handler that a test asks without a server.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use smol::{future::block_on, stream};
use tuffet::{Handler, Refusal, Request, Source, packet};

pub fn request(name: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    request_from(Ipv4Addr::LOCALHOST.into(), name)
}

pub fn request_from(peer: IpAddr, name: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    Request::new((peer, 1069).into(), (Ipv4Addr::LOCALHOST, 69).into(), packet::Request::new(name.as_ref()))
}

pub fn put(handler: &impl Handler, name: &str, data: impl Into<Source>) -> Result<(), Refusal> {
    block_on(handler.write(&request(name)?, data.into()))
}

/// A source that must not be asked.
pub fn untouched() -> Source {
    Source::stream(stream::poll_fn(|_| panic!("asked for a chunk")))
}

/// The names in a directory, in order.
pub fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
