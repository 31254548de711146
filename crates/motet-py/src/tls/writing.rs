//! From the program to records, sent together at the end of the round.

use super::{Layer, Phase, body, closing, tell_protocol};
use crate::event_loop::Books;
use crate::transport;
use motet_tls::{Failed, Written};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// The most plaintext in one record.
const RECORD: usize = 16 * 1024;
/// How much plaintext is made into records before they are sent.
const BATCH: usize = 64 * 1024;

/// Queues what the program has written. What is worth a system call of its own is sent at once, as far as it fits, instead of at
/// the round's end: its memory is free again the sooner.
pub fn write(transport: &Bound<'_, PyAny>, pieces: impl IntoIterator<Item = PyBackedBytes>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let queued = this.with(|layer| {
        pieces.into_iter().for_each(|piece| layer.queue.push(piece, 0));
        layer.phase == Phase::Open && layer.queue.bytes() >= BATCH.min(layer.limits().write.1)
    });
    if queued && let Some(lower) = this.lower(transport.py()) {
        transport::send_queue(&lower)?;
    } else {
        request_flush(transport)?;
    }
    check_limits(transport)
}

/// Bytes that wait to be sent, as plaintext or in records.
pub fn waiting(transport: &Bound<'_, PyAny>) -> usize {
    let this = body(transport.as_borrowed());
    let queued = this.with(|layer| layer.queue.bytes() + layer.session.output_length());
    queued + this.lower(transport.py()).map_or(0, |lower| transport::queued_bytes(&lower))
}

/// Asks the protocol to pause, or to go on.
pub fn check_limits(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = body(transport.as_borrowed());
    let waiting = waiting(transport);
    let method = this.with(|layer| {
        let (low, high) = layer.limits().write;
        if waiting >= high && !layer.writing_paused {
            layer.writing_paused = true;
            Some(intern!(py, "pause_writing"))
        } else if waiting <= low && layer.writing_paused {
            layer.writing_paused = false;
            Some(intern!(py, "resume_writing"))
        } else {
            None
        }
    });
    method.map_or(Ok(()), |method| tell_protocol(transport, method))
}

/// Has the loop send at the end of the round.
pub fn request_flush(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let lower = this.with(|layer| {
        let lower = layer.lower.as_ref().filter(|_| !layer.flush_requested)?;
        layer.flush_requested = true;
        Some(lower.bind(transport.py()).clone())
    });
    lower.map_or(Ok(()), |lower| transport::request_flush_of(&lower))
}

/// As [`request_flush`], if there is something to send.
pub fn request_flush_if_needed(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if this.with(|layer| layer.session.output_length() > 0 || !layer.queue.is_empty()) {
        return request_flush(transport);
    }
    Ok(())
}

/// Makes records of what is queued, a batch at most, behind those that OpenSSL has made by itself.
pub fn encrypt(layer: &mut Layer, books: &mut Books) -> Result<(), Failed> {
    layer.flush_requested = false;
    let mut made_already = Vec::new();
    layer.session.swap_output(&mut made_already);
    books.records.extend_from_slice(&made_already);
    layer.session.swap_output(&mut books.records);
    let mut result = Ok(());
    if matches!(layer.phase, Phase::Open | Phase::Flushing) {
        let mut left = BATCH;
        while left > 0 && !layer.queue.is_empty() {
            match encrypt_some(layer, &mut books.joined, left) {
                Ok(Written::Bytes(count)) => {
                    layer.queue.advance(count);
                    left = left.saturating_sub(count);
                }
                Ok(Written::Blocked) => break,
                Err(Failed) => {
                    result = Err(Failed);
                    break;
                }
            }
        }
    }
    layer.session.swap_output(&mut books.records);
    result
}

/// Makes a record of what is queued, if one holds it all, and leaves it with the session: what follows goes out with it. Whether
/// nothing is queued any more.
pub fn encrypt_rest(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    let this = body(transport.as_borrowed());
    this.event_loop.get().with("transport.close()", |state| {
        this.with_session(transport.py(), |layer| {
            while !layer.queue.is_empty() && layer.queue.bytes() <= RECORD {
                match encrypt_some(layer, &mut state.joined, RECORD) {
                    Ok(Written::Bytes(count)) => layer.queue.advance(count),
                    Ok(Written::Blocked) => break,
                    Err(Failed) => {
                        // The next attempt fails in the same way, and is told.
                        layer.session.forget_errors();
                        break;
                    }
                }
            }
            layer.queue.is_empty()
        })
    })
}

/// Makes records of the first piece, or one of as many small pieces as it takes.
fn encrypt_some(layer: &mut Layer, joined: &mut Vec<u8>, most: usize) -> Result<Written, Failed> {
    let Layer { queue, session, .. } = layer;
    queue.with_pieces(|pieces| {
        let first = &pieces[0];
        if pieces.len() == 1 || first.len() >= RECORD {
            return session.write(&first[..first.len().min(most)]);
        }
        joined.clear();
        for piece in pieces {
            let room = RECORD - joined.len();
            joined.extend_from_slice(&piece[..piece.len().min(room)]);
            if joined.len() == RECORD {
                break;
            }
        }
        session.write(joined)
    })
}

/// The exception of a write that has failed; see `reading::failure`. To write nothing changes nothing where it succeeds.
pub fn failure(transport: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let py = transport.py();
    match body(transport.as_borrowed()).ssl_object.call_method1(py, intern!(py, "write"), (c"".to_bytes(),)) {
        Err(error) => Ok(error),
        Ok(_) => Ok(PyRuntimeError::new_err("OpenSSL has refused to write; please report it")),
    }
}

/// All is sent, or the socket is full: the protocol may go on, a connection that closes goes on closing.
pub fn sent(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    check_limits(transport)?;
    let this = body(transport.as_borrowed());
    if this.with(|layer| layer.phase == Phase::Flushing && layer.queue.is_empty()) {
        return closing::flushed(transport);
    }
    Ok(())
}
