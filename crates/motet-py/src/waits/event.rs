//! The class `motet.Event`.

use super::class::allocate;
use super::operations::Operation;
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{parties, waker};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

/// A flag that threads and tasks can wait for; thread-safe.
#[pyclass(frozen, subclass, weakref, module = "motet._motet", name = "EventCore")]
pub struct Event {
    inner: motet_sync::Event,
}

const WAIT: Names = Names { blocking: "Event.wait", awaited: "Event.await_" };
const WAITING: Names = Names { blocking: "Event.wait", awaited: "Event.waiting" };

#[pymethods]
impl Event {
    #[new]
    fn new() -> Self {
        Self { inner: motet_sync::Event::new() }
    }

    /// Sets it: all who wait go on, and who comes later does not wait.
    fn set(&self) {
        self.inner.set();
    }

    /// Who comes later waits again.
    fn clear(&self) {
        self.inner.clear();
    }

    /// Whether it is set.
    fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Waits until it is set; False if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = Limit::of(timeout, Then::False)?;
        block(py, &WAIT, Work::One(Operation::Event(self.inner.wait())), limit)
    }

    /// As wait(), awaited.
    #[pyo3(signature = (timeout=None))]
    fn await_(this: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = Limit::of(timeout, Then::False)?;
        Self::make(this, &WAIT, limit, true)
    }

    /// The wait as an operation of a select.
    fn waiting(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::make(this, &WAITING, None, false)
    }

    /// Who waits.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let row = PyDict::new(py);
        row.set_item("is_set", self.inner.is_set())?;
        row.set_item("waiters", parties::waiting(py, &self.inner)?)?;
        Ok(row)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        waker::show(&self.inner, &visit)
    }
}

impl Event {
    fn make(
        this: &Bound<'_, Self>,
        names: &'static Names,
        limit: Option<Limit>,
        must_be_awaited: bool,
    ) -> PyResult<Py<PyAny>> {
        let operation = Operation::Event(this.get().inner.wait());
        let owner = this.clone().into_any().unbind();
        let mut wait = Wait::new(names, Some(owner), Work::One(operation), limit);
        wait.must_be_awaited = must_be_awaited;
        allocate(this.py(), wait)
    }
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Event>()
}
