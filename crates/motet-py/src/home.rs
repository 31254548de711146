//! The loop that a stream or a waiting task belongs to: where tasks are woken.

use crate::event_loop::Loop;
use crate::imported::imported;
use crate::{run, schedule};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

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

    /// The loop that runs in this thread.
    pub fn running(py: Python<'_>) -> PyResult<Option<Self>> {
        if let Some(event_loop) = run::running(py) {
            return Ok(Some(Self::Motet(event_loop)));
        }
        Ok(running_loop(py)?.map(|found| Self::of(&found)))
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Motet(event_loop) => Self::Motet(event_loop.clone_ref(py)),
            Self::Other(event_loop) => Self::Other(event_loop.clone_ref(py)),
        }
    }

    pub fn drop_ref(self, py: Python<'_>) {
        match self {
            Self::Motet(event_loop) => event_loop.drop_ref(py),
            Self::Other(event_loop) => event_loop.drop_ref(py),
        }
    }

    /// Has the loop call `callback(argument)` in a later round; from its own thread.
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
        self.call(py, intern!(py, "call_soon"), callback, argument, context)
    }

    /// The same from any thread.
    ///
    /// # Errors
    /// The loop is closed.
    pub fn send_call(
        &self,
        py: Python<'_>,
        callback: Py<PyAny>,
        argument: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let name = match self {
            Self::Motet(event_loop) => {
                return schedule::send_call(event_loop.get(), py, callback, argument, context);
            }
            Self::Other(event_loop) if running_loop(py)?.is_some_and(|running| running.is(event_loop)) => {
                intern!(py, "call_soon")
            }
            Self::Other(_) => intern!(py, "call_soon_threadsafe"),
        };
        self.call(py, name, callback, argument, context)
    }

    fn call(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        callback: Py<PyAny>,
        argument: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        self.object().bind(py).call_method(name, (callback, argument), Some(&keywords)).map(drop)
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
