//! Which types may go to another thread, and which stay on theirs, as the documentation of each says.
#![cfg(feature = "net")]

use std::future::Ready;

use tuffet::{
    BlockingClient, Bytes, Client, Co, Error, Gen, Refusal, Request, Running, SendCo, SendGen, SendSource, Server,
    ServerBuilder, ServerHandle, Source, endpoint::Endpoint, handler::Answer, handlers::Chain, handlers::Memory,
    packet::Packet, source::LocalChunks, stats::Counter, stats::Record, transfer::Transfer,
};

fn send<T: Send>() {}
fn send_and_sync<T: Send + Sync>() {}

/// Does not compile if a type is `Send`: then there are two functions to choose from.
macro_rules! stay {
    ($($type:ty),* $(,)?) => {{
        trait Stays<Which> {
            fn on_its_thread() {}
        }
        impl<T: ?Sized> Stays<()> for T {}
        impl<T: ?Sized + Send> Stays<u8> for T {}
        $(<$type as Stays<_>>::on_its_thread();)*
    }};
}

#[test]
fn servers_and_clients_are_send() {
    send::<(ServerBuilder, Server, Running)>();
    send_and_sync::<(ServerHandle, Client, BlockingClient)>();
    send_and_sync::<(Request, Refusal, Error, Packet, Record, Counter)>();
    send_and_sync::<(Chain, Memory)>();
    send::<(Transfer, SendSource, SendCo<Bytes>, SendGen<Bytes, Ready<()>>)>();
    #[cfg(feature = "directory")]
    send_and_sync::<tuffet::handlers::Directory>();
    #[cfg(feature = "http")]
    send_and_sync::<(tuffet::handlers::Http, tuffet::stats::Webhook)>();
    #[cfg(feature = "object-store")]
    send_and_sync::<tuffet::handlers::Bucket>();
    #[cfg(feature = "rules")]
    send_and_sync::<(tuffet::handlers::Ruled, tuffet::rules::Machines)>();
    #[cfg(feature = "dhcp")]
    send::<(tuffet::dhcp::CurrentProxy, tuffet::dhcp::Sockets, tuffet::dhcp::Serving)>();
    #[cfg(feature = "status")]
    send::<(tuffet::status::Status, tuffet::status::Serving)>();
}

#[test]
fn what_belongs_to_one_transfer_or_shard_stays() {
    stay!(Source, LocalChunks, Gen<Bytes, Ready<()>>, Co<Bytes>, Answer<'static, Source>, Endpoint);
    #[cfg(feature = "sim")]
    stay!(tuffet::sim::Server, <tuffet::sim::Simulation as IntoFuture>::IntoFuture);
}
