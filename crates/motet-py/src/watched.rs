//! Descriptors that the program owns: `add_reader`, `add_writer` and the `sock_…` methods.
//!
//! One registration a descriptor, however many use it. Callbacks are level-triggered, as asyncio's: the registration is armed
//! again before the next wait. Waiting socket calls are edge-triggered: the registration stays from the first call that had to
//! wait until the socket goes, so that a call costs no `epoll_ctl`; whether there may be something is kept here meanwhile.
//!
//! The registration is bound to one socket *object* (a weak reference): a number that the system has given to another socket
//! finds a registration of the old one, which is then replaced.

use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::{Loop, Owner, READ_BUFFER};
use crate::handle::Handle;
use crate::operation::{Attempt, Call, Operation};
use crate::task::Task;
use crate::{operation, schedule};
use motet_reactor::sys::{Interest, Readiness};
use motet_reactor::{Reactor, Token};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple, PyWeakrefMethods, PyWeakrefReference};
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

    /// The loop is closed: whoever holds the callbacks' handles must not keep the callbacks alive (see handle.rs).
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
// ---- add_reader, add_writer ----

/// Has `callback` called whenever the descriptor is ready. Returns the handle.
pub fn add_callback(
    event_loop: &Bound<'_, Loop>,
    descriptor: RawFd,
    side: Side,
    callback: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Py<Handle>> {
    let py = event_loop.py();
    let inner = event_loop.get();
    inner.require_open()?;
    let handle = schedule::new_handle(py, callback, arguments)?;
    let kept = handle.clone_ref(py);
    let mut replaced = None;
    let stale = inner
        .with_reactor("loop.add_reader()", |reactor| {
            refresh(reactor, descriptor, |watched| replaced = watched.side(side).callback.replace(kept))
        })?
        .map_err(os_error)?;
    if let Some(replaced) = replaced {
        drop(replaced.get().cancel_pending());
    }
    end_stale(py, stale)?;
    let kept = handle.clone_ref(py);
    inner
        .with_reactor("loop.add_reader()", |reactor| {
            if watched_token(reactor, descriptor).is_some() {
                return Ok(());
            }
            let mut watched = Watched::default();
            watched.side(side).callback = Some(kept);
            enter(reactor, descriptor, watched)
        })?
        .map_err(os_error)?;
    Ok(handle)
}

fn enter(reactor: &mut Reactor<Owner>, descriptor: RawFd, watched: Watched) -> io::Result<()> {
    let interest = watched.interest().unwrap_or(Interest::Both);
    reactor.register(descriptor, interest, Owner::Watched(Box::new(watched)))?;
    Ok(())
}

/// Stops calling. Returns whether there was a callback.
pub fn remove_callback(event_loop: &Bound<'_, Loop>, descriptor: RawFd, side: Side) -> PyResult<bool> {
    let inner = event_loop.get();
    if !inner.is_open() {
        return Ok(false);
    }
    let removed = inner.with_reactor("loop.remove_reader()", |reactor| {
        let token = watched_token(reactor, descriptor)?;
        let watched = watched_mut(reactor, token)?;
        let removed = watched.side(side).callback.take();
        let mut empty = None;
        match watched.interest() {
            // Fails only where the descriptor was closed: then there is nothing to hear of.
            Some(interest) => drop(reactor.reregister(token, interest)),
            None => {
                empty = reactor.deregister(token);
            }
        }
        Some((removed, empty))
    })?;
    let Some((Some(handle), _)) = removed else { return Ok(false) };
    drop(handle.get().cancel_pending());
    Ok(true)
}

// ---- sock_recv and its kin ----

/// Refuses sockets that these calls cannot serve. A plain socket is known by its class; others are asked in Python.
#[inline]
fn require_plain(event_loop: &Bound<'_, Loop>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let class =
        CLASS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("socket")?.getattr("socket")?.unbind()))?;
    if !socket.get_type().is(class) || event_loop.get().in_debug_mode() {
        event_loop.call_method1(intern!(py, "_check_socket"), (socket,))?;
    }
    Ok(())
}

/// `sock_recv`: the data, or a future of it.
pub fn receive(event_loop: &Bound<'_, Loop>, socket: &Bound<'_, PyAny>, limit: usize) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    require_plain(event_loop, socket)?;
    let descriptor = operation::open_descriptor_of(socket)?;
    if may_try(event_loop.get(), descriptor, socket, Side::Read)? {
        match operation::receive(event_loop.get(), py, descriptor, limit)? {
            Ok(data) => {
                let count = data.bind(py).as_bytes().len();
                event_loop.get().with_reactor("loop.sock_recv()", |reactor| {
                    if let Some(watched) = known(reactor, descriptor, socket) {
                        watched.received(count, limit.min(READ_BUFFER));
                    }
                })?;
                return Ok(data.into_any());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(os_error(error)),
        }
    }
    wait(event_loop, descriptor, socket, Side::Read, Call::Receive(limit))
}

