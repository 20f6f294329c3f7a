//! Addresses in the kernel's form.

use std::{
    mem::{self, MaybeUninit},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
};

use libc::{c_int, c_void, in_addr, in6_addr, sa_family_t, sockaddr_in, sockaddr_in6, socklen_t};

/// An address of IPv4 or IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Name {
    family: sa_family_t,
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// # Safety
/// `name` points to at least `len` written bytes, in memory for a whole [`Name`].
pub(super) unsafe fn read_name(name: *const Name, len: socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    if len < mem::size_of::<sockaddr_in>() {
        return None;
    }
    // SAFETY: the family is within the first bytes, and each variant is read only if all of it was written.
    unsafe {
        match c_int::from((*name).family) {
            libc::AF_INET => Some(from_v4((*name).v4).into()),
            libc::AF_INET6 if len >= mem::size_of::<sockaddr_in6>() => Some(from_v6((*name).v6).into()),
            _ => None,
        }
    }
}

pub(super) fn from_v4(v4: sockaddr_in) -> SocketAddrV4 {
    let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_be(v4.sin_port))
}

pub(super) fn from_v6(v6: sockaddr_in6) -> SocketAddrV6 {
    let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
    SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id)
}

pub(super) fn write_name(name: &mut MaybeUninit<Name>, address: SocketAddr) -> (*mut c_void, socklen_t) {
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
