//! Context variables: the context that callbacks run in.

use pyo3::ffi;
use pyo3::prelude::*;

/// A copy of the current context: what `contextvars.copy_context()` returns.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// Keeps the context of the last callback entered, for the next may run in the same.
///
/// Invariant: `entered` is the innermost context that this thread has entered since the keeper was made, or nothing has been
/// entered. It is left before the loop waits and before the run ends.
pub struct ContextKeeper<'py> {
    py: Python<'py>,
    entered: Option<Bound<'py, PyAny>>,
}

impl<'py> ContextKeeper<'py> {
    pub fn new(py: Python<'py>) -> Self {
        Self { py, entered: None }
    }

    /// Makes `context` the current one.
    ///
    /// # Errors
    /// `RuntimeError` when another thread, or a caller further up, has entered it.
    #[inline]
    pub fn enter(&mut self, context: Bound<'py, PyAny>) -> PyResult<()> {
        if let Some(entered) = &self.entered {
            if entered.is(&context) {
                return Ok(());
            }
            self.leave();
        }
        // SAFETY: a context; contexts are the only thing that handles and transports keep under this name (checked where they
        // come from Python).
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
            return Err(PyErr::fetch(self.py));
        }
        self.entered = Some(context);
        Ok(())
    }

    /// Leaves what is entered.
    #[inline]
    pub fn leave(&mut self) {
        if let Some(entered) = self.entered.take() {
            // SAFETY: the context that `enter` has entered on this thread. It fails only where a callback has left it or
            // entered another and not left that: its own defect, which the exception below tells.
            if unsafe { ffi::PyContext_Exit(entered.as_ptr()) } < 0 {
                PyErr::fetch(self.py).write_unraisable(self.py, None);
            }
        }
    }
}

impl Drop for ContextKeeper<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Refuses what is not a context.
pub fn check(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: looks at the type of a valid reference.
    if unsafe { ffi::PyContext_CheckExact(context.as_ptr()) } == 0 {
        return Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "context must be a contextvars.Context, not {}",
            context.get_type().name()?
        )));
    }
    Ok(())
}
