//! From ciphertext to the protocol.

use super::{Phase, Step, Tls, Told, body, closing, fail, writing};
use crate::transport::{Delivery, feed_reader};
use crate::{bulk, call, transport};
use motet_tls::{Failed, Read, Session};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{IntoPyObjectExt, intern};
use std::mem::MaybeUninit;

/// Input from which on plaintext is read into the `bytes` itself: to shrink these costs less than to copy so much.
const LARGE: usize = 32 * 1024;

/// Why reading has stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There is no more input.
    Blocked,
    /// There is no more room; the protocol gets what there is, then more.
    Full,
    /// The peer has ended its side, as TLS wants it.
    Closed,
    /// OpenSSL has refused.
    Failed,
}

/// Keeps `count` bytes of the loop's read buffer for later.
pub fn keep(this: &Tls, count: usize) -> PyResult<()> {
    this.event_loop.get().with("loop.run_forever()", |state| {
        this.with(|layer| layer.session.append_input(&state.read_buffer[..count]));
    })
}

/// As [`keep`], of a protocol that wants nothing now. The socket's transport is to receive no more either, or what a peer sends
/// while the connection closes would pile up here.
fn keep_back(transport: &Bound<'_, PyAny>, count: usize) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if this.with(|layer| layer.reading_paused)
        && let Some(lower) = this.lower(transport.py())
    {
        transport::pause_reading(&lower);
    }
    keep(this, count)
}

/// Reads what there is, and `count` bytes in the loop's read buffer behind it; the protocol gets it.
pub fn read(transport: &Bound<'_, PyAny>, count: usize) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let mut count = count;
    let (stop, error) = loop {
        let next = this.with(|layer| {
            let wanted = matches!(layer.phase, Phase::Open | Phase::Flushing) && !layer.reading_paused;
            let protocol = layer.protocol.as_ref().filter(|_| wanted)?;
            Some((protocol.bind(py).clone(), layer.delivery))
        });
        let Some((protocol, delivery)) = next else {
            return if count > 0 { keep_back(transport, count) } else { Ok(()) };
        };
        let result = if delivery == Delivery::Buffer {
            if count > 0 {
                // The protocol lends its buffer first, and may use the loop's meanwhile.
                keep(this, count)?;
            }
            read_into_protocol(this, &protocol)
        } else {
            read_bytes(this, &protocol, delivery, count)
        };
        count = 0;
        match result {
            Ok((Stop::Full, _)) => {}
            Ok(ended) => break ended,
            Err(error) if call::ends_the_run(py, &error) => {
                closing::later(transport, Step::Resume)?;
                return Err(error);
            }
            Err(error) => return fail(transport, error, "Fatal error on SSL protocol"),
        }
    };
    if let Some(error) = error {
        if let Some(lower) = this.lower(py) {
            transport::send_queue(&lower)?;
        }
        return fail(transport, error, "Fatal error on SSL protocol");
    }
    if stop == Stop::Closed {
        tell_end(transport)?;
        closing::start(transport)?;
    }
    // The answer to a new key, or what waited for a handshake within the connection.
    writing::request_flush_if_needed(transport)
}

/// Reads into exact `bytes`, all that there is at once.
fn read_bytes(
    this: &Tls,
    protocol: &Bound<'_, PyAny>,
    delivery: Delivery,
    count: usize,
) -> PyResult<(Stop, Option<PyErr>)> {
    let py = protocol.py();
    let (data, stop) = this.event_loop.get().with("loop.run_forever()", |state| {
        let buffers = state.tls_buffers();
        this.with_session(py, |layer| {
            if count > 0 {
                layer.session.lend_input(buffers.received, count);
            }
            // Allocating bytes runs no Python code.
            let result = if count >= LARGE {
                bulk::fill(py, count, |memory| read_all(&mut layer.session, memory))
            } else {
                let (filled, stop) = read_all(&mut layer.session, buffers.plaintext);
                // SAFETY: `read_all` has written these bytes.
                let plaintext = unsafe { buffers.plaintext[..filled].assume_init_ref() };
                Ok((PyBytes::new(py, plaintext), stop))
            };
            layer.session.return_input(buffers.received);
            result
        })
    })??;
    let error = failure(this, py, stop)?;
    if !data.as_bytes().is_empty() {
        match delivery {
            Delivery::Reader => feed_reader(protocol, &data)?,
            _ => {
                call::method_with(protocol, intern!(py, "data_received"), data.as_any())?;
            }
        }
    }
    Ok((stop, error))
}

