//! The callbacks of a future.
//!
//! They are kept here until somebody asks for the list of them, as some programs do to take one out. From then on the list is where
//! they are, and is changed and looked at by whoever holds the condition.

use super::class::This;
use super::condition::{Errors, Held, condition};
use super::stock;
use crate::call;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Calls the callbacks that are in a list because somebody has asked for it.
pub fn invoke_listed(this: This<'_, '_>) -> PyResult<()> {
    let py = this.py();
    let listed = this.with(|state| Some(state.extras()?.listed.as_ref()?.clone_ref(py)));
    let Some(listed) = listed.map(|listed| listed.into_bound(py)) else { return Ok(()) };
    let mut errors = Errors::default();
    for callback in listed.iter() {
        errors.note(py, invoke(this, &callback));
    }
    errors.report(())
}

/// Calls one callback. An `Exception` goes to the log, in the words of Python's own futures.
pub fn invoke(this: This<'_, '_>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    // SAFETY: a reference that is valid for the call, and room before it.
    let called =
        unsafe { call::call_with_room(callback, &mut [std::ptr::null_mut(), this.object().as_ptr()]) };
    match called {
        Ok(_) => Ok(()),
        Err(error) if error.is_instance_of::<PyException>(py) => {
            let keywords = PyDict::new(py);
            keywords.set_item("exc_info", error.into_value(py).into_bound(py))?;
            let arguments = ("exception calling callback for %r", this.object());
            stock::logger(py)?.call_method("error", arguments, Some(&keywords)).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// The callbacks as a list, which from now on is where they are.
pub fn list_callbacks(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let held = Held::try_acquire(condition(this)?)?;
    let made = PyList::empty(py);
    let candidate = made.clone().unbind();
    let (listed, taken, unused) = this.with(|state| {
        let extras = state.extras_mut();
        let taken = std::mem::take(&mut extras.callbacks);
        match &mut extras.listed {
            Some(listed) => (listed.clone_ref(py), taken, Some(candidate)),
            place => {
                *place = Some(candidate);
                (made.clone().unbind(), taken, None)
            }
        }
    });
    let mut errors = Errors::default();
    let listed = listed.into_bound(py);
    for callback in taken {
        errors.note(py, listed.append(callback.into_bound(py)));
    }
    held.release(&mut errors);
    if let Some(unused) = unused {
        unused.drop_ref(py);
    }
    errors.report(listed.into_py_any(py)?)
}

/// Adds a callback, or calls it at once when the future is done.
pub fn add_callback(this: This<'_, '_>, callback: Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    let is_listed = this.with(|state| state.extras().is_some_and(|extras| extras.listed.is_some()));
    if is_listed {
        return add_listed(this, &callback);
    }
    let mut candidate = Some(callback.clone().unbind());
    let (is_done, is_listed) = this.with(|state| {
        if state.stage.is_done() {
            return (true, false);
        }
        let extras = state.extras_mut();
        if extras.listed.is_some() {
            return (false, true);
        }
        extras.callbacks.extend(candidate.take());
        (false, false)
    });
    if let Some(unused) = candidate {
        unused.drop_ref(py);
    }
    match (is_done, is_listed) {
        (true, _) => invoke(this, &callback),
        (false, true) => add_listed(this, &callback),
        (false, false) => Ok(()),
    }
}

fn add_listed(this: This<'_, '_>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    let held = Held::try_acquire(condition(this)?)?;
    let mut errors = Errors::default();
    let is_done = this.with(|state| state.stage.is_done());
    if !is_done {
        let listed = list_callbacks(this)?.into_bound(py).cast_into::<PyList>()?;
        errors.note(py, listed.append(callback));
    }
    held.release(&mut errors);
    if is_done {
        errors.note(py, invoke(this, callback));
    }
    errors.report(())
}
