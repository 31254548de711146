//! The class `motet._motet.File`: an open file without a buffer, and the functions that need none.
//!
//! Each call returns a future of the loop that it is given. Who calls sees to it that one request of a file follows the other;
//! `motet._files` does.

use super::bytes::Bytes;
use super::start;
use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::Loop;
use motet_files::{File as OpenFile, Request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{ffi, wrap_pyfunction};
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

/// An open file. Its descriptor is closed by `close()`, or when this and all requests that use it are gone.
#[pyclass(frozen, module = "motet._motet")]
pub struct File {
    file: Mutex<Option<Arc<OpenFile>>>,
}

impl File {
    pub fn new(file: OpenFile) -> Self {
        Self { file: Mutex::new(Some(Arc::new(file))) }
    }

    fn open(&self) -> PyResult<Arc<OpenFile>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone().ok_or_else(|| PyValueError::new_err("I/O operation on closed file."))
    }
}

type Future<'py> = PyResult<Bound<'py, PyAny>>;

#[pymethods]
impl File {
    #[new]
    fn adopt(descriptor: i32, closes: bool) -> PyResult<Self> {
        if descriptor < 0 {
            return Err(os_error(closed_descriptor()));
        }
        // SAFETY: a number that the program has and vouches for, as with the built-in `open`; one that is not open is refused.
        unsafe { OpenFile::adopt(descriptor, closes) }.map(Self::new).map_err(os_error)
    }

    /// The descriptor's number.
    fn fileno(&self) -> PyResult<i32> {
        self.open().map(|file| file.number())
    }

    /// What one read of at most `size` bytes gives.
    fn read<'py>(&self, event_loop: &Bound<'py, Loop>, size: usize) -> Future<'py> {
        let file = self.open()?;
        start(event_loop, Request::Read(file, Bytes::new(event_loop.py(), size)?), None)
    }

    /// All from the position to the end.
    fn read_rest<'py>(&self, event_loop: &Bound<'py, Loop>) -> Future<'py> {
        start(event_loop, Request::Rest(self.open()?), None)
    }

    /// Writes; the count is less than all where an error stopped it.
    fn write<'py>(&self, event_loop: &Bound<'py, Loop>, data: &Bound<'py, PyBytes>) -> Future<'py> {
        start(event_loop, Request::Write(self.open()?, Bytes::of(data)), None)
    }

    /// Cuts the file off, or extends it.
    fn truncate<'py>(&self, event_loop: &Bound<'py, Loop>, size: u64) -> Future<'py> {
        start(event_loop, Request::Truncate(self.open()?, size), None)
    }

    /// Has the system bring the content to the disk.
    fn sync<'py>(&self, event_loop: &Bound<'py, Loop>) -> Future<'py> {
        start(event_loop, Request::Sync(self.open()?), None)
    }

    /// Closes it. From now on it is closed for everybody else.
    fn close<'py>(&self, event_loop: &Bound<'py, Loop>) -> Future<'py> {
        let file = self.open()?;
        // This drops one of two references, and so closes nothing.
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        start(event_loop, Request::Close(file), None)
    }
}

/// The path as the system wants it.
fn path_of(path: &Bound<'_, PyAny>) -> PyResult<CString> {
    let mut converted: *mut ffi::PyObject = std::ptr::null_mut();
    // SAFETY: a valid reference and a place for the result, a new reference to `bytes` where it succeeds; otherwise an exception
    // is set.
    let converted = unsafe {
        if ffi::PyUnicode_FSConverter(path.as_ptr(), (&raw mut converted).cast()) == 0 {
            return Err(PyErr::fetch(path.py()));
        }
        Bound::from_owned_ptr(path.py(), converted).cast_into::<PyBytes>()?
    };
    Ok(CString::new(converted.as_bytes())?)
}

/// A future of all that is in a file.
#[pyfunction]
#[pyo3(name = "_read_file")]
fn read_file<'py>(event_loop: &Bound<'py, Loop>, path: &Bound<'py, PyAny>) -> Future<'py> {
    start(event_loop, Request::ReadFile(path_of(path)?), Some(path.clone().unbind()))
}

/// A future of how much was written to a file, whose content it replaces.
#[pyfunction]
#[pyo3(name = "_write_file")]
fn write_file<'py>(
    event_loop: &Bound<'py, Loop>,
    path: &Bound<'py, PyAny>,
    data: &Bound<'py, PyBytes>,
) -> Future<'py> {
    start(event_loop, Request::WriteFile(path_of(path)?, Bytes::of(data)), Some(path.clone().unbind()))
}

/// A future of a `File`, opened with the flags of `os.open`.
#[pyfunction]
#[pyo3(name = "_open_file")]
fn open_file<'py>(event_loop: &Bound<'py, Loop>, path: &Bound<'py, PyAny>, flags: i32) -> Future<'py> {
    start(event_loop, Request::Open(path_of(path)?, flags), Some(path.clone().unbind()))
}

/// Puts the functions into the module.
pub fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read_file, module)?)?;
    module.add_function(wrap_pyfunction!(write_file, module)?)?;
    module.add_function(wrap_pyfunction!(open_file, module)?)
}
