//! The system call that no safe crate offers: many datagrams, or trains of them, in one call.

use socket2::SockAddr;
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{mem, ptr};

/// Messages of one call at most.
pub(crate) const MESSAGES: usize = 64;
/// `UDP_SEGMENT` of `linux/udp.h`; libc does not name it for every C library.
const UDP_SEGMENT: libc::c_int = 103;

/// One message: a datagram, or a train of datagrams of the same length.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The bytes, in parts.
    pub parts: &'a [IoSlice<'a>],
    /// The length of each datagram of a train; 0 where there is only one.
    pub segment: u16,
    /// The source address, where it is not the socket's own.
    pub source: Option<Ipv4Addr>,
}

/// A control message with room for `N` words of data.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control<const N: usize> {
    head: libc::cmsghdr,
    data: [u32; N],
}

/// Both control messages that a message may have, one behind the other as the kernel walks them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Controls {
    segment: Control<2>,
    source: Control<4>,
}

// Data begin where `CMSG_DATA` looks for them, and the second message where `CMSG_NXTHDR` does.
const _: () = assert!(mem::offset_of!(Control<2>, data) == size_of::<libc::cmsghdr>());
const _: () = assert!(mem::offset_of!(Controls, source) == (size_of::<libc::cmsghdr>() + 2).next_multiple_of(8));

/// Reused memory for the headers of a call.
pub(crate) struct Headers {
    headers: Vec<libc::mmsghdr>,
    controls: Vec<Controls>,
}

// SAFETY: the pointers in `headers` are written anew by each call of `send` before the kernel reads them, and none is
// read in between, so it does not matter in which thread they were written.
unsafe impl Send for Headers {}

impl Headers {
    pub fn new() -> Self {
        // SAFETY: both are plain numbers and pointers, for which all zero is a value.
        let (header, mut controls): (libc::mmsghdr, Controls) = unsafe { mem::zeroed() };
        set_head(&mut controls.segment.head, libc::SOL_UDP, UDP_SEGMENT, size_of::<u16>());
        set_head(&mut controls.source.head, libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>());
        Self { headers: vec![header; MESSAGES], controls: vec![controls; MESSAGES] }
    }

    /// Sends up to [`MESSAGES`] messages: `sendmmsg`. Gives how many the kernel took; `to` is for sockets that are not
    /// connected.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        to: Option<&SockAddr>,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let messages = &messages[..messages.len().min(MESSAGES)];
        for ((header, controls), message) in self.headers.iter_mut().zip(&mut self.controls).zip(messages) {
            let header = &mut header.msg_hdr;
            // The kernel only reads names and parts; the types of C do not say so.
            header.msg_name = to.map_or(ptr::null_mut(), |to| to.as_ptr().cast_mut().cast());
            header.msg_namelen = to.map_or(0, SockAddr::len);
            // An `IoSlice` is an `iovec`, by its documentation.
            header.msg_iov = message.parts.as_ptr().cast_mut().cast();
            header.msg_iovlen = message.parts.len() as _;
            controls.segment.data[0] = two_bytes_first(message.segment);
            // `in_pktinfo`: the interface (any), the source to use, and the destination, which is not read.
            controls.source.data = [0, message.source.map_or(0, |a| u32::from_ne_bytes(a.octets())), 0, 0];
            let (segment, source) = (message.segment > 0, message.source.is_some());
            let control: *mut Controls = controls;
            let skipped = if segment { 0 } else { mem::offset_of!(Controls, source) };
            header.msg_control = control.wrapping_byte_add(skipped).cast();
            let end = match (segment, source) {
                (_, true) => size_of::<Controls>(),
                (true, false) => size_of::<Control<2>>(),
                (false, false) => skipped,
            };
            header.msg_controllen = (end - skipped) as _;
        }
        // SAFETY: the first `messages.len()` headers, of which there are at least as many, were written just above:
        // names, parts and control messages are borrowed or owned for the whole call and as long as their lengths say.
        // The kernel writes only to the headers' `msg_len`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), messages.len() as _, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn set_head(head: &mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, data: usize) {
    head.cmsg_level = level;
    head.cmsg_type = kind;
    head.cmsg_len = (size_of::<libc::cmsghdr>() + data) as _;
}

/// A word whose first two bytes in memory are the number's.
fn two_bytes_first(number: u16) -> u32 {
    let [a, b] = number.to_ne_bytes();
    u32::from_ne_bytes([a, b, 0, 0])
}
