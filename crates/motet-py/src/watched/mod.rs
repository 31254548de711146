//! Descriptors that the program owns: `add_reader`, `add_writer` and the `sock_…` methods.
//!
//! One registration a descriptor, however many use it. Callbacks are level-triggered, as asyncio's: the registration is armed
//! again before the next wait. Waiting socket calls are edge-triggered: the registration stays from the first call that had to
//! wait until the socket goes, so that a call costs no `epoll_ctl`; whether there may be something is kept here meanwhile.
//!
//! The registration is bound to one socket *object* (a weak reference): a number that the system has given to another socket
//! finds a registration of the old one, which is then replaced.
//!
//! - `callbacks.rs`: `add_reader`, `add_writer`.
//! - `calls.rs`: the `sock_…` methods; `operation.rs`: one that waits.
//! - `events.rs`: what the loop calls.

mod callbacks;
mod calls;
mod events;
mod operation;

pub use callbacks::{add_callback, remove_callback};
pub use calls::{receive, retry, send_all, wait_writable};
pub use events::ready;
pub use operation::{descriptor_of, open_descriptor_of};

use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::{Loop, Owner};
use crate::handle::Handle;
use motet_reactor::sys::Interest;
use motet_reactor::{Reactor, Token};
use operation::Operation;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

/// One direction of a watched descriptor.
#[derive(Default)]
struct Direction {
    callback: Option<Py<Handle>>,
    operations: VecDeque<Operation>,
    /// There is nothing to be had until an event tells so: an attempt found none.
    blocked: bool,
}

/// What waits for one descriptor.
#[derive(Default)]
pub struct Watched {
    read: Direction,
    write: Direction,
    /// The socket object that `blocked` is known for.
    socket: Option<Py<PyWeakrefReference>>,
    /// Whether that socket is an internet stream: only there a short read says that no more is to be had for now.
    is_stream: bool,
    /// The peer will send no more: a short read does not mean that the stream is drained.
    hangup: bool,
}

/// Which direction is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Read,
    Write,
}

impl Side {
    /// The method that has a descriptor of this side watched, for messages.
    fn adding(self) -> &'static str {
        match self {
            Self::Read => "loop.add_reader()",
            Self::Write => "loop.add_writer()",
        }
    }

    /// The method that ends it.
    fn removing(self) -> &'static str {
        match self {
            Self::Read => "loop.remove_reader()",
            Self::Write => "loop.remove_writer()",
        }
    }
}

impl Watched {
    fn side(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    fn interest(&self) -> Option<Interest> {
        // Calls need both: they come and go without a system call.
        let calls = self.socket.is_some();
        Interest::from_parts(calls || self.read.callback.is_some(), calls || self.write.callback.is_some())
    }

    fn is_for(&self, socket: &Bound<'_, PyAny>) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|known| known.bind(socket.py()).upgrade().is_some_and(|known| known.is(socket)))
    }

    /// A read returned `count` of at most `limit` bytes: a short one has drained a stream, unless its end is known to follow.
    fn received(&mut self, count: usize, limit: usize) {
        if self.is_stream && count < limit && !self.hangup {
            self.read.blocked = true;
        }
    }

    /// The loop is closed: whoever holds the callbacks' handles must not keep the callbacks alive (see `handle`).
    pub fn discard(&self, py: Python<'_>) {
        for callback in self.read.callback.iter().chain(&self.write.callback) {
            callback.get().discard(py);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for direction in [&self.read, &self.write] {
            direction.callback.iter().try_for_each(|callback| Handle::traverse(callback, visit))?;
            direction.operations.iter().try_for_each(|operation| operation.traverse(visit))?;
        }
        visit.call(&self.socket)
    }
}

/// The registration here under a number.
fn watched_token(reactor: &mut Reactor<Owner>, descriptor: RawFd) -> Option<Token> {
    reactor.token_of(descriptor).filter(|token| watched_mut(reactor, *token).is_some())
}

fn watched_mut(reactor: &mut Reactor<Owner>, token: Token) -> Option<&mut Watched> {
    match reactor.owner_mut(token) {
        Some(Owner::Watched(watched)) => Some(watched),
        _ => None,
    }
}

/// The entry of a socket, if the number's entry is that socket's.
fn known<'a>(
    reactor: &'a mut Reactor<Owner>,
    descriptor: RawFd,
    socket: &Bound<'_, PyAny>,
) -> Option<&'a mut Watched> {
    let token = watched_token(reactor, descriptor)?;
    watched_mut(reactor, token).filter(|watched| watched.is_for(socket))
}

fn enter(reactor: &mut Reactor<Owner>, descriptor: RawFd, watched: Watched) -> io::Result<()> {
    let interest = watched.interest().unwrap_or(Interest::Both);
    reactor.register(descriptor, interest, Owner::Watched(Box::new(watched)))?;
    Ok(())
}

/// Removes a registration whose descriptor was closed behind our back, for the caller to drop with no borrow held; otherwise
/// makes sure that it hears of `interest` too, beginning with the readiness of this moment.
fn refresh(
    reactor: &mut Reactor<Owner>,
    descriptor: RawFd,
    change: impl FnOnce(&mut Watched),
) -> io::Result<Option<Owner>> {
    let Some(token) = watched_token(reactor, descriptor) else { return Ok(None) };
    let Some(watched) = watched_mut(reactor, token) else { return Ok(None) };
    change(watched);
    let interest = watched.interest().unwrap_or(Interest::Both);
    match reactor.reregister(token, interest) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(reactor.deregister(token)),
        Err(error) => Err(error),
    }
}

/// Ends a descriptor's registration here, for a transport or a listener that takes it over.
pub fn release(event_loop: &Bound<'_, Loop>, descriptor: RawFd) -> PyResult<()> {
    let released = event_loop.get().with_reactor("loop.create_connection()", |reactor| {
        let token = watched_token(reactor, descriptor)?;
        reactor.deregister(token)
    })?;
    end_stale(event_loop.py(), released)
}

/// Ends the calls that waited for a socket that was closed.
fn end_stale(py: Python<'_>, stale: Option<Owner>) -> PyResult<()> {
    let Some(Owner::Watched(stale)) = stale else { return Ok(()) };
    for operation in stale.read.operations.into_iter().chain(stale.write.operations) {
        if !operation.is_done(py) {
            operation.finish(py, Err(os_error(closed_descriptor())))?;
        }
    }
    Ok(())
}
