//! What is Python's own: classes and functions that are looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! looked_up {
    ($name:ident, $kind:ty, $module:literal, $attribute:literal) => {
        pub fn $name(py: Python<'_>) -> PyResult<&Bound<'_, $kind>> {
            static FOUND: PyOnceLock<Py<$kind>> = PyOnceLock::new();
            let found = FOUND.get_or_try_init(py, || {
                Ok::<_, PyErr>(py.import($module)?.getattr($attribute)?.cast_into::<$kind>()?.unbind())
            })?;
            Ok(found.bind(py))
        }
    };
}

looked_up!(allocate_lock, PyAny, "_thread", "allocate_lock");
looked_up!(call_future, PyType, "motet._executor.futures", "CallFuture");
looked_up!(cancelled_error, PyType, "concurrent.futures._base", "CancelledError");
looked_up!(condition, PyAny, "motet._executor.condition", "FutureCondition");
looked_up!(invalid_state_error, PyType, "concurrent.futures._base", "InvalidStateError");
looked_up!(logger, PyAny, "concurrent.futures._base", "LOGGER");
looked_up!(main_thread, PyAny, "threading", "main_thread");

/// The error of a class that was looked up, or of looking it up.
pub fn error(class: PyResult<&Bound<'_, PyType>>, text: Option<String>) -> PyErr {
    match (class, text) {
        (Ok(class), Some(text)) => PyErr::from_type(class.clone(), text),
        (Ok(class), None) => PyErr::from_type(class.clone(), ()),
        (Err(error), _) => error,
    }
}
