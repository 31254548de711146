//! A wait as a future, as the task sees it that waits.

use super::wait::{Callback, Phase, Wait, Woken};
use crate::call;
use crate::home::Home;
use crate::imported::imported;
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
            return Some((callback, state.home.as_ref().map(|home| home.clone_ref(py))));
        }
        if state.first.is_none() {
            state.first = Some(callback);
        } else {
            state.more.push(callback);
        }
        None
    });
    match late {
        Some((Callback { callback, context }, Some(home))) => {
            home.send_call(py, callback, this.to_owned().unbind(), context)
        }
        _ => Ok(()),
    }
}

/// Removes callbacks that are equal to this one; returns their number.
pub fn remove_callback(wait: &Wait, callback: This<'_, '_>) -> PyResult<usize> {
    let py = callback.py();
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

/// What the future protocol's `result()` returns or raises: nothing that matters, unless the wait was cancelled. What it has
/// waited for goes to the coroutine.
pub fn result(wait: &Wait, py: Python<'_>) -> PyResult<()> {
    let ended = wait.state.with(py, |state| match &state.phase {
        Phase::Woken(Woken::Cancelled(message)) => {
            Some(Err(message.as_ref().map(|message| message.clone_ref(py))))
        }
        Phase::Woken(_) | Phase::Over => Some(Ok(())),
        Phase::New | Phase::Waiting => None,
    });
    match ended {
        Some(Ok(())) => Ok(()),
        Some(Err(message)) => Err(call::cancelled(py, message)),
        None => {
            static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let class = imported(&ERROR, py, "asyncio.exceptions", "InvalidStateError")?;
            Err(PyErr::from_value(class.call1(("Result is not ready.",))?))
        }
    }
}

/// Whether the wait has ended, and whether by cancellation.
pub fn is_done(wait: &Wait, py: Python<'_>) -> (bool, bool) {
    wait.state.with(py, |state| match &state.phase {
        Phase::New | Phase::Waiting => (false, false),
        Phase::Woken(Woken::Cancelled(_)) => (true, true),
        Phase::Woken(_) | Phase::Over => (true, false),
    })
}

/// Where it is, in a word.
pub fn stage(wait: &Wait, py: Python<'_>) -> &'static str {
    wait.state.with(py, |state| match &state.phase {
        Phase::New => "not begun",
        Phase::Waiting => "waiting",
        Phase::Woken(_) => "woken",
        Phase::Over => "over",
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

/// The loop on which it waits, or None.
pub fn event_loop(wait: &Wait, py: Python<'_>) -> Py<PyAny> {
    wait.state
        .with(py, |state| state.home.as_ref().map(Home::object).map(|object| object.clone_ref(py)))
        .unwrap_or_else(|| py.None())
}
