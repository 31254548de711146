//! Who holds and who waits: threads by Python's number of them, tasks by the address of the object.

use super::home::{is_loaded, running_loop};
use crate::imported::imported;
use crate::sys::thread_token;
use motet_sync::Party;
use motet_sync::inspect::{Body, Waiting};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use std::time::Instant;

/// This thread.
pub fn this_thread() -> Party {
    Party { body: Body::Thread, number: thread_token() as u64 }
}

/// The task whose object has this address.
pub fn task(address: u64) -> Party {
    Party { body: Body::Task, number: address }
}

/// The task that runs on this loop, which is this thread's.
pub fn current_task(py: Python<'_>, event_loop: Option<&Py<PyAny>>) -> PyResult<Party> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = imported(&FUNCTION, py, "_asyncio", "current_task")?.call1((event_loop,))?;
    // A callback of the loop's has no task.
    Ok(if current.is_none() { this_thread() } else { task(current.as_ptr().addr() as u64) })
}

/// Whoever runs here: the task, if it is one, or the thread.
pub fn here(py: Python<'_>) -> PyResult<Party> {
    if let Some(task_of_trio) = current_task_of_trio(py)? {
        return Ok(task(task_of_trio.as_ptr().addr() as u64));
    }
    match running_loop(py)? {
        Some(event_loop) => current_task(py, Some(&event_loop.unbind())),
        None => Ok(this_thread()),
    }
}

/// Whether this is within trio's loop.
pub fn is_in_trio(py: Python<'_>) -> PyResult<bool> {
    Ok(current_task_of_trio(py)?.is_some())
}

fn current_task_of_trio(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if !is_loaded(py, intern!(py, "trio"))? {
        return Ok(None);
    }
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = imported(&FUNCTION, py, "motet._waits.in_trio", "current_task")?.call0()?;
    Ok((!current.is_none()).then_some(current))
}

/// Those who hold something, in words.
pub fn names<'py>(py: Python<'py>, parties: &[Party]) -> PyResult<Bound<'py, PyList>> {
    let names: PyResult<Vec<_>> = parties.iter().map(|&party| name(py, party)).collect();
    PyList::new(py, names?)
}

/// Those who wait, in words: who, what for, and for how many seconds.
pub fn waiting<'py>(py: Python<'py>, waiters: &[Waiting]) -> PyResult<Bound<'py, PyList>> {
    let now = Instant::now();
    let rows: PyResult<Vec<_>> = waiters
        .iter()
        .map(|waiting| {
            let row = PyDict::new(py);
            row.set_item("who", name(py, waiting.party)?)?;
            row.set_item("wants", waiting.wants)?;
            row.set_item("seconds", now.saturating_duration_since(waiting.since).as_secs_f64())?;
            Ok(row)
        })
        .collect();
    PyList::new(py, rows?)
}

fn name<'py>(py: Python<'py>, party: Party) -> PyResult<Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let body = match party.body {
        Body::Thread => "thread",
        Body::Task => "task",
        Body::Green => "green thread",
        Body::Process => "process",
    };
    imported(&FUNCTION, py, "motet._waits.parties", "name")?.call1((body, party.number))
}
