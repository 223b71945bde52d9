//! The system calls that no safe crate offers. Every function here is safe to call.

use std::{io, mem, os::fd::AsRawFd, os::fd::BorrowedFd, ptr, time::Duration};

/// Room for the two control messages asked for: the size of a GRO train's segments and the time of receipt.
const CONTROL_WORDS: usize = 16;

/// Room for a `sockaddr_in6`, the longest name that a UDP socket gives.
const NAME_WORDS: usize = 8;

/// Bytes of a burst, by the size of the messages before: what the caches next to a core hold beside a batch. A receiver that fell
/// behind would else take megabytes at once, read them back from memory, and fall further behind.
const CACHED: usize = 128 << 10;

/// Reused memory for one burst: headers, names, control messages and payloads.
pub(super) struct Ring {
    // INVARIANT: no vector is resized or replaced after `new`; `iovecs[i]` points at `stride` bytes of `payloads`, of
    // which `room` are given; `headers[i]` points at `iovecs[i]`, `names[i]` and `controls[i]` with lengths that fit.
    headers: Vec<libc::mmsghdr>,
    #[expect(dead_code, reason = "read by the kernel through `headers`")]
    iovecs: Vec<libc::iovec>,
    names: Vec<[u32; NAME_WORDS]>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    payloads: Vec<u8>,
    stride: usize,
    filled: usize,
}

// SAFETY: the pointers of `headers` and `iovecs` lead only into vectors that the ring owns (see its INVARIANT), so they
// move between threads with it.
unsafe impl Send for Ring {}

/// One message as the kernel left it.
pub(super) struct Message<'a> {
    /// The payload: a datagram, or a train of them.
    pub bytes: &'a [u8],
    /// The sender's `sockaddr`.
    pub name: &'a [u32; NAME_WORDS],
    /// The control messages, one after another.
    pub control: &'a [u8],
    /// The payload was longer than the room for it.
    pub truncated: bool,
}

impl Ring {
    /// Memory for `messages` messages of up to `room` bytes. Pages are taken from the system when first written.
    pub fn new(messages: usize, room: usize) -> Self {
        // Payloads that start a power of two apart share a few sets of every cache: 25 lines more deal them out.
        let stride = room.next_multiple_of(64) + 25 * 64;
        let mut payloads = vec![0u8; stride * messages];
        let mut names = vec![[0u32; NAME_WORDS]; messages];
        let mut controls = vec![[0u64; CONTROL_WORDS]; messages];
        // Pointers from `as_mut_ptr` outlive the shared borrows of a vector's items, by its contract.
        let payload = payloads.as_mut_ptr();
        let mut iovecs: Vec<libc::iovec> = (0..messages)
            .map(|i| libc::iovec { iov_base: payload.wrapping_add(i * stride).cast(), iov_len: room })
            .collect();
        let (iovec, name, control) = (iovecs.as_mut_ptr(), names.as_mut_ptr(), controls.as_mut_ptr());
        let headers = (0..messages)
            .map(|i| {
                // SAFETY: `mmsghdr` is plain numbers and pointers, for which all zero is a value.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_name = name.wrapping_add(i).cast();
                header.msg_hdr.msg_namelen = size_of::<[u32; NAME_WORDS]>() as _;
                header.msg_hdr.msg_iov = iovec.wrapping_add(i);
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control.wrapping_add(i).cast();
                header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
                header
            })
            .collect();
        Self { headers, iovecs, names, controls, payloads, stride, filled: 0 }
    }

    /// Fills the ring with what the socket has, at most `asked` messages: `recvmmsg`. With `wait` it blocks for the first
    /// message as long as the socket's own timeout says, and never for the others. Says whether as many came.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, asked: usize, wait: bool) -> io::Result<bool> {
        for header in self.headers.iter_mut().take(self.filled) {
            header.msg_hdr.msg_namelen = size_of::<[u32; NAME_WORDS]>() as _;
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        self.filled = 0;
        let asked = asked.clamp(1, self.headers.len());
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: by the ring's INVARIANT each of the `len` headers points at writable memory of the lengths it gives,
        // owned by `self`, which is borrowed mutably: nothing else reads or writes it during the call.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), asked as _, flags as _, ptr::null_mut())
        };
        self.filled = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled == asked)
    }

    /// How many messages the last [`receive`](Self::receive) brought.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// How many messages like those of the last [`receive`](Self::receive) a burst is to have.
    pub fn in_cache(&self) -> usize {
        let bytes: usize = self.headers.iter().take(self.filled).map(|header| header.msg_len as usize).sum();
        (CACHED * self.filled).checked_div(bytes).unwrap_or(usize::MAX)
    }

    /// Message `index` of the last [`receive`](Self::receive), if it brought that many.
    #[inline]
    pub fn message(&self, index: usize) -> Option<Message<'_>> {
        let header = self.headers.get(..self.filled)?.get(index)?;
        let start = index.checked_mul(self.stride)?;
        let control = self.controls.get(index)?.as_slice();
        #[allow(clippy::unnecessary_cast, reason = "musl has a u32 here")]
        let control_len = header.msg_hdr.msg_controllen as usize;
        Some(Message {
            bytes: self.payloads.get(start..)?.get(..header.msg_len as usize)?,
            name: self.names.get(index)?,
            control: zerocopy::IntoBytes::as_bytes(control).get(..control_len)?,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }
}

