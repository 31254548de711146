//! The class `motet._motet.ReaderCore`, which `motet.StreamReader` is made of: what has arrived, and the read that waits for more.

use super::wait::{self, Method, Wake};
use super::{not_begun, read, wait_type};
use crate::call;
use crate::exclusive::Exclusive;
use crate::home::Home;
use crate::transport::common::exact_bytes;
use motet_reactor::inflow::{Inflow, Search, Want};
use pyo3::exceptions::{PyAssertionError, PyNotImplementedError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};
use std::sync::OnceLock;

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// What a reader has and waits for.
pub struct State {
    pub inflow: Inflow<PyBackedBytes>,
    pub exception: Option<Py<PyAny>>,
    pub transport: Option<Py<PyAny>>,
    /// The read that waits.
    pub waiting: Option<Py<PyAny>>,
}

/// A stream's reading side.
#[pyclass(frozen, subclass, module = "motet._motet")]
pub struct ReaderCore {
    home: OnceLock<Home>,
    pub state: Exclusive<State>,
}

/// Data has arrived.
pub fn feed(reader: &Bound<'_, ReaderCore>, data: Bound<'_, PyBytes>) -> PyResult<()> {
    let py = reader.py();
    let core = reader.get();
    let (woken, pause) = core.state.with(py, |state| {
        if state.inflow.has_ended() {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        state.inflow.feed(data.into());
        let concerned = match &state.waiting {
            // SAFETY: nothing else is put there.
            Some(waiting) => unsafe { wait_type::body(waiting.bind_borrowed(py)) }
                .with_want(py, |want| state.inflow.concerns(want)),
            None => false,
        };
        let woken = if concerned { state.waiting.take() } else { None };
        // A read that waits on may want more than the limits allow.
        let pause = state.waiting.is_none() && state.transport.is_some() && state.inflow.must_pause();
        Ok((woken, state.transport.as_ref().filter(|_| pause).map(|transport| transport.clone_ref(py))))
    })?;
    core.wake(py, woken, Wake::Ready)?;
    match pause {
        Some(transport) => core.pause(transport.bind(py)),
        None => Ok(()),
    }
}

impl State {
    /// The transport, if it was paused and what is left allows it to go on.
    #[inline]
    pub fn transport_to_resume(&mut self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.inflow.may_resume() {
            return None;
        }
        self.transport.as_ref().map(|transport| transport.clone_ref(py))
    }
}

impl ReaderCore {
    /// The loop; none before `__init__`.
    #[inline]
    pub fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    /// Lets a waiting read go that is not to be woken.
    pub fn forget(&self, wait: This<'_, '_>) {
        let found = self.state.with(wait.py(), |state| state.waiting.take_if(|waiting| waiting.is(wait)));
        drop(found);
    }

    fn wake(&self, py: Python<'_>, waiting: Option<Py<PyAny>>, why: Wake) -> PyResult<()> {
        match waiting {
            Some(waiting) => {
                let waiting = waiting.into_bound(py);
                // SAFETY: nothing else is put into `waiting`.
                wait::wake(&waiting, unsafe { wait_type::body(waiting.as_borrowed()) }, why).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Pauses a transport. One that cannot be paused is never asked again.
    fn pause(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        let Err(error) = call::method(transport, intern!(py, "pause_reading")) else { return Ok(()) };
        let cannot = error.is_instance_of::<PyNotImplementedError>(py);
        let dropped = self.state.with(py, |state| {
            state.inflow.resume();
            if cannot { state.transport.take() } else { None }
        });
        drop(dropped);
        if cannot { Ok(()) } else { Err(error) }
    }

    pub fn set_exception_object(&self, py: Python<'_>, exception: Py<PyAny>) -> PyResult<()> {
        let copy = exception.clone_ref(py);
        let (old, woken) = self.state.with(py, |state| (state.exception.replace(copy), state.waiting.take()));
        drop(old);
        self.wake(py, woken, Wake::Failed(exception))
    }

    /// The exception that reads fail with.
    pub fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.exception.as_ref().map(|exception| exception.clone_ref(py)))
    }

    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        let woken = self.state.with(py, |state| {
            state.inflow.end();
            state.waiting.take()
        });
        self.wake(py, woken, Wake::Ready)
    }

    /// Has reads pause and resume another transport from now on.
    pub fn exchange_transport(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        let old = self.state.with(py, |state| {
            state.inflow.resume();
            std::mem::replace(&mut state.transport, transport)
        });
        drop(old);
    }
}

#[pymethods]
impl ReaderCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let state = State { inflow: Inflow::new(0), exception: None, transport: None, waiting: None };
        Self { home: OnceLock::new(), state: Exclusive::new(state) }
    }

    /// What `__init__` has to do.
    fn _begin(&self, limit: &Bound<'_, PyAny>, r#loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = limit.py();
        // As asyncio's, a limit may be a float, or larger than any memory.
        let limit = match limit.extract::<usize>() {
            Ok(limit) => limit,
            Err(_) => limit.extract::<f64>()? as usize,
        };
        self.state.with(py, |state| state.inflow = Inflow::new(limit));
        // A second call changes the limit only.
        let _ = self.home.set(Home::of(r#loop));
        Ok(())
    }

    /// Data has arrived.
    fn feed_data(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let ended = this.get().state.with(this.py(), |state| state.inflow.has_ended());
        if ended {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        if data.is_truthy()? { feed(this, exact_bytes(data.as_borrowed())?) } else { Ok(()) }
    }

    /// The stream has ended.
    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py)
    }

    /// Whether the stream has ended and all was read.
    fn at_eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.has_ended() && state.inflow.bytes().is_empty())
    }

    /// What reads fail with, or None.
    fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure(py)
    }

    /// Has reads fail from now on.
    fn set_exception(&self, py: Python<'_>, exc: Py<PyAny>) -> PyResult<()> {
        self.set_exception_object(py, exc)
    }

    /// Names the transport that is paused while too much waits to be read.
    pub fn set_transport(&self, py: Python<'_>, transport: Py<PyAny>) -> PyResult<()> {
        let given = self.state.with(py, |state| match &state.transport {
            None => {
                state.transport = Some(transport);
                None
            }
            Some(_) => Some(transport),
        });
        match given {
            None => Ok(()),
            Some(_) => Err(PyAssertionError::new_err("Transport already set")),
        }
    }

    /// Names another transport.
    fn _replace_transport(&self, py: Python<'_>, transport: Py<PyAny>) {
        self.exchange_transport(py, Some(transport));
    }

    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        read::begin(this.as_any().as_borrowed(), Method::Next, Want::Line(Search::byte(b'\n')))
    }

    /// A copy of what waits to be read.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        let copy = self.state.with(py, |state| state.inflow.bytes().to_vec());
        PyByteArray::new(py, &copy)
    }

    /// Takes what waits to be read: it was meant for another layer.
    fn _take_buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let taken = self.state.with(py, |state| {
            let taken = state.inflow.bytes().to_vec();
            state.inflow.discard();
            taken
        });
        PyBytes::new(py, &taken)
    }

    #[getter]
    fn _eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.has_ended())
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure(py)
    }

    #[getter]
    fn _limit(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.inflow.limit())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.home().ok_or_else(|| not_begun("StreamReader"))?.object().clone_ref(py))
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.is_paused())
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.transport.as_ref().map(|transport| transport.clone_ref(py)))
    }

    #[setter(_transport)]
    fn set_transport_attribute(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        self.exchange_transport(py, transport);
    }

    #[getter]
    fn _waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.waiting.as_ref().map(|waiting| waiting.clone_ref(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.home.get().map(Home::object))?;
        let seen = self.state.inspect(|state| {
            visit.call(&state.exception)?;
            visit.call(&state.transport)?;
            visit.call(&state.waiting)
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self
            .state
            .with(py, |state| (state.exception.take(), state.transport.take(), state.waiting.take()));
        drop(dropped);
    }
}
