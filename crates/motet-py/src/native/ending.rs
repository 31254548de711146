//! What is told when a future or a task goes: of an exception that nobody has asked for, of a coroutine that has not ended.

use super::class::{FutureRef, TaskRef};
use super::state::Status;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Tells of an exception that nobody has asked for.
pub fn finalise_future(future: FutureRef<'_, '_>) {
    if !future.with(|state| std::mem::take(&mut state.log_traceback)) {
        return;
    }
    tell(future, |py, details| {
        let class = future.object().get_type();
        details.set_item("message", format!("{} exception was never retrieved", class.name()?))?;
        let exception =
            future.with(|state| state.exception.as_ref().map(|exception| exception.clone_ref(py)));
        details.set_item("exception", exception)?;
        details.set_item("future", future.object())
    });
}

/// Tells of a task that goes without having ended.
pub fn finalise_task(task: TaskRef<'_, '_>) {
    let pending = task.future().with(|state| state.event_loop.is_some() && state.status == Status::Pending);
    if pending && !task.with(|state| state.hide_destruction) {
        tell(task.future(), |_, details| {
            details.set_item("task", task.object())?;
            details.set_item("message", "Task was destroyed but it is pending!")
        });
    }
}

/// Calls the loop's exception handler from a finaliser, which must leave the current exception alone.
fn tell<'py>(
    future: FutureRef<'_, 'py>,
    fill: impl FnOnce(Python<'py>, &Bound<'py, PyDict>) -> PyResult<()>,
) {
    let py = future.py();
    let current = PyErr::take(py);
    let (event_loop, origin) = future.with(|state| {
        let origin = state.rare().and_then(|rare| rare.source_traceback.as_ref());
        (
            state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)),
            origin.map(|origin| origin.clone_ref(py)),
        )
    });
    let details = PyDict::new(py);
    let told = fill(py, &details).and_then(|()| {
        if let Some(origin) = origin {
            details.set_item("source_traceback", origin)?;
        }
        match event_loop.map(|event_loop| event_loop.into_bound(py)) {
            Some(event_loop) => {
                event_loop.call_method1(intern!(py, "call_exception_handler"), (&details,)).map(drop)
            }
            None => Ok(()),
        }
    });
    if let Err(error) = told {
        error.write_unraisable(py, Some(&future.object()));
    }
    if let Some(current) = current {
        current.restore(py);
    }
}
