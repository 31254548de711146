//! Calls into Python without temporary tuples.

use crate::imported::imported;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi};

/// Calls `object.name(argument)` without making a bound method.
#[inline]
pub fn method_with<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), argument.as_ptr()];
    // SAFETY: two valid references and a string, all of which outlive the call; no keywords. The result is a new reference or
    // null with an exception set.
    unsafe {
        let result =
            ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 2, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// Calls `object.name(first, second)` without making a bound method.
#[inline]
pub fn method_with_two<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr(), first.as_ptr(), second.as_ptr()];
    // SAFETY: as in `method_with`, with one reference more.
    unsafe {
        let result =
            ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 3, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// Calls `object.name()` without making a bound method.
#[inline]
pub fn method<'py>(object: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object.as_ptr()];
    // SAFETY: as in `method_with`.
    unsafe {
        let result =
            ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 1, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), result)
    }
}

/// Calls `callable(*arguments)`; `arguments[0]` is room for the interpreter, the arguments begin at 1.
///
/// # Safety
/// `arguments[1..]` are valid references for the length of the call.
#[inline(always)]
pub unsafe fn call_with_room<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &mut [*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyAny>> {
    let count = (arguments.len() - 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: the caller's word; the element before the first argument is ours, as the offset flag promises.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            arguments.as_mut_ptr().add(1),
            count,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// Whether an exception must end the run instead of going to the exception handler.
pub fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py)
        || error.is_instance_of::<pyo3::exceptions::PySystemExit>(py)
}

/// The exception that `generator.throw` is given.
pub fn thrown([kind, value, traceback]: [Option<Borrowed<'_, '_, PyAny>>; 3]) -> PyResult<PyErr> {
    let Some(kind) = kind else {
        return Err(pyo3::exceptions::PyTypeError::new_err("throw expected at least 1 argument, got 0"));
    };
    let value = value.filter(|value| !value.is_none());
    let exception = match value {
        _ if !kind.is_instance_of::<pyo3::types::PyType>() => kind.to_owned(),
        Some(value) if value.is_instance(&kind)? => value.to_owned(),
        Some(value) => kind.call1((value,))?,
        None => kind.call0()?,
    };
    if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
        exception.call_method1("with_traceback", (traceback,))?;
    }
    Ok(PyErr::from_value(exception))
}

/// asyncio's `CancelledError`.
pub fn cancelled(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = imported(&ERROR, py, "asyncio.exceptions", "CancelledError").and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Ends an iteration with a value. None needs no exception.
pub fn stop_with(value: Bound<'_, PyAny>) {
    if value.is_none() {
        return;
    }
    let py = value.py();
    // The interpreter takes a tuple for the arguments of the exception, and an exception for itself.
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        match py.get_type::<PyStopIteration>().call1((value,)) {
            Ok(exception) => PyErr::from_value(exception).restore(py),
            Err(error) => error.restore(py),
        }
    } else {
        // SAFETY: two valid references.
        unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    }
}
