//! ICMP errors about datagrams that were sent (IP_RECVERR).
//!
//! The kernel hands an ICMP error to a socket if the datagram that the error quotes has the socket's address and port.
//! A forger must therefore know the port, which is the TID, and the client's address and port. An ERROR packet ends a
//! transfer for the same knowledge. But unlike an ERROR packet, an ICMP error may come from any address. So only
//! errors from the peer itself about its own port count here, and a forger gains nothing beyond what an ERROR packet
//! gives.

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use libc::{c_uint, mmsghdr, sock_extended_err, sockaddr_in, sockaddr_in6, socklen_t};

use super::{
    super::BATCH,
    address::{Name, from_v4, from_v6, read_name},
    control::{Control, Message, OF_ERROR, messages},
    empty_header,
};

/// Destination Unreachable, and its codes for a protocol and a port that the host does not have (RFC 792, RFC 4443
/// section 3.1). Only the host itself sends these codes (RFC 1122 section 3.2.2.1). An unreachable network or host may
/// be back in a moment: cables are pulled, and spanning trees take half a minute.
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
const NO_PROTOCOL_V4: u8 = 2;
const NO_PORT_V4: u8 = 3;
const NO_PORT_V6: u8 = 4;

/// An error and its sender, as a control message holds them.
#[repr(C)]
struct ReportedError<Address> {
    error: sock_extended_err,
    offender: Address,
}

/// Takes up to a batch of errors from the error queue of the socket, and adds the peers whose ports are closed.
pub(in super::super) fn receive_errors(socket: &UdpSocket, closed_ports: &mut Vec<SocketAddr>) {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH];
    let mut controls = [MaybeUninit::<Control<OF_ERROR>>::uninit(); BATCH];
    let mut headers = [MaybeUninit::<mmsghdr>::uninit(); BATCH];
    for ((name, control), header) in names.iter_mut().zip(&mut controls).zip(&mut headers) {
        // There is no room for the quoted datagram, because only its destination counts.
        let mut empty = empty_header();
        empty.msg_name = name.as_mut_ptr().cast();
        empty.msg_namelen = mem::size_of::<Name>() as socklen_t;
        empty.msg_control = control.as_mut_ptr().cast();
        empty.msg_controllen = OF_ERROR as _;
        header.write(mmsghdr { msg_hdr: empty, msg_len: 0 });
    }
    let (fd, list, flags) = (socket.as_raw_fd(), headers.as_mut_ptr().cast(), libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE);
    // SAFETY: all headers are written, and all that they point to outlives the call.
    let count = unsafe { libc::recvmmsg(fd, list, BATCH as c_uint, flags as _, ptr::null_mut()) };
    let count = usize::try_from(count).unwrap_or(0).min(BATCH);
    for (name, header) in names.iter().zip(&headers).take(count) {
        // SAFETY: written above; the kernel has changed lengths and flags only.
        let header = unsafe { &header.assume_init_ref().msg_hdr };
        // SAFETY: the kernel has written a name of this length into memory that is aligned for it.
        let Some(peer) = (unsafe { read_name(name.as_ptr(), header.msg_namelen) }) else { continue };
        // SAFETY: `header` is as recvmmsg left it.
        if unsafe { messages(header) }.any(|message| reports_closed_port(peer.ip(), &message)) {
            closed_ports.push(peer);
        }
    }
}

/// Whether this message comes from the peer and says that it has no such port.
fn reports_closed_port(peer: IpAddr, message: &Message<'_>) -> bool {
    let (error, offender): (_, IpAddr) = match message.kind() {
        (libc::IPPROTO_IP, libc::IP_RECVERR) => {
            // SAFETY: any bytes are a valid value.
            let Some(reported) = (unsafe { message.data::<ReportedError<sockaddr_in>>() }) else { return false };
            (reported.error, (*from_v4(reported.offender).ip()).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
            // SAFETY: any bytes are a valid value.
            let Some(reported) = (unsafe { message.data::<ReportedError<sockaddr_in6>>() }) else { return false };
            (reported.error, (*from_v6(reported.offender).ip()).into())
        }
        _ => return false,
    };
    let is_hard = matches!(
        (error.ee_origin, error.ee_type, error.ee_code),
        (libc::SO_EE_ORIGIN_ICMP, UNREACHABLE_V4, NO_PROTOCOL_V4 | NO_PORT_V4)
            | (libc::SO_EE_ORIGIN_ICMP6, UNREACHABLE_V6, NO_PORT_V6)
    );
    is_hard && offender == peer
}

/// Whether a call may have failed because of an ICMP error about an earlier datagram. The kernel reports such an error
/// once. It says nothing about the socket or the current datagram.
pub(in super::super) fn is_about_earlier_datagram(error: &io::Error) -> bool {
    // Linux turns ICMP errors into these codes, in `icmp_err_convert` and `icmpv6_err_convert`.
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
                | libc::EMSGSIZE
                | libc::EOPNOTSUPP
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EACCES
                | libc::EPROTO
        )
    )
}
