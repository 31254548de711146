//! The system's errors as Python's exceptions.

use pyo3::PyErr;
use pyo3::exceptions::PyOSError;
use std::io;

/// An `OSError` with its number, of the subclass that belongs to the number; pyo3's own conversion keeps the text only.
pub fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.strip_suffix(&format!(" (os error {number})")).unwrap_or(&text).to_owned();
            PyOSError::new_err((number, text))
        }
        None => error.into(),
    }
}

/// `EBADF`: the descriptor was closed.
pub fn closed_descriptor() -> io::Error {
    rustix::io::Errno::BADF.into()
}
