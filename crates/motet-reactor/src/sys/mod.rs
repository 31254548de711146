//! The only place in this crate that makes system calls.
//!
//! A backend supplies, under these names:
//!
//! - `Poller`: `new`, `register`, `reregister`, `deregister`, `wait`, `waker`. Registrations are edge-triggered: a change of
//!   readiness is told once, and a registration or re-registration tells the readiness of that moment.
//! - `Waker`: `wake`, from any thread: makes the current or the next `wait` return.
//! - `Events`: the buffer that `wait` fills, read through `Events::for_each`.
//!
//! `readiness.rs` is the backend for every system that mio knows (epoll, kqueue, …). `stub.rs` compiles anywhere and
//! refuses at run time; `--cfg motet_stub` selects it, to prove that nothing outside `sys` depends on a system.

#[cfg(not(any(motet_stub, not(unix))))]
mod readiness;
#[cfg(any(motet_stub, not(unix)))]
mod stub;

#[cfg(not(any(motet_stub, not(unix))))]
pub use readiness::{Events, Poller, Waker};
#[cfg(any(motet_stub, not(unix)))]
pub use stub::{Events, Poller, Waker};

#[cfg(unix)]
pub mod datagram;
#[cfg(unix)]
pub mod socket;

use std::os::fd::RawFd;

/// A descriptor's number. It says nothing about which file it stands for: see [`crate::Token`].
pub type Descriptor = RawFd;

/// What a registration wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable, or closed by the peer.
    Read,
    /// Writable.
    Write,
    /// Both.
    Both,
}

impl Interest {
    /// The interest for a pair of wishes; `None` for neither.
    pub fn from_parts(read: bool, write: bool) -> Option<Self> {
        match (read, write) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Read),
            (false, true) => Some(Self::Write),
            (false, false) => None,
        }
    }
}

/// What happened on one registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There is something to read: data, a connection, the end of the stream or an error.
    pub readable: bool,
    /// There is room to write, or an error to collect.
    pub writable: bool,
    /// The peer will send no more, or has sent urgent data: a short read does not mean that the stream is drained.
    pub hangup: bool,
}

/// The number of this process, another one after `fork`.
pub fn process_id() -> u32 {
    std::process::id()
}

/// Nanoseconds of the system's monotonic clock, the one behind Python's `time.monotonic()`.
#[cfg(unix)]
pub fn monotonic_nanoseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
