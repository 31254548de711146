//! How a future becomes done, and how those who wait for it are told.

use super::class::{FutureRef, TaskRef};
use super::state::{Cause, FutureState, Status, Waiter, Waiters, drop_now};
use super::stock;
use crate::event_loop::Loop;
use crate::handle::Payload;
use crate::schedule::push_callback;
use crate::task::Task;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{Borrowed, ffi, intern};

pub fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("Future object is not initialized.")
}

/// Makes a future done by `settle`, and tells those who wait for it.
///
/// Returns false when the future was done already.
#[inline]
fn finish(future: FutureRef<'_, '_>, settle: impl FnOnce(&mut FutureState)) -> PyResult<bool> {
    let waiters = future.with(|state| {
        if state.status != Status::Pending {
            return Err(state.event_loop.is_some());
        }
        if state.event_loop.is_none() {
            return Err(false);
        }
        settle(state);
        Ok(std::mem::take(&mut state.waiters))
    });
    match waiters {
        Ok(waiters) => wake(future, waiters).map(|()| true),
        Err(true) => Ok(false),
        Err(false) => Err(not_initialised()),
    }
}

fn must_be_pending(finished: PyResult<bool>, py: Python<'_>) -> PyResult<()> {
    if finished? { Ok(()) } else { Err(stock::invalid_state(py, "invalid state")) }
}

/// `future.set_result(value)`.
#[inline]
pub fn set_result(future: FutureRef<'_, '_>, value: Bound<'_, PyAny>) -> PyResult<()> {
    let mut value = Some(value);
    let finished = finish(future, |state| {
        state.result = value.take().map(Bound::unbind);
        state.status = Status::Finished;
    });
    must_be_pending(finished, future.py())
}

/// `future.set_exception(exception)`.
pub fn set_exception(future: FutureRef<'_, '_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if future.with(|state| state.status != Status::Pending) {
        return Err(stock::invalid_state(py, "invalid state"));
    }
    let exception = if exception.is_instance_of::<PyType>() { exception.call0()? } else { exception.clone() };
    if !exception.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        return Err(PyTypeError::new_err("invalid exception object"));
    }
    let exception = if exception.is_instance_of::<PyStopIteration>() {
        instead_of_stop_iteration(exception)?
    } else {
        exception
    };
    // SAFETY: an exception, as was just checked; a new reference or null.
    let traceback =
        unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyException_GetTraceback(exception.as_ptr())) };
    let mut settled = Some((exception.unbind(), traceback.map(Bound::unbind)));
    let finished = finish(future, |state| {
        let (exception, traceback) = settled.take().expect("the closure runs once");
        state.exception = Some(exception);
        if traceback.is_some() {
            state.rare_mut().exception_traceback = traceback;
        }
        state.status = Status::Finished;
        state.log_traceback = true;
    });
    must_be_pending(finished, py)
}

/// A coroutine cannot raise `StopIteration`. asyncio refuses it or, from these versions on, raises another exception.
#[cold]
fn instead_of_stop_iteration(exception: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    const TEXT: &str = "StopIteration interacts badly with generators and cannot be raised into a Future";
    let py = exception.py();
    let version = py.version_info();
    if version < (3, 11, 8) || (version >= (3, 12) && version < (3, 12, 2)) {
        return Err(PyTypeError::new_err(TEXT));
    }
    let instead = PyRuntimeError::new_err(TEXT).into_value(py).into_bound(py).into_any();
    instead.setattr(intern!(py, "__cause__"), &exception)?;
    instead.setattr(intern!(py, "__context__"), &exception)?;
    Ok(instead)
}

/// `Future.cancel(future, message)`: false when it is done already.
pub fn cancel(future: FutureRef<'_, '_>, message: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = future.py();
    let mut message = message.map(Bound::unbind);
    let mut old = None;
    let cancelled = finish(future, |state| {
        state.status = Status::Cancelled;
        old = state.replace_rare(|rare| &mut rare.cancel_message, message.take());
    });
    drop_now(py, old);
    if !cancelled? {
        future.with(|state| state.log_traceback = false);
        return Ok(false);
    }
    Ok(true)
}

/// The exception of a cancelled future, with the message that it was cancelled with.
pub fn cancelled_error<'py>(future: FutureRef<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    let (kept, message) = future.with(|state| match state.rare() {
        Some(_) => {
            let rare = state.rare_mut();
            (rare.cancelled_error.take(), rare.cancel_message.as_ref().map(|message| message.clone_ref(py)))
        }
        None => (None, None),
    });
    if let Some(kept) = kept {
        return Ok(kept.into_bound(py));
    }
    let class = stock::cancelled_error(py)?;
    match message.map(|message| message.into_bound(py)).filter(|message| !message.is_none()) {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    }
}

/// What a future says when it is asked for its outcome.
pub enum Outcome<'py> {
    Pending,
    Cancelled,
    Exception(Bound<'py, PyAny>),
    Value(Bound<'py, PyAny>),
}

/// Reads the outcome; an exception counts as seen.
#[inline]
pub fn outcome<'py>(future: FutureRef<'_, 'py>) -> Outcome<'py> {
    let py = future.py();
    future.with(|state| match state.status {
        Status::Pending => Outcome::Pending,
        Status::Cancelled => Outcome::Cancelled,
        Status::Finished => {
            state.log_traceback = false;
            match (&state.exception, &state.result) {
                (Some(exception), _) => Outcome::Exception(exception.clone_ref(py).into_bound(py)),
                (None, Some(value)) => Outcome::Value(value.clone_ref(py).into_bound(py)),
                (None, None) => Outcome::Value(py.None().into_bound(py)),
            }
        }
    })
}

/// The exception of a future as it is raised: with the traceback that it came with, so that asking twice does not lengthen it.
///
/// Not by the attribute, which an exception's class may have made read-only.
pub fn restore_traceback(future: FutureRef<'_, '_>, exception: &Bound<'_, PyAny>) {
    let py = future.py();
    let traceback = future.with(|state| {
        state
            .rare()
            .and_then(|rare| rare.exception_traceback.as_ref())
            .map(|traceback| traceback.clone_ref(py))
    });
    let traceback = traceback.unwrap_or_else(|| py.None());
    // SAFETY: an exception, and a traceback of one or None, for which this cannot fail.
    unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()) };
}

