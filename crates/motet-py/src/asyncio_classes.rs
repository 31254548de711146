//! The classes that derive from asyncio's, and what makes them.
//!
//! asyncio takes longer to import than the rest of this module together, and worker pools, in the program and in each worker,
//! need none of it. So these are made when a program first asks for one, or makes a loop. That this happens once is the import
//! system's care: the Python module [`MODULE`] makes them as it is imported.

use crate::{datagram, native, tls, transport};
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;

const MODULE: &str = "motet._asyncio_classes";

const NAMES: [&str; 6] =
    ["DatagramTransport", "Future", "SSLTransport", "SocketTransport", "Task", "task_factory"];

/// Announces the names.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let public = module.index()?;
    for name in NAMES {
        public.append(name)?;
    }
    module.add_function(wrap_pyfunction!(make, module)?)?;
    module.setattr("__getattr__", wrap_pyfunction!(get_attribute, module)?)
}

/// Sees to it that the classes are there. Nothing that belongs to a loop is used before.
pub fn ensure(py: Python<'_>) -> PyResult<()> {
    py.import(MODULE).map(drop)
}

/// Makes the classes; for the module that this is named after.
#[pyfunction]
#[pyo3(pass_module, name = "_make_asyncio_classes")]
fn make(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    native::make(module)?;
    module.setattr("DatagramTransport", datagram::transport_type(py)?)?;
    module.setattr("SocketTransport", transport::transport_type(py)?)?;
    module.setattr("SSLTransport", tls::tls_type(py)?)
}

/// What the module has not got yet.
#[pyfunction]
#[pyo3(pass_module, name = "__getattr__")]
fn get_attribute<'py>(module: &Bound<'py, PyModule>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    if NAMES.contains(&name) {
        ensure(module.py())?;
        if let Some(found) = module.dict().get_item(name)? {
            return Ok(found);
        }
    }
    Err(PyAttributeError::new_err(format!("module 'motet._motet' has no attribute '{name}'")))
}
