//! Sends many datagrams in one call.

use std::{
    cell::RefCell,
    hash::BuildHasher,
    io,
    mem::MaybeUninit,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd,
};

use foldhash::quality::RandomState;
use libc::{c_uint, c_void, iovec, mmsghdr};

use super::{
    super::{BATCH, Outgoing},
    address::{Name, write_name},
    control::{Control, OF_DATAGRAM, write_controls},
    empty_header,
};

/// The most datagrams that one call sends.
const DATAGRAMS: usize = 512;
/// The most datagrams that the kernel cuts one message into.
const SEGMENTS: usize = 64;
/// The largest message, which fits the length field of IPv4.
const LARGEST_MESSAGE: usize = 65535 - 20 - 8;
/// The most destinations for which a socket remembers the size that the kernel does not cut.
const NARROW: usize = 256;

/// Sends up to a batch, and returns how many datagrams were sent.
///
/// Datagrams of equal size in a row to one peer, such as the blocks of a window, go to the kernel as one message that
/// it cuts (UDP_SEGMENT), so they pass through its layers once. If the kernel refuses, because of an MTU or a device,
/// the socket remembers that for the destination and sends nothing.
pub(in super::super) fn send(socket: &UdpSocket, datagrams: &[Outgoing], narrow: &Narrow) -> io::Result<usize> {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH];
    let mut controls = [MaybeUninit::<Control<OF_DATAGRAM>>::uninit(); BATCH];
    let mut iovecs = [MaybeUninit::<[iovec; 2]>::uninit(); DATAGRAMS];
    let mut headers = [MaybeUninit::<mmsghdr>::uninit(); BATCH];
    let mut lengths = [0; BATCH];
    let (mut width, mut used) = (0, 0);
    while width < BATCH {
        let rest = &datagrams[used..datagrams.len().min(DATAGRAMS)];
        let Some(first) = rest.first() else { break };
        let run = run_of_equals(rest, narrow.segment(first.to.ip()));
        for (iov, datagram) in iovecs[used..].iter_mut().zip(&rest[..run]) {
            iov.write([bytes_of(&datagram.header), bytes_of(&datagram.payload)]);
        }
        let mut header = empty_header();
        (header.msg_name, header.msg_namelen) = write_name(&mut names[width], first.to);
        header.msg_iov = iovecs[used].as_mut_ptr().cast();
        header.msg_iovlen = (run * 2) as _;
        if first.from.is_some() || run > 1 {
            header.msg_control = controls[width].write(Control([0; OF_DATAGRAM])).0.as_mut_ptr().cast();
            let size = (run > 1).then(|| first.len() as u16);
            write_controls(&mut header, first.from, size);
        }
        headers[width].write(mmsghdr { msg_hdr: header, msg_len: 0 });
        lengths[width] = run;
        width += 1;
        used += run;
    }
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
    let mut call = || {
        let list = headers.as_mut_ptr().cast();
        // SAFETY: the first `width` headers are written, and all that they point to outlives the call; the kernel
        // writes only their lengths.
        let count = unsafe { libc::sendmmsg(fd, list, width as c_uint, flags as _) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    };
    let is_cut = lengths[0] > 1;
    let sent = match call() {
        // The call may have reported an error about an earlier datagram, which is reported only once.
        Err(error) if is_cut && is_refusal_to_cut(&error) => call(),
        other => other,
    };
    match sent {
        Ok(count) => Ok(lengths[..count.min(width)].iter().sum()),
        Err(error) if is_cut && is_refusal_to_cut(&error) => {
            narrow.learn(datagrams[0].to.ip(), datagrams[0].len() - 1);
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// How many datagrams from the first on can go as one message. All are as long as the first, but the last may be
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

/// Whether the size does not fit the route's MTU, or the device cannot make checksums.
fn is_refusal_to_cut(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

/// Only for sending: the kernel does not write into these bytes.
fn bytes_of(bytes: &[u8]) -> iovec {
    iovec { iov_base: bytes.as_ptr().cast::<c_void>().cast_mut(), iov_len: bytes.len() }
}

/// The largest datagram that the kernel may cut for each destination where it has refused to (UDP_SEGMENT): the path
/// has a smaller MTU, or the device makes no checksums. One narrow path says nothing about the others.
///
/// Two destinations may share a slot; then each of them costs a refused call now and then.
#[derive(Debug, Default)]
pub(in super::super) struct Narrow {
    /// Empty until the first refusal.
    slots: RefCell<Vec<Option<(IpAddr, usize)>>>,
    hasher: RandomState,
}

impl Narrow {
    pub(in super::super) fn segment(&self, to: IpAddr) -> usize {
        let slots = self.slots.borrow();
        match slots.is_empty() {
            true => usize::MAX,
            false => slots[self.slot(to)].filter(|(ip, _)| *ip == to).map_or(usize::MAX, |(_, segment)| segment),
        }
    }

    pub(in super::super) fn learn(&self, to: IpAddr, segment: usize) {
        let mut slots = self.slots.borrow_mut();
        slots.resize(NARROW, None);
        slots[self.slot(to)] = Some((to, segment));
    }

    fn slot(&self, to: IpAddr) -> usize {
        self.hasher.hash_one(to) as usize % NARROW
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_narrow_path_is_of_one_destination_and_takes_bounded_memory() {
        let (narrow, ip) = (Narrow::default(), |n: u32| IpAddr::from(Ipv4Addr::from(n)));
        assert_eq!(narrow.segment(ip(1)), usize::MAX);
        assert_eq!(narrow.slots.borrow().capacity(), 0);
        narrow.learn(ip(1), 1471);
        narrow.learn(ip(1), 599);
        assert_eq!(narrow.segment(ip(1)), 599);
        assert!((2..10_000).all(|n| narrow.segment(ip(n)) == usize::MAX), "others have paths of their own");
        (2..10_000).for_each(|n| narrow.learn(ip(n), 599));
        assert_eq!(narrow.segment(ip(9_999)), 599, "the last one");
        assert_eq!(narrow.slots.borrow().capacity(), NARROW);
    }
}
