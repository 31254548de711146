//! `call_later` and `call_at`.

use super::{This, as_loop, check_in_debug_mode, context_of, note_origin};
use crate::event_loop::{Loop, State};
use crate::handle::{Payload, TimerHandle, given_or_current};
use crate::method::{Arguments, Storage};
use crate::task::Task;
use motet_reactor::clock::{Clock, MonotonicClock};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

pub fn call_later(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_later", &["delay", "callback"], &mut storage)?;
    let delay = arguments.get(0);
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    let when = MonotonicClock.now() as f64 / 1e9 + delay.extract::<f64>()?;
    schedule(this, when, &arguments, "call_later")
}

pub fn call_at(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_at", &["when", "callback"], &mut storage)?;
    let when = arguments.get(0);
    if when.is_none() {
        return Err(PyTypeError::new_err("when cannot be None"));
    }
    schedule(this, when.extract::<f64>()?, &arguments, "call_at")
}

fn schedule(
    this: This<'_, '_>,
    when: f64,
    arguments: &Arguments<'_, '_>,
    function: &str,
) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this);
    event_loop.get().require_open()?;
    let callback = arguments.get(1);
    let debug = event_loop.get().in_debug_mode();
    if debug {
        check_in_debug_mode(this, callback, function, true)?;
    }
    let context = given_or_current(py, context_of(arguments, function)?)?;
    let payload = Payload::new(py, callback, arguments.from(2), context)?;
    let timer = TimerHandle::create(py, event_loop.to_owned().unbind(), when, payload)?;
    if debug {
        note_origin(py, timer.as_super().get())?;
    }
    start_timer(event_loop.get(), &timer)?;
    Ok(timer.into_any().unbind())
}

/// Enters a timer into the loop's queue, from whichever thread.
fn start_timer(event_loop: &Loop, timer: &Bound<'_, TimerHandle>) -> PyResult<()> {
    let handle = timer.as_super().clone().unbind();
    let deadline = timer.get().deadline();
    let mut task = Some(Task::Callback(handle));
    let started = event_loop
        .state
        .with(|state: &mut State| state.turn.schedule(deadline, task.take().expect("the closure runs once")));
    match started {
        Ok(key) => timer.get().set_key(key),
        Err(_) => event_loop.send(Task::StartTimer(timer.clone().unbind()))?,
    }
    Ok(())
}

/// A timer that another thread has started arrives at its loop.
pub fn start_sent_timer(event_loop: &Loop, timer: &Bound<'_, TimerHandle>) -> PyResult<()> {
    if timer.as_super().get().is_cancelled() { Ok(()) } else { start_timer(event_loop, timer) }
}
