//! A transport whose protocol is TLS: ciphertext goes up and records come down without becoming Python objects.

use super::{Connection, Deferred, Delivery, Piece, Transport, apply, body, input_output, lifecycle};
use crate::errors::{closed_descriptor, os_error};
use crate::task::Task;
use crate::tls;
use motet_reactor::sys::socket;
use motet_tls::Failed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::io;

/// The TLS above.
fn above<'py>(this: &Transport, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
    this.with(|connection| {
        let protocol = connection.protocol.as_ref()?;
        (connection.delivery == Delivery::Tls).then(|| protocol.bind(py).clone())
    })
}

/// Receives while there is something and TLS wants it; a read that fills the loop's buffer lets the others have a turn.
pub fn receive(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let event_loop = this.event_loop.get();
    loop {
        if !this.with(|connection| connection.stream.wants_read()) {
            return Ok(());
        }
        let Some(above) = above(this, py) else { return Ok(()) };
        let (received, capacity) = event_loop.with("loop.run_forever()", |state| {
            let capacity = state.read_buffer.len();
            let received = this.with(|connection| {
                let descriptor = connection.socket.descriptor().ok_or_else(closed_descriptor)?;
                let received = socket::receive(descriptor, &mut state.read_buffer);
                match &received {
                    Ok(count) if *count > 0 => connection.stream.received(*count, capacity),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.stream.drained(),
                    _ => {}
                }
                received
            });
            state.turn.statistics.bytes_received += *received.as_ref().unwrap_or(&0) as u64;
            (received, capacity)
        })?;
        match received {
            Ok(0) => return lifecycle::end_of_input(this, transport, &above),
            Ok(count) => {
                tls::received(&above, count)?;
                if count == capacity {
                    // The stream stays readable; nothing will tell so again.
                    let later = this.with(|connection| connection.stream.wants_read());
                    let actions = if later { super::Actions::READ_LATER } else { super::Actions::NONE };
                    return apply(transport, actions);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                return lifecycle::fail(transport, os_error(error), "Fatal read error on socket transport");
            }
        }
    }
}

/// The queue is sent, or the socket is full. Sends what TLS makes of what waits there, as far as it fits.
pub fn send_records(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let Some(above) = above(this, py) else { return Ok(()) };
    let event_loop = this.event_loop.get();
    let made = loop {
        let ready = this.with(|connection| {
            let stream = &connection.stream;
            stream.queued_bytes() == 0 && !stream.is_blocked() && !stream.is_lost()
        });
        if !ready {
            break Ok(());
        }
        let (made, sent) = event_loop.with("transport.write()", |state| {
            let made = tls::take_records(&above, state);
            if state.records.is_empty() {
                return (made, Ok(None));
            }
            let sent = this.with(|connection| send_or_queue(connection, &mut state.records));
            state.turn.statistics.bytes_sent += *sent.as_ref().unwrap_or(&0) as u64;
            (made, sent.map(Some))
        })?;
        match (made, sent) {
            (Err(Failed), Ok(_)) => break Err(Failed),
            (Ok(()), Ok(Some(_))) => {}
            (Ok(()), Ok(None)) => break Ok(()),
            (made, Err(error)) => {
                if made.is_err() {
                    // The socket's error is the one that is told.
                    tls::forget_errors(&above);
                }
                let message = "Fatal write error on socket transport";
                return lifecycle::fail(transport, os_error(error), message);
            }
        }
    };
    tls::sent(&above, made)
}

/// Sends `records` and leaves the buffer empty; what does not fit takes it along into the queue. Returns how much has been sent.
fn send_or_queue(connection: &mut Connection, records: &mut Vec<u8>) -> io::Result<usize> {
    let sent = match connection.socket.descriptor() {
        Some(descriptor) => socket::send(descriptor, records),
        None => Err(closed_descriptor()),
    };
    let count = match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Ok(count) => count,
        Err(error) => {
            records.clear();
            return Err(error);
        }
    };
    if count < records.len() {
        connection.stream.blocked();
        connection.stream.enqueue_all([Piece::Records(records.split_off(count))]);
    }
    records.clear();
    Ok(count)
}

/// A step that the TLS above has put off to this round.
pub fn run_step(this: &Transport, transport: &Bound<'_, PyAny>, step: tls::Step) -> PyResult<()> {
    match above(this, transport.py()) {
        Some(above) => tls::run_step(&above, step),
        None => Ok(()),
    }
}

// ---- what TLS asks of the transport below ----

/// Puts TLS above a transport that carries something else so far; the handshake begins in a later round, with what was
/// received already.
pub fn put_below_tls(
    transport: &Bound<'_, PyAny>,
    above: &Bound<'_, PyAny>,
    received: &[u8],
) -> PyResult<()> {
    if !transport.get_type().is(super::transport_type(transport.py())?) || !tls::is_tls(above) {
        return Err(PyTypeError::new_err("a SocketTransport and an SSLTransport are needed"));
    }
    transport.call_method1(pyo3::intern!(transport.py(), "set_protocol"), (above,))?;
    tls::put_input(above, received);
    let this = body(transport.as_borrowed());
    this.event_loop.get().push(Task::Transport(transport.clone().unbind(), Deferred::Tls(tls::Step::Begin)))
}

/// Sends what is queued here and what TLS has, as far as it fits.
pub fn send_queue(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if this.with(|connection| connection.stream.is_lost()) {
        return Ok(());
    }
    input_output::send_queue(this, transport)
}

/// Has the loop call [`send_queue`] at the end of the round.
pub fn request_flush_of(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let flushed = transport.clone().unbind();
    body(transport.as_borrowed()).event_loop.get().with("transport.write()", |state| {
        state.flush.push(flushed);
        state.turn.request_flush();
    })
}

/// Bytes that wait here to be sent.
pub fn queued_bytes(transport: &Bound<'_, PyAny>) -> usize {
    body(transport.as_borrowed()).with(|connection| connection.stream.queued_bytes())
}

/// Whether what is sent now would have to wait for room, as far as is known.
pub fn has_to_wait(transport: &Bound<'_, PyAny>) -> bool {
    body(transport.as_borrowed())
        .with(|connection| connection.stream.queued_bytes() > 0 || connection.stream.is_blocked())
}

/// Whether the connection is closing or closed.
pub fn is_closing(transport: &Bound<'_, PyAny>) -> bool {
    body(transport.as_borrowed()).with(|connection| connection.stream.is_closing())
}

/// Ends the connection when what is queued here, and what TLS has made as its last, has been sent.
pub fn close(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if let Some(above) = above(this, transport.py()) {
        this.event_loop
            .get()
            .with("transport.close()", |state| {
                let made = tls::take_records(&above, state);
                let records = std::mem::take(&mut state.records);
                this.with(|connection| connection.stream.enqueue_all([Piece::Records(records)]));
                made
            })?
            .or_else(|failed| tls::sent(&above, Err(failed)))?;
    }
    lifecycle::close(transport)
}

/// Ends the connection at once, because of an error or nothing.
pub fn force_close(transport: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
    if body(transport.as_borrowed()).with(|connection| connection.stream.is_lost()) {
        return Ok(());
    }
    lifecycle::abort(transport, error)
}

/// Stops receiving.
pub fn pause_reading(transport: &Bound<'_, PyAny>) {
    body(transport.as_borrowed()).with(|connection| connection.stream.pause_reading());
}

/// Goes on receiving.
pub fn resume_reading(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    match body(transport.as_borrowed()).with(|connection| connection.stream.resume_reading()) {
        Some(actions) => apply(transport, actions),
        None => Ok(()),
    }
}
