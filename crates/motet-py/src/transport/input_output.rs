//! What the loop asks of a transport: to read, to send, to carry on.

use super::delivery::{self, Delivery};
use super::{Connection, Deferred, Socket, Transport, apply, below_tls, body, lifecycle};
use crate::errors::{closed_descriptor, os_error};
use crate::{call, context};
use motet_reactor::stream::{Actions, Sent};
use motet_reactor::sys::{Readiness, socket};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{IntoPyObjectExt, intern};
use std::io;

/// The descriptor is ready.
pub fn ready(transport: &Bound<'_, PyAny>, readiness: Readiness) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let (context, has_queue) = this.with(|connection| {
        if readiness.readable {
            connection.stream.set_readable(readiness.hangup);
        }
        if readiness.writable {
            connection.stream.unblocked();
        }
        let waits = connection.stream.queued_bytes() > 0 || connection.sendfile.is_some();
        let has_queue = readiness.writable && waits;
        // A native stream runs nothing of the program's: it only wakes tasks.
        let foreign = has_queue || connection.delivery != Delivery::Native;
        (if foreign { connection.context(transport.py()) } else { None }, has_queue)
    });
    let _entered = context.as_ref().map(context::enter).transpose()?;
    if let Err(error) = this.require_socket(transport.py())? {
        return lifecycle::fail(transport, os_error(error), "Fatal error on socket transport");
    }
    if has_queue {
        send_queue(this, transport)?;
    }
    read(this, transport)
}

/// The end of a round in which the transport has collected data.
pub fn flush(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let context = this.with(|connection| {
        connection.stream.flush_begins();
        connection.context(transport.py())
    });
    let _entered = context.as_ref().map(context::enter).transpose()?;
    send_queue(this, transport)
}

/// A step that was put off to this round.
pub fn run_deferred(transport: &Bound<'_, PyAny>, deferred: Deferred) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let context = this.with(|connection| connection.context(transport.py()));
    let _entered = context.as_ref().map(context::enter).transpose()?;
    match deferred {
        Deferred::Begin(waiter) => lifecycle::begin(this, transport, waiter),
        Deferred::Read => read(this, transport),
        Deferred::Lost => lifecycle::connection_lost(this, transport),
        Deferred::Tls(step) => below_tls::run_step(this, transport, step),
    }
}

/// Sends what is queued, as far as it fits.
pub fn send_queue(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Err(error) = this.require_socket(transport.py())? {
        return lifecycle::fail(transport, os_error(error), "Fatal write error on socket transport");
    }
    let event_loop = this.event_loop.get();
    let mut total = 0;
    let sent = this.with(|connection| {
        let Connection { stream, socket, .. } = connection;
        stream.send_queued(|pieces| {
            let Some(descriptor) = socket.descriptor() else { return Err(closed_descriptor()) };
            match socket::send_vectored(descriptor, pieces) {
                Ok(count) => {
                    total += count;
                    Ok(Sent::Bytes(count))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Blocked),
                Err(error) => Err(error),
            }
        })
    });
    event_loop.with("transport.write()", |state| state.turn.statistics.bytes_sent += total as u64)?;
    match sent {
        Ok(actions) => {
            super::sendfile::output_ready(this, transport.py())?;
            apply(transport, actions)?;
            below_tls::send_records(this, transport)
        }
        Err(error) => lifecycle::fail(transport, os_error(error), "Fatal write error on socket transport"),
    }
}

/// How one read ended.
enum Outcome<'py> {
    Data(Bound<'py, PyBytes>),
    Buffered(usize),
    End,
    Blocked,
}

/// Reads, and leaves what an exception that ends the run has kept from being read to a later round.
fn read(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let result = match this.delivery() {
        Delivery::Tls => below_tls::receive(this, transport),
        _ => read_available(this, transport),
    };
    if result.is_err() && this.with(|connection| connection.stream.wants_read()) {
        apply(transport, Actions::READ_LATER)?;
    }
    result
}

