//! greenlet's C interface: a table in a capsule.
//!
//! # Safety
//! The places in the table and the types of its functions are those of `greenlet.h`, which have not changed since greenlet 1.0.

use crate::imported::imported;
use pyo3::exceptions::{PyBaseException, PyImportError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::ffi::c_void;

const NEW: usize = 3;
const GET_CURRENT: usize = 4;
const SWITCH: usize = 6;

type New = unsafe extern "C" fn(run: *mut ffi::PyObject, parent: *mut ffi::PyObject) -> *mut ffi::PyObject;
type GetCurrent = unsafe extern "C" fn() -> *mut ffi::PyObject;
type Switch = unsafe extern "C" fn(
    greenlet: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject;

struct Table(*const *const c_void);

// SAFETY: a table of constants that greenlet's module keeps for ever.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// One of the table's functions.
fn function(py: Python<'_>, place: usize) -> PyResult<*const c_void> {
    static TABLE: PyOnceLock<Table> = PyOnceLock::new();
    let table = TABLE.get_or_try_init(py, || {
        py.import("greenlet").map_err(|error| {
            let missing = PyImportError::new_err(
                "green threads need the package greenlet, which cannot be imported: pip install greenlet",
            );
            missing.set_cause(py, Some(error));
            missing
        })?;
        // SAFETY: the name is a C string; null comes with an exception set.
        let table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0) };
        if table.is_null() { Err(PyErr::fetch(py)) } else { Ok(Table(table.cast_const().cast())) }
    })?;
    // SAFETY: the module's invariant.
    Ok(unsafe { *table.0.add(place) })
}

/// A greenlet that will call `run`, and come back to `parent` when that has ended.
pub fn new(py: Python<'_>, run: &Bound<'_, PyAny>, parent: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: the module's invariant; two valid references. The result is a new reference, or null with an exception set.
    unsafe {
        let new: New = std::mem::transmute(function(py, NEW)?);
        Bound::from_owned_ptr_or_err(py, new(run.as_ptr(), parent.as_ptr())).map(Bound::unbind)
    }
}

/// The greenlet whose stack this is.
pub fn current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: as in `new`.
    unsafe {
        let get_current: GetCurrent = std::mem::transmute(function(py, GET_CURRENT)?);
        Bound::from_owned_ptr_or_err(py, get_current()).map(Bound::unbind)
    }
}

/// Leaves this stack for that of another greenlet; returns when somebody comes back to this one.
///
/// # Errors
/// What is thrown into this greenlet, as when it is collected; greenlet's own, as when the other belongs to another thread.
pub fn switch(py: Python<'_>, target: &Py<PyAny>) -> PyResult<()> {
    // The caller's reference may lie on a stack that is given up.
    let target = target.clone_ref(py);
    // SAFETY: as in `new`; no arguments. What lies on this stack is put aside and comes back to the same place, and nobody has an
    // address of it meanwhile (see the module above).
    let result = unsafe {
        let switch: Switch = std::mem::transmute(function(py, SWITCH)?);
        Bound::from_owned_ptr_or_err(py, switch(target.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut()))
    };
    target.drop_ref(py);
    result.map(drop)
}

static EXIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A `GreenletExit`.
pub fn exit(py: Python<'_>) -> PyResult<Py<PyBaseException>> {
    Ok(imported(&EXIT, py, "greenlet", "GreenletExit")?.call0()?.cast_into::<PyBaseException>()?.unbind())
}

/// Whether this is greenlet's way to end a greenlet.
pub fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    imported(&EXIT, py, "greenlet", "GreenletExit").is_ok_and(|class| error.is_instance(py, class))
}
