//! The token of a scope: how its cancellation reaches the waits of threads and green threads.
//!
//! A context variable holds the token of the innermost scope, so those that a scope starts inherit it. Whoever waits waits for the
//! token as well, by the same waker; what it is given at the moment of its cancellation goes to the next. Programs without
//! scopes have no such variable, and pay nothing. Tasks are cancelled by their libraries' own means.

use super::errors;
use super::timeout::{Limit, Then};
use motet_sync::Event;
use motet_sync::event::WaitForEvent;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit, ffi};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// What the waits of a scope look at. Thread-safe.
#[pyclass(frozen, module = "motet._motet", name = "_Token")]
pub struct Token {
    cancelled: Event,
    deadline: Mutex<Option<Instant>>,
    /// Called by a wait that finds that the time is over.
    expire: Py<PyAny>,
}

/// The context variable.
static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A wait's part in its scope.
pub struct Watched {
    token: Py<Token>,
    cancelled: WaitForEvent,
}

/// The token of the scope that runs here.
fn current(py: Python<'_>) -> PyResult<Option<Py<Token>>> {
    let Some(variable) = CURRENT.get(py) else { return Ok(None) };
    let mut value = std::ptr::null_mut();
    // SAFETY: a context variable (`_use_tokens` has checked that) and room for one result, which is a new reference or null.
    let value = unsafe {
        if ffi::PyContextVar_Get(variable.as_ptr(), std::ptr::null_mut(), &mut value) < 0 {
            return Err(PyErr::fetch(py));
        }
        Bound::from_owned_ptr_or_opt(py, value)
    };
    Ok(value.and_then(|value| value.cast_into::<Token>().ok()).map(Bound::unbind))
}

impl Watched {
    /// What a wait that begins here is to watch.
    ///
    /// # Errors
    /// `Cancelled`: the scope is cancelled already.
    pub fn here(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(token) = current(py)? else { return Ok(None) };
        token.get().check(py)?;
        let cancelled = token.get().cancelled.wait();
        Ok(Some(Self { token, cancelled }))
    }

    /// Whether the scope is cancelled; otherwise this waker is woken when it is.
    pub fn is_cancelled(&mut self, waker: &Waker) -> bool {
        Pin::new(&mut self.cancelled).poll(&mut Context::from_waker(waker)).is_ready()
    }

    /// The limit of a wait, or that of the scope if it comes first.
    pub fn sooner(&self, limit: Option<Limit>) -> Option<Limit> {
        let deadline = *self.token.get().deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(deadline) = deadline else { return limit };
        let left = deadline.saturating_duration_since(Instant::now());
        match limit {
            Some(limit) if limit.after <= left => Some(limit),
            _ => Some(Limit { after: left, then: Then::EndScope }),
        }
    }

    /// The scope's time is over.
    pub fn expire(&self, py: Python<'_>) -> PyErr {
        match self.token.get().expire.call0(py) {
            Ok(_) => errors::cancelled(py),
            Err(error) => error,
        }
    }

    pub fn drop_ref(self, py: Python<'_>) {
        let Self { token, cancelled } = self;
        drop(cancelled);
        token.drop_ref(py);
    }
}

impl Token {
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.cancelled.is_set() {
            return Err(errors::cancelled(py));
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.expire.call0(py)?;
            return Err(errors::cancelled(py));
        }
        Ok(())
    }
}

#[pymethods]
impl Token {
    #[new]
    fn new(expire: Py<PyAny>) -> Self {
        Self { cancelled: Event::new(), deadline: Mutex::new(None), expire }
    }

    /// All waits of the scope raise from now on.
    fn cancel(&self) {
        self.cancelled.set();
    }

    /// So many seconds are left; None for any number.
    fn limit(&self, seconds: Option<f64>) {
        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.expire)?;
        super::waker::show(&self.cancelled, &visit)
    }
}

/// Names the context variable that holds the token of the innermost scope.
#[pyfunction]
fn _use_tokens(variable: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: looks at the type of a valid reference.
    if unsafe { ffi::PyContextVar_CheckExact(variable.as_ptr()) } == 0 {
        return Err(pyo3::exceptions::PyTypeError::new_err("not a context variable"));
    }
    let _ = CURRENT.set(variable.py(), variable.clone().unbind());
    Ok(())
}

/// Raises `Cancelled` if the scope is cancelled or its time is over.
#[pyfunction]
fn _check_scope(py: Python<'_>) -> PyResult<()> {
    match current(py)? {
        Some(token) => token.get().check(py),
        None => Ok(()),
    }
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Token>()?;
    module.add_function(wrap_pyfunction!(_use_tokens, module)?)?;
    module.add_function(wrap_pyfunction!(_check_scope, module)?)
}
