//! `bytes` as the memory of requests: data is read into them and written from them where they are.

use motet_files::Memory;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A `bytes` object that a request works with.
///
/// It goes where the request goes, also to threads that know no Python. One that is dropped there, because its loop is gone, is
/// let go when a thread attaches to the interpreter next: pyo3 sees to that.
pub struct Bytes {
    object: Py<PyBytes>,
    address: *mut u8,
    length: usize,
    for_reading: bool,
}

// SAFETY: the pointer is into the object, which moves along.
unsafe impl Send for Bytes {}

// SAFETY: contents of a `bytes` object stay where they are while it lives, and `object` keeps it alive. They never change, but
// for those of a new object that nobody else has seen yet: these may be written to.
unsafe impl Memory for Bytes {
    fn address(&self) -> *mut u8 {
        self.address
    }

    fn length(&self) -> usize {
        self.length
    }
}

impl Bytes {
    /// Memory for so many bytes that are to be read.
    ///
    /// # Errors
    /// `MemoryError`, `OverflowError`.
    pub fn new(py: Python<'_>, length: usize) -> PyResult<Self> {
        let length = ffi::Py_ssize_t::try_from(length)?;
        // SAFETY: an object of this size with unwritten contents, which nobody else has seen; null with an exception set otherwise.
        let object = unsafe {
            let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), length);
            Bound::from_owned_ptr_or_err(py, object)?.cast_into::<PyBytes>()?
        };
        Ok(Self { for_reading: true, ..Self::of(&object) })
    }

    /// Data that is to be written.
    pub fn of(object: &Bound<'_, PyBytes>) -> Self {
        // SAFETY: the contents of a `bytes` object.
        let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast();
        Self {
            address,
            length: object.len().unwrap_or_default(),
            object: object.clone().unbind(),
            for_reading: false,
        }
    }

    /// Whether it was made to be read into.
    pub fn is_for_reading(&self) -> bool {
        self.for_reading
    }

    /// The first `count` bytes, all of which have been read.
    pub fn filled(self, py: Python<'_>, count: usize) -> Bound<'_, PyBytes> {
        if count == self.length {
            return self.object.into_bound(py);
        }
        assert!(count < self.length);
        // SAFETY: these were written; the request that wrote them has ended.
        PyBytes::new(py, unsafe { std::slice::from_raw_parts(self.address, count) })
    }
}
