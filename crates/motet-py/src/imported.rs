//! What is Python's own, looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// An object of a module of Python's that is looked up once.
pub fn imported<'py>(
    place: &'static PyOnceLock<Py<PyAny>>,
    py: Python<'py>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found = place.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(found.bind(py))
}
