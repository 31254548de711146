//! `call_soon` and `call_soon_threadsafe`.

use super::{This, as_loop, check_in_debug_mode, context_of, note_origin};
use crate::context;
use crate::event_loop::Loop;
use crate::handle::{Handle, Payload, given_or_current};
use crate::method::{Arguments, Storage};
use crate::task::Task;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

pub fn call_soon(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    event_loop.require_open()?;
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_soon", &["callback"], &mut storage)?;
    let callback = arguments.get(0);
    if event_loop.in_debug_mode() {
        return call_soon_in_debug_mode(this, callback, &arguments, "call_soon", true);
    }
    let context = given_or_current(py, context_of(&arguments, "call_soon")?)?;
    push_callback(event_loop, py, Payload::new(py, callback, arguments.from(1), context)?)
}

pub fn call_soon_threadsafe(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    event_loop.require_open()?;
    let mut storage = Storage::default();
    let arguments = arguments.complete("call_soon_threadsafe", &["callback"], &mut storage)?;
    let callback = arguments.get(0);
    if event_loop.in_debug_mode() {
        return call_soon_in_debug_mode(this, callback, &arguments, "call_soon_threadsafe", false);
    }
    let context = given_or_current(py, context_of(&arguments, "call_soon_threadsafe")?)?;
    let payload = Payload::new(py, callback, arguments.from(1), context)?;
    if cfg!(Py_GIL_DISABLED) && !event_loop.state.is_mine() {
        // Not even for a moment may this thread claim the loop: its own may be about to run it. (Under the GIL nobody sees a
        // claim that is given back before the GIL is.)
        return send_callback(event_loop, py, payload);
    }
    push_callback(event_loop, py, payload)
}

#[cold]
fn call_soon_in_debug_mode(
    this: This<'_, '_>,
    callback: This<'_, '_>,
    arguments: &Arguments<'_, '_>,
    function: &str,
    own_thread: bool,
) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop = as_loop(this).get();
    check_in_debug_mode(this, callback, function, own_thread)?;
    let context = given_or_current(py, context_of(arguments, function)?)?;
    let handle = Handle::create(py, Payload::new(py, callback, arguments.from(1), context)?)?;
    note_origin(py, handle.get())?;
    let task = Task::Callback(handle.clone().unbind());
    if own_thread || event_loop.state.is_mine() {
        event_loop.push(task)?
    } else {
        event_loop.send(task)?
    }
    Ok(handle.into_any().unbind())
}

/// Puts a callback into the ready ring, in a handle that has been used before where there is one.
#[inline(always)]
pub fn push_callback(event_loop: &Loop, py: Python<'_>, payload: Payload) -> PyResult<Py<PyAny>> {
    let Ok(claim) = event_loop.state.claim() else { return send_callback(event_loop, py, payload) };
    let Some(handle) = claim.with(|state| state.spare.pop()) else {
        drop(claim);
        return push_new_handle(event_loop, py, payload);
    };
    // SAFETY: only handles whose last reference the loop holds are kept as spare.
    unsafe { handle.get().refill(payload) };
    claim.with(|state| {
        state.turn.collect_inbox();
        state.turn.push(Task::Callback(handle.clone_ref(py)));
    });
    Ok(handle.into_any())
}

#[inline(never)]
fn push_new_handle(event_loop: &Loop, py: Python<'_>, payload: Payload) -> PyResult<Py<PyAny>> {
    let handle = Handle::create(py, payload)?;
    event_loop.push(Task::Callback(handle.clone().unbind()))?;
    Ok(handle.into_any().unbind())
}

/// Has the loop call `callback(argument)` in a later round; `context` is known to be one.
#[inline]
pub fn push_call(
    event_loop: &Loop,
    py: Python<'_>,
    callback: Py<PyAny>,
    argument: Py<PyAny>,
    context: Py<PyAny>,
) -> PyResult<()> {
    event_loop.require_open()?;
    let handle = push_callback(event_loop, py, Payload::of_one(callback, argument, context))?;
    drop(handle.into_bound(py));
    Ok(())
}

/// As [`push_call`], from any thread.
pub fn send_call(
    event_loop: &Loop,
    py: Python<'_>,
    callback: Py<PyAny>,
    argument: Py<PyAny>,
    context: Py<PyAny>,
) -> PyResult<()> {
    if event_loop.state.is_mine() {
        return push_call(event_loop, py, callback, argument, context);
    }
    event_loop.require_open()?;
    let handle = send_callback(event_loop, py, Payload::of_one(callback, argument, context))?;
    drop(handle.into_bound(py));
    Ok(())
}

/// Puts a callback into the inbox.
#[inline(never)]
fn send_callback(event_loop: &Loop, py: Python<'_>, payload: Payload) -> PyResult<Py<PyAny>> {
    let handle = match event_loop.take_shared_spare() {
        Some(spare) => {
            // SAFETY: only handles whose last reference the loop held are shared.
            unsafe { spare.get().refill(payload) };
            spare.into_bound(py)
        }
        None => Handle::create(py, payload)?,
    };
    event_loop.send(Task::Callback(handle.clone().unbind()))?;
    Ok(handle.into_any().unbind())
}

/// A handle of the loop's own making, for callbacks that it keeps (`add_reader`).
pub fn new_handle(
    py: Python<'_>,
    callback: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<Py<Handle>> {
    let context = context::copy_current(py)?;
    let arguments: Vec<_> = arguments.iter_borrowed().collect();
    Handle::create(py, Payload::new(py, callback.as_borrowed(), arguments.into_iter(), context)?)
        .map(Bound::unbind)
}
