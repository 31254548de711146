//! Waiting for the end of a green thread.

use super::class::allocate;
use super::operations::Operation;
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use motet_sync::Event;
use pyo3::prelude::*;

const JOIN: Names = Names { blocking: "GreenThread.join", awaited: "GreenThread.ajoin" };

/// Blocks until it has ended; false if the time was over before.
pub fn wait_for_green_thread(
    py: Python<'_>,
    done: &Event,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    block(py, &JOIN, Work::One(Operation::Event(done.wait())), Limit::of(timeout, Then::False)?)
}

/// The same, to be awaited.
pub fn await_green_thread(
    green_thread: &Bound<'_, PyAny>,
    done: &Event,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let limit = Limit::of(timeout, Then::False)?;
    let work = Work::One(Operation::Event(done.wait()));
    let mut wait = Wait::new(&JOIN, Some(green_thread.clone().unbind()), work, limit);
    wait.must_be_awaited = true;
    allocate(green_thread.py(), wait)
}
