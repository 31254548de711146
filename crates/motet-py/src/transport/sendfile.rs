//! The transport's part in `loop.sendfile`: while it lasts the output belongs to the file, and whoever sends it waits here for room.

use super::common::{This, none, resolve};
use super::methods::claimed;
use super::{Transport, body};
use crate::errors::{closed_descriptor, os_error};
use crate::method::Arguments;
use motet_reactor::sys::socket;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::prelude::*;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A file is being sent.
#[derive(Default)]
pub struct SendFile {
    /// The future of there being room.
    pub waiter: Option<Py<PyAny>>,
}

/// The error of a write meanwhile.
pub fn in_progress() -> PyErr {
    PyRuntimeError::new_err("unable to write; sendfile is in progress")
}

/// `_begin_sendfile()`: takes the output.
pub fn begin(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "loop.sendfile()")?;
    let begun = transport.with(|connection| {
        let free = connection.sendfile.is_none();
        connection.sendfile.get_or_insert_default();
        free
    });
    if begun { none(this) } else { Err(PyRuntimeError::new_err("sendfile is in progress on this transport")) }
}

/// `_end_sendfile()`: gives the output back.
pub fn end(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "loop.sendfile()")?;
    drop(transport.with(|connection| connection.sendfile.take()));
    none(this)
}

/// `_send_file(descriptor, offset, size)`: sends a part of an open file and returns its length, 0 at the end of the file. Where there
/// is no room, or earlier data is still to be sent, returns a future of that being over.
pub fn send(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let mut storage = Default::default();
    let arguments = arguments.complete("_send_file", &["descriptor", "offset", "size"], &mut storage)?;
    let file: i32 = arguments.get(0).extract()?;
    let (offset, size): (u64, usize) = (arguments.get(1).extract()?, arguments.get(2).extract()?);
    let (transport, _claim) = claimed(this, "loop.sendfile()")?;
    transport.require_socket(py)?.map_err(os_error)?;
    let (closing, busy, number) = transport.with(|connection| {
        let stream = &connection.stream;
        let number = connection.socket.descriptor().map(|descriptor| descriptor.as_raw_fd());
        (stream.is_closing(), stream.is_blocked() || stream.queued_bytes() > 0, number)
    });
    if closing {
        return Err(closed());
    }
    let Some(number) = number else { return Err(os_error(closed_descriptor())) };
    if !busy {
        // SAFETY: the caller holds its own duplicate of the file's descriptor. The socket is open, as was just seen, and closed by
        // holders of the loop's claim only.
        let (file, socket) = unsafe { (BorrowedFd::borrow_raw(file), BorrowedFd::borrow_raw(number)) };
        // The file may have to be read from a disk first.
        match py.detach(|| socket::send_file(socket, file, offset, size)) {
            Ok(count) => {
                transport.event_loop.get().with("loop.sendfile()", |state| {
                    state.turn.statistics.bytes_sent += count as u64;
                })?;
                return count.into_py_any(py);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                transport.with(|connection| connection.stream.blocked());
            }
            Err(error) => return Err(os_error(error)),
        }
    }
    let future = crate::schedule::create_future(transport.event_loop.bind(py))?;
    let kept = future.clone().unbind();
    let old = transport.with(|connection| connection.sendfile.get_or_insert_default().waiter.replace(kept));
    drop(old);
    Ok(future.unbind())
}

/// The queue was sent as far as there is room: wakes who waits to send a file, if there is some left.
pub fn output_ready(this: &Transport, py: Python<'_>) -> PyResult<()> {
    let waiter = this.with(|connection| {
        let stream = &connection.stream;
        let ready = !stream.is_blocked() && stream.queued_bytes() == 0;
        connection.sendfile.as_mut().filter(|_| ready)?.waiter.take()
    });
    resolve(py, waiter, None)
}

/// The connection ends: whoever waits to send a file is told.
pub fn connection_lost(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let waiter = this.with(|connection| connection.sendfile.as_mut()?.waiter.take());
    let py = transport.py();
    resolve(py, waiter, Some(closed().into_value(py).bind(py).as_any()))
}

fn closed() -> PyErr {
    PyConnectionError::new_err("Connection is closed by peer")
}
