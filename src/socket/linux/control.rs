//! Control data, which accompanies a datagram.

use std::{marker::PhantomData, mem, net::IpAddr, ptr};

use libc::{c_int, c_uint, cmsghdr, in_addr, in_pktinfo, in6_addr, in6_pktinfo, msghdr};

/// Memory for control data, with the alignment of `cmsghdr`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control<const SIZE: usize>(pub(super) [u8; SIZE]);

/// An `in6_pktinfo` with its header takes 40 bytes, a segment size 24.
pub(super) const OF_DATAGRAM: usize = 64;
/// An error and its sender take 64 bytes with their header, and an `in6_pktinfo` comes with them.
pub(super) const OF_ERROR: usize = 128;

/// The control messages of a received datagram.
///
/// # Safety
/// `header` is unchanged since the kernel wrote it: its control data is there, with the length that it says.
pub(super) unsafe fn messages(header: &msghdr) -> impl Iterator<Item = Message<'_>> {
    // SAFETY: as above; the macros stay within the length.
    let mut next: *const cmsghdr = unsafe { libc::CMSG_FIRSTHDR(header) };
    std::iter::from_fn(move || {
        let cmsg = next;
        if cmsg.is_null() {
            return None;
        }
        // SAFETY: a pointer that is not null points to a header within the control data.
        next = unsafe { libc::CMSG_NXTHDR(header, cmsg) };
        Some(Message(cmsg, PhantomData))
    })
}

/// A received control message.
pub(super) struct Message<'a>(*const cmsghdr, PhantomData<&'a cmsghdr>);

impl Message<'_> {
    /// The level and the type of the message.
    pub(super) fn kind(&self) -> (c_int, c_int) {
        // SAFETY: the header lives as long as the control data.
        unsafe { ((*self.0).cmsg_level, (*self.0).cmsg_type) }
    }

    /// The data of the message, if it is long enough.
    ///
    /// # Safety
    /// Any bytes are a valid `T`.
    pub(super) unsafe fn data<T>(&self) -> Option<T> {
        // SAFETY: the kernel has written as much data as the header says, and alignment does not matter.
        unsafe {
            let is_whole = (*self.0).cmsg_len >= libc::CMSG_LEN(mem::size_of::<T>() as c_uint) as _;
            is_whole.then(|| ptr::read_unaligned(libc::CMSG_DATA(self.0).cast()))
        }
    }
}

/// Sets the source address of the message, and the size of the datagrams that the kernel cuts it into. `msg_control`
/// points to a [`Control`] of [`OF_DATAGRAM`] bytes.
pub(super) fn write_controls(header: &mut msghdr, from: Option<IpAddr>, size: Option<u16>) {
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
    // SAFETY: `msg_control` points to a `Control`. The result of `CMSG_SPACE` is a multiple of the alignment of
    // `cmsghdr`, so `at` is too. The assertion ensures that there is room for the header and its data.
    unsafe {
        let space = libc::CMSG_SPACE(size) as usize;
        assert!(at + space <= OF_DATAGRAM);
        let cmsg: *mut cmsghdr = header.msg_control.cast::<u8>().add(at).cast();
        (*cmsg).cmsg_level = level;
        (*cmsg).cmsg_type = kind;
        (*cmsg).cmsg_len = libc::CMSG_LEN(size) as _;
        ptr::write_unaligned(libc::CMSG_DATA(cmsg).cast(), data);
        space
    }
}
