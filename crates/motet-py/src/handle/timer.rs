//! Handles of `call_later` and `call_at`.

use super::{Handle, Payload, hide_from_collector};
use crate::event_loop::Loop;
use motet_reactor::TimerKey;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::PyBool;
use std::sync::OnceLock;

/// A callback scheduled for a time, as `asyncio.TimerHandle`. Ordered by that time.
#[pyclass(frozen, extends = Handle, module = "motet._motet")]
pub struct TimerHandle {
    when: f64,
    key: OnceLock<TimerKey>,
}

impl TimerHandle {
    pub fn create(
        py: Python<'_>,
        event_loop: Py<Loop>,
        when: f64,
        payload: Payload,
    ) -> PyResult<Bound<'_, Self>> {
        let payload = payload.with_loop(event_loop);
        let timer = Self { when, key: OnceLock::new() };
        let timer = Bound::new(py, PyClassInitializer::from(Handle::new(payload)).add_subclass(timer))?;
        hide_from_collector(timer.as_any());
        Ok(timer)
    }

    /// The due time in nanoseconds of the clock: the past for what is due before it began, the far future for what never is.
    pub fn deadline(&self) -> u64 {
        // A float's conversion saturates, and turns NaN into 0.
        (self.when * 1e9) as u64
    }

    pub fn set_key(&self, key: TimerKey) {
        // Set once, by the loop that schedules the timer.
        let _ = self.key.set(key);
    }
}

#[pymethods]
impl TimerHandle {
    /// As `Handle.cancel()`; the loop forgets the timer at once.
    fn cancel(this: &Bound<'_, Self>) {
        let Some(mut payload) = this.as_super().get().cancel_pending() else { return };
        if let (Some(event_loop), Some(key)) = (&payload.event_loop, this.get().key.get()) {
            event_loop.get().cancel_timer(*key);
        }
        payload.release(this.py());
    }

    /// The time at which the callback is due, in seconds of `loop.time()`.
    fn when(&self) -> f64 {
        self.when
    }

    fn __hash__(&self) -> u64 {
        self.when.to_bits()
    }

    fn __richcmp__(
        this: &Bound<'_, Self>,
        other: &Bound<'_, PyAny>,
        operation: CompareOp,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let Ok(timer) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let result = match operation {
            // As asyncio's: equal when due at the same time and calling the same.
            CompareOp::Eq | CompareOp::Ne => {
                let same = this.is(timer)
                    || (this.get().when == timer.get().when
                        && this
                            .getattr(intern!(py, "_callback"))?
                            .eq(timer.getattr(intern!(py, "_callback"))?)?
                        && this.getattr(intern!(py, "_args"))?.eq(timer.getattr(intern!(py, "_args"))?)?
                        && this.as_super().get().is_cancelled() == timer.as_super().get().is_cancelled());
                same == matches!(operation, CompareOp::Eq)
            }
            _ => operation.matches(this.get().when.total_cmp(&timer.get().when)),
        };
        Ok(PyBool::new(py, result).to_owned().into_any().unbind())
    }
}
