//! The condition of a future: made when somebody asks for it, held to change what others see through it.

use super::class::This;
use super::stock;
use crate::call;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{IntoPyObjectExt, intern};

/// The condition, which is made now if there is none. Threads that wait without one wait for it from then on.
pub fn condition<'py>(this: This<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    if let Some(condition) = this.with(|state| state.condition(py)) {
        return Ok(condition.into_bound(py));
    }
    let made = stock::condition(py)?.call0()?;
    let candidate = made.clone().unbind();
    let (condition, parked, unused) = this.with(|state| {
        let extras = state.extras_mut();
        if let Some(first) = &extras.condition {
            return (first.clone_ref(py), Vec::new(), Some(candidate));
        }
        extras.condition = Some(candidate);
        (made.unbind(), std::mem::take(&mut extras.parked), None)
    });
    if let Some(unused) = unused {
        unused.drop_ref(py);
    }
    let mut errors = Errors::default();
    for parked in parked {
        errors.note(py, unpark(&parked.into_bound(py)));
    }
    errors.report(condition.into_bound(py))
}

/// The waiters of `wait()` and `as_completed()`.
pub fn waiters(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    condition(this)?;
    let made = PyList::empty(py);
    let candidate = made.clone().unbind();
    let (waiters, unused) = this.with(|state| match &mut state.extras_mut().waiters {
        Some(waiters) => (waiters.clone_ref(py), Some(candidate)),
        place => {
            *place = Some(candidate);
            (made.clone().unbind(), None)
        }
    });
    if let Some(unused) = unused {
        unused.drop_ref(py);
    }
    waiters.into_py_any(py)
}

/// The condition, held.
pub struct Held<'py>(pub Bound<'py, PyAny>);

impl<'py> Held<'py> {
    /// Acquires the condition. On the main thread the handler of a signal may raise meanwhile; the change is made nevertheless.
    pub fn acquire(condition: Bound<'py, PyAny>, errors: &mut Errors) -> Self {
        let py = condition.py();
        while let Err(error) = call::method(&condition, intern!(py, "acquire")) {
            let is_error = error.is_instance_of::<PyException>(py);
            errors.note(py, Err::<(), _>(error));
            if is_error {
                // Not a lock, then: somebody has put something else there.
                break;
            }
        }
        Self(condition)
    }

    /// Acquires the condition, or nothing.
    pub fn try_acquire(condition: Bound<'py, PyAny>) -> PyResult<Self> {
        call::method(&condition, intern!(condition.py(), "acquire"))?;
        Ok(Self(condition))
    }

    pub fn release(self, errors: &mut Errors) {
        let py = self.0.py();
        errors.note(py, call::method(&self.0, intern!(py, "release")));
    }
}

/// The first of several errors, none of which must keep the others from being told.
#[derive(Default)]
pub struct Errors(Option<PyErr>);

impl Errors {
    pub fn note<T>(&mut self, py: Python<'_>, result: PyResult<T>) {
        match result {
            Ok(_) => {}
            Err(error) if self.0.is_none() => self.0 = Some(error),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    pub fn report<T>(self, value: T) -> PyResult<T> {
        self.0.map_or(Ok(value), Err)
    }
}

/// Lets a parked thread go on.
pub fn unpark(lock: &Bound<'_, PyAny>) -> PyResult<()> {
    call::method(lock, intern!(lock.py(), "release")).map(drop)
}
