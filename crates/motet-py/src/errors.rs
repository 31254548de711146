//! The system's errors as Python's exceptions.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::io;

/// An `OSError` with its number, of the subclass that belongs to the number; pyo3's own conversion keeps the text only.
pub fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text_of(&error, number))),
        None => error.into(),
    }
}

/// The same, of a file that was named so.
pub fn os_error_of(error: io::Error, name: Py<PyAny>) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text_of(&error, number), name)),
        None => error.into(),
    }
}

fn text_of(error: &io::Error, number: i32) -> String {
    let text = error.to_string();
    text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text).to_owned()
}

/// `EBADF`: the descriptor was closed.
pub fn closed_descriptor() -> io::Error {
    rustix::io::Errno::BADF.into()
}
