//! One step of a task: its coroutine runs until it waits again or ends.

use super::class::{FutureRef, TaskRef};
use super::completion::{self, Outcome};
use super::state::{Cause, Status, drop_now};
use super::stock;
use super::{registry, waiting};
use crate::{call, context, method};
use pyo3::exceptions::PyStopIteration;
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
    let error = error_to_begin_with(task).unwrap_or_else(|failure| {
        // The step must be taken: nothing will wake the task again.
        Some(failure.into_value(py).into_bound(py).into_any())
    });
    let result = take_step(task, error);
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
            completion::restore_traceback(native, &exception);
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
        Progress::Yielded(value) => waiting::yielded(task, value),
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
            let before = native.with(|state| std::mem::take(&mut state.cause));
            if let Cause::Error(error) = before {
                drop_now(native.py(), Some(error));
            }
            step(native, error_of(future)?)?;
            Ok(task.py().None())
        })
    }
}
