//! One step of a task: its coroutine runs until it waits again or ends.

use super::class::{FutureRef, TaskRef};
use super::completion::{self, Outcome};
use super::registry;
use super::state::{Cause, Status, Waiter, drop_now};
use super::stock;
use crate::{call, context, method};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi, intern};

/// What a coroutine has done in its step.
enum Progress<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
    Raised(Bound<'py, PyAny>),
}

/// Runs the step that was scheduled, in the task's context. The caller has told asyncio that the task is the current one.
///
/// # Errors
/// `KeyboardInterrupt` and `SystemExit` of the coroutine, and what goes wrong around it: the task was done already, its context
/// is in use, its loop is closed.
#[inline]
pub fn run(task: TaskRef<'_, '_>) -> PyResult<()> {
    let py = task.py();
    let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
    let Some(context) = context.map(|context| context.into_bound(py)) else {
        return Err(completion::not_initialised());
    };
    let entered = context::enter(&context)?;
    let result = error_to_begin_with(task).and_then(|error| take_step(task, error));
    drop(entered);
    result
}

/// What is raised in the coroutine at the beginning of the step that was scheduled.
#[inline]
fn error_to_begin_with<'py>(task: TaskRef<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = task.py();
    let (cause, waited_for) = task.with(|state| {
        let cause = std::mem::take(&mut state.cause);
        let waited_for = match cause {
            Cause::Woken => state.waiting_for.as_ref().map(|future| future.clone_ref(py)),
            _ => None,
        };
        (cause, waited_for)
    });
    match cause {
        Cause::Due => Ok(None),
        Cause::Error(error) => Ok(Some(error.into_bound(py))),
        Cause::Woken => match waited_for.map(|future| future.into_bound(py)) {
            Some(future) => error_of(future.as_borrowed()),
            None => Ok(None),
        },
    }
}

/// What a task is to be told by the future that has woken it, if that is no result.
#[inline]
fn error_of<'py>(future: Borrowed<'_, 'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = future.py();
    let Some(native) = FutureRef::exact(future) else {
        return Ok(call::method(&future, intern!(py, "result"))
            .err()
            .map(|error| error.into_value(py).into_bound(py).into_any()));
    };
    Ok(match completion::outcome(native) {
        Outcome::Value(_) | Outcome::Pending => None,
        Outcome::Cancelled => Some(completion::cancelled_error(native)?),
        Outcome::Exception(exception) => {
            completion::restore_traceback(native, &exception)?;
            Some(exception)
        }
    })
}

/// One step that a handle has called for, in a context that it has entered.
fn step<'py>(task: TaskRef<'_, 'py>, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = task.py();
    let event_loop =
        task.future().with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)));
    let event_loop = event_loop.ok_or_else(completion::not_initialised)?.into_bound(py);
    registry::enter(&event_loop, task.object())?;
    let result = take_step(task, error);
    let left = registry::leave(&event_loop, task.object());
    result.and(left)
}

/// The step itself, which leaves it to the caller to tell asyncio whose it is.
#[inline]
pub fn take_step<'py>(task: TaskRef<'_, 'py>, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = task.py();
    if task.future().with(|state| state.status != Status::Pending) {
        return Err(already_done(task, error)?);
    }
    let (coroutine, waited_for, must_cancel) = task.with(|state| {
        (
            state.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py)),
            state.waiting_for.take(),
            std::mem::take(&mut state.must_cancel),
        )
    });
    if let Some(waited_for) = waited_for {
        registry::stop_awaiting(&waited_for.into_bound(py), task.object())?;
    }
    let Some(coroutine) = coroutine.map(|coroutine| coroutine.into_bound(py)) else {
        return Err(completion::not_initialised());
    };
    let error = match error {
        Some(error) if !must_cancel || error.is_instance(stock::cancelled_error(py)?)? => Some(error),
        None if !must_cancel => None,
        _ => Some(completion::cancelled_error(task.future())?),
    };
    match resume(&coroutine, error) {
        Progress::Yielded(value) => yielded(task, value),
        Progress::Returned(value) => returned(task, value),
        Progress::Raised(error) => raised(task, error),
    }
}

#[cold]
fn already_done(task: TaskRef<'_, '_>, error: Option<Bound<'_, PyAny>>) -> PyResult<PyErr> {
    let py = task.py();
    let error = error.unwrap_or_else(|| py.None().into_bound(py));
    let text = format!("__step(): already done: {} {}", task.object().repr()?, error.repr()?);
    Ok(stock::invalid_state(py, &text))
}

