//! What the socket's transport tells the TLS above it, and takes from it.

use super::{Phase, Step, Told, body, closing, fail, handshake, reading, writing};
use crate::event_loop::{Books, Loop};
use crate::{context, schedule, transport};
use motet_tls::Failed;
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;

/// The socket's transport, of `event_loop`, is made, or has got this one for its protocol. That binds the two for good: the
/// lower one's loop drives both, and lends them its buffers.
///
/// # Errors
/// `RuntimeError` for the TLS of another loop, or of another transport.
pub fn attach(
    transport: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, Loop>,
    lower: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if !this.event_loop.is(event_loop) {
        return Err(PyRuntimeError::new_err("this TLS transport belongs to another event loop"));
    }
    let free = this.with(|layer| match &layer.lower {
        Some(known) => known.is(lower),
        None => {
            layer.lower = Some(lower.clone().unbind());
            true
        }
    });
    if free {
        Ok(())
    } else {
        Err(PyRuntimeError::new_err("this TLS transport has another transport below it"))
    }
}

/// These bytes were received before there was TLS.
pub fn put_input(transport: &Bound<'_, PyAny>, bytes: &[u8]) {
    if !bytes.is_empty() {
        body(transport.as_borrowed()).with(|layer| layer.session.append_input(bytes));
    }
}

/// The socket's transport has begun.
pub fn connection_made(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    handshake::begin(transport)
}

/// The first `count` bytes of the loop's read buffer are ciphertext.
pub fn received(transport: &Bound<'_, PyAny>, count: usize) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    match this.phase() {
        Phase::Open | Phase::Flushing => reading::read(transport, count),
        Phase::Closed => Ok(()),
        phase => {
            reading::keep(this, count)?;
            match phase {
                Phase::Handshake => handshake::drive(transport),
                Phase::Shutdown => closing::drive(transport),
                _ => Ok(()),
            }
        }
    }
}

/// The peer has closed the connection. Whether it has to stay open for what is still to be sent.
pub fn end_of_input(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    let this = body(transport.as_borrowed());
    let phase = this.with(|layer| {
        layer.end_of_input = true;
        let phase = layer.phase;
        if phase == Phase::Open {
            layer.phase = Phase::Flushing;
        }
        phase
    });
    match phase {
        Phase::Waiting | Phase::Handshake => {
            handshake::fail_handshake(transport, PyConnectionResetError::new_err(()))?;
        }
        Phase::Open | Phase::Flushing => closing::flush(transport)?,
        Phase::Shutdown => closing::drive(transport)?,
        Phase::Closed => {}
    }
    Ok(this.phase() == Phase::Flushing)
}

/// The connection is gone.
pub fn connection_lost(transport: &Bound<'_, PyAny>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let (protocol, told, dropped) = this.with(|layer| {
        let told =
            layer.phase != Phase::Handshake && matches!(layer.told, Told::ConnectionMade | Told::EndOfInput);
        if told {
            layer.told = Told::ConnectionLost;
        }
        layer.phase = Phase::Closed;
        layer.closing = true;
        layer.dropped_writes = layer.dropped_writes.saturating_add(1);
        (layer.protocol.take(), told, std::mem::take(&mut layer.queue))
    });
    drop(dropped);
    closing::cancel_timer(this);
    let none = py.None().into_bound(py);
    let error = error.unwrap_or(&none);
    let woken = handshake::wake(this, py, (!error.is_none()).then_some(error));
    if let Some(protocol) = protocol.filter(|_| told) {
        // A round later, as asyncio: who has just got the last data may still write an answer without hearing that it is lost.
        let method = protocol.getattr(py, intern!(py, "connection_lost"))?;
        let context = context::copy_current(py)?;
        schedule::push_call(this.event_loop.get(), py, method, error.clone().unbind(), context)?;
    }
    woken
}

/// Moves what is to be sent next into the loop's buffer for records, which is empty. Nothing comes when nothing waits, or when
/// that has failed, which is told then.
pub fn take_records(transport: &Bound<'_, PyAny>, books: &mut Books) -> Result<(), Failed> {
    let this = body(transport.as_borrowed());
    this.with_session(transport.py(), |layer| writing::encrypt(layer, books))
}

/// What [`take_records`] has failed with is not told: OpenSSL's error must not be left to other connections.
pub fn forget_errors(transport: &Bound<'_, PyAny>) {
    body(transport.as_borrowed()).with(|layer| layer.session.forget_errors());
}

/// Nothing more can be sent for now: all is sent, or the socket is full.
pub fn sent(transport: &Bound<'_, PyAny>, result: Result<(), Failed>) -> PyResult<()> {
    if let Err(Failed) = result {
        let error = writing::failure(transport)?;
        return fail(transport, error, "Fatal error on SSL protocol");
    }
    writing::sent(transport)
}

/// A step that was put off to this round.
pub fn run_step(transport: &Bound<'_, PyAny>, step: Step) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    match (step, this.phase()) {
        (Step::Begin, Phase::Waiting) => match this.lower(transport.py()) {
            Some(lower) if !transport::is_closing(&lower) => {
                handshake::begin(transport)?;
                transport::resume_reading(&lower)
            }
            _ => {
                let text = "the connection was closed before TLS could begin";
                handshake::fail_handshake(transport, PyConnectionResetError::new_err(text))
            }
        },
        (Step::Resume, Phase::Handshake) => handshake::drive(transport),
        (Step::Resume, Phase::Open) => reading::read(transport, 0),
        (Step::Resume, Phase::Flushing) => closing::flush(transport),
        (Step::Resume, Phase::Shutdown) => closing::drive(transport),
        (Step::HandshakeTimeout, Phase::Handshake) => handshake::timed_out(transport),
        (Step::ShutdownTimeout, Phase::Flushing | Phase::Shutdown) => closing::timed_out(transport),
        _ => Ok(()),
    }
}
