//! How a connection ends: what was written is sent, then the peers tell each other the end, then the socket is closed.

use super::{Phase, Step, Tls, body, fail, handshake, reading, writing};
use crate::call;
use crate::task::Task;
use crate::transport::{self, Deferred, common};
use motet_reactor::clock::{Clock, MonotonicClock};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::{Borrowed, intern};

/// Ends the connection in good order; one that has not become one yet, at once.
pub fn start(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let (phase, closing) = this.with(|layer| {
        let phase = layer.phase;
        if phase == Phase::Open {
            layer.phase = Phase::Flushing;
        }
        (phase, std::mem::replace(&mut layer.closing, true))
    });
    match phase {
        Phase::Waiting | Phase::Handshake => abort(transport, None),
        Phase::Open => {
            start_timer(transport, this.shutdown_seconds, Step::ShutdownTimeout)?;
            flush(transport)
        }
        // It flushes because of its peer so far, which may take its time for that; from now on it may not.
        Phase::Flushing if !closing => start_timer(transport, this.shutdown_seconds, Step::ShutdownTimeout),
        _ => Ok(()),
    }
}

/// Ends the connection at once.
pub fn abort(transport: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    this.with(|layer| {
        layer.closing = true;
        layer.phase = Phase::Closed;
    });
    cancel_timer(this);
    match this.lower(transport.py()) {
        Some(lower) => transport::force_close(&lower, error),
        None => Ok(()),
    }
}

/// Gives the protocol what it has left unread, and sends what is queued; [`flushed`] goes on from there.
pub fn flush(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let (left, paused, by_peer) = this
        .with_session(py, |layer| (layer.session.has_pending(), layer.reading_paused, layer.end_of_input));
    if left && paused && by_peer {
        return Ok(());
    }
    if left && !paused {
        reading::read(transport, 0)?;
    }
    match this.lower(py) {
        Some(lower) if this.phase() == Phase::Flushing => {
            if !transport::has_to_wait(&lower) && writing::encrypt_rest(transport)? {
                return flushed(transport);
            }
            transport::send_queue(&lower)
        }
        _ => Ok(()),
    }
}

/// All is sent, or goes out together with the end: the peers tell each other the end.
pub fn flushed(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    body(transport.as_borrowed()).with(|layer| layer.phase = Phase::Shutdown);
    drive(transport)
}

/// Goes on with telling each other the end. A peer that has closed the connection below TLS hears nothing any more.
pub fn drive(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let Some(lower) = this.lower(py) else { return Ok(()) };
    if !this.with(|layer| layer.end_of_input) {
        let forget_errors = || this.with(|layer| layer.session.forget_errors());
        forget_errors();
        let unwrapped = this.ssl_object.call_method0(py, intern!(py, "unwrap"));
        // A fatal alert of the peer's counts as its end there; its error stays in the queue.
        forget_errors();
        match unwrapped {
            Ok(_) => {}
            Err(error) if call::ends_the_run(py, &error) => {
                later(transport, Step::Resume)?;
                return Err(error);
            }
            Err(error) => {
                transport::send_queue(&lower)?;
                if handshake::is_waiting(py, &error)? {
                    // The peer's end has to be heard, whatever the protocol wants to hear.
                    return transport::resume_reading(&lower);
                }
                cancel_timer(this);
                return fail(transport, error, "Fatal error on transport");
            }
        }
    }
    transport::send_queue(&lower)?;
    reading::tell_end(transport)?;
    cancel_timer(this);
    this.with(|layer| layer.closing = true);
    transport::close(&lower)
}

/// The peer has not ended the connection in time.
pub fn timed_out(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let Some(lower) = body(transport.as_borrowed()).lower(py) else { return Ok(()) };
    let error = PyTimeoutError::new_err("SSL shutdown timed out");
    transport::force_close(&lower, Some(error.into_value(py).into_any()))
}

/// Has `step` run in a later round.
pub fn later(transport: &Bound<'_, PyAny>, step: Step) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    match this.lower(transport.py()) {
        Some(lower) => this.event_loop.get().push(Task::Transport(lower.unbind(), Deferred::Tls(step))),
        None => Ok(()),
    }
}

/// Has `step` run after so many seconds, in place of what was to run before.
pub fn start_timer(transport: &Bound<'_, PyAny>, seconds: f32, step: Step) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    cancel_timer(this);
    let Some(lower) = this.lower(transport.py()) else { return Ok(()) };
    let deadline = MonotonicClock.now().saturating_add((f64::from(seconds) * 1e9) as u64);
    let mut task = Some(Task::Transport(lower.unbind(), Deferred::Tls(step)));
    let key = this.event_loop.get().with("transport.close()", |state| {
        state.turn.schedule(deadline, task.take().expect("the closure runs once"))
    })?;
    this.with(|layer| layer.timer = Some(key));
    Ok(())
}

pub fn cancel_timer(this: &Tls) {
    if let Some(key) = this.with(|layer| layer.timer.take()) {
        this.event_loop.get().cancel_timer(key);
    }
}

/// A transport is dropped that nobody has closed.
pub fn warn_unclosed(this: Borrowed<'_, '_, PyAny>) {
    let py = this.py();
    if body(this).layer.try_borrow().map_or(true, |layer| layer.closing || layer.phase == Phase::Waiting) {
        return;
    }
    if let Err(error) = common::warn_unclosed(this) {
        error.write_unraisable(py, Some(&this));
    }
}
