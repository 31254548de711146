//! The loop on which a task waits: where it is woken, from whatever thread.

use crate::event_loop::Loop;
use crate::imported::imported;
use crate::schedule;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

/// Where callbacks of a wait are called.
pub enum Home {
    /// By a loop of motet's.
    Motet(Py<Loop>),
    /// By another loop of asyncio's interface.
    Other(Py<PyAny>),
    /// At once, by whoever wakes: trio's know what to do.
    Direct,
}

impl Home {
    /// The loop that runs in this thread.
    pub fn running(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(found) = running_loop(py)? else { return Ok(None) };
        Ok(Some(match found.cast_into::<Loop>() {
            Ok(event_loop) => Self::Motet(event_loop.unbind()),
            Err(error) => Self::Other(error.into_inner().unbind()),
        }))
    }

    pub fn object(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Motet(event_loop) => Some(event_loop.as_any()),
            Self::Other(event_loop) => Some(event_loop),
            Self::Direct => None,
        }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Motet(event_loop) => Self::Motet(event_loop.clone_ref(py)),
            Self::Other(event_loop) => Self::Other(event_loop.clone_ref(py)),
            Self::Direct => Self::Direct,
        }
    }

    pub fn drop_ref(self, py: Python<'_>) {
        match self {
            Self::Motet(event_loop) => event_loop.drop_ref(py),
            Self::Other(event_loop) => event_loop.drop_ref(py),
            Self::Direct => {}
        }
    }

    /// Has `callback(argument)` called.
    ///
    /// # Errors
    /// The loop is closed.
    pub fn call_soon(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        argument: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let event_loop = match self {
            Self::Motet(event_loop) => {
                return schedule::send_call(event_loop.get(), py, callback, argument, context);
            }
            Self::Direct => return callback.bind(py).call1((argument,)).map(drop),
            Self::Other(event_loop) => event_loop.bind(py),
        };
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let name = match running_loop(py)?.is_some_and(|running| running.is(event_loop)) {
            true => intern!(py, "call_soon"),
            false => intern!(py, "call_soon_threadsafe"),
        };
        event_loop.call_method(name, (callback, argument), Some(&keywords)).map(drop)
    }
}

/// The loop that runs in this thread.
pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // Where asyncio has not been imported no loop runs.
    if FUNCTION.get(py).is_none() && !is_loaded(py, intern!(py, "_asyncio"))? {
        return Ok(None);
    }
    let running = imported(&FUNCTION, py, "_asyncio", "_get_running_loop")?.call0()?;
    Ok((!running.is_none()).then_some(running))
}

/// Whether a module has been imported.
pub fn is_loaded(py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
    })?;
    modules.bind(py).contains(name)
}
