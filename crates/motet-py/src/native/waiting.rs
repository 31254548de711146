//! What a task does with what its coroutine has yielded: it waits for a future, or takes the next step.

use super::class::{FutureRef, TaskRef};
use super::state::{Cause, Status, Waiter, drop_now};
use super::step::callable;
use super::{completion, registry, stock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi, intern};

/// How a task stands to what its coroutine has yielded.
enum Joined {
    Waiting,
    /// It is done already.
    Done,
    /// It was not yielded by `await`.
    NotAwaited,
    OtherLoop,
}

#[inline]
pub fn yielded<'py>(task: TaskRef<'_, 'py>, value: Bound<'py, PyAny>) -> PyResult<()> {
    if value.is_none() {
        return completion::schedule(task, Cause::Due, None);
    }
    match FutureRef::exact(value.as_borrowed()) {
        Some(future) => yielded_native(task, future),
        None => yielded_other(task, &value),
    }
}

#[inline]
fn yielded_native<'py>(task: TaskRef<'_, 'py>, future: FutureRef<'_, 'py>) -> PyResult<()> {
    let py = task.py();
    if future.object().is(task.object()) {
        return fail_soon(task, &format!("Task cannot await on itself: {}", task.object().repr()?));
    }
    let loop_pointer = |future: FutureRef<'_, '_>| {
        future.with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.as_ptr()))
    };
    let own_loop = loop_pointer(task.future());
    let waiter = Waiter::Task(task.object().to_owned().unbind());
    let mut waiter = Some(waiter);
    let joined = future.with(|state| {
        if state.event_loop.as_ref().map(|event_loop| event_loop.as_ptr()) != own_loop {
            return Joined::OtherLoop;
        }
        if !std::mem::take(&mut state.blocking) {
            return Joined::NotAwaited;
        }
        if state.status != Status::Pending {
            return Joined::Done;
        }
        if let Some(waiter) = waiter.take() {
            state.waiters.push(waiter);
        }
        Joined::Waiting
    });
    if let Some(Waiter::Task(unused)) = waiter {
        drop_now(py, Some(unused));
    }
    match joined {
        Joined::OtherLoop => return fail_other_loop(task, future.object()),
        Joined::NotAwaited => return fail_not_awaited(task, future.object()),
        Joined::Waiting | Joined::Done => (),
    }
    registry::start_awaiting(future.object(), task.object())?;
    let must_cancel = note(task, future.object());
    if matches!(joined, Joined::Done) {
        completion::wake_task(task, future)?;
    }
    if must_cancel { pass_cancellation(task, future.object()) } else { Ok(()) }
}

/// Notes what a task waits for. Returns whether it was cancelled in the step that it has just taken.
#[inline]
fn note(task: TaskRef<'_, '_>, future: Borrowed<'_, '_, PyAny>) -> bool {
    let future = future.to_owned().unbind();
    let (before, must_cancel) = task.with(|state| (state.waiting_for.replace(future), state.must_cancel));
    drop_now(task.py(), before);
    must_cancel
}

/// Futures of other kinds: asyncio's own, subclasses, whatever follows its protocol.
#[cold]
fn yielded_other<'py>(task: TaskRef<'_, 'py>, value: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = task.py();
    let name = intern!(py, "_asyncio_future_blocking");
    let blocking = value.getattr_opt(name)?.filter(|blocking| !blocking.is_none());
    let Some(blocking) = blocking else {
        // SAFETY: looks at the type of a valid reference.
        let is_generator = unsafe { ffi::PyGen_CheckExact(value.as_ptr()) } != 0;
        let text = if is_generator {
            format!(
                "yield was used instead of yield from for generator in task {} with {}",
                task.object().repr()?,
                value.repr()?
            )
        } else {
            format!("Task got bad yield: {}", value.repr()?)
        };
        return fail_soon(task, &text);
    };
    let event_loop =
        task.future().with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.as_ptr()));
    if Some(stock::future_loop(py)?.call1((value,))?.as_ptr()) != event_loop {
        return fail_other_loop(task, value.as_borrowed());
    }
    if !blocking.is_truthy()? {
        return fail_not_awaited(task, value.as_borrowed());
    }
    if value.is(task.object()) {
        return fail_soon(task, &format!("Task cannot await on itself: {}", task.object().repr()?));
    }
    registry::start_awaiting(value.as_borrowed(), task.object())?;
    value.setattr(name, false)?;
    let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
    add_done_callback(
        value,
        &callable(task, true)?,
        &context.ok_or_else(completion::not_initialised)?.into_bound(py),
    )?;
    let must_cancel = note(task, value.as_borrowed());
    if must_cancel { pass_cancellation(task, value.as_borrowed()) } else { Ok(()) }
}

fn add_done_callback(
    future: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let keywords = pyo3::types::PyDict::new(future.py());
    keywords.set_item(intern!(future.py(), "context"), context)?;
    future.call_method(intern!(future.py(), "add_done_callback"), (callback,), Some(&keywords)).map(drop)
}

/// A task that was cancelled while it ran cancels what it begins to wait for.
#[cold]
fn pass_cancellation(task: TaskRef<'_, '_>, future: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    let py = task.py();
    let message = task.future().with(|state| {
        state.rare().and_then(|rare| rare.cancel_message.as_ref()).map(|message| message.clone_ref(py))
    });
    if cancel_any(future, message.map(|message| message.into_bound(py)))? {
        task.with(|state| state.must_cancel = false);
    }
    Ok(())
}

/// `future.cancel(msg=message)` of a future of whatever kind.
pub fn cancel_any(future: Borrowed<'_, '_, PyAny>, message: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    let py = future.py();
    if let Some(native) = FutureRef::exact(future)
        && native.exact_task().is_none()
    {
        return completion::cancel(native, message);
    }
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item(intern!(py, "msg"), message)?;
    future.call_method(intern!(py, "cancel"), (), Some(&keywords))?.is_truthy()
}

#[cold]
fn fail_other_loop(task: TaskRef<'_, '_>, future: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    let (task_text, future) = (task.object().repr()?, future.repr()?);
    fail_soon(task, &format!("Task {task_text} got Future {future} attached to a different loop"))
}

#[cold]
fn fail_not_awaited(task: TaskRef<'_, '_>, future: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    let (task_text, future) = (task.object().repr()?, future.repr()?);
    fail_soon(task, &format!("yield was used instead of yield from in task {task_text} with {future}"))
}

/// The next step raises a `RuntimeError` in the coroutine.
#[cold]
fn fail_soon(task: TaskRef<'_, '_>, text: &str) -> PyResult<()> {
    let error = PyRuntimeError::new_err(text.to_owned()).into_value(task.py());
    completion::schedule(task, Cause::Error(error.into_any()), None)
}
