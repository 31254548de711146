//! What the loop calls when a descriptor is ready.

use super::operation::{Attempt, Call};
use super::{Side, watched_mut};
use crate::event_loop::{Loop, READ_BUFFER};
use crate::task::Task;
use motet_reactor::Token;
use motet_reactor::sys::Readiness;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::RawFd;

/// The descriptor is ready: schedules its callbacks and finishes the calls that can be finished.
pub fn ready(event_loop: &Bound<'_, Loop>, token: Token, readiness: Readiness) -> PyResult<()> {
    let py = event_loop.py();
    let descriptor = event_loop.get().with("loop.run_forever()", |state| {
        let (reactor, books) = state.parts()?;
        let (descriptor, _) = reactor.descriptors().get(token)?;
        let watched = watched_mut(reactor, token)?;
        watched.hangup |= readiness.hangup;
        let mut arm = false;
        for (told, direction) in
            [(readiness.readable, &mut watched.read), (readiness.writable, &mut watched.write)]
        {
            if told {
                direction.blocked = false;
                if let Some(callback) = &direction.callback {
                    books.turn.push(Task::Repeated(callback.clone_ref(py)));
                    arm = true;
                }
            }
        }
        if arm && let Some(interest) = watched.interest() {
            reactor.rearm_before_wait(token, interest);
        }
        Some(descriptor)
    })?;
    let Some(descriptor) = descriptor else { return Ok(()) };
    if readiness.readable {
        finish_calls(event_loop, token, descriptor, Side::Read)?;
    }
    if readiness.writable {
        finish_calls(event_loop, token, descriptor, Side::Write)?;
    }
    Ok(())
}

fn finish_calls(event_loop: &Bound<'_, Loop>, token: Token, descriptor: RawFd, side: Side) -> PyResult<()> {
    let py = event_loop.py();
    let inner = event_loop.get();
    loop {
        let next = inner.with_reactor("loop.run_forever()", |reactor| {
            let direction = watched_mut(reactor, token)?.side(side);
            if direction.blocked { None } else { direction.operations.pop_front() }
        })?;
        let Some(mut operation) = next else { return Ok(()) };
        if operation.is_done(py) {
            continue;
        }
        let result = match operation.attempt(inner, py, descriptor) {
            Ok(Attempt::Blocked) => {
                let mut operation = Some(operation);
                inner.with_reactor("loop.run_forever()", |reactor| {
                    if let Some(watched) = watched_mut(reactor, token)
                        && let Some(operation) = operation.take()
                    {
                        let direction = watched.side(side);
                        direction.blocked = true;
                        direction.operations.push_front(operation);
                    }
                })?;
                return Ok(());
            }
            Ok(Attempt::Done(value)) => {
                if let (Call::Receive(limit), Ok(data)) = (&operation.call, value.bind(py).cast::<PyBytes>())
                {
                    let count = data.as_bytes().len();
                    inner.with_reactor("loop.run_forever()", |reactor| {
                        if let Some(watched) = watched_mut(reactor, token) {
                            watched.received(count, (*limit).min(READ_BUFFER));
                        }
                    })?;
                }
                Ok(value)
            }
            Err(error) => Err(error),
        };
        operation.finish(py, result)?;
    }
}
