//! What the program calls on a TLS transport.

use super::{DEFAULT_LIMITS, Limits, Phase, Step, TYPE, Tls, body, closing, extra_info, writing};
use crate::event_loop::State;
use crate::heap_type::HeapType;
use crate::method::{Arguments, Storage, fast_method};
use crate::thread_bound::Claim;
use crate::transport::common::{
    self, DROPPED_WRITES_BEFORE_WARNING, This, bind, claim, exact_bytes, getter, none, property,
    warn_dropped, water_marks,
};
use crate::transport::{self, Delivery};
use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyType;
use pyo3::{Borrowed, IntoPyObjectExt, intern};

/// The class, made on first use.
pub fn tls_type(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let class = TYPE.get_or_try_init(py, || {
        common::warnings_warn(py)?;
        let base = py.import("asyncio.transports")?.getattr("Transport")?.cast_into::<PyType>()?;
        let methods = vec![
            fast_method!(c"write", write, c"write($self, /, data)\n--\n\nSends bytes, together with what else is written in this round."),
            fast_method!(c"writelines", write_lines, c"writelines($self, /, list_of_data)\n--\n\nSends several pieces of bytes."),
            fast_method!(c"write_eof", write_eof, c"write_eof($self, /)\n--\n\nNot possible with TLS."),
            fast_method!(c"can_write_eof", can_write_eof, c"can_write_eof($self, /)\n--\n\nFalse: asyncio ends both directions of TLS together."),
            fast_method!(c"close", close, c"close($self, /)\n--\n\nEnds the connection when what is queued has been sent."),
            fast_method!(c"abort", abort, c"abort($self, /)\n--\n\nEnds the connection at once; what is queued is dropped."),
            fast_method!(c"_force_close", force_close, c"_force_close($self, /, error)\n--\n\nEnds the connection at once, because of an error or None."),
            fast_method!(c"is_closing", is_closing, c"is_closing($self, /)\n--\n\nWhether the transport is closing or closed."),
            fast_method!(c"is_reading", is_reading, c"is_reading($self, /)\n--\n\nWhether the protocol receives data."),
            fast_method!(c"pause_reading", pause_reading, c"pause_reading($self, /)\n--\n\nStops calling data_received()."),
            fast_method!(c"resume_reading", resume_reading, c"resume_reading($self, /)\n--\n\nGoes on calling data_received()."),
            fast_method!(c"set_protocol", set_protocol, c"set_protocol($self, /, protocol)\n--\n\nGives the connection to another protocol."),
            fast_method!(c"get_protocol", get_protocol, c"get_protocol($self, /)\n--\n\nThe protocol; None when the connection is lost."),
            fast_method!(c"get_extra_info", get_extra_info, c"get_extra_info($self, /, name, default=None)\n--\n\n'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression', and what a socket's transport knows."),
            fast_method!(c"get_write_buffer_size", get_write_buffer_size, c"get_write_buffer_size($self, /)\n--\n\nBytes that wait to be sent."),
            fast_method!(c"get_write_buffer_limits", get_write_buffer_limits, c"get_write_buffer_limits($self, /)\n--\n\nThe low and the high water mark, in bytes."),
            fast_method!(c"set_write_buffer_limits", set_write_buffer_limits, c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSets the water marks, in bytes."),
            fast_method!(c"get_read_buffer_size", get_read_buffer_size, c"get_read_buffer_size($self, /)\n--\n\nBytes received that were not read yet."),
            fast_method!(c"get_read_buffer_limits", get_read_buffer_limits, c"get_read_buffer_limits($self, /)\n--\n\nThe low and the high water mark, in bytes."),
            fast_method!(c"set_read_buffer_limits", set_read_buffer_limits, c"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\nSets the marks. A paused transport stops receiving at once, below any mark."),
        ];
        let properties = vec![
            property(c"_loop", event_loop),
            property(c"_protocol_paused", protocol_paused),
            property(c"_sendfile_compatible", sendfile_compatible),
            property(c"_start_tls_compatible", start_tls_compatible),
        ];
        HeapType::new(
            py,
            c"motet._motet.SSLTransport",
            c"A stream transport with TLS over a socket's transport. Not thread-safe.",
            &[base.into_any()],
            methods,
            properties,
        )
    })?;
    Ok(class.class(py).clone())
}

getter!(event_loop, |this: This<'_, '_>| Ok(body(this).event_loop.clone_ref(this.py()).into_any()));
getter!(protocol_paused, |this: This<'_, '_>| {
    let (tls, _claim) = claimed(this, "transport._protocol_paused")?;
    tls.with(|layer| layer.writing_paused).into_py_any(this.py())
});
getter!(start_tls_compatible, |this: This<'_, '_>| true.into_py_any(this.py()));
// The kernel cannot send a file here: it is read and written.
getter!(sendfile_compatible, |this: This<'_, '_>| {
    let modes = this.py().import(intern!(this.py(), "asyncio.constants"))?.getattr("_SendfileMode")?;
    Ok(modes.getattr("FALLBACK")?.unbind())
});

/// The Rust part, with the loop claimed for the call.
#[inline]
fn claimed<'a>(this: This<'a, '_>, what: &str) -> PyResult<(&'a Tls, Claim<'a, State>)> {
    let tls = body(this);
    Ok((tls, claim(&tls.event_loop, what)?))
}

