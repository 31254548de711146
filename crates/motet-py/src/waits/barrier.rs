//! The class `motet.Barrier`.

use super::class::allocate;
use super::operations::Operation;
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{parties, waker};
use motet_sync::Inspect;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

/// So many wait for one another, then all go on; thread-safe.
#[pyclass(frozen, subclass, weakref, module = "motet._motet", name = "BarrierCore")]
pub struct Barrier {
    inner: motet_sync::Barrier,
    parties: usize,
}

const WAIT: Names = Names { blocking: "Barrier.wait", awaited: "Barrier.await_" };

#[pymethods]
impl Barrier {
    #[new]
    fn new(parties: isize) -> PyResult<Self> {
        let parties = usize::try_from(parties)
            .ok()
            .filter(|&parties| parties > 0)
            .ok_or_else(|| PyValueError::new_err(format!("parties must be one or more, not {parties}")))?;
        Ok(Self { inner: motet_sync::Barrier::new(parties), parties })
    }

    /// How many it is for.
    #[getter]
    fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.inner.inspect().waiters.len()
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> bool {
        self.inner.is_broken()
    }

    /// Breaks it: all who wait, and who comes until reset(), are told.
    fn abort(&self) {
        self.inner.break_up();
    }

    /// As new. Who waits is told that it was broken.
    fn reset(&self) {
        self.inner.mend();
    }

    /// Waits for the others; returns numbers from 0 in the order in which they came.
    fn _wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = Limit::of(timeout, Then::Raise)?;
        block(py, &WAIT, Work::One(Operation::Barrier(self.inner.wait())), limit)
    }

    /// As _wait(), awaited.
    fn _await(this: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = Limit::of(timeout, Then::Raise)?;
        let work = Work::One(Operation::Barrier(this.get().inner.wait()));
        allocate(this.py(), Wait::new(&WAIT, Some(this.clone().into_any().unbind()), work, limit))
    }

    /// Who waits.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let row = PyDict::new(py);
        row.set_item("parties", self.parties)?;
        row.set_item("broken", self.inner.is_broken())?;
        row.set_item("waiters", parties::waiting(py, &self.inner)?)?;
        Ok(row)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        waker::show(&self.inner, &visit)
    }
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Barrier>()
}
