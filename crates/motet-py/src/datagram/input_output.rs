//! What the loop asks of a datagram transport: to receive, to send, to carry on.

use super::address::{self, Family};
use super::{DatagramTransport, Inner, Peer, Step, apply, body, lifecycle};
use crate::errors::os_error;
use crate::task::Task;
use crate::{call, context};
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_reactor::endpoint::Sent;
use motet_reactor::stream::Actions;
use motet_reactor::sys::Readiness;
use motet_reactor::sys::datagram::{self, Address};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

/// Receives in one round, batches of at most 16 datagrams, before others have a turn.
const BATCHES_PER_ROUND: usize = 4;
/// Nanoseconds until a Unix socket whose receiver's queue was full is tried again.
const QUEUE_FULL_PAUSE: u64 = 5_000_000;

/// Memory that a loop lends to receive a batch: the system writes to as much of it as arrives, and only that becomes resident.
#[derive(Default)]
pub struct Memory(Vec<MaybeUninit<u8>>);

impl Memory {
    const SIZE: usize = 1024 * 1024;

    fn lend(&mut self) -> &mut [MaybeUninit<u8>] {
        if self.0.is_empty() {
            self.0.reserve_exact(Self::SIZE);
            // SAFETY: reserved above; the elements need no initialisation.
            unsafe { self.0.set_len(Self::SIZE) };
        }
        &mut self.0
    }
}

/// The descriptor is ready. With `others_first` datagrams wait until what was ready before has run, as in asyncio: a task that has
/// been made to take the answer must have begun.
pub fn ready(transport: &Bound<'_, PyAny>, readiness: Readiness, others_first: bool) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let (context, has_queue) = this.with(|inner| {
        if readiness.readable {
            inner.endpoint.set_readable();
        }
        if readiness.writable {
            inner.endpoint.unblocked();
        }
        (inner.context(transport.py()), readiness.writable && inner.endpoint.queued_bytes() > 0)
    });
    let _entered = context.as_ref().map(context::enter).transpose()?;
    if has_queue {
        send_queue(this, transport)?;
    }
    if others_first && readiness.readable {
        return apply(transport, Actions::READ_LATER);
    }
    read(this, transport)
}

/// The end of a round in which the transport has collected datagrams.
pub fn flush(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let context = this.with(|inner| {
        inner.endpoint.flush_begins();
        inner.context(transport.py())
    });
    let _entered = context.as_ref().map(context::enter).transpose()?;
    send_queue(this, transport)
}

/// A step that was put off to this round.
pub fn run_step(transport: &Bound<'_, PyAny>, step: Step) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let context = this.with(|inner| inner.context(transport.py()));
    let _entered = context.as_ref().map(context::enter).transpose()?;
    match step {
        Step::Begin(waiter) => lifecycle::made(this, transport, waiter),
        Step::Read => read(this, transport),
        Step::Retry => {
            this.with(|inner| {
                inner.retry_pending = false;
                inner.endpoint.unblocked();
            });
            send_queue(this, transport)
        }
        Step::Lost => lifecycle::connection_lost(this, transport),
    }
}

// ---- sending ----

/// Sends what is queued, as far as there is room. A datagram that cannot be sent is told to the protocol and dropped.
pub fn send_queue(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Err(error) = this.require_socket(transport.py())? {
        return lifecycle::fail(transport, os_error(error));
    }
    loop {
        let mut total = 0;
        let sent = this.with(|inner| {
            let Inner { endpoint, socket, number, .. } = inner;
            endpoint.send_queued(|queue| match super::open(socket, *number) {
                Ok(descriptor) => send_first(descriptor, this.peer, queue, &mut total),
                Err(error) => Sent::Refused(error),
            })
        });
        count_sent(this, total)?;
        match sent {
            Ok(actions) => {
                retry_later(this, transport)?;
                return apply(transport, actions);
            }
            Err((error, dropped)) => {
                drop(dropped);
                if let Err(end_of_run) = lifecycle::tell_error(transport, os_error(error)) {
                    request_flush(this, transport)?;
                    return Err(end_of_run);
                }
            }
        }
    }
}

/// Has the loop send the queue at the end of the round, unless it waits for room.
pub fn request_flush(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    if this.with(|inner| inner.endpoint.wants_flush()) {
        let flushed = transport.clone().unbind();
        this.event_loop.get().with("transport.sendto()", |state| {
            state.datagram_flush.push(flushed);
            state.turn.request_flush();
        })?;
    }
    Ok(())
}

