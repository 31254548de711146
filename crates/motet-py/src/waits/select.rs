//! `motet.select`, `motet.aselect`, `motet.sleep`, `motet.asleep`, `motet.after`.

use super::class::{allocate, try_body};
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::{Several, Work};
use crate::imported::imported;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

const SELECT: Names = Names { blocking: "motet.select", awaited: "motet.aselect" };
const SLEEP: Names = Names { blocking: "motet.sleep", awaited: "motet.asleep" };

/// What a select returns.
pub fn selected(py: Python<'_>, place: usize, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    imported(&CLASS, py, "motet._waits.selecting", "Selected")?.call1((place, value)).map(Bound::unbind)
}

/// Takes the operations out of the objects that programs have of them.
fn work(
    operations: &Bound<'_, PyTuple>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Work, Option<Limit>)> {
    let py = operations.py();
    let mut limit = Limit::of(timeout, Then::Raise)?;
    if operations.is_empty() {
        return Err(PyTypeError::new_err("a select needs one operation at least, such as channel.getting()"));
    }
    for (place, operation) in operations.iter().enumerate() {
        let Some(wait) = try_body(&operation) else {
            return Err(PyTypeError::new_err(format!(
                "operation {place} of the select must be something like channel.getting() or event.waiting(), not {}",
                operation.get_type().name()?
            )));
        };
        if !wait.is_new(py) || operations.iter().take(place).any(|earlier| earlier.is(&operation)) {
            return Err(PyValueError::new_err(format!(
                "operation {place} of the select was awaited or selected before; make a new one each time"
            )));
        }
    }
    let mut several = Vec::with_capacity(operations.len());
    for (place, operation) in operations.iter().enumerate() {
        let wait = try_body(&operation).expect("seen above");
        match wait.take_work(py) {
            Some(Work::One(operation)) => several.push((place, operation)),
            Some(Work::Time) => {
                let own = wait.limit().map(|own| Limit { then: Then::Select(place), ..own });
                limit = sooner(limit, own);
            }
            Some(Work::Several(_) | Work::Done(_)) | None => {
                return Err(PyValueError::new_err(format!("operation {place} cannot be part of a select")));
            }
        }
    }
    Ok((Work::Several(Several::new(several)), limit))
}

/// The one that is over first.
fn sooner(one: Option<Limit>, other: Option<Limit>) -> Option<Limit> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.after < one.after { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[pyfunction]
#[pyo3(name = "_select", signature = (*operations, timeout=None))]
fn select(operations: &Bound<'_, PyTuple>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let (work, limit) = work(operations, timeout)?;
    block(operations.py(), &SELECT, work, limit)
}

#[pyfunction]
#[pyo3(name = "_aselect", signature = (*operations, timeout=None))]
fn aselect(operations: &Bound<'_, PyTuple>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let (work, limit) = work(operations, timeout)?;
    // The objects of the operations keep what these are about alive.
    let mut wait = Wait::new(&SELECT, Some(operations.clone().into_any().unbind()), work, limit);
    wait.must_be_awaited = true;
    allocate(operations.py(), wait)
}

#[pyfunction]
#[pyo3(name = "_sleep")]
fn sleep(py: Python<'_>, seconds: f64) -> PyResult<Py<PyAny>> {
    block(py, &SLEEP, Work::Time, Some(Limit::seconds(seconds, Then::Finish)?))
}

#[pyfunction]
#[pyo3(name = "_asleep")]
fn asleep(py: Python<'_>, seconds: f64) -> PyResult<Py<PyAny>> {
    let mut wait = Wait::new(&SLEEP, None, Work::Time, Some(Limit::seconds(seconds, Then::Finish)?));
    wait.must_be_awaited = true;
    allocate(py, wait)
}

#[pyfunction]
#[pyo3(name = "_after")]
fn after(py: Python<'_>, seconds: f64) -> PyResult<Py<PyAny>> {
    let limit = Limit::seconds(seconds, Then::Finish)?;
    allocate(py, Wait::new(&SLEEP, None, Work::Time, Some(limit)))
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(select, module)?)?;
    module.add_function(wrap_pyfunction!(aselect, module)?)?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(asleep, module)?)?;
    module.add_function(wrap_pyfunction!(after, module)?)
}