#[inline]
fn resume<'py>(coroutine: &Bound<'py, PyAny>, error: Option<Bound<'py, PyAny>>) -> Progress<'py> {
    let py = coroutine.py();
    if let Some(error) = error {
        return match call::method_with(coroutine, intern!(py, "throw"), &error) {
            Ok(value) => Progress::Yielded(value),
            Err(error) => ended(py, error),
        };
    }
    let mut value = std::ptr::null_mut();
    // SAFETY: a valid reference, None, and room for one result, which is a new reference unless an exception is set.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut value) {
            ffi::PySendResult::PYGEN_NEXT => Progress::Yielded(Bound::from_owned_ptr(py, value)),
            ffi::PySendResult::PYGEN_RETURN => Progress::Returned(Bound::from_owned_ptr(py, value)),
            ffi::PySendResult::PYGEN_ERROR => ended(py, PyErr::fetch(py)),
        }
    }
}

/// A coroutine has ended with an exception, which may be how it returns.
#[cold]
fn ended(py: Python<'_>, error: PyErr) -> Progress<'_> {
    let error = error.into_value(py).into_bound(py).into_any();
    if error.is_instance_of::<PyStopIteration>()
        && let Ok(value) = error.getattr(intern!(py, "value"))
    {
        return Progress::Returned(value);
    }
    Progress::Raised(error)
}

#[inline]
fn returned<'py>(task: TaskRef<'_, 'py>, value: Bound<'py, PyAny>) -> PyResult<()> {
    registry::forget(task);
    if task.with(|state| std::mem::take(&mut state.must_cancel)) {
        // It was cancelled in its last step.
        let py = task.py();
        let message = task.future().with(|state| {
            state.rare().and_then(|rare| rare.cancel_message.as_ref()).map(|message| message.clone_ref(py))
        });
        return completion::cancel(task.future(), message.map(|message| message.into_bound(py))).map(drop);
    }
    completion::set_result(task.future(), value)
}

#[cold]
fn raised<'py>(task: TaskRef<'_, 'py>, error: Bound<'py, PyAny>) -> PyResult<()> {
    let py = task.py();
    registry::forget(task);
    if error.is_instance(stock::cancelled_error(py)?)? {
        let error = error.unbind();
        let old =
            task.future().with(|state| state.replace_rare(|rare| &mut rare.cancelled_error, Some(error)));
        drop_now(py, old);
        return completion::cancel(task.future(), None).map(drop);
    }
    completion::set_exception(task.future(), &error)?;
    let error = PyErr::from_value(error);
    if call::ends_the_run(py, &error) { Err(error) } else { Ok(()) }
}

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
fn yielded<'py>(task: TaskRef<'_, 'py>, value: Bound<'py, PyAny>) -> PyResult<()> {
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
    let must_cancel = task.with(|state| {
        state.waiting_for = Some(future.object().to_owned().unbind());
        state.must_cancel
    });
    if matches!(joined, Joined::Done) {
        completion::wake_task(task, future)?;
    }
    if must_cancel { pass_cancellation(task, future.object()) } else { Ok(()) }
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
    let must_cancel = task.with(|state| {
        state.waiting_for = Some(value.clone().unbind());
        state.must_cancel
    });
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

/// What a loop calls that is not motet's, or in debug mode: a function whose `__self__` is the task, as asyncio's messages expect.
pub fn callable<'py>(task: TaskRef<'_, 'py>, wake_up: bool) -> PyResult<Bound<'py, PyAny>> {
    static WAKE_UP: method::StaticDefinition = method::StaticDefinition(ffi::PyMethodDef {
        ml_name: c"wakeup".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: called_to_wake_up },
        ml_flags: ffi::METH_O,
        ml_doc: std::ptr::null(),
    });
    static STEP: method::StaticDefinition = method::StaticDefinition(ffi::PyMethodDef {
        ml_name: c"step".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: called_to_step },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: std::ptr::null(),
    });
    let definition = if wake_up { &WAKE_UP } else { &STEP };
    // SAFETY: the definition lives for ever and is only read; the task is a valid reference, which the function keeps.
    unsafe {
        let function = ffi::PyCFunction_New((&raw const definition.0).cast_mut(), task.object().as_ptr());
        Bound::from_owned_ptr_or_err(task.py(), function)
    }
}

unsafe extern "C" fn called_to_step(task: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the task that the function was made with.
    unsafe {
        method::enter(task, |task| {
            let native = TaskRef::new(task);
            step(native, error_to_begin_with(native)?)?;
            Ok(task.py().None())
        })
    }
}

unsafe extern "C" fn called_to_wake_up(
    task: *mut ffi::PyObject,
    future: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with the task that the function was made with and one argument.
    unsafe {
        method::enter(task, |task| {
            let (native, future) = (TaskRef::new(task), Borrowed::from_ptr(task.py(), future));
            native.with(|state| state.cause = Cause::Due);
            step(native, error_of(future)?)?;
            Ok(task.py().None())
        })
    }
}