/// Sends the first datagrams of a queue.
fn send_first(
    descriptor: BorrowedFd<'_>,
    peer: Peer,
    queue: &VecDeque<(PyBackedBytes, Option<Address>)>,
    total: &mut usize,
) -> Sent<io::Error> {
    let sent = match queue.front() {
        Some((data, address)) if peer != Peer::Nobody || queue.len() == 1 => {
            datagram::send(descriptor, data, address.as_ref()).map(|()| 1)
        }
        _ => {
            let addressed = queue.iter().map_while(|(data, address)| Some((&data[..], address.as_ref()?)));
            datagram::send_batch(descriptor, addressed)
        }
    };
    match sent {
        Ok(count) => {
            *total += queue.iter().take(count).map(|(data, _)| data.len()).sum::<usize>();
            Sent::Datagrams(count)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
        Err(error) => Sent::Refused(error),
    }
}

pub fn count_sent(this: &DatagramTransport, bytes: usize) -> PyResult<()> {
    this.event_loop.get().with("transport.sendto()", |state| state.turn.statistics.bytes_sent += bytes as u64)
}

/// Has a full receiver tried again where the poller does not tell when it has room: a Unix socket that is not connected hears only
/// of its own datagrams.
pub fn retry_later(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    if this.family != Family::Unix || this.peer != Peer::Nobody {
        return Ok(());
    }
    let wanted = this.with(|inner| {
        let wanted = inner.endpoint.is_blocked() && !inner.endpoint.is_lost() && !inner.retry_pending;
        inner.retry_pending |= wanted;
        wanted
    });
    if !wanted {
        return Ok(());
    }
    let task = Task::Datagrams(transport.clone().unbind(), Step::Retry);
    this.event_loop.get().with("transport.sendto()", |state| {
        state.turn.schedule(MonotonicClock.now() + QUEUE_FULL_PAUSE, task);
    })
}

// ---- receiving ----

/// Receives, and leaves what an exception that ends the run has kept from being told to a later round.
fn read(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let result = receive_and_deliver(this, transport);
    if result.is_err() && this.with(|inner| inner.endpoint.wants_read() || !inner.received.is_empty()) {
        apply(transport, Actions::READ_LATER)?;
    }
    result
}

/// How one receive ended.
enum Received {
    /// With datagrams, and perhaps more to come.
    Some,
    /// There are none for now.
    Nothing,
    Failed(io::Error),
}

fn receive_and_deliver(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    deliver(this, transport)?;
    for _ in 0..BATCHES_PER_ROUND {
        if !this.with(|inner| inner.endpoint.wants_read()) {
            return Ok(());
        }
        if let Err(error) = this.require_socket(transport.py())? {
            return lifecycle::fail(transport, os_error(error));
        }
        match receive(this, transport.py())? {
            Received::Some => deliver(this, transport)?,
            Received::Nothing => return Ok(()),
            Received::Failed(error) => lifecycle::tell_error(transport, os_error(error))?,
        }
    }
    // Nothing will tell again that there is more.
    let later = this.with(|inner| inner.endpoint.wants_read());
    if later { apply(transport, Actions::READ_LATER) } else { Ok(()) }
}

/// Receives one batch.
fn receive(this: &DatagramTransport, py: Python<'_>) -> PyResult<Received> {
    this.event_loop.get().with("loop.run_forever()", |state| {
        this.with(|inner| {
            let Inner { endpoint, received, socket, number, .. } = inner;
            let mut total = 0;
            let memory = &mut state.datagram_memory;
            let result = super::open(socket, *number).and_then(|descriptor| {
                datagram::receive_batch(descriptor, memory.lend(), this.family.room(), |data, address| {
                    total += data.len();
                    // Allocating bytes runs no Python code.
                    received.push_back((PyBytes::new(py, data).unbind(), address));
                })
            });
            state.turn.statistics.bytes_received += total as u64;
            match result {
                Ok(drained) => {
                    if drained {
                        endpoint.drained();
                    }
                    Received::Some
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    endpoint.drained();
                    Received::Nothing
                }
                Err(error) => Received::Failed(error),
            }
        })
    })
}

/// Gives the protocol what was received, unless it has paused meanwhile; a transport that is closing receives nothing more.
fn deliver(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    loop {
        let next = this.with(|inner| {
            if inner.endpoint.is_closing() {
                inner.received.clear();
            }
            if !inner.endpoint.is_reading() {
                return None;
            }
            let protocol = inner.protocol.as_ref()?.bind(py).clone();
            Some((protocol, inner.received.pop_front()?))
        });
        let Some((protocol, (data, address))) = next else { return Ok(()) };
        let address = address::to_python(this.event_loop.get(), py, address)?;
        let name = intern!(py, "datagram_received");
        if let Err(error) = call::method_with_two(&protocol, name, data.bind(py).as_any(), address.bind(py)) {
            lifecycle::report(transport, error, "protocol.datagram_received() failed")?;
        }
    }
}
