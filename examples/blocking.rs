//! The pure core in a plain blocking loop: no executor, no async, one socket for each transfer.
//!
//!     cargo run --example blocking --no-default-features
//!     curl -s tftp://127.0.0.1:6969/table
//!
//! It serves one client after the other, which is enough for a bootloader test or a rescue tool.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use tuffet::{
    Bytes,
    options::{Direction, Limits, answer},
    packet::{Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6969".into());
    let listener = UdpSocket::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut buffer = [0; 65536];
    loop {
        let (len, peer) = listener.recv_from(&mut buffer)?;
        match Packet::decode(&buffer[..len]) {
            Ok(Packet::Rrq(request)) => {
                let outcome = serve(&request, peer, (listener.local_addr()?.ip(), 0).into())?;
                println!("{peer} {}: {outcome}", String::from_utf8_lossy(&request.filename));
            }
            Ok(_) => {}
            Err(malformed) => println!("{peer}: {malformed}"),
        }
    }
}

fn serve(request: &Request, peer: SocketAddr, local: SocketAddr) -> io::Result<Outcome> {
    let socket = UdpSocket::bind(local)?;
    socket.connect(peer)?;
    let mut chunks = (1..=10_000u32).map(|n| Bytes::from(format!("{n} squared is {}\n", u64::from(n).pow(2))));
    let (agreed, oack) = answer(&request.options, Direction::Read, request.mode, &Limits::default(), None);
    let mut transfer = Transfer::send(oack, agreed, Timing::default());
    let mut event = Event::Continue;
    loop {
        event = match transfer.resume(Instant::now(), event) {
            Step::Send(packet) => {
                socket.send(&packet.encode())?;
                Event::Continue
            }
            Step::Wait(Want::Chunk, _) => chunks.next().map_or(Event::End, Event::Chunk),
            Step::Wait(_, deadline) => receive(&socket, deadline)?,
            Step::Done(outcome) => return Ok(outcome),
            Step::Push(_) => unreachable!("a sender has nothing to push"),
        };
    }
}

fn receive(socket: &UdpSocket, deadline: Instant) -> io::Result<Event> {
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Event::Timeout);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                if let Ok(packet) = Packet::decode(&buffer[..len]) {
                    return Ok(Event::Packet(packet));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The system ends a wait with a time limit when the process is stopped and continued.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The client is gone. The transfer will time out.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
}
