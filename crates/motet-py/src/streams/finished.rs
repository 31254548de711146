//! The class `motet._motet.Finished`: what is awaited where there is nothing to wait for. It has no state, so one serves all.

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

/// A coroutine that returns None at once, however often it is awaited.
#[pyclass(frozen, module = "motet._motet")]
pub struct Finished;

#[pymethods]
impl Finished {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self) -> Option<()> {
        None
    }

    /// Returns None, as coroutines do: by StopIteration.
    fn send(&self, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
    }

    /// Raises the exception.
    #[pyo3(signature = (r#type, value=None, traceback=None, /))]
    fn throw(
        &self,
        r#type: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let given = [Some(r#type), value, traceback].map(|object| object.map(|object| object.as_borrowed()));
        Err(super::wait::thrown(given)?)
    }

    /// Does nothing.
    fn close(&self) {}
}
