//! What `motet.Condition` is made of: who waits for a notification. The lock is Python's care (`motet/_waits/condition.py`).

use super::class::allocate;
use super::operations::Operation;
use super::thread::Names;
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{parties, thread, waker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};

/// Those who wait for a notification; thread-safe.
#[pyclass(frozen, subclass, weakref, module = "motet._motet", name = "ConditionCore")]
pub struct Condition {
    inner: motet_sync::Condition,
}

const WAIT: Names = Names { blocking: "Condition.wait", awaited: "Condition.await_" };

#[pymethods]
impl Condition {
    #[new]
    fn new() -> Self {
        Self { inner: motet_sync::Condition::new() }
    }

    /// Tells `n` of those who wait, the first first; how many there were.
    fn _notify(&self, n: usize) -> usize {
        self.inner.notify(n)
    }

    /// A wait that has begun: a notification from now on is not lost.
    fn _begin(this: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = Limit::of(timeout, Then::False)?;
        let work = Work::One(Operation::Notified(this.get().inner.notified().begin()));
        allocate(this.py(), Wait::new(&WAIT, Some(this.clone().into_any().unbind()), work, limit))
    }

    /// Waits in this thread for what has begun.
    #[staticmethod]
    fn _wait(wait: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = wait.py();
        let body = super::class::try_body(wait).ok_or_else(|| PyRuntimeError::new_err("not a wait"))?;
        let work = body.take_work(py).ok_or_else(|| PyRuntimeError::new_err("not a new wait"))?;
        thread::block(py, &WAIT, work, body.limit())
    }

    /// Who waits.
    fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        parties::waiting(py, &self.inner)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        waker::show(&self.inner, &visit)
    }
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Condition>()
}
