//! The handshake, driven by the `ssl.SSLObject` itself.

use super::{Phase, Step, Tls, Told, body, closing, fail, reading};
use crate::transport::common;
use crate::{call, transport};
use pyo3::exceptions::PyConnectionAbortedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The exceptions of the module `ssl` that say something about what to do next.
struct Errors {
    want_read: Py<PyType>,
    system_call: Py<PyType>,
    certificate: Py<PyType>,
}

fn errors(py: Python<'_>) -> PyResult<&Errors> {
    static ERRORS: PyOnceLock<Errors> = PyOnceLock::new();
    ERRORS.get_or_try_init(py, || {
        let module = py.import("ssl")?;
        let class =
            |name| -> PyResult<Py<PyType>> { Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind()) };
        Ok(Errors {
            want_read: class("SSLWantReadError")?,
            system_call: class("SSLSyscallError")?,
            certificate: class("CertificateError")?,
        })
    })
}

/// Whether an exception of an `ssl.SSLObject` only says that it waits for the peer.
pub fn is_waiting(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let errors = errors(py)?;
    Ok(error.is_instance(py, errors.want_read.bind(py)) || error.is_instance(py, errors.system_call.bind(py)))
}

/// Begins: the client speaks first.
pub fn begin(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    if this.phase() != Phase::Waiting {
        return Ok(());
    }
    log(transport, "%r starts SSL handshake")?;
    this.with(|layer| layer.phase = Phase::Handshake);
    closing::start_timer(transport, this.handshake_seconds, Step::HandshakeTimeout)?;
    let has_input = this.with_session(py, |layer| layer.session.unread() > 0);
    if this.server_side && !has_input { Ok(()) } else { drive(transport) }
}

/// Goes on with the handshake, as far as the input goes.
pub fn drive(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    match this.ssl_object.call_method0(py, intern!(py, "do_handshake")) {
        Ok(_) => complete(transport),
        Err(error) if call::ends_the_run(py, &error) => {
            closing::later(transport, Step::Resume)?;
            Err(error)
        }
        Err(error) => {
            if let Some(lower) = this.lower(py) {
                transport::send_queue(&lower)?;
            }
            if is_waiting(py, &error)? { Ok(()) } else { fail_handshake(transport, error) }
        }
    }
}

fn complete(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    closing::cancel_timer(this);
    let (still, first) = this.with(|layer| {
        layer.session.forget_input();
        let still = layer.phase == Phase::Handshake;
        let first = layer.told == Told::Nothing;
        if still {
            layer.phase = Phase::Open;
            if first {
                layer.told = Told::ConnectionMade;
            }
        }
        (still, first)
    });
    if !still {
        return Ok(());
    }
    log(transport, "%r: SSL handshake complete")?;
    // The end of the handshake goes out together with what the protocol writes at once.
    super::writing::request_flush(transport)?;
    if first
        && let Some(protocol) = this.protocol(py)
        && let Err(error) = call::method_with(&protocol, intern!(py, "connection_made"), transport)
    {
        return fail(transport, error, "Fatal error: protocol.connection_made() call failed.");
    }
    wake(this, py, None)?;
    if this.with_session(py, |layer| layer.session.has_pending()) {
        return reading::read(transport, 0);
    }
    Ok(())
}

/// Ends the connection, which has never become one.
pub fn fail_handshake(transport: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    closing::cancel_timer(this);
    this.with(|layer| {
        layer.closing = true;
        layer.phase = Phase::Closed;
    });
    let value = error.clone_ref(py).into_value(py).into_bound(py).into_any();
    let message = if error.is_instance(py, errors(py)?.certificate.bind(py)) {
        "SSL handshake failed on verifying the certificate"
    } else {
        "SSL handshake failed"
    };
    fail(transport, error, message)?;
    wake(this, py, Some(&value))
}

/// The peer has not ended the handshake in time.
pub fn timed_out(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let seconds = body(transport.as_borrowed()).handshake_seconds;
    let text = format!("SSL handshake is taking longer than {seconds:?} seconds: aborting the connection");
    fail(transport, PyConnectionAbortedError::new_err(text), "Fatal error on transport")
}

/// Ends the wait of whoever waits for the handshake.
pub fn wake(this: &Tls, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    common::resolve(py, this.with(|layer| layer.waiter.take()), error)
}

/// In debug mode, tells asyncio's logger.
fn log(transport: &Bound<'_, PyAny>, message: &str) -> PyResult<()> {
    let py = transport.py();
    if !body(transport.as_borrowed()).event_loop.get().in_debug_mode() {
        return Ok(());
    }
    let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
    logger.call_method1(intern!(py, "debug"), (message, transport)).map(drop)
}
