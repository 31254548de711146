//! What is known of asyncio's own tasks, in C.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi};
use std::ffi::CStr;

/// The name of the function by which a task hears that what it has waited for is done.
const WAKE_UP: &CStr = c"task_wakeup";

/// Whether a callback wakes a stock task. Such a one asks the future that it is given for its result, and forgets it.
pub fn is_wake_up(callback: &Bound<'_, PyAny>) -> bool {
    static CLASS: PyOnceLock<Option<Py<PyType>>> = PyOnceLock::new();
    let py = callback.py();
    // SAFETY: looks at the type of a valid reference, and then at the fields of a built-in function; its definition lives for as
    // long as its module.
    let owner = unsafe {
        if ffi::PyCFunction_CheckExact(callback.as_ptr()) == 0 {
            return false;
        }
        let function = callback.as_ptr().cast::<ffi::PyCFunctionObject>();
        if CStr::from_ptr((*(*function).m_ml).ml_name) != WAKE_UP || (*function).m_self.is_null() {
            return false;
        }
        Borrowed::from_ptr(py, (*function).m_self)
    };
    let class = CLASS.get_or_init(py, || {
        let module = py.import("_asyncio").ok()?;
        module.getattr("Task").ok()?.cast_into::<PyType>().ok().map(Bound::unbind)
    });
    class.as_ref().is_some_and(|class| owner.is_instance(class.bind(py)).unwrap_or(false))
}
