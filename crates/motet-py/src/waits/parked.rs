//! The wait of a green thread: a `Wait` that calls back.

use super::class::{allocate, own};
use super::parties;
use super::wait::{self, Step, Wait};
use crate::event_loop::Loop;
use crate::green::GreenThread;
use pyo3::Borrowed;
use pyo3::intern;
use pyo3::prelude::*;
use std::time::Duration;

/// A wait that has begun.
pub struct Parked(Py<PyAny>);

/// How a wait begins.
pub enum Outcome {
    /// There was nothing to wait for.
    Done(Py<PyAny>),
    Waits(Parked),
}

impl Parked {
    /// Begins a wait whose end makes the green thread ready.
    pub fn begin(
        py: Python<'_>,
        wait: Wait,
        body: &Py<GreenThread>,
        event_loop: &Py<Loop>,
    ) -> PyResult<Outcome> {
        let limit = wait.limit().filter(|limit| limit.after != Duration::MAX);
        let parked = Self(allocate(py, wait)?);
        let callback = body.clone_ref(py).into_any();
        let this = parked.this(py);
        match wait::begin_direct(this, own(this), callback, parties::green(body))? {
            Step::Return(value) => return Ok(Outcome::Done(value)),
            Step::Park | Step::Yield => {}
        }
        if let Some(limit) = limit {
            let callback = this.getattr(intern!(py, "_expire"))?;
            let timer = event_loop
                .bind(py)
                .call_method1(intern!(py, "call_later"), (limit.after.as_secs_f64(), callback))?;
            own(this).keep_timer(timer);
        }
        Ok(Outcome::Waits(parked))
    }

    fn this<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, PyAny> {
        self.0.bind_borrowed(py)
    }

    pub fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.clone_ref(py)
    }

    pub fn is_woken(&self, py: Python<'_>) -> bool {
        !own(self.this(py)).is_waiting(py)
    }

    /// Ends it; what it was given is the next one's.
    pub fn close(&self, py: Python<'_>) {
        wait::close(self.this(py), own(self.this(py)));
    }

    /// Its result, once it is woken; nothing if it waits on.
    pub fn finish(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match wait::step(self.this(py), own(self.this(py)))? {
            Step::Return(value) => Some(value),
            Step::Park | Step::Yield => None,
        })
    }
}
