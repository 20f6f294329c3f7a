//! Any datagram at the ports of ProxyDHCP.
#![no_main]

#[path = "../../tests/dhcp/any.rs"]
mod any;
#[path = "../../tests/dhcp/client.rs"]
mod client;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| any::answers(bytes));
