//! Who holds and who waits: threads by Python's number of them, tasks by the address of the object.

use super::{class, waker};
use crate::green::GreenThread;
use crate::home::{is_loaded, running_loop};
use crate::imported::imported;
use crate::sys::thread_token;
use motet_sync::inspect::Body;
use motet_sync::{Inspect, Party};
use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use std::time::Instant;

const PARTIES: &str = "motet._waits.parties";
static NAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static NAME_OF_WAITER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// This thread.
pub fn this_thread() -> Party {
    Party { body: Body::Thread, number: thread_token() as u64 }
}

/// The task whose object has this address.
pub fn task(address: u64) -> Party {
    Party { body: Body::Task, number: address }
}

/// A green thread.
pub fn green(body: &Py<GreenThread>) -> Party {
    Party { body: Body::Green, number: body.as_ptr().addr() as u64 }
}

/// Whoever waits by this object, a `Wait`: a task that need not be looked for before somebody asks.
pub fn waiter(wait: Borrowed<'_, '_, PyAny>) -> Party {
    task(wait.as_ptr().addr() as u64)
}

/// The task that runs on this loop, which is this thread's.
pub fn current_task(py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<Party> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = imported(&FUNCTION, py, "asyncio.tasks", "current_task")?.call1((event_loop,))?;
    // A callback of the loop's has no task.
    Ok(if current.is_none() { this_thread() } else { task(current.as_ptr().addr() as u64) })
}

/// Whoever runs here: the task, if it is one, or the thread.
pub fn here(py: Python<'_>) -> PyResult<Party> {
    if let Some(body) = crate::green::here(py)?
        && !body.get().is_root()
    {
        return Ok(green(&body));
    }
    if let Some(task_of_trio) = current_task_of_trio(py)? {
        return Ok(task(task_of_trio.as_ptr().addr() as u64));
    }
    match running_loop(py)? {
        Some(event_loop) => current_task(py, &event_loop.unbind()),
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
pub fn waiting<'py>(py: Python<'py>, primitive: &impl Inspect) -> PyResult<Bound<'py, PyList>> {
    let waits = waker::objects(py, primitive);
    let now = Instant::now();
    let rows: PyResult<Vec<_>> = primitive
        .inspect()
        .waiters
        .iter()
        .map(|waiting| {
            let row = PyDict::new(py);
            let wait = waits.iter().find(|wait| waiter(wait.as_borrowed()) == waiting.party);
            row.set_item(
                "who",
                match wait {
                    Some(wait) => imported(&NAME_OF_WAITER, py, PARTIES, "name_of_waiter")?
                        .call1((class::whose(wait),))?,
                    None => name(py, waiting.party)?,
                },
            )?;
            row.set_item("wants", waiting.wants)?;
            row.set_item("seconds", now.saturating_duration_since(waiting.since).as_secs_f64())?;
            Ok(row)
        })
        .collect();
    PyList::new(py, rows?)
}

fn name<'py>(py: Python<'py>, party: Party) -> PyResult<Bound<'py, PyAny>> {
    let body = match party.body {
        Body::Thread => "thread",
        Body::Task => "task",
        Body::Green => "green thread",
        Body::Process => "process",
    };
    imported(&NAME, py, PARTIES, "name")?.call1((body, party.number))
}
