//! One waiting socket call: `sock_recv` and its kin, between the first attempt and the readiness that lets it finish.

use crate::call;
use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::Loop;
use motet_reactor::sys::socket;
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// What the call does once the descriptor is ready.
pub enum Call {
    /// Receives at most so many bytes.
    Receive(usize),
    /// Sends everything, from this byte on.
    SendAll(PyBackedBytes, usize),
    /// Calls a method of the socket again.
    Method(Py<PyAny>, Py<PyTuple>),
    /// Nothing: to be ready was all.
    Ready,
}

/// A waiting call and the future that its caller awaits.
pub struct Operation {
    pub future: Py<PyAny>,
    /// Weak: a cancelled call waits on until its socket is ready or gone, and must not keep it from going.
    pub socket: Py<PyWeakrefReference>,
    pub call: Call,
}

/// How one attempt ended.
pub enum Attempt {
    /// With a value.
    Done(Py<PyAny>),
    /// The descriptor was not ready after all, or took only a part.
    Blocked,
}

/// Receives into the loop's buffer and makes exact `bytes` of it. `drained` tells that a stream has no more for now.
pub fn receive(
    event_loop: &Loop,
    py: Python<'_>,
    descriptor: RawFd,
    limit: usize,
) -> PyResult<io::Result<Py<PyBytes>>> {
    // SAFETY: the caller has just had this number from the open socket object that it holds.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    event_loop.with("loop.sock_recv()", |state| {
        if state.read_buffer.is_empty() {
            state.read_buffer = vec![0; crate::event_loop::READ_BUFFER].into_boxed_slice();
        }
        let capacity = limit.min(state.read_buffer.len());
        let buffer = &mut state.read_buffer[..capacity];
        let count = socket::receive(borrowed, buffer)?;
        state.turn.statistics.bytes_received += count as u64;
        // Allocating bytes runs no Python code.
        Ok(PyBytes::new(py, &state.read_buffer[..count]).unbind())
    })
}

/// Sends what fits and says how much.
pub fn send(event_loop: &Loop, descriptor: RawFd, data: &[u8]) -> PyResult<io::Result<usize>> {
    // SAFETY: as in `receive`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let sent = socket::send(borrowed, data);
    if let Ok(count) = sent {
        event_loop.with("loop.sock_sendall()", |state| state.turn.statistics.bytes_sent += count as u64)?;
    }
    Ok(sent)
}

/// The descriptor's number of an open socket; -1 for a closed one.
#[inline]
pub fn descriptor_of(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    call::method(socket, intern!(socket.py(), "fileno"))?.extract()
}

/// The descriptor's number of a socket that must be open.
#[inline]
pub fn open_descriptor_of(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match descriptor_of(socket)? {
        closed if closed < 0 => Err(os_error(closed_descriptor())),
        open => Ok(open),
    }
}

impl Operation {
    /// Whether nobody waits for it any more.
    pub fn is_done(&self, py: Python<'_>) -> bool {
        call::method(self.future.bind(py), intern!(py, "done"))
            .and_then(|done| done.is_truthy())
            .unwrap_or(true)
    }

    /// Tries once. `descriptor` is the number that the readiness was told for: a socket that has another by now was closed.
    pub fn attempt(&mut self, event_loop: &Loop, py: Python<'_>, descriptor: RawFd) -> PyResult<Attempt> {
        let socket = self.socket.bind(py).upgrade();
        if socket.map_or(Ok(-1), |socket| descriptor_of(&socket))? != descriptor {
            return Err(os_error(closed_descriptor()));
        }
        match &mut self.call {
            Call::Ready => Ok(Attempt::Done(py.None())),
            Call::Receive(limit) => match receive(event_loop, py, descriptor, *limit)? {
                Ok(data) => Ok(Attempt::Done(data.into_any())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Attempt::Blocked),
                Err(error) => Err(os_error(error)),
            },
            Call::SendAll(data, position) => match send(event_loop, descriptor, &data[*position..])? {
                Ok(count) if *position + count == data.len() => Ok(Attempt::Done(py.None())),
                Ok(count) => {
                    *position += count;
                    Ok(Attempt::Blocked)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Attempt::Blocked),
                Err(error) => Err(os_error(error)),
            },
            Call::Method(method, arguments) => match method.bind(py).call1(arguments.bind(py)) {
                Ok(value) => Ok(Attempt::Done(value.unbind())),
                Err(error)
                    if error.is_instance_of::<PyBlockingIOError>(py)
                        || error.is_instance_of::<PyInterruptedError>(py) =>
                {
                    Ok(Attempt::Blocked)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Tells the caller how it ended; only what must end the run comes back.
    pub fn finish(self, py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let future = self.future.bind(py);
        match result {
            Ok(value) => call::method_with(future, intern!(py, "set_result"), value.bind(py)).map(drop),
            Err(error) if call::ends_the_run(py, &error) => Err(error),
            Err(error) => {
                let error = error.into_value(py).into_bound(py).into_any();
                call::method_with(future, intern!(py, "set_exception"), &error).map(drop)
            }
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        visit.call(&self.socket)?;
        if let Call::Method(method, arguments) = &self.call {
            visit.call(method)?;
            visit.call(arguments)?;
        }
        Ok(())
    }
}