/// Reads while there is something and the protocol wants it; a read that fills its buffer lets the others have a turn.
fn read_available(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    loop {
        let next = this.with(|connection| {
            let wanted = connection.stream.wants_read();
            let protocol = connection.protocol.as_ref().filter(|_| wanted)?;
            Some((protocol.bind(py).clone(), connection.delivery))
        });
        let Some((protocol, delivery)) = next else { return Ok(()) };
        let (outcome, filled) = if delivery == Delivery::Buffer {
            match read_into_protocol(this, transport, &protocol)? {
                Some(result) => result,
                None => return Ok(()),
            }
        } else {
            match read_bytes(this, py)? {
                Ok(result) => result,
                Err(error) => {
                    return lifecycle::fail(
                        transport,
                        os_error(error),
                        "Fatal read error on socket transport",
                    );
                }
            }
        };
        match outcome {
            Outcome::Data(data) => {
                let result = match delivery {
                    // SAFETY: that is what this way of delivery says.
                    Delivery::Native => unsafe { crate::streams::deliver(&protocol, data) },
                    Delivery::Reader => delivery::feed_reader(&protocol, &data),
                    _ => call::method_with(&protocol, intern!(py, "data_received"), data.as_any()).map(drop),
                };
                if let Err(error) = result {
                    lifecycle::protocol_failed(transport, error, "data_received")?;
                }
            }
            Outcome::Buffered(count) => {
                let count = count.into_bound_py_any(py)?;
                if let Err(error) = call::method_with(&protocol, intern!(py, "buffer_updated"), &count) {
                    lifecycle::protocol_failed(transport, error, "buffer_updated")?;
                }
            }
            Outcome::End => return lifecycle::end_of_input(this, transport, &protocol),
            Outcome::Blocked => return Ok(()),
        }
        if filled {
            // The stream stays readable; nothing will tell so again.
            let later = this.with(|connection| connection.stream.wants_read());
            return if later { apply(transport, Actions::READ_LATER) } else { Ok(()) };
        }
    }
}

/// Reads into exact `bytes`. Also tells whether the read was as long as it could be.
#[inline]
fn read_bytes<'py>(this: &Transport, py: Python<'py>) -> PyResult<io::Result<(Outcome<'py>, bool)>> {
    this.event_loop.get().with("loop.run_forever()", |state| {
        this.with(|connection| {
            let Some(descriptor) = connection.socket.descriptor() else {
                return Ok(Err(closed_descriptor()));
            };
            let capacity = state.read_buffer.len();
            Ok(match socket::receive(descriptor, &mut state.read_buffer) {
                Ok(0) => Ok((Outcome::End, false)),
                Ok(count) => {
                    state.turn.statistics.bytes_received += count as u64;
                    connection.stream.received(count, capacity);
                    // Allocating bytes runs no Python code.
                    let data = PyBytes::new(py, &state.read_buffer[..count]);
                    Ok((Outcome::Data(data), count == capacity))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.stream.drained();
                    Ok((Outcome::Blocked, false))
                }
                Err(error) => Err(error),
            })
        })
    })?
}

/// Reads into the protocol's own buffer. Nothing when that failed, which has been told.
fn read_into_protocol<'py>(
    this: &Transport,
    transport: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
) -> PyResult<Option<(Outcome<'py>, bool)>> {
    let py = transport.py();
    let any_size = (-1).into_bound_py_any(py)?;
    let lent = call::method_with(protocol, intern!(py, "get_buffer"), &any_size).and_then(|buffer| {
        let buffer = PyBuffer::<u8>::get(&buffer)?;
        if buffer.item_count() == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyRuntimeError::new_err("get_buffer() returned a buffer that cannot be written to"));
        }
        Ok(buffer)
    });
    let buffer = match lent {
        Ok(buffer) => buffer,
        Err(error) => {
            lifecycle::protocol_failed(transport, error, "get_buffer")?;
            return Ok(None);
        }
    };
    let capacity = buffer.item_count();
    let received = this.with(|connection| {
        let descriptor = connection.socket.descriptor().ok_or_else(closed_descriptor)?;
        // SAFETY: a writable, contiguous buffer of this many bytes, which the export keeps in place. The protocol has lent it for
        // this read; other threads that write to it meanwhile break the protocol's contract, as with `socket.recv_into`.
        let memory = unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<u8>(), capacity) };
        let received = socket::receive(descriptor, memory);
        match &received {
            Ok(count) if *count > 0 => connection.stream.received(*count, capacity),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.stream.drained(),
            _ => {}
        }
        received
    });
    drop(buffer);
    match received {
        Ok(0) => Ok(Some((Outcome::End, false))),
        Ok(count) => {
            this.event_loop.get().with("loop.run_forever()", |state| {
                state.turn.statistics.bytes_received += count as u64;
            })?;
            Ok(Some((Outcome::Buffered(count), count == capacity)))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some((Outcome::Blocked, false))),
        Err(error) => {
            lifecycle::fail(transport, os_error(error), "Fatal read error on socket transport")?;
            Ok(None)
        }
    }
}

/// Whether the socket is closed.
pub fn is_closed(connection: &Connection) -> bool {
    matches!(connection.socket, Socket::Closed(..))
}
