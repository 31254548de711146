//! The properties that futures and tasks have in common: what asyncio's messages and tools look at.

use super::class::TaskRef;
use super::future_methods::{This, alive, native, truth};
use super::state::{Status, Waiter, drop_now};
use super::step;
use crate::method::enter;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{Borrowed, IntoPyObjectExt, ffi, intern};
use std::ffi::{CStr, c_int};

/// A property of futures and tasks.
pub fn property(name: &'static CStr, get: ffi::getter, set: Option<ffi::setter>) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), set, ..Default::default() }
}

macro_rules! getter {
    ($function:path) => {{
        unsafe extern "C" fn get(
            this: *mut pyo3::ffi::PyObject,
            _: *mut std::ffi::c_void,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls the getter with an object of the class, attached.
            unsafe { $crate::method::enter(this, |this| $function(this)) }
        }
        get
    }};
}
pub(crate) use getter;

macro_rules! setter {
    ($function:path) => {{
        unsafe extern "C" fn set(
            this: *mut pyo3::ffi::PyObject,
            value: *mut pyo3::ffi::PyObject,
            _: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            // SAFETY: the interpreter calls the setter with an object of the class, attached; no value means deletion.
            unsafe {
                $crate::native::future_properties::enter_setter(this, value, |this, value| $function(this, value))
            }
        }
        Some(set as pyo3::ffi::setter)
    }};
}
pub(crate) use setter;

/// # Safety
/// The pointers are those of a setter's call by the interpreter, attached.
pub unsafe fn enter_setter(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    body: impl for<'a, 'py> FnOnce(This<'a, 'py>, This<'a, 'py>) -> PyResult<()>,
) -> c_int {
    // SAFETY: the caller's word.
    let result = unsafe {
        enter(this, |this| {
            let Some(value) = Borrowed::from_ptr_or_opt(this.py(), value) else {
                return Err(pyo3::exceptions::PyAttributeError::new_err("cannot delete attribute"));
            };
            body(this, value)?;
            Ok(this.py().None())
        })
    };
    if result.is_null() {
        return -1;
    }
    // SAFETY: None, a new reference.
    unsafe { ffi::Py_DECREF(result) };
    0
}

pub fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        property(c"_state", getter!(state_name), None),
        property(c"_asyncio_future_blocking", getter!(blocking), setter!(set_blocking)),
        property(c"_loop", getter!(event_loop), None),
        property(c"_callbacks", getter!(callbacks), None),
        property(c"_result", getter!(raw_result), None),
        property(c"_exception", getter!(raw_exception), None),
        property(c"_log_traceback", getter!(log_traceback), setter!(set_log_traceback)),
        property(c"_source_traceback", getter!(source_traceback), None),
        property(c"_cancel_message", getter!(cancel_message), setter!(set_cancel_message)),
    ]
}

fn state_name(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let name = match native(this).with(|state| state.status) {
        Status::Pending => intern!(py, "PENDING"),
        Status::Cancelled => intern!(py, "CANCELLED"),
        Status::Finished => intern!(py, "FINISHED"),
    };
    name.into_py_any(py)
}

fn blocking(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.blocking && state.event_loop.is_some()))
}

fn set_blocking(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    let (future, value) = (alive(this)?, value.is_truthy()?);
    future.with(|state| state.blocking = value);
    Ok(())
}

/// A getter of one reference, None where there is none.
macro_rules! reference {
    ($name:ident, $state:ident => $reference:expr) => {
        fn $name(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
            let py = this.py();
            let reference = native(this).with(|$state| {
                let reference: Option<&Py<PyAny>> = $reference;
                reference.map(|reference| reference.clone_ref(py))
            });
            Ok(reference.unwrap_or_else(|| py.None()))
        }
    };
}

reference!(event_loop, state => state.event_loop.as_ref());
reference!(raw_result, state => state.result.as_ref());
reference!(raw_exception, state => state.exception.as_ref());
reference!(source_traceback, state => state.rare().and_then(|rare| rare.source_traceback.as_ref()));
reference!(cancel_message, state => state.rare().and_then(|rare| rare.cancel_message.as_ref()));

fn set_cancel_message(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    let value = Some(value.to_owned().unbind());
    let old = native(this).with(|state| state.replace_rare(|rare| &mut rare.cancel_message, value));
    drop_now(this.py(), old);
    Ok(())
}

fn callbacks(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    enum Seen<'py> {
        Task(Bound<'py, PyAny>),
        Callback(Bound<'py, PyAny>, Bound<'py, PyAny>),
    }
    let seen: Vec<Seen<'_>> = alive(this)?.with(|state| {
        let waiters = state.waiters.iter().map(|waiter| match waiter {
            Waiter::Task(task) => Seen::Task(task.clone_ref(py).into_bound(py)),
            Waiter::Callback(callback, context) => {
                Seen::Callback(callback.clone_ref(py).into_bound(py), context.clone_ref(py).into_bound(py))
            }
        });
        waiters.collect()
    });
    if seen.is_empty() {
        return Ok(py.None());
    }
    let list = PyList::empty(py);
    for waiter in seen {
        list.append(match waiter {
            // As asyncio shows it: the function that will wake the task.
            Seen::Task(task) => {
                // SAFETY: only tasks wait as such.
                let task = unsafe { TaskRef::new(task.as_borrowed()) };
                let context = task.with(|state| state.context.as_ref().map(|context| context.clone_ref(py)));
                (step::callable(task, true)?, context).into_pyobject(py)?
            }
            Seen::Callback(callback, context) => (callback, context).into_pyobject(py)?,
        })?;
    }
    Ok(list.into_any().unbind())
}

fn log_traceback(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    truth(this.py(), native(this).with(|state| state.log_traceback))
}

fn set_log_traceback(this: This<'_, '_>, value: This<'_, '_>) -> PyResult<()> {
    if value.is_truthy()? {
        return Err(PyValueError::new_err("_log_traceback can only be set to False"));
    }
    native(this).with(|state| state.log_traceback = false);
    Ok(())
}
