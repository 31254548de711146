//! The backend on mio: epoll on Linux, kqueue on macOS and the BSDs.
//!
//! mio rather than `polling`: one `wait` of polling 3.11 costs three system calls on Linux (it arms a timerfd and
//! re-arms its interest in it before each `epoll_wait`), one of mio costs one.

use super::{Descriptor, Interest, Readiness};
use mio::unix::SourceFd;
use std::io;
use std::time::Duration;

const WAKE: mio::Token = mio::Token(usize::MAX);

const _: () = assert!(usize::BITS >= u64::BITS, "mio's tokens are too small for a slot and its generation");

/// Who hears of both directions does so edge-triggered, and of urgent data too where the system tells it: a read stops in front
/// of it. Level-triggered readers do not ask: urgent data that nobody reads would call them for ever.
#[cfg(target_os = "linux")]
const BOTH: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE).add(mio::Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const BOTH: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

/// An epoll or kqueue instance.
#[derive(Debug)]
pub struct Poller(mio::Poll);

/// Wakes the poller that made it, from any thread.
#[derive(Debug)]
pub struct Waker(mio::Waker);

/// The events of one wait.
#[derive(Debug)]
pub struct Events(mio::Events);

impl From<Interest> for mio::Interest {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Read => Self::READABLE,
            Interest::Write => Self::WRITABLE,
            Interest::Both => BOTH,
        }
    }
}

impl Poller {
    /// Opens a poller.
    ///
    /// # Errors
    /// The system's, for instance that no more descriptors are to be had.
    pub fn new() -> io::Result<Self> {
        mio::Poll::new().map(Self)
    }

    /// Makes the waker. At most one for each poller.
    ///
    /// # Errors
    /// The system's, for instance that no more descriptors are to be had.
    pub fn waker(&self) -> io::Result<Waker> {
        mio::Waker::new(self.0.registry(), WAKE).map(Waker)
    }

    /// Registers a descriptor under a token of the caller's.
    ///
    /// # Errors
    /// The system's: not a descriptor, registered already, a file that cannot be polled.
    pub fn register(&self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()> {
        self.0.registry().register(&mut SourceFd(&descriptor), mio::Token(token as usize), interest.into())
    }

    /// Changes a registration, and tells the readiness of this moment again.
    ///
    /// # Errors
    /// The system's; `NotFound` when the descriptor was closed since.
    pub fn reregister(&self, descriptor: Descriptor, token: u64, interest: Interest) -> io::Result<()> {
        self.0.registry().reregister(&mut SourceFd(&descriptor), mio::Token(token as usize), interest.into())
    }

    /// Ends a registration.
    ///
    /// # Errors
    /// The system's; `NotFound` when the descriptor was closed since.
    pub fn deregister(&self, descriptor: Descriptor) -> io::Result<()> {
        self.0.registry().deregister(&mut SourceFd(&descriptor))
    }

    /// Waits for events, at most for `timeout` (`None`: without an end).
    ///
    /// # Errors
    /// `Interrupted` when a signal arrived; the system's otherwise.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.0.poll(&mut events.0, timeout)
    }
}

impl Waker {
    /// Makes the current or the next wait return.
    ///
    /// # Errors
    /// The system's.
    pub fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl Events {
    /// A buffer for this many events a wait; what does not fit is told by the next one.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(mio::Events::with_capacity(capacity))
    }

    /// Calls `each` with the token and the readiness of every event but the waker's.
    pub fn for_each(&self, mut each: impl FnMut(u64, Readiness)) {
        for event in self.0.iter().filter(|event| event.token() != WAKE) {
            let broken = event.is_error();
            let readiness = Readiness {
                readable: event.is_readable() || event.is_read_closed() || event.is_priority() || broken,
                writable: event.is_writable() || event.is_write_closed() || broken,
                hangup: event.is_read_closed() || event.is_priority() || broken,
            };
            each(event.token().0 as u64, readiness);
        }
    }
}
