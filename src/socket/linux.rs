//! Linux: recvmmsg and sendmmsg, with the local address of each datagram.
//!
//! No safe wrapper sends many datagrams with an address of their own each, so this file calls libc itself. All the
//! `unsafe` of the crate is here. What makes it sound:
//!
//! - the kernel is given pointers into memory of the calling function or of its arguments, which outlive the call;
//! - lengths are those of that memory, and what the kernel reports back is never trusted beyond them.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use libc::{
    c_int, c_uint, c_void, cmsghdr, in_addr, in_pktinfo, in6_addr, in6_pktinfo, iovec, mmsghdr, msghdr, sa_family_t,
    sockaddr_in, sockaddr_in6, socklen_t,
};

use super::{BATCH, Envelope, Inbox, LARGEST, Outgoing};

/// Messages asked for at least: to ask for no more than there are costs one more call, to learn that.
const NARROWEST: usize = 20;
/// Datagrams sent in one call, at most.
const DATAGRAMS: usize = 512;
/// Datagrams that the kernel cuts one message into, at most.
const SEGMENTS: usize = 64;
/// The largest message: what fits the length field of IPv4.
const LARGEST_MESSAGE: usize = 65535 - 20 - 8;

/// An address of either family, as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    family: sa_family_t,
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// Control data. An `in6_pktinfo` with its header takes 40 bytes, a segment size 24; the alignment is that of `cmsghdr`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Asks for a receive buffer beyond the system's limit, which is not allowed to everybody.
pub(super) fn enlarge(socket: &impl AsRawFd, buffer: usize) {
    let _ = set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer as c_int);
}

