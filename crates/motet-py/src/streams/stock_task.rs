//! What is known of asyncio's own tasks, in C.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::ffi::CStr;

/// The name of the function by which a task hears that what it has waited for is done.
const WAKE_UP: &CStr = c"task_wakeup";

/// Whether a callback wakes a stock task. Such a one asks the future that it is given for its result, and forgets it.
pub fn is_wake_up(callback: &Bound<'_, PyAny>) -> bool {
    static CLASS: PyOnceLock<Option<Py<PyType>>> = PyOnceLock::new();
    let py = callback.py();
    let class = CLASS.get_or_init(py, || {
        let module = py.import("_asyncio").ok()?;
        module.getattr("Task").ok()?.cast_into::<PyType>().ok().map(Bound::unbind)
    });
    let Some(class) = class else { return false };
    // SAFETY: looks at the type of a valid reference, and then at the fields of a built-in function; its definition lives for as
    // long as its module.
    unsafe {
        if ffi::PyCFunction_CheckExact(callback.as_ptr()) == 0 {
            return false;
        }
        let function = callback.as_ptr().cast::<ffi::PyCFunctionObject>();
        let owner = (*function).m_self;
        !owner.is_null()
            && ffi::PyObject_TypeCheck(owner, class.as_ptr().cast()) != 0
            && CStr::from_ptr((*(*function).m_ml).ml_name) == WAKE_UP
    }
}