/// `sock_sendall`: None when all is sent, or a future of that.
pub fn send_all(
    event_loop: &Bound<'_, Loop>,
    socket: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    require_plain(event_loop, socket)?;
    let descriptor = operation::open_descriptor_of(socket)?;
    let data: PyBackedBytes = match data.cast::<PyBytes>() {
        Ok(bytes) => bytes.clone().into(),
        // A buffer that the program may change meanwhile is copied.
        Err(_) => py
            .get_type::<PyBytes>()
            .call1((pyo3::types::PyMemoryView::from(data)?,))?
            .cast_into::<PyBytes>()?
            .into(),
    };
    let mut sent = 0;
    if may_try(event_loop.get(), descriptor, socket, Side::Write)? {
        match operation::send(event_loop.get(), descriptor, &data)? {
            Ok(count) if count == data.len() => return Ok(py.None()),
            Ok(count) => sent = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(os_error(error)),
        }
    }
    wait(event_loop, descriptor, socket, Side::Write, Call::SendAll(data, sent))
}

/// A future of what `method(*arguments)` returns once it no longer blocks.
pub fn retry(
    event_loop: &Bound<'_, Loop>,
    socket: &Bound<'_, PyAny>,
    side: Side,
    method: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Py<PyAny>> {
    let descriptor = operation::open_descriptor_of(socket)?;
    let call = Call::Method(method.clone().unbind(), arguments.clone().unbind());
    wait(event_loop, descriptor, socket, side, call)
}

/// A future of the socket's being writable.
pub fn wait_writable(event_loop: &Bound<'_, Loop>, socket: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let descriptor = operation::open_descriptor_of(socket)?;
    wait(event_loop, descriptor, socket, Side::Write, Call::Ready)
}

impl Watched {
    /// A read returned `count` of at most `limit` bytes: a short one has drained a stream, unless its end is known to follow.
    fn received(&mut self, count: usize, limit: usize) {
        if self.is_stream && count < limit && !self.hangup {
            self.read.blocked = true;
        }
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

/// Whether an attempt may succeed at once, and is this caller's turn.
fn may_try(event_loop: &Loop, descriptor: RawFd, socket: &Bound<'_, PyAny>, side: Side) -> PyResult<bool> {
    event_loop.with_reactor("loop.sock_recv()", |reactor| {
        known(reactor, descriptor, socket).is_none_or(|watched| {
            let direction = watched.side(side);
            !direction.blocked && direction.operations.is_empty()
        })
    })
}

fn wait(
    event_loop: &Bound<'_, Loop>,
    descriptor: RawFd,
    socket: &Bound<'_, PyAny>,
    side: Side,
    call: Call,
) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    let inner = event_loop.get();
    let future = crate::schedule::create_future(event_loop)?;
    let operation = Operation {
        future: future.clone().unbind(),
        socket: PyWeakrefReference::new(socket)?.unbind(),
        call,
    };
    let mut operation = Some(operation);
    let queued = inner.with_reactor("loop.sock_recv()", |reactor| {
        let Some(watched) = known(reactor, descriptor, socket) else { return false };
        watched.side(side).operations.extend(operation.take());
        true
    })?;
    if !queued {
        begin_watching(event_loop, descriptor, socket)?;
        inner.with_reactor("loop.sock_recv()", |reactor| {
            if let Some(watched) = known(reactor, descriptor, socket) {
                watched.side(side).operations.extend(operation.take());
            }
        })?;
    }
    if let Some(operation) = operation {
        operation.finish(py, Err(os_error(closed_descriptor())))?;
    }
    forget_cancelled(event_loop, descriptor, side)?;
    Ok(future.unbind())
}

/// Registers a socket for waiting calls, or binds the number's registration to it.
fn begin_watching(
    event_loop: &Bound<'_, Loop>,
    descriptor: RawFd,
    socket: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let inner = event_loop.get();
    event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (socket,))?;
    let reference = PyWeakrefReference::new(socket)?.unbind();
    let kind = |name| socket.getattr(name)?.extract::<i32>();
    let is_stream = kind(intern!(py, "type"))? == libc::SOCK_STREAM
        && matches!(kind(intern!(py, "family"))?, libc::AF_INET | libc::AF_INET6);
    let mut old = None;
    let bind = |watched: &mut Watched| {
        old = watched.socket.replace(reference.clone_ref(py));
        watched.is_stream = is_stream;
        watched.hangup = false;
        watched.read.blocked = false;
        watched.write.blocked = false;
    };
    let stale = inner
        .with_reactor("loop.sock_recv()", |reactor| refresh(reactor, descriptor, bind))?
        .map_err(os_error)?;
    drop(old);
    end_stale(py, stale)?;
    inner
        .with_reactor("loop.sock_recv()", |reactor| {
            if watched_token(reactor, descriptor).is_some() {
                return Ok(());
            }
            let watched = Watched { socket: Some(reference), is_stream, ..Watched::default() };
            enter(reactor, descriptor, watched)
        })?
        .map_err(os_error)?;
    Ok(())
}

/// Drops calls from the front whose callers have gone, so that a socket that never gets ready keeps none of them.
fn forget_cancelled(event_loop: &Bound<'_, Loop>, descriptor: RawFd, side: Side) -> PyResult<()> {
    let py = event_loop.py();
    loop {
        let front = event_loop.get().with_reactor("loop.sock_recv()", |reactor| {
            let token = watched_token(reactor, descriptor)?;
            let watched = watched_mut(reactor, token)?;
            let operations = &mut watched.side(side).operations;
            if operations.len() > 1 { operations.pop_front() } else { None }
        })?;
        match front {
            Some(operation) if operation.is_done(py) => {}
            Some(operation) => {
                let mut operation = Some(operation);
                return event_loop.get().with_reactor("loop.sock_recv()", |reactor| {
                    let token = watched_token(reactor, descriptor);
                    if let Some(watched) = token.and_then(|token| watched_mut(reactor, token))
                        && let Some(operation) = operation.take()
                    {
                        watched.side(side).operations.push_front(operation);
                    }
                });
            }
            None => return Ok(()),
        }
    }
}

// ---- events ----

/// The descriptor is ready: schedules its callbacks and finishes the calls that can be finished.
pub fn ready(event_loop: &Bound<'_, Loop>, token: Token, readiness: Readiness) -> PyResult<()> {
    let py = event_loop.py();
    let descriptor = event_loop.get().with("loop.run_forever()", |state| {
        let (reactor, books) = state.parts()?;
        let (descriptor, _) = reactor.descriptors().get(token)?;
        let watched = watched_mut(reactor, token)?;
        watched.hangup |= readiness.hangup;
        let mut arm = false;
        for (told, direction) in
            [(readiness.readable, &mut watched.read), (readiness.writable, &mut watched.write)]
        {
            if told {
                direction.blocked = false;
                if let Some(callback) = &direction.callback {
                    books.turn.push(Task::Repeated(callback.clone_ref(py)));
                    arm = true;
                }
            }
        }
        if arm && let Some(interest) = watched.interest() {
            reactor.rearm_before_wait(token, interest);
        }
        Some(descriptor)
    })?;
    let Some(descriptor) = descriptor else { return Ok(()) };
    if readiness.readable {
        finish_calls(event_loop, token, descriptor, Side::Read)?;
    }
    if readiness.writable {
        finish_calls(event_loop, token, descriptor, Side::Write)?;
    }
    Ok(())
}

fn finish_calls(event_loop: &Bound<'_, Loop>, token: Token, descriptor: RawFd, side: Side) -> PyResult<()> {
    let py = event_loop.py();
    let inner = event_loop.get();
    loop {
        let next = inner.with_reactor("loop.run_forever()", |reactor| {
            let direction = watched_mut(reactor, token)?.side(side);
            if direction.blocked { None } else { direction.operations.pop_front() }
        })?;
        let Some(mut operation) = next else { return Ok(()) };
        if operation.is_done(py) {
            continue;
        }
        let result = match operation.attempt(inner, py, descriptor) {
            Ok(Attempt::Blocked) => {
                let mut operation = Some(operation);
                inner.with_reactor("loop.run_forever()", |reactor| {
                    if let Some(watched) = watched_mut(reactor, token)
                        && let Some(operation) = operation.take()
                    {
                        let direction = watched.side(side);
                        direction.blocked = true;
                        direction.operations.push_front(operation);
                    }
                })?;
                return Ok(());
            }
            Ok(Attempt::Done(value)) => {
                if let (Call::Receive(limit), Ok(data)) = (&operation.call, value.bind(py).cast::<PyBytes>())
                {
                    let count = data.as_bytes().len();
                    inner.with_reactor("loop.run_forever()", |reactor| {
                        if let Some(watched) = watched_mut(reactor, token) {
                            watched.received(count, (*limit).min(READ_BUFFER));
                        }
                    })?;
                }
                Ok(value)
            }
            Err(error) => Err(error),
        };
        operation.finish(py, result)?;
    }
}
