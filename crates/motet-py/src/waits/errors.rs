//! The exceptions of channels and waits, which Python makes (`motet/_waits/errors.py`).

use crate::imported::imported;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// An exception of `motet._waits.errors`.
fn error(place: &'static PyOnceLock<Py<PyAny>>, py: Python<'_>, name: &str, text: &str) -> PyErr {
    match imported(place, py, "motet._waits.errors", name).and_then(|class| class.call1((text,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// `Closed`; `cause` is what the channel was closed with.
pub fn closed(py: Python<'_>, cause: Option<&Py<PyAny>>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let error = error(&CLASS, py, "Closed", "the channel is closed");
    if let Some(cause) = cause {
        error.set_cause(py, Some(PyErr::from_value(cause.clone_ref(py).into_bound(py))));
    }
    error
}

pub fn full(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error(&CLASS, py, "Full", "the channel is full")
}

pub fn empty(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error(&CLASS, py, "Empty", "the channel is empty")
}

pub fn broken_barrier(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error(&CLASS, py, "BrokenBarrier", "the barrier is broken")
}

pub fn cancelled(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error(&CLASS, py, "Cancelled", "the scope was cancelled")
}

pub fn would_block(py: Python<'_>, text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error(&CLASS, py, "WouldBlock", text)
}
