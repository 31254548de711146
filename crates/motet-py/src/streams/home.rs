//! The loop that a stream belongs to: where its waiting tasks are woken.

use crate::event_loop::Loop;
use crate::schedule;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A loop of motet's, or any other.
pub enum Home {
    Motet(Py<Loop>),
    Other(Py<PyAny>),
}

impl Home {
    pub fn of(event_loop: &Bound<'_, PyAny>) -> Self {
        match event_loop.cast::<Loop>() {
            Ok(event_loop) => Self::Motet(event_loop.clone().unbind()),
            Err(_) => Self::Other(event_loop.clone().unbind()),
        }
    }

    pub fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Motet(event_loop) => event_loop.as_any(),
            Self::Other(event_loop) => event_loop,
        }
    }

    /// Has the loop call `callback(argument)` in a later round.
    pub fn call_soon(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        argument: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        if let Self::Motet(event_loop) = self
            && !event_loop.get().in_debug_mode()
        {
            return schedule::push_call(event_loop.get(), py, callback, argument, context);
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let event_loop = self.object().bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (callback, argument), Some(&keywords)).map(drop)
    }
}
