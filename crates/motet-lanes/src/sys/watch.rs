//! What a pool's dispatcher sleeps on: its bell, and descriptors that tell of deaths, output and messages.

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Descriptors to wait for, and a bell that any process with its descriptor can ring.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    bell: OwnedFd,
}

/// A wait ends after that at the latest.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// No descriptor's number.
const BELL: u64 = u64::MAX;

impl Watch {
    /// Watches nothing but its bell.
    ///
    /// # Errors
    /// The system's: too many descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: told once of each ring, there is no need to read what was written.
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, bell })
    }

    /// The bell, for those who ring it with [`ring`].
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Also waits for this descriptor to be readable, until it is [removed](Self::remove) or closed everywhere.
    ///
    /// # Errors
    /// The system's: not a descriptor, or added already.
    pub fn add(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let data = EventData::new_u64(descriptor.as_raw_fd() as u64);
        Ok(epoll::add(&self.epoll, descriptor, data, EventFlags::IN)?)
    }

    /// Waits for this descriptor no more.
    ///
    /// # Errors
    /// The system's: it was not added.
    pub fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, descriptor)?)
    }

    /// Waits until the bell rings, a descriptor is readable or the time (or a day) is up, and adds what is readable to `ready`.
    ///
    /// # Errors
    /// The system's. A signal is none: the wait ends.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<RawFd>) -> io::Result<()> {
        // The kernel takes no time of centuries.
        let timeout = timeout.map(|time| Timespec::try_from(time.min(LONGEST)).expect("a day"));
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 32];
        let (events, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(found) => found,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let descriptors = events.iter().map(|event| event.data.u64()).filter(|&data| data != BELL);
        ready.extend(descriptors.map(|descriptor| descriptor as RawFd));
        Ok(())
    }
}

/// Rings a bell whose sleeper must be woken.
pub fn ring(bell: BorrowedFd<'_>) {
    // It fails only when the count is full, after more rings than there can be.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// The system's monotonic clock, the same in all processes, in nanoseconds.
#[must_use]
pub fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
