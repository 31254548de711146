//! The methods that futures and tasks have in common.

use super::class::FutureRef;
use super::completion;
use super::state::{Status, Waiter};
use super::stock;
use crate::context;
use crate::method::{Arguments, enter, fast_method, method_of_one, plain_method};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};

pub type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

pub fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        plain_method!(c"result", result, c"result($self, /)\n--\n\nThe result; raises the exception, CancelledError, or InvalidStateError when it is not done."),
        plain_method!(c"exception", exception, c"exception($self, /)\n--\n\nThe exception or None; raises CancelledError, or InvalidStateError when it is not done."),
        plain_method!(c"done", done, c"done($self, /)\n--\n\nWhether there is a result or an exception, or it was cancelled."),
        plain_method!(c"cancelled", cancelled, c"cancelled($self, /)\n--\n\nWhether it was cancelled."),
        plain_method!(c"get_loop", get_loop, c"get_loop($self, /)\n--\n\nThe event loop that it belongs to."),
        plain_method!(c"_make_cancelled_error", make_cancelled_error, c"_make_cancelled_error($self, /)\n--\n\nThe CancelledError to raise; the one that ended the task is given once."),
        method_of_one!(c"set_result", set_result, c"set_result($self, result, /)\n--\n\nMakes it done, with a result."),
        method_of_one!(c"set_exception", set_exception, c"set_exception($self, exception, /)\n--\n\nMakes it done, with an exception or a class of exceptions."),
        method_of_one!(c"remove_done_callback", remove_done_callback, c"remove_done_callback($self, fn, /)\n--\n\nTakes a callback back; returns how many there were."),
        fast_method!(c"add_done_callback", add_done_callback, c"add_done_callback($self, fn, /, *, context=None)\n--\n\nCalls fn(self) in the loop when it is done."),
        fast_method!(c"cancel", cancel, c"cancel($self, /, msg=None)\n--\n\nCancels it; returns False when it is done already."),
    ]
}

pub fn native<'a, 'py>(this: This<'a, 'py>) -> FutureRef<'a, 'py> {
    // SAFETY: the interpreter calls methods and properties of a class with its objects only.
    unsafe { FutureRef::new(this) }
}

/// The future, which has to be initialised.
pub fn alive<'a, 'py>(this: This<'a, 'py>) -> PyResult<FutureRef<'a, 'py>> {
    let future = native(this);
    if future.with(|state| state.event_loop.is_some()) {
        Ok(future)
    } else {
        Err(completion::not_initialised())
    }
}

/// As [`alive`], where asyncio takes a future that is not initialised for one without an outcome.
fn alive_for_outcome<'a, 'py>(this: This<'a, 'py>) -> PyResult<FutureRef<'a, 'py>> {
    alive(this).map_err(|_| stock::invalid_state(this.py(), "Future object is not initialized."))
}

pub fn truth(py: Python<'_>, value: bool) -> PyResult<Py<PyAny>> {
    value.into_py_any(py)
}

fn result(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::result(alive_for_outcome(this)?).map(Bound::unbind)
}

fn exception(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let future = alive_for_outcome(this)?;
    match completion::outcome(future) {
        completion::Outcome::Value(_) => Ok(this.py().None()),
        completion::Outcome::Exception(exception) => Ok(exception.unbind()),
        completion::Outcome::Cancelled => Err(PyErr::from_value(completion::cancelled_error(future)?)),
        completion::Outcome::Pending => Err(stock::invalid_state(this.py(), "Exception is not set.")),
    }
}

fn done(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.status != Status::Pending))
}

fn cancelled(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.status == Status::Cancelled))
}

fn get_loop(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let event_loop =
        native(this).with(|state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)));
    event_loop.ok_or_else(completion::not_initialised)
}

fn make_cancelled_error(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::cancelled_error(native(this)).map(Bound::unbind)
}

fn set_result(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::set_result(native(this), value.to_owned())?;
    Ok(this.py().None())
}

fn set_exception(this: This<'_, '_>, exception: This<'_, '_>) -> PyResult<Py<PyAny>> {
    completion::set_exception(alive(this)?, &exception)?;
    Ok(this.py().None())
}

/// The message of a call of `cancel(msg=None)`.
pub fn message_of<'py>(arguments: &Arguments<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if arguments.len() > 1 {
        return Err(PyTypeError::new_err(format!(
            "cancel() takes at most 1 argument ({} given)",
            arguments.len()
        )));
    }
    let mut message = (arguments.len() == 1).then(|| arguments.get(0).to_owned());
    for (name, value) in arguments.keywords() {
        if name.to_str()? != "msg" || message.is_some() {
            return Err(unexpected("cancel", name));
        }
        message = Some(value.to_owned());
    }
    Ok(message.filter(|message| !message.is_none()))
}

pub fn unexpected(function: &str, name: Borrowed<'_, '_, PyString>) -> PyErr {
    PyTypeError::new_err(format!(
        "{function}() got an unexpected keyword argument '{}'",
        name.to_string_lossy()
    ))
}

fn cancel(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), completion::cancel(alive(this)?, message_of(&arguments)?)?)
}

fn add_done_callback(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let future = alive(this)?;
    if arguments.len() != 1 {
        return Err(PyTypeError::new_err(format!(
            "add_done_callback() takes exactly 1 positional argument ({} given)",
            arguments.len()
        )));
    }
    let callback = arguments.get(0);
    let mut context = None;
    for (name, value) in arguments.keywords() {
        if !name.is(intern!(py, "context")) && name.to_str()? != "context" {
            return Err(unexpected("add_done_callback", name));
        }
        context = Some(value).filter(|value| !value.is_none());
    }
    let context = match context {
        Some(context) => context.to_owned(),
        None => context::copy_current(py)?.into_bound(py),
    };
    let mut waiter = Some(Waiter::Callback(callback.to_owned().unbind(), context.clone().unbind()));
    future.with(|state| {
        if state.status == Status::Pending
            && let Some(waiter) = waiter.take()
        {
            state.waiters.push(waiter);
        }
    });
    if let Some(waiter) = waiter {
        // It is done already.
        waiter.release(py);
        completion::call_soon(future, callback, Some(future.object()), context)?;
    }
    Ok(py.None())
}

fn remove_done_callback(this: This<'_, '_>, callback: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let future = alive(this)?;
    let known: Vec<Bound<'_, PyAny>> = future.with(|state| {
        let callbacks = state.waiters.iter().filter_map(|waiter| match waiter {
            Waiter::Callback(callback, _) => Some(callback.clone_ref(py).into_bound(py)),
            Waiter::Task(_) => None,
        });
        callbacks.collect()
    });
    // Comparing may run anything; what it changes meanwhile stays as it leaves it.
    let mut equal = Vec::new();
    for known in known {
        if known.eq(callback)? {
            equal.push(known);
        }
    }
    let removed = future.with(|state| {
        state.waiters.extract(|waiter| match waiter {
            Waiter::Callback(callback, _) => equal.iter().any(|equal| equal.as_ptr() == callback.as_ptr()),
            Waiter::Task(_) => false,
        })
    });
    let count = removed.len();
    removed.into_iter().for_each(|waiter| waiter.release(py));
    count.into_py_any(py)
}

/// `repr(future)`.
pub unsafe extern "C" fn describe(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an object of the class, attached.
    unsafe { enter(this, |this| Ok(stock::describe_future(this.py())?.call1((this,))?.unbind())) }
}
