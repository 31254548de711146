//! Context variables: the context that callbacks run in.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A copy of the current context: what `contextvars.copy_context()` returns.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// A copy of a context.
pub fn copy(context: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: the function checks that it is given a context; a new reference or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind)
    }
}

/// A context that this thread has entered; left when dropped.
///
/// It is left as soon as the callback has returned, before anything is dropped: a finaliser, or the exception handler that it
/// calls, may want to enter the same context.
#[must_use]
pub struct Entered<'a, 'py>(&'a Bound<'py, PyAny>);

/// Makes `context` the current one.
///
/// # Errors
/// `RuntimeError` when another thread, or a caller further up, has entered it.
#[inline(always)]
pub fn enter<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Entered<'a, 'py>> {
    // SAFETY: a valid reference to a context: nothing else is kept under this name by handles and transports (checked where
    // they come from Python).
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(context.py()));
    }
    Ok(Entered(context))
}

impl Drop for Entered<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the context that `enter` has entered on this thread. It fails only where a callback has left it, or entered
        // another and not left that: its own defect, which the exception below tells.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } < 0 {
            PyErr::fetch(self.0.py()).write_unraisable(self.0.py(), None);
        }
    }
}

/// Refuses what is not a context.
#[inline]
pub fn check(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: looks at the type of a valid reference.
    if unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } != 0 { Ok(()) } else { Err(refusal(context)) }
}

#[cold]
fn refusal(context: &Bound<'_, PyAny>) -> PyErr {
    match context.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("context must be a contextvars.Context, not {name}")),
        Err(error) => error,
    }
}
