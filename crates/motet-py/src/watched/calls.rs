//! `sock_recv` and its kin: at once where that is possible, otherwise by a wait.

use super::operation::{self, Call, Operation};
use super::{Side, Watched, end_stale, enter, known, refresh, watched_mut, watched_token};
use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::{Loop, READ_BUFFER};
use crate::schedule;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple, PyWeakrefReference};
use std::io;
use std::os::fd::RawFd;

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
    if limit == 0 {
        return Ok(PyBytes::new(py, &[]).into_any().unbind());
    }
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
    let future = schedule::create_future(event_loop)?;
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
