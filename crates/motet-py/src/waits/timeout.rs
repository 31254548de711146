//! How long a wait may last, and what then.

use super::{errors, operations, select};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use std::time::Duration;

/// The end of a wait by time.
#[derive(Clone, Copy)]
pub struct Limit {
    pub after: Duration,
    pub then: Then,
}

/// What a wait gives when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It raises TimeoutError.
    Raise,
    /// False.
    False,
    /// None: it was to wait for just that.
    Finish,
    /// The scope in which it waits ends.
    EndScope,
    /// This one of the operations of a select was to wait for just that.
    Select(usize),
}

impl Limit {
    /// The limit that a `timeout` argument gives, if it is not None.
    ///
    /// # Errors
    /// `TypeError`, `ValueError`: it is no number of seconds.
    pub fn of(timeout: Option<&Bound<'_, PyAny>>, then: Then) -> PyResult<Option<Self>> {
        let Some(timeout) = timeout.filter(|timeout| !timeout.is_none()) else { return Ok(None) };
        Self::seconds(timeout.extract()?, then).map(Some)
    }

    /// So many seconds.
    ///
    /// # Errors
    /// `ValueError`: it is negative, or not a number.
    pub fn seconds(seconds: f64, then: Then) -> PyResult<Self> {
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err(format!(
                "timeout must be a number of seconds that is not negative, not {seconds}"
            )));
        }
        // Whoever waits for centuries waits for ever.
        Ok(Self { after: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX), then })
    }

    /// What the arguments of `threading.Lock.acquire` mean.
    ///
    /// # Errors
    /// As there.
    pub fn of_acquire(blocking: bool, timeout: f64) -> PyResult<Option<Self>> {
        match (blocking, timeout) {
            (true, -1.0) => Ok(None),
            (false, -1.0) => Ok(Some(Self { after: Duration::ZERO, then: Then::False })),
            (false, _) => Err(PyValueError::new_err("can't specify a timeout for a non-blocking call")),
            (true, seconds) => Self::seconds(seconds, Then::False).map(Some),
        }
    }
}

impl Then {
    /// What the wait gives.
    ///
    /// # Errors
    /// `TimeoutError`.
    pub fn outcome(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Raise => Err(PyTimeoutError::new_err(())),
            Self::False => Ok(operations::truth(py, false)),
            Self::Finish => Ok(py.None()),
            Self::EndScope => Err(errors::cancelled(py)),
            Self::Select(place) => select::selected(py, place, py.None()),
        }
    }
}