/// Reads until there is no more, or no more room. Returns how much that was.
fn read_all(session: &mut Session, memory: &mut [MaybeUninit<u8>]) -> (usize, Stop) {
    let mut filled = 0;
    loop {
        match session.read(&mut memory[filled..]) {
            Ok(Read::Bytes(more)) => filled += more,
            Ok(Read::Blocked) => return (filled, Stop::Blocked),
            Ok(Read::Closed) => return (filled, Stop::Closed),
            Err(Failed) => return (filled, Stop::Failed),
        }
        if filled == memory.len() {
            return (filled, Stop::Full);
        }
        if !session.has_pending() {
            return (filled, Stop::Blocked);
        }
    }
}

/// Reads into the protocol's own buffer.
fn read_into_protocol(this: &Tls, protocol: &Bound<'_, PyAny>) -> PyResult<(Stop, Option<PyErr>)> {
    let py = protocol.py();
    let hint = this.with(|layer| layer.session.unread()).into_bound_py_any(py)?;
    let buffer = call::method_with(protocol, intern!(py, "get_buffer"), &hint)?;
    let buffer = PyBuffer::<u8>::get(&buffer)?;
    let capacity = buffer.item_count();
    if capacity == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(PyRuntimeError::new_err("get_buffer() returned a buffer that cannot be written to"));
    }
    // SAFETY: a writable, contiguous buffer of this many bytes, which the export keeps in place. The protocol has lent it for this
    // read; other threads that write to it meanwhile break the protocol's contract, as with `socket.recv_into`.
    let memory =
        unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<MaybeUninit<u8>>(), capacity) };
    let (filled, stop) = this.with_session(py, |layer| read_all(&mut layer.session, memory));
    let error = failure(this, py, stop)?;
    drop(buffer);
    if filled > 0 {
        call::method_with(protocol, intern!(py, "buffer_updated"), &filled.into_bound_py_any(py)?)?;
    }
    Ok((stop, error))
}

/// The exception of a read that has failed: the object's own, from the error that is still in the thread's queue. It is asked to
/// read once more, which fails at once in the state that the object is in now. To be called before any code of the program's,
/// which may use other connections of this thread.
fn failure(this: &Tls, py: Python<'_>, stop: Stop) -> PyResult<Option<PyErr>> {
    if stop != Stop::Failed {
        return Ok(None);
    }
    match this.ssl_object.call_method1(py, intern!(py, "read"), (1,)) {
        Err(error) => Ok(Some(error)),
        Ok(_) => {
            Err(PyRuntimeError::new_err("OpenSSL has refused to read, and then has not; please report it"))
        }
    }
}

/// Tells the protocol, once, that the peer sends no more.
pub fn tell_end(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let protocol = this.with(|layer| {
        if layer.told != Told::ConnectionMade {
            return None;
        }
        layer.told = Told::EndOfInput;
        layer.protocol.as_ref().map(|protocol| protocol.bind(py).clone())
    });
    let Some(protocol) = protocol else { return Ok(()) };
    match call::method(&protocol, intern!(py, "eof_received")).and_then(|keep_open| keep_open.is_truthy()) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
            let text = "returning true from eof_received() has no effect when using ssl";
            logger.call_method1(intern!(py, "warning"), (text,)).map(drop)
        }
        Err(error) => fail(transport, error, "Error calling eof_received()"),
    }
}
