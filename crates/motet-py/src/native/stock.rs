//! What is asyncio's: classes and functions that are looked up once.

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

looked_up!(cancelled_error, PyType, "asyncio.exceptions", "CancelledError");
looked_up!(invalid_state_error, PyType, "asyncio.exceptions", "InvalidStateError");
looked_up!(is_coroutine, PyAny, "asyncio.coroutines", "iscoroutine");
looked_up!(future_loop, PyAny, "asyncio.futures", "_get_loop");
looked_up!(describe_future, PyAny, "asyncio.base_futures", "_future_repr");
looked_up!(describe_task, PyAny, "asyncio.base_tasks", "_task_repr");
looked_up!(stack, PyAny, "asyncio.base_tasks", "_task_get_stack");
looked_up!(print_stack, PyAny, "asyncio.base_tasks", "_task_print_stack");
looked_up!(extract_stack, PyAny, "traceback", "extract_stack");

pub fn invalid_state(py: Python<'_>, text: &str) -> PyErr {
    match invalid_state_error(py) {
        Ok(class) => PyErr::from_type(class.clone(), text.to_owned()),
        Err(error) => error,
    }
}

/// The loop of a future that was given none.
pub fn default_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // Looked up each time: tests and programs replace it.
    py.import("asyncio.events")?.call_method0("get_event_loop")
}
