//! A backend that compiles anywhere and refuses at run time.

use super::{Descriptor, Interest, Readiness};
use std::io;
use std::time::Duration;

/// Refuses to open.
#[derive(Debug)]
pub struct Poller(());

/// Never made.
#[derive(Debug)]
pub struct Waker(());

/// Always empty.
#[derive(Debug)]
pub struct Events(());

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "motet has no poller for this system"))
}

impl Poller {
    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn new() -> io::Result<Self> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn waker(&self) -> io::Result<Waker> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn register(&self, _: Descriptor, _: u64, _: Interest) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn reregister(&self, _: Descriptor, _: u64, _: Interest) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn deregister(&self, _: Descriptor) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn wait(&mut self, _: &mut Events, _: Option<Duration>) -> io::Result<()> {
        unsupported()
    }
}

impl Waker {
    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn wake(&self) -> io::Result<()> {
        unsupported()
    }
}

impl Events {
    /// An empty buffer.
    pub fn with_capacity(_: usize) -> Self {
        Self(())
    }

    /// There are none.
    pub fn for_each(&self, _: impl FnMut(u64, Readiness)) {}
}
