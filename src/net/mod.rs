//! The sockets of a collector. For datagrams one a core, steered by source address, read in bursts; for connections one a
//! core that listens. Knows nothing of NetFlow.
//!
//! ```text
//! Group::open(address, cores, options)      n sockets that share one port, a BPF program that deals out the sources
//!   -> receivers(groups)                    Receiver i owns socket i of every group, and runs on core i
//!        -> Receiver::receive(timeout)      a Burst: up to 64 messages of the kernel in reused buffers
//!             -> Packet { bytes, source, received_at_us, truncated }, borrowed, GRO trains split
//! Listeners::open(address, cores)         n sockets that share one port: the kernel deals out the connections
//! Mirror::open(options, addresses)          sockets to other collectors
//!   -> copies().push(packet)                 a burst's datagrams, sent in batches, never waiting
//! ```
//!
//! Linux only: `recvmmsg`, `SO_REUSEPORT` steering and UDP GRO are its own.

mod error;
mod group;
mod listen;
mod mirror;
mod receiver;
mod steer;
#[expect(unsafe_code, reason = "the receive call and three socket options that no safe crate offers")]
mod sys;
#[cfg(test)]
mod tests;

pub use error::{OpenError, OpenErrorKind, Transport, Warning};
pub use group::{Group, Local, any, receivers};
pub use listen::{Listeners, allow_descriptors, open_descriptors, prepare};
pub use mirror::{Copies, Mirror, MirrorOptions, MirrorStats, Unsent};
pub use receiver::{Burst, Packet, Receiver, Stats};
pub use steer::{PayloadKey, SPREAD, Spread, SpreadBy, Steer, owner};

/// The most messages that one [`Receiver::receive`] takes from the kernel.
pub const BURST: usize = 64;

/// How the sockets of a [`Group`] are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of payload and bookkeeping that the kernel may queue for each socket; 0 leaves the system's default.
    pub receive_buffer: usize,
    /// Let the kernel join datagrams of one sender into trains (UDP GRO), which a [`Burst`] splits again.
    pub gro: bool,
    /// Take [`Packet::received_at_us`] from the kernel, a datagram each, in place of the clock once a burst.
    pub timestamps: bool,
    /// Who decides which socket of the group gets a datagram.
    pub steering: Steering,
    /// Sources that are too much for one socket, where the source decides.
    pub steer: Steer,
    /// The interface by which datagrams have to come, if that matters.
    pub interface: Option<String>,
}

impl Default for Options {
    /// 16 MiB, GRO, the clock once a burst, steered by source address.
    fn default() -> Self {
        Self {
            receive_buffer: 16 << 20,
            gro: true,
            timestamps: false,
            steering: Steering::Source,
            steer: Steer::default(),
            interface: None,
        }
    }
}

/// Who decides which socket of a [`Group`] gets a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steering {
    /// The source address alone, so that an exporter's templates and data meet in one receiver: see [`owner`] and,
    /// for sources that are too much for one, [`Steer`].
    Source,
    /// The kernel's own hash of both addresses and ports: an exporter that sends from several ports is spread.
    Kernel,
}

/// The cores that the calling thread may run on, by number, for [`pin`]: all of the process's, where it is not pinned
/// itself. Never empty.
pub fn cores() -> Vec<usize> {
    let ids: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    if ids.is_empty() { vec![0] } else { ids }
}

/// Lets batches that are freed go back to the system at once: of itself glibc keeps what it once needed, and a collector that was kept
/// from its core for a moment would be larger from then on. For a whole process.
pub fn return_batches() {
    // Less than a full batch of most layouts takes; what is smaller comes and goes too often.
    sys::map_large(400_000);
}

/// Makes the calling thread yield to those of this process that receive and write, the more the nicer it is (0 to 19); where the
/// system refuses it is as all others.
pub fn be_nice(nice: i32) {
    // Linux sets it of the thread alone.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// Lets the calling thread run soon after it wakes, before those that write and seal on its core have had their slices; where the system
/// refuses it is as all others.
pub fn be_prompt() {
    // A slice of Linux has some 3 ms; a burst is done in a tenth of that.
    let _ = sys::short_slices(300_000);
}

/// Keeps the calling thread on one core; `false` where the system refuses, and the thread then floats as before.
pub fn pin(core: usize) -> bool {
    // The crate's set of cores is an array of this many bits, and it does not look.
    core < libc::CPU_SETSIZE as usize && core_affinity::set_for_current(core_affinity::CoreId { id: core })
}