/// `future.result()`.
#[inline]
pub fn result<'py>(future: FutureRef<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    match outcome(future) {
        Outcome::Value(value) => Ok(value),
        failed => Err(failure(future, failed)?),
    }
}

#[cold]
fn failure(future: FutureRef<'_, '_>, outcome: Outcome<'_>) -> PyResult<PyErr> {
    match outcome {
        Outcome::Cancelled => Ok(PyErr::from_value(cancelled_error(future)?)),
        Outcome::Exception(exception) => {
            restore_traceback(future, &exception);
            Ok(PyErr::from_value(exception))
        }
        _ => Ok(stock::invalid_state(future.py(), "Result is not set.")),
    }
}

/// Tells all who waited. When one cannot be told, the loop being closed, the others are not told either, as in asyncio.
#[inline]
fn wake(future: FutureRef<'_, '_>, waiters: Waiters) -> PyResult<()> {
    let py = future.py();
    let mut result = Ok(());
    waiters.for_each(|waiter| {
        if result.is_err() {
            return waiter.release(py);
        }
        result = match waiter {
            Waiter::Task(task) => {
                let task = task.into_bound(py);
                // SAFETY: only tasks are entered as such.
                wake_task(unsafe { TaskRef::new(task.as_borrowed()) }, future)
            }
            Waiter::Callback(callback, context) => {
                let callback = callback.into_bound(py);
                call_soon(future, callback.as_borrowed(), Some(future.object()), context.into_bound(py))
            }
        };
    });
    result
}

/// Has a task go on: the future that it waits for is done.
#[inline]
pub fn wake_task(task: TaskRef<'_, '_>, future: FutureRef<'_, '_>) -> PyResult<()> {
    schedule(task, Cause::Woken, Some(future))
}

/// Has a task take a step in a later round.
#[inline]
pub fn schedule(task: TaskRef<'_, '_>, cause: Cause, woken_by: Option<FutureRef<'_, '_>>) -> PyResult<()> {
    let py = task.py();
    let old = task.with(|state| std::mem::replace(&mut state.cause, cause));
    if let Cause::Error(error) = old {
        drop_now(py, Some(error));
    }
    if let Some(event_loop) = ready_loop(task.future())? {
        return event_loop.get().push(Task::Step(task.object().to_owned().unbind()));
    }
    let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
    let Some(context) = context else { return Err(not_initialised()) };
    let step = super::step::callable(task, woken_by.is_some())?;
    let argument = woken_by.map(FutureRef::object);
    call_soon(task.future(), step.as_borrowed(), argument, context.into_bound(py))
}

/// The loop of a future, if its ready ring may be filled without asking the loop's methods.
#[inline]
fn ready_loop<'py>(future: FutureRef<'_, 'py>) -> PyResult<Option<Bound<'py, Loop>>> {
    let py = future.py();
    let event_loop = future.with(|state| {
        state.event_loop.as_ref().filter(|_| state.own_loop).map(|event_loop| event_loop.clone_ref(py))
    });
    // SAFETY: `own_loop` is set for loops of that class only.
    let event_loop =
        event_loop.map(|event_loop| unsafe { event_loop.into_bound(py).cast_into_unchecked::<Loop>() });
    match event_loop {
        // Debug mode checks the thread, notes where a callback came from, and times it.
        Some(event_loop) if !event_loop.get().in_debug_mode() => {
            event_loop.get().require_open()?;
            Ok(Some(event_loop))
        }
        _ => Ok(None),
    }
}

/// `loop.call_soon(callback, argument, context=context)` on the future's loop.
pub fn call_soon(
    future: FutureRef<'_, '_>,
    callback: Borrowed<'_, '_, PyAny>,
    argument: Option<Borrowed<'_, '_, PyAny>>,
    context: Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = future.py();
    if let Some(event_loop) = ready_loop(future)? {
        let payload = Payload::new(py, callback, argument.into_iter(), context.unbind())?;
        drop(push_callback(event_loop.get(), py, payload)?.into_bound(py));
        return Ok(());
    }
    let event_loop =
        future.with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)));
    let Some(event_loop) = event_loop.map(|event_loop| event_loop.into_bound(py)) else {
        return Err(not_initialised());
    };
    static NAMES: pyo3::sync::PyOnceLock<Py<PyTuple>> = pyo3::sync::PyOnceLock::new();
    let names = NAMES.get_or_try_init(py, || Ok::<_, PyErr>(PyTuple::new(py, ["context"])?.unbind()))?;
    let mut values = vec![event_loop.as_ptr(), callback.as_ptr()];
    values.extend(argument.map(|argument| argument.as_ptr()));
    let positional = values.len();
    values.push(context.as_ptr());
    // SAFETY: borrowed for the call: the object, its positional arguments, and one keyword's value.
    unsafe {
        let handle = ffi::PyObject_VectorcallMethod(
            intern!(py, "call_soon").as_ptr(),
            values.as_ptr(),
            positional,
            names.as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, handle).map(drop)
    }
}
