//! A wait as a future, as the task sees it that waits.

use super::imported;
use super::wait::{Callback, Phase, Wait, Wake, wake};
use crate::call;
use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// Adds a callback, or has it called soon if the wait is over.
pub fn add_callback(
    this: This<'_, '_>,
    wait: &Wait,
    callback: Py<PyAny>,
    context: Py<PyAny>,
) -> PyResult<()> {
    let py = this.py();
    let late = wait.state.with(py, |state| {
        let callback = Callback { callback, context };
        if !matches!(state.phase, Phase::Waiting) {
            return Some(callback);
        }
        if state.first.is_none() {
            state.first = Some(callback);
        } else {
            state.more.push(callback);
        }
        None
    });
    match late {
        Some(Callback { callback, context }) => match wait.home() {
            Some(home) => home.call_soon(py, callback, this.to_owned().unbind(), context),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Removes callbacks that are equal to this one; returns their number.
pub fn remove_callback(this: This<'_, '_>, wait: &Wait, callback: This<'_, '_>) -> PyResult<usize> {
    let py = this.py();
    let known: Vec<Bound<'_, PyAny>> = wait.state.with(py, |state| {
        let callbacks = state.first.iter().chain(&state.more);
        callbacks.map(|known| known.callback.clone_ref(py).into_bound(py)).collect()
    });
    // Comparing may run anything, and fail; what it changes meanwhile stays as it leaves it.
    let mut equal = Vec::new();
    for known in known {
        if known.eq(callback)? {
            equal.push(known);
        }
    }
    let removed: Vec<Callback> = wait.state.with(py, |state| {
        let mut belongs = |known: &mut Callback| equal.iter().any(|equal| equal.is(&known.callback));
        let first = state.first.take_if(&mut belongs);
        first.into_iter().chain(state.more.extract_if(.., belongs)).collect()
    });
    Ok(removed.len())
}

/// Wakes the waiting task to be cancelled; whether anybody waits.
pub fn cancel(this: This<'_, '_>, wait: &Wait, message: Option<Py<PyAny>>) -> PyResult<bool> {
    let py = this.py();
    if !wait.state.with(py, |state| matches!(state.phase, Phase::Waiting)) {
        return Ok(false);
    }
    wait.withdraw(this);
    wake(&this, wait, Wake::Cancelled(message))
}

/// What the future protocol's `result()` returns or raises: None, unless the wait has failed.
pub fn result(wait: &Wait, py: Python<'_>) -> PyResult<()> {
    let copy = |object: &Py<PyAny>| object.clone_ref(py);
    let error = wait.state.with(py, |state| match &state.phase {
        Phase::Woken(Wake::Failed(exception)) => Some(Wake::Failed(copy(exception))),
        Phase::Woken(Wake::Cancelled(message)) => Some(Wake::Cancelled(message.as_ref().map(copy))),
        Phase::Woken(Wake::Ready) | Phase::Over => None,
        Phase::New | Phase::Yielded | Phase::Waiting => Some(Wake::Ready),
    });
    match error {
        None => Ok(()),
        Some(Wake::Failed(exception)) => Err(PyErr::from_value(exception.into_bound(py))),
        Some(Wake::Cancelled(message)) => Err(call::cancelled(py, message)),
        Some(Wake::Ready) => {
            static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let class = imported(&ERROR, py, "asyncio.exceptions", "InvalidStateError")?;
            Err(PyErr::from_value(class.call1(("Result is not ready.",))?))
        }
    }
}

/// Whether the wait has ended, and whether by cancellation.
pub fn is_done(wait: &Wait, py: Python<'_>) -> (bool, bool) {
    wait.state.with(py, |state| match &state.phase {
        Phase::New | Phase::Yielded | Phase::Waiting => (false, false),
        Phase::Woken(Wake::Cancelled(_)) => (true, true),
        Phase::Woken(_) | Phase::Over => (true, false),
    })
}

/// asyncio's mark: nothing while this is a coroutine to the outside, and no future.
pub fn blocking(wait: &Wait, py: Python<'_>) -> Option<bool> {
    wait.state
        .with(py, |state| matches!(state.phase, Phase::Waiting | Phase::Woken(_)).then_some(state.blocking))
}

pub fn set_blocking(wait: &Wait, py: Python<'_>, value: bool) {
    wait.state.with(py, |state| state.blocking = value);
}