/// As `exact_bytes`, with asyncio's words for anything else.
fn bytes_of(data: Borrowed<'_, '_, PyAny>) -> PyResult<PyBackedBytes> {
    match exact_bytes(data) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if error.is_instance_of::<PyTypeError>(data.py()) => {
            let name = data.get_type().name()?;
            Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {name}")))
        }
        Err(error) => Err(error),
    }
}

fn write(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("write", &["data"], &mut storage)?;
    let data = bytes_of(arguments.get(0))?;
    write_all(this, "transport.write()", Some(data).filter(|data| !data.is_empty()))
}

fn write_lines(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("writelines", &["list_of_data"], &mut storage)?;
    let mut pieces = Vec::new();
    for piece in arguments.get(0).try_iter()? {
        pieces.push(bytes_of(piece?.as_borrowed())?);
    }
    pieces.retain(|piece| !piece.is_empty());
    write_all(this, "transport.writelines()", pieces)
}

fn write_all(
    this: This<'_, '_>,
    what: &str,
    pieces: impl IntoIterator<Item = PyBackedBytes>,
) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, what)?;
    let mut pieces = pieces.into_iter().peekable();
    if pieces.peek().is_none() {
        return none(this);
    }
    let dropped = tls.with(|layer| {
        let dropped = (layer.phase >= Phase::Flushing).then_some(layer.dropped_writes);
        layer.dropped_writes += u32::from(dropped.is_some_and(|count| count < u32::MAX));
        dropped
    });
    match dropped {
        None => writing::write(&this, pieces)?,
        Some(earlier) if earlier >= DROPPED_WRITES_BEFORE_WARNING => {
            warn_dropped(this.py(), "SSL connection is closed")?;
        }
        Some(_) => {}
    }
    none(this)
}

fn write_eof(_: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    Err(PyNotImplementedError::new_err(()))
}

fn can_write_eof(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    false.into_py_any(this.py())
}

fn close(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.close()")?;
    if tls.with(|layer| layer.phase < Phase::Shutdown && !layer.closing) {
        tls.event_loop.get().require_open()?;
        closing::start(&this)?;
    }
    none(this)
}

fn abort(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    end_at_once(this, None)
}

fn force_close(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("_force_close", &["error"], &mut storage)?;
    let error = arguments.get(0).to_owned();
    end_at_once(this, (!error.is_none()).then(|| error.unbind()))
}

fn end_at_once(this: This<'_, '_>, error: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.abort()")?;
    if tls.phase() != Phase::Closed {
        tls.event_loop.get().require_open()?;
        closing::abort(&this, error)?;
    }
    none(this)
}

fn is_closing(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let (tls, _claim) = claimed(this, "transport.is_closing()")?;
    let closing =
        tls.with(|layer| layer.closing) || tls.lower(py).is_some_and(|lower| transport::is_closing(&lower));
    closing.into_py_any(py)
}

fn is_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.is_reading()")?;
    tls.with(|layer| !layer.reading_paused).into_py_any(this.py())
}

