//! What the program calls on a transport.

use super::common::{
    self, DEFAULT_HIGH_WATER, DROPPED_WRITES_BEFORE_WARNING, This, bind, claim, exact_bytes, found_or,
    getter, none, property, warn_dropped, water_marks,
};
use super::delivery::Delivery;
use super::{Connection, Piece, TYPE, Transport, apply, body, extra_info, input_output, lifecycle, sendfile};
use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::State;
use crate::heap_type::HeapType;
use crate::method::{Arguments, Storage, fast_method};
use crate::thread_bound::Claim;
use motet_reactor::stream::{Admission, WriteAfterEof};
use motet_reactor::sys::socket;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyType;
use std::io;

/// The class, made on first use.
pub fn transport_type(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let class = TYPE.get_or_try_init(py, || {
        common::warnings_warn(py)?;
        let base = py.import("asyncio.transports")?.getattr("Transport")?;
        let methods = vec![
            fast_method!(c"write", write, c"write($self, /, data)\n--\n\nSends bytes; what does not fit is queued."),
            fast_method!(c"writelines", write_lines, c"writelines($self, /, list_of_data)\n--\n\nSends several pieces of bytes together."),
            fast_method!(c"write_eof", write_eof, c"write_eof($self, /)\n--\n\nEnds the output when what is queued has been sent."),
            fast_method!(c"can_write_eof", can_write_eof, c"can_write_eof($self, /)\n--\n\nTrue: sockets have two directions."),
            fast_method!(c"close", close, c"close($self, /)\n--\n\nEnds the connection when what is queued has been sent."),
            fast_method!(c"abort", abort, c"abort($self, /)\n--\n\nEnds the connection at once; what is queued is dropped."),
            fast_method!(c"_force_close", force_close, c"_force_close($self, /, error)\n--\n\nEnds the connection at once, because of an error or None."),
            fast_method!(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\nWhether the transport is closing or closed."),
            fast_method!(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\nWhether the protocol receives data."),
            fast_method!(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\nStops calling data_received()."),
            fast_method!(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\nGoes on calling data_received()."),
            fast_method!(c"set_protocol", set_protocol, c"set_protocol($self, /, protocol)\n--\n\nGives the connection to another protocol."),
            fast_method!(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\nThe protocol; None when the connection is lost."),
            fast_method!(c"get_extra_info", get_extra_info, c"get_extra_info($self, /, name, default=None)\n--\n\n'socket', 'sockname', 'peername'."),
            fast_method!(c"get_write_buffer_size", get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nBytes that wait to be sent."),
            fast_method!(c"get_write_buffer_limits", get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe low and the high water mark, in bytes."),
            fast_method!(c"_begin_sendfile", sendfile::begin, c"_begin_sendfile($self, /)\n--\n\nTakes the output for a file."),
            fast_method!(c"_send_file", sendfile::send, c"_send_file($self, /, descriptor, offset, size)\n--\n\nSends a part of a file, or returns a future of there being room."),
            fast_method!(c"_end_sendfile", sendfile::end, c"_end_sendfile($self, /)\n--\n\nGives the output back."),
            fast_method!(c"set_write_buffer_limits", set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSets the water marks, in bytes."),
        ];
        let properties = vec![
            property(c"_extra", extra),
            property(c"_loop", event_loop),
            property(c"_protocol", protocol),
            property(c"_start_tls_compatible", start_tls_compatible),
        ];
        let made = HeapType::new(
            py,
            c"motet._motet.SocketTransport",
            c"A stream transport over a TCP or Unix socket. Not thread-safe.",
            &[base],
            methods,
            properties,
        )?;
        let modes = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        made.class(py).setattr("_sendfile_compatible", modes.getattr("TRY_NATIVE")?)?;
        Ok::<_, PyErr>(made)
    })?;
    Ok(class.class(py).clone())
}

/// The Rust part, with the loop claimed for the call.
#[inline]
pub fn claimed<'a>(this: This<'a, '_>, what: &str) -> PyResult<(&'a Transport, Claim<'a, State>)> {
    let transport = body(this);
    Ok((transport, claim(&transport.event_loop, what)?))
}

getter!(extra, |this: This<'_, '_>| {
    let (transport, _claim) = claimed(this, "transport._extra")?;
    Ok(extra_info::all(transport, this.py())?.into_any().unbind())
});
getter!(event_loop, |this: This<'_, '_>| Ok(body(this).event_loop.clone_ref(this.py()).into_any()));
getter!(protocol, |this: This<'_, '_>| {
    let (transport, _claim) = claimed(this, "transport._protocol")?;
    transport.protocol(this.py()).into_py_any(this.py())
});
getter!(start_tls_compatible, |this: This<'_, '_>| true.into_py_any(this.py()));

/// `transport.write(data)`.
pub fn write(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("write", &["data"], &mut storage)?;
    let data = exact_bytes(arguments.get(0))?;
    let (transport, claim) = claimed(this, "transport.write()")?;
    // A socket that is gone is closed by this, which the send then finds.
    let _ = transport.require_socket(this.py())?;
    let running = transport.event_loop.get().is_in_run();
    let attempt = claim.with(|state| {
        transport.with(|connection| attempt_to_send(state, connection, data.as_bytes(), running))
    });
    match attempt.map_err(|refused| refused.explain("write"))? {
        Attempt::Sent => none(this),
        Attempt::Part(count) => {
            let actions =
                transport.with(|connection| connection.stream.enqueue(Piece::Bytes(data.into()), count));
            apply(&this, actions)?;
            none(this)
        }
        Attempt::Failed(error) => {
            lifecycle::fail(&this, os_error(error), "Fatal write error on socket transport")?;
            none(this)
        }
        Attempt::NotNow(admission) => send_or_queue(this, transport, [Piece::Bytes(data.into())], admission),
    }
}

/// What came of a `write`.
enum Attempt {
    Sent,
    /// So much was sent; the rest has to wait for the poller.
    Part(usize),
    Failed(io::Error),
    NotNow(Admission),
}

#[inline]
fn attempt_to_send(
    state: &mut State,
    connection: &mut Connection,
    data: &[u8],
    running: bool,
) -> Result<Attempt, NotAllowed> {
    let admission = admit(state, connection, data.len(), running)?;
    if admission != Admission::Send {
        return Ok(Attempt::NotNow(admission));
    }
    let Some(descriptor) = connection.socket.descriptor() else {
        return Ok(Attempt::Failed(closed_descriptor()));
    };
    let count = match socket::send(descriptor, data) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Ok(Attempt::Failed(error)),
    };
    state.turn.statistics.bytes_sent += count as u64;
    if count == data.len() {
        return Ok(Attempt::Sent);
    }
    connection.stream.blocked();
    Ok(Attempt::Part(count))
}

#[inline]
fn admit(
    state: &mut State,
    connection: &mut Connection,
    length: usize,
    running: bool,
) -> Result<Admission, NotAllowed> {
    if connection.sendfile.is_some() {
        return Err(NotAllowed::WhileSendfile);
    }
    let (round, stream) = (state.round(running), &mut connection.stream);
    let admission = if length == 0 { stream.admit_nothing() } else { stream.admit(length, round) };
    admission.map_err(|WriteAfterEof| NotAllowed::AfterEof)
}

/// Why the program must not write now.
enum NotAllowed {
    AfterEof,
    WhileSendfile,
}

impl NotAllowed {
    fn explain(self, method: &str) -> PyErr {
        match self {
            Self::AfterEof => PyRuntimeError::new_err(format!("Cannot call {method}() after write_eof()")),
            Self::WhileSendfile => sendfile::in_progress(),
        }
    }
}

/// Carries out an admission by way of the queue.
fn send_or_queue(
    this: This<'_, '_>,
    transport: &Transport,
    pieces: impl IntoIterator<Item = Piece>,
    admission: Admission,
) -> PyResult<Py<PyAny>> {
    match admission {
        Admission::Nothing => {}
        Admission::Refuse(earlier) if earlier < DROPPED_WRITES_BEFORE_WARNING => {}
        Admission::Refuse(_) => warn_dropped(this.py(), "socket.send() raised exception.")?,
        Admission::Send | Admission::SendQueue => {
            transport.with(|connection| connection.stream.enqueue_all(pieces));
            input_output::send_queue(transport, &this)?;
        }
        Admission::Enqueue => {
            transport.with(|connection| connection.stream.enqueue_all(pieces));
            request_flush(this, transport)?;
            let actions = transport.with(|connection| connection.stream.check_limits());
            apply(&this, actions)?;
        }
    }
    none(this)
}

/// Has the loop flush the transport at the end of the round.
fn request_flush(this: This<'_, '_>, transport: &Transport) -> PyResult<()> {
    if transport.with(|connection| connection.stream.wants_flush()) {
        let flushed = this.to_owned().unbind();
        transport.event_loop.get().with("transport.write()", |state| {
            state.flush.push(flushed);
            state.turn.request_flush();
        })?;
    }
    Ok(())
}

/// `transport.writelines(list_of_data)`.
pub fn write_lines(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("writelines", &["list_of_data"], &mut storage)?;
    let mut pieces: Vec<PyBackedBytes> = Vec::new();
    for piece in arguments.get(0).try_iter()? {
        let piece = exact_bytes(piece?.as_borrowed())?;
        if !piece.as_bytes().is_empty() {
            pieces.push(piece.into());
        }
    }
    let (transport, claim) = claimed(this, "transport.writelines()")?;
    let length = pieces.iter().map(|piece| piece.len()).sum();
    let running = transport.event_loop.get().is_in_run();
    let admission = claim
        .with(|state| transport.with(|connection| admit(state, connection, length, running)))
        .map_err(|refused| refused.explain("writelines"))?;
    send_or_queue(this, transport, pieces.into_iter().map(Piece::Bytes), admission)
}

fn write_eof(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.write_eof()")?;
    let actions = transport.with(|connection| connection.stream.write_eof());
    apply(&this, actions)?;
    none(this)
}

fn can_write_eof(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    true.into_py_any(this.py())
}

fn close(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.close()")?;
    // As asyncio: a transport whose loop is closed cannot tell its protocol anything.
    if !transport.with(|connection| connection.stream.is_closing()) {
        transport.event_loop.get().require_open()?;
        // What TLS has taken over from the program and not made into records yet.
        if transport.with(|connection| connection.delivery == Delivery::Tls) {
            input_output::send_queue(transport, &this)?;
        }
        lifecycle::close(&this)?;
    }
    none(this)
}

fn abort(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.abort()")?;
    if !transport.with(|connection| connection.stream.is_lost()) {
        transport.event_loop.get().require_open()?;
        lifecycle::abort(&this, None)?;
    }
    none(this)
}

fn force_close(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("_force_close", &["error"], &mut storage)?;
    let error = arguments.get(0).to_owned();
    let (transport, _claim) = claimed(this, "transport.abort()")?;
    if !transport.with(|connection| connection.stream.is_lost()) {
        transport.event_loop.get().require_open()?;
        lifecycle::abort(&this, (!error.is_none()).then(|| error.unbind()))?;
    }
    none(this)
}

fn is_closing(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    closes(this)?.into_py_any(this.py())
}

/// Whether a transport of motet's is closing or closed.
#[inline]
pub fn closes(this: This<'_, '_>) -> PyResult<bool> {
    let (transport, _claim) = claimed(this, "transport.is_closing()")?;
    Ok(transport.with(|connection| connection.stream.is_closing()))
}

/// Whether an object is a transport of motet's.
#[inline]
pub fn is_socket_transport(object: &Bound<'_, PyAny>) -> bool {
    let class = TYPE.get(object.py()).map(|class| class.class(object.py()).as_type_ptr());
    class == Some(object.get_type_ptr())
}

fn is_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.is_reading()")?;
    transport.with(|connection| connection.stream.is_reading()).into_py_any(this.py())
}

fn pause_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.pause_reading()")?;
    transport.with(|connection| connection.stream.pause_reading());
    none(this)
}

fn resume_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.resume_reading()")?;
    if let Some(actions) = transport.with(|connection| connection.stream.resume_reading()) {
        apply(&this, actions)?;
    }
    none(this)
}

fn set_protocol(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("set_protocol", &["protocol"], &mut storage)?;
    let protocol = arguments.get(0);
    let delivery = Delivery::of(&protocol)?;
    let (transport, _claim) = claimed(this, "transport.set_protocol()")?;
    if delivery == Delivery::Tls {
        crate::tls::attach(&protocol, transport.event_loop.bind(this.py()), &this)?;
    }
    let protocol = protocol.to_owned().unbind();
    let old = transport.with(|connection| {
        connection.delivery = delivery;
        connection.protocol.replace(protocol)
    });
    drop(old);
    none(this)
}

fn get_protocol(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_protocol()")?;
    transport.protocol(this.py()).into_py_any(this.py())
}

fn get_extra_info(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let mut storage = Storage::default();
    let arguments = arguments.complete("get_extra_info", &["name"], &mut storage)?;
    let [name, default] = bind("get_extra_info", ["name", "default"], &arguments)?;
    let (transport, _claim) = claimed(this, "transport.get_extra_info()")?;
    let found = name.map_or(Ok(None), |name| extra_info::find(transport, name))?;
    Ok(found_or(py, found, default))
}

fn get_write_buffer_size(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_write_buffer_size()")?;
    transport.with(|connection| connection.stream.queued_bytes()).into_py_any(this.py())
}

fn get_write_buffer_limits(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "transport.get_write_buffer_limits()")?;
    transport.with(|connection| connection.stream.limits()).into_py_any(this.py())
}

fn set_write_buffer_limits(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (low, high) = water_marks("set_write_buffer_limits", &arguments, DEFAULT_HIGH_WATER)?;
    let (transport, _claim) = claimed(this, "transport.set_write_buffer_limits()")?;
    let actions = transport.with(|connection| connection.stream.set_limits(low, high));
    apply(&this, actions)?;
    none(this)
}

/// What `repr(transport)` returns.
pub fn describe(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let (transport, _claim) = claimed(this, "repr(transport)")?;
    transport
        .with(|connection| {
            let stream = &connection.stream;
            let state = if input_output::is_closed(connection) {
                " closed"
            } else if stream.is_closing() {
                " closing"
            } else {
                ""
            };
            let reading = if connection.token.is_some() && stream.is_reading() { "polling" } else { "idle" };
            let writing = if stream.is_blocked() { "polling" } else { "idle" };
            format!(
                "<SocketTransport{state} fd={} read={reading} write=<{writing}, bufsize={}>>",
                connection.socket.number(),
                stream.queued_bytes()
            )
        })
        .into_py_any(this.py())
}
