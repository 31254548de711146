//! Large `bytes` that are written in place, where copying them would be dearer than shrinking the object.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::mem::MaybeUninit;

unsafe extern "C" {
    /// Part of the interpreter's documented interface, left out of pyo3's.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A new object of the length that `write` says it has written, at most `capacity`; and what else it says.
pub fn fill<'py, R>(
    py: Python<'py>,
    capacity: usize,
    write: impl FnOnce(&mut [MaybeUninit<u8>]) -> (usize, R),
) -> PyResult<(Bound<'py, PyBytes>, R)> {
    // SAFETY: an object of this size with unwritten contents, which nobody else has seen; null with an exception set otherwise.
    let object = unsafe {
        let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), capacity as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, object)?
    };
    // SAFETY: the contents of that object, `capacity` bytes, which only this function can reach.
    let memory = unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr()).cast::<MaybeUninit<u8>>();
        std::slice::from_raw_parts_mut(start, capacity)
    };
    let (count, result) = write(memory);
    let mut pointer = object.into_ptr();
    // SAFETY: the only reference to an object that nobody has hashed. Where it fails the object is gone, the pointer is null and an
    // exception is set.
    let object = unsafe {
        _PyBytes_Resize(&raw mut pointer, count as ffi::Py_ssize_t);
        Bound::from_owned_ptr_or_err(py, pointer)?
    };
    Ok((object.cast_into::<PyBytes>()?, result))
}