/// Asks for the local address of what is received.
pub(super) fn tell_local_address(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

fn set(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = mem::size_of_val(&value) as socklen_t;
    // SAFETY: `value` lives until after the call, and `size` is its size.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the kernel has dropped before this socket, as a rule because its buffer was full. Reckoned when it is
/// asked: SO_RXQ_OVFL would cost something with each datagram, and tell nothing before the next one.
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

pub(super) fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<()> {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH];
    let mut controls = [MaybeUninit::<Control>::uninit(); BATCH];
    let mut iovecs = [MaybeUninit::<iovec>::uninit(); BATCH];
    let mut headers = [MaybeUninit::<mmsghdr>::uninit(); BATCH];
    // Twice what came last: to make a header costs something even if no datagram comes for it.
    let width = (inbox.last * 2).clamp(NARROWEST, BATCH);
    inbox.asked = width;
    for (i, buffer) in inbox.buffer.chunks_mut(LARGEST).take(width).enumerate() {
        let iov = iovecs[i].write(iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
        let mut header = empty_header();
        header.msg_name = names[i].as_mut_ptr().cast();
        header.msg_namelen = mem::size_of::<Name>() as socklen_t;
        header.msg_iov = iov;
        header.msg_iovlen = 1;
        header.msg_control = controls[i].as_mut_ptr().cast();
        header.msg_controllen = mem::size_of::<Control>() as _;
        headers[i].write(mmsghdr { msg_hdr: header, msg_len: 0 });
    }
    let (fd, list, flags) = (socket.as_raw_fd(), headers.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
    // SAFETY: the first `width` headers are written, and all they point to outlives the call.
    let count = unsafe { libc::recvmmsg(fd, list, width as c_uint, flags as _, ptr::null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(width);
    inbox.last = count;
    for (name, header) in names.iter().zip(&headers).take(count) {
        // SAFETY: below `width`, so written above; the kernel has changed lengths and flags only.
        let mmsghdr { msg_hdr, msg_len } = unsafe { header.assume_init_ref() };
        // SAFETY: the kernel has written a name of this length into memory that is aligned for it.
        let peer = unsafe { read_name(name.as_ptr(), msg_hdr.msg_namelen) };
        let (local, interface) = local_address(msg_hdr);
        let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let len = (*msg_len as usize).min(LARGEST);
        let envelope = Envelope { peer: peer.unwrap_or(unspecified), local, interface, broadcast: false };
        inbox.envelopes.push((envelope, len));
    }
    Ok(())
}

/// # Safety
/// `name` points to `len` bytes or more that were written, in memory for a whole [`Name`].
unsafe fn read_name(name: *const Name, len: socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    if len < mem::size_of::<sockaddr_in>() {
        return None;
    }
    // SAFETY: the family is within the first bytes, and each variant is read only if it was written whole.
    unsafe {
        match c_int::from((*name).family) {
            libc::AF_INET => {
                let v4 = (*name).v4;
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if len >= mem::size_of::<sockaddr_in6>() => {
                let v6 = (*name).v6;
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// The address to answer from, and the interface. A request to a broadcast address is answered from the address that
/// the interface has; one to a multicast address from whatever the route gives.
fn local_address(header: &msghdr) -> (Option<IpAddr>, u32) {
    // SAFETY: `header` is as recvmmsg left it: its control data is there, with the length that it says. The macros
    // stay within that, and the structures are read without regard to alignment.
    unsafe {
        let mut cmsg: *const cmsghdr = libc::CMSG_FIRSTHDR(header);
        while !cmsg.is_null() {
            match ((*cmsg).cmsg_level, (*cmsg).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: in_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(cmsg).cast());
                    let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                    return (Some(ip.into()), info.ipi_ifindex as u32);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: in6_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(cmsg).cast());
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    return (Some(ip.into()).filter(|_| !ip.is_multicast()), info.ipi6_ifindex as u32);
                }
                _ => cmsg = libc::CMSG_NXTHDR(header, cmsg),
            }
        }
    }
    (None, 0)
}

/// Sends up to a batch, and returns how many datagrams went out.
///
/// Equal datagrams in a row to one peer, as the blocks of a window are, go to the kernel as one message that it cuts
/// (UDP_SEGMENT): they pass through its layers once. `segment` is the largest datagram that it is trusted to cut; where
/// it refuses, for an MTU or a device, that is lowered and nothing is sent.
pub(super) fn send(socket: &UdpSocket, datagrams: &[Outgoing], segment: &Cell<usize>) -> io::Result<usize> {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH];
    let mut controls = [MaybeUninit::<Control>::uninit(); BATCH];
    let mut iovecs = [MaybeUninit::<[iovec; 2]>::uninit(); DATAGRAMS];
    let mut headers = [MaybeUninit::<mmsghdr>::uninit(); BATCH];
    let mut lengths = [0; BATCH];
    let (mut width, mut used) = (0, 0);
    while width < BATCH {
        let rest = &datagrams[used..datagrams.len().min(DATAGRAMS)];
        let Some(first) = rest.first() else { break };
        let run = run_of_equals(rest, segment.get());
        for (iov, datagram) in iovecs[used..].iter_mut().zip(&rest[..run]) {
            iov.write([bytes_of(&datagram.header), bytes_of(&datagram.payload)]);
        }
        let mut header = empty_header();
        (header.msg_name, header.msg_namelen) = write_name(&mut names[width], first.to);
        header.msg_iov = iovecs[used].as_mut_ptr().cast();
        header.msg_iovlen = (run * 2) as _;
        if first.from.is_some() || run > 1 {
            header.msg_control = controls[width].write(Control([0; 64])).0.as_mut_ptr().cast();
            let size = (run > 1).then(|| first.len() as u16);
            write_controls(&mut header, first.from, size);
        }
        headers[width].write(mmsghdr { msg_hdr: header, msg_len: 0 });
        lengths[width] = run;
        width += 1;
        used += run;
    }
    let (fd, list, flags) = (socket.as_raw_fd(), headers.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
    // SAFETY: the first `width` headers are written, and all they point to outlives the call; nothing of it is
    // written to.
    let count = unsafe { libc::sendmmsg(fd, list, width as c_uint, flags as _) };
    match usize::try_from(count) {
        Ok(count) => Ok(lengths[..count.min(width)].iter().sum()),
        Err(_) => {
            let error = io::Error::last_os_error();
            if lengths[0] == 1 || !is_refusal_to_cut(&error) {
                return Err(error);
            }
            segment.set(datagrams[0].len() - 1);
            Ok(0)
        }
    }
}

/// How many datagrams from the first on can go as one message: all as long as the first, but the last, which may be
/// shorter.
fn run_of_equals(datagrams: &[Outgoing], segment: usize) -> usize {
    let first = &datagrams[0];
    let len = first.len();
    if len > segment {
        return 1;
    }
    let most = (LARGEST_MESSAGE / len).min(SEGMENTS);
    let fits = |other: &&Outgoing| other.len() <= len && other.to == first.to && other.from == first.from;
    let mut run = 1;
    for other in datagrams[1..].iter().take(most.saturating_sub(1)).take_while(fits) {
        run += 1;
        if other.len() < len {
            break;
        }
    }
    run
}

/// The size does not fit the route's MTU, or the device cannot make checksums.
fn is_refusal_to_cut(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

/// For sending only: the kernel does not write there.
fn bytes_of(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr().cast::<c_void>().cast_mut(), iov_len: bytes.len() }
}

fn write_name(name: &mut MaybeUninit<Name>, address: SocketAddr) -> (*mut c_void, socklen_t) {
    let (name, len) = match address {
        SocketAddr::V4(address) => {
            let v4 = sockaddr_in {
                sin_family: libc::AF_INET as sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            (name.write(Name { v4 }), mem::size_of_val(&v4))
        }
        SocketAddr::V6(address) => {
            let v6 = sockaddr_in6 {
                sin6_family: libc::AF_INET6 as sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            (name.write(Name { v6 }), mem::size_of_val(&v6))
        }
    };
    (ptr::from_mut(name).cast(), len as socklen_t)
}

/// Has the message sent from this address, and cut into datagrams of this size. `msg_control` points to a [`Control`].
fn write_controls(header: &mut msghdr, from: Option<IpAddr>, size: Option<u16>) {
    let mut at = 0;
    match from {
        Some(IpAddr::V4(ip)) => {
            let spec = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec, ipi_addr: in_addr { s_addr: 0 } };
            at += write_control(header, at, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            at += write_control(header, at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    if let Some(size) = size {
        at += write_control(header, at, libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }
    header.msg_controllen = at as _;
}

/// Writes one control message `at` this offset, and returns the space that it takes.
fn write_control<T>(header: &msghdr, at: usize, level: c_int, kind: c_int, data: T) -> usize {
    let size = mem::size_of::<T>() as c_uint;
    // SAFETY: `msg_control` points to a `Control`. What `CMSG_SPACE` says is a multiple of the alignment of `cmsghdr`,
    // so `at` is too, and as the assertion says there is room for the header and its data.
    unsafe {
        let space = libc::CMSG_SPACE(size) as usize;
        assert!(at + space <= mem::size_of::<Control>());
        let cmsg: *mut cmsghdr = header.msg_control.cast::<u8>().add(at).cast();
        (*cmsg).cmsg_level = level;
        (*cmsg).cmsg_type = kind;
        (*cmsg).cmsg_len = libc::CMSG_LEN(size) as _;
        ptr::write_unaligned(libc::CMSG_DATA(cmsg).cast(), data);
        space
    }
}

fn empty_header() -> msghdr {
    // SAFETY: all zeros is a valid `msghdr`: null pointers and no lengths. Some systems have padding in it, so it
    // cannot be written out.
    unsafe { mem::zeroed() }
}
