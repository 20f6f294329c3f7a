//! Linux: recvmmsg and sendmmsg, with the local address of each datagram, and ICMP errors.
//!
//! No safe wrapper sends many datagrams that each have an address of their own, so this module calls libc itself. It
//! has all the `unsafe` code of the crate. These rules make it sound:
//!
//! - the kernel gets pointers into memory of the calling function or of its arguments, which outlives the call;
//! - lengths are those of that memory, and the lengths that the kernel reports are never trusted beyond them.
#![allow(unsafe_code)]

mod address;
mod control;
mod errors;
mod receive;
mod send;

use std::{io, mem, os::fd::AsRawFd, ptr};

use libc::{c_int, mmsghdr, msghdr, socklen_t};

pub(super) use errors::{is_about_earlier_datagram, receive_errors};
pub(super) use receive::receive;
pub(super) use send::{Narrow, send};

/// Asks for a receive buffer above the system's limit, which needs a privilege.
pub(super) fn enlarge(socket: &impl AsRawFd, buffer: usize) {
    let _ = set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer as c_int);
}

/// Whether the system has the batched calls: a sandbox may forbid them. Neither call does anything with no datagrams.
pub(super) fn has_batches(socket: &impl AsRawFd) -> bool {
    let mut header = mmsghdr { msg_hdr: empty_header(), msg_len: 0 };
    // A null pointer would do on Linux, but not everywhere that Linux is emulated.
    let (fd, header) = (socket.as_raw_fd(), &raw mut header);
    // SAFETY: `header` lives until after both calls, and they get a list of none.
    unsafe {
        libc::recvmmsg(fd, header, 0, libc::MSG_DONTWAIT as _, ptr::null_mut()) == 0
            && libc::sendmmsg(fd, header, 0, 0) == 0
    }
}

/// Asks for the local address of received datagrams.
pub(super) fn enable_packet_info(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Lets datagrams travel in fragments (DF is clear). Otherwise no large datagram would pass a narrow hop whose ICMP is
/// filtered, and some boot ROMs drop datagrams with DF set. For IPv6 the source makes the fragments, for the path's
/// MTU as far as it is known.
pub(crate) fn allow_fragments(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
    }
}

/// Asks for the ICMP errors about sent datagrams.
pub(super) fn enable_error_queue(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

fn set(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = mem::size_of_val(&value) as socklen_t;
    // SAFETY: `value` lives until after the call, and `size` is its size.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many datagrams for this socket the kernel has dropped, mostly because its buffer was full. This call asks the
/// kernel for its count: SO_RXQ_OVFL would cost time with each datagram, and report nothing before the next one.
pub(super) fn dropped(socket: &impl AsRawFd) -> Option<u32> {
    const DROPS: usize = 8;
    let mut counts = [0_u32; DROPS + 1];
    let mut size = mem::size_of_val(&counts) as socklen_t;
    let (fd, into) = (socket.as_raw_fd(), counts.as_mut_ptr().cast());
    // SAFETY: `counts` and `size` live until after the call; the kernel writes `size` bytes at most, and any bytes are
    // numbers.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, into, &raw mut size) };
    (result == 0 && size as usize == mem::size_of_val(&counts)).then_some(counts[DROPS])
}

fn empty_header() -> msghdr {
    // SAFETY: all zeros is a valid `msghdr`: null pointers and no lengths. The struct has padding on some systems, so
    // it cannot be written out.
    unsafe { mem::zeroed() }
}