/// The longest header that a [`Letter`] has: IPv6 and UDP.
pub(super) const HEADER: usize = 48;

/// A datagram to be sent: a header, where the socket is a raw one, and the payload.
#[derive(Clone, Copy)]
pub(super) struct Letter<'a> {
    pub header: [u8; HEADER],
    pub header_len: usize,
    pub payload: &'a [u8],
}

impl Default for Letter<'_> {
    fn default() -> Self {
        Self { header: [0; HEADER], header_len: 0, payload: &[] }
    }
}

/// Reused memory for sending. Its pointers are made anew by every call, and are of no use after it.
pub(super) struct Outbox {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<[libc::iovec; 2]>,
}

// SAFETY: no pointer in it is followed but during `send`, which makes them.
unsafe impl Send for Outbox {}

impl Outbox {
    /// Room for `messages` messages; for more it grows.
    pub fn new(messages: usize) -> Self {
        Self { headers: Vec::with_capacity(messages), iovecs: Vec::with_capacity(messages) }
    }

    /// Hands the kernel all that it takes at once, and says how much that was: `sendmmsg`, without waiting. A message
    /// that the kernel refuses alone (too long, no way there) does not hold up the others.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        to: &socket2::SockAddr,
        letters: &[Letter<'_>],
    ) -> (usize, Option<i32>) {
        let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.iovecs.clear();
        self.iovecs.extend(
            letters
                .iter()
                .map(|letter| [part(letter.header.get(..letter.header_len).unwrap_or_default()), part(letter.payload)]),
        );
        self.headers.clear();
        // All iovecs stand before the first pointer to one is taken: the vector grows no more.
        self.headers.extend(self.iovecs.iter_mut().map(|parts| {
            // SAFETY: `mmsghdr` is plain numbers and pointers, for which all zero is a value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = to.len();
            header.msg_hdr.msg_iov = parts.as_mut_ptr();
            header.msg_hdr.msg_iovlen = 2;
            header
        }));
        let (mut next, mut sent, mut refused) = (0, 0, None);
        while let Some(rest) = self.headers.get_mut(next..).filter(|rest| !rest.is_empty()) {
            // SAFETY: each of the `len` headers points at the name, at two iovecs of this outbox and through them at
            // bytes of `letters`, all borrowed until this function returns; the kernel only reads them, and writes
            // `msg_len` of the headers, which are borrowed mutably.
            let taken = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as _, libc::MSG_DONTWAIT as _)
            };
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => {
                    next += taken;
                    sent += taken;
                }
                _ => match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(code @ (libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => {
                        refused = Some(code);
                        break;
                    }
                    code => {
                        refused = code;
                        next += 1;
                    }
                },
            }
        }
        (sent, refused)
    }
}

/// Sets an integer option.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<i32>()` bytes at a pointer to a live `i32`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a program that chooses among the sockets of a `SO_REUSEPORT` group.
pub(super) fn attach_steering(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads one `sock_fprog` and the `len` instructions that it points at, all alive during the
    // call, and keeps a copy; it writes to neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many messages the kernel has thrown away at this socket, modulo 2^32: `SO_MEMINFO`.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0u32; 16];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`, which has as many, and the length it wrote to `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            ptr::from_mut(&mut info).cast(),
            ptr::from_mut(&mut len),
        )
    };
    let written = len as usize / size_of::<u32>();
    match info.get(..written).and_then(|info| info.get(libc::SK_MEMINFO_DROPS as usize)) {
        _ if result != 0 => Err(io::Error::last_os_error()),
        None => Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT)),
        Some(&drops) => Ok(drops),
    }
}

/// Asks for slices of so many nanoseconds of the calling thread: one that has short ones runs soon after it wakes, and yields as soon.
/// Linux has them since 6.12; before it takes the call and does nothing.
pub(super) fn short_slices(nanoseconds: u64) -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: all zeros are a value of it: it has integers alone.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let own = 0;
    // SAFETY: the kernel writes at most `size` bytes to `attributes`, which has as many.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, own, ptr::from_mut(&mut attributes), size, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // Another policy is an operator's choice.
    if attributes.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        return Ok(());
    }
    (attributes.size, attributes.sched_runtime) = (size, nanoseconds);
    // SAFETY: the kernel reads as many bytes of `attributes` as it says it has.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, own, ptr::from_ref(&attributes), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes memory of so many bytes or more a mapping of its own, which goes back to the system when it is freed.
#[cfg(target_env = "gnu")]
pub(super) fn map_large(bytes: usize) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: it sets a number of the allocator, under its lock.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
}

/// Other allocators than glibc's give back by themselves.
#[cfg(not(target_env = "gnu"))]
pub(super) fn map_large(_: usize) {}

/// Sockets to wait on together.
pub(super) struct Poll(Vec<libc::pollfd>);

impl Poll {
    /// Room for `sockets` sockets.
    pub fn new(sockets: usize) -> Self {
        Self(Vec::with_capacity(sockets))
    }

    /// Waits until one of the sockets has something, or the time is over.
    pub fn wait<'a>(&mut self, sockets: impl Iterator<Item = BorrowedFd<'a>>, timeout: Duration) -> io::Result<()> {
        self.0.clear();
        self.0.extend(sockets.map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }));
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: the kernel reads and writes `len` entries of a vector that holds as many.
        let ready = unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, milliseconds) };
        if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
