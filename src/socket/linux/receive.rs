//! Receives many datagrams in one call.

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use libc::{c_uint, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, socklen_t};

use super::{
    super::{BATCH, Envelope, Inbox, LARGEST},
    address::{Name, read_name},
    control::{Control, OF_DATAGRAM, messages},
    empty_header,
};

/// The least number of datagrams to ask for. Asking only for those that are there costs another call to learn that.
const NARROWEST: usize = 20;

pub(in super::super) fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<()> {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH];
    let mut controls = [MaybeUninit::<Control<OF_DATAGRAM>>::uninit(); BATCH];
    let mut iovecs = [MaybeUninit::<iovec>::uninit(); BATCH];
    let mut headers = [MaybeUninit::<mmsghdr>::uninit(); BATCH];
    // It asks for twice the last count, because making a header costs time even if no datagram comes for it.
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
        header.msg_controllen = OF_DATAGRAM as _;
        headers[i].write(mmsghdr { msg_hdr: header, msg_len: 0 });
    }
    let (fd, list, flags) = (socket.as_raw_fd(), headers.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
    // SAFETY: the first `width` headers are written, and all that they point to outlives the call.
    let count = unsafe { libc::recvmmsg(fd, list, width as c_uint, flags as _, ptr::null_mut()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(width);
    inbox.last = count;
    for (name, header) in names.iter().zip(&headers).take(count) {
        // SAFETY: below `width`, so written above; the kernel has changed lengths and flags only.
        let mmsghdr { msg_hdr, msg_len } = unsafe { header.assume_init_ref() };
        // SAFETY: the kernel has written a name of this length into memory that is aligned for it.
        let peer = unsafe { read_name(name.as_ptr(), msg_hdr.msg_namelen) };
        // SAFETY: `msg_hdr` is as recvmmsg left it.
        let arrival = unsafe { Arrival::read(msg_hdr) };
        let unspecified = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let len = (*msg_len as usize).min(LARGEST);
        let Arrival { local, interface, broadcast } = arrival;
        inbox.envelopes.push((Envelope { peer: peer.unwrap_or(unspecified), local, interface, broadcast }, len));
    }
    Ok(())
}

/// Where a datagram arrived.
#[derive(Default)]
struct Arrival {
    local: Option<IpAddr>,
    interface: u32,
    broadcast: bool,
}

impl Arrival {
    /// Returns the address to answer from, and the interface. A request to a broadcast address is answered from the
    /// address of the interface. One to a multicast address is answered from the address that the route gives.
    ///
    /// # Safety
    /// `header` is unchanged since recvmmsg wrote it: its control data is there, with the length that it says.
    unsafe fn read(header: &msghdr) -> Self {
        // SAFETY: as above.
        for message in unsafe { messages(header) } {
            match message.kind() {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // SAFETY: any bytes are a valid value.
                    let Some(info) = (unsafe { message.data::<in_pktinfo>() }) else { continue };
                    let [local, header] = [info.ipi_spec_dst, info.ipi_addr].map(|ip| ip.s_addr);
                    return Self {
                        local: Some(Ipv4Addr::from(local.to_ne_bytes()).into()),
                        interface: info.ipi_ifindex as u32,
                        // The two are equal if the datagram was sent to an address of this machine.
                        broadcast: local != header,
                    };
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    // SAFETY: any bytes are a valid value.
                    let Some(info) = (unsafe { message.data::<in6_pktinfo>() }) else { continue };
                    let (ip, interface) = (Ipv6Addr::from(info.ipi6_addr.s6_addr), info.ipi6_ifindex);
                    let broadcast = ip.is_multicast();
                    return Self { local: (!broadcast).then_some(ip.into()), interface, broadcast };
                }
                _ => {}
            }
        }
        Self::default()
    }
}