fn pause_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.pause_reading()")?;
    let phase = tls.with(|layer| {
        layer.reading_paused = true;
        layer.phase
    });
    // A handshake or a shutdown goes on.
    if phase == Phase::Open
        && let Some(lower) = tls.lower(this.py())
    {
        transport::pause_reading(&lower);
    }
    none(this)
}

fn resume_reading(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let (tls, _claim) = claimed(this, "transport.resume_reading()")?;
    let left = tls.with_session(py, |layer| {
        let was_paused = std::mem::replace(&mut layer.reading_paused, false);
        was_paused.then(|| layer.phase == Phase::Flushing || layer.session.has_pending())
    });
    let Some(left) = left else { return none(this) };
    if left {
        closing::later(&this, Step::Resume)?;
    }
    if let Some(lower) = tls.lower(py) {
        transport::resume_reading(&lower)?;
    }
    none(this)
}

fn set_protocol(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("set_protocol", &["protocol"], &mut storage)?;
    let protocol = arguments.get(0);
    let delivery = Delivery::of(&protocol)?;
    let protocol = protocol.to_owned().unbind();
    let (tls, _claim) = claimed(this, "transport.set_protocol()")?;
    let old = tls.with(|layer| {
        layer.delivery = delivery;
        layer.protocol.replace(protocol)
    });
    drop(old);
    none(this)
}

fn get_protocol(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.get_protocol()")?;
    tls.protocol(this.py()).into_py_any(this.py())
}

fn get_extra_info(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let mut storage = Storage::default();
    let arguments = arguments.complete("get_extra_info", &["name"], &mut storage)?;
    let [name, default] = bind("get_extra_info", ["name", "default"], &arguments)?;
    let (tls, _claim) = claimed(this, "transport.get_extra_info()")?;
    let name = name.map_or_else(|| py.None().into_bound(py), |name| name.to_owned());
    if let Some(found) = extra_info::find(tls, &name)? {
        return Ok(found.unbind());
    }
    let default = default.map_or_else(|| py.None().into_bound(py), |default| default.to_owned());
    match tls.lower(py) {
        Some(lower) => Ok(lower.call_method1(intern!(py, "get_extra_info"), (name, default))?.unbind()),
        None => Ok(default.unbind()),
    }
}

fn get_write_buffer_size(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (_, _claim) = claimed(this, "transport.get_write_buffer_size()")?;
    writing::waiting(&this).into_py_any(this.py())
}

fn get_write_buffer_limits(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.get_write_buffer_limits()")?;
    tls.with(|layer| layer.limits().write).into_py_any(this.py())
}

fn set_write_buffer_limits(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limits = water_marks("set_write_buffer_limits", &arguments, DEFAULT_LIMITS.write.1)?;
    let (tls, _claim) = claimed(this, "transport.set_write_buffer_limits()")?;
    tls.with(|layer| layer.limits = Some(Box::new(Limits { write: limits, ..layer.limits() })));
    writing::check_limits(&this)?;
    none(this)
}

fn get_read_buffer_size(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.get_read_buffer_size()")?;
    tls.with(|layer| layer.session.unread()).into_py_any(this.py())
}

fn get_read_buffer_limits(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "transport.get_read_buffer_limits()")?;
    tls.with(|layer| layer.limits().read).into_py_any(this.py())
}

fn set_read_buffer_limits(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limits = water_marks("set_read_buffer_limits", &arguments, DEFAULT_LIMITS.read.1)?;
    let (tls, _claim) = claimed(this, "transport.set_read_buffer_limits()")?;
    tls.with(|layer| layer.limits = Some(Box::new(Limits { read: limits, ..layer.limits() })));
    none(this)
}

/// What `repr(transport)` returns.
pub fn describe(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let (tls, _claim) = claimed(this, "repr(transport)")?;
    let phase = match tls.phase() {
        Phase::Waiting | Phase::Handshake => "handshake",
        Phase::Open => "open",
        Phase::Flushing | Phase::Shutdown => "closing",
        Phase::Closed => "closed",
    };
    let side = if tls.server_side { "server" } else { "client" };
    let lower = match tls.lower(this.py()) {
        Some(lower) => lower.repr()?.to_string(),
        None => "no transport".to_owned(),
    };
    format!("<SSLTransport {phase} {side} over {lower}>").into_py_any(this.py())
}
