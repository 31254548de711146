//! The class `motet._motet.ProtocolCore`, which `motet.StreamReaderProtocol` is made of: between a transport and its stream.

use super::reader::{self, ReaderCore};
use super::wait::{self, Arrival, Method, Step, Target, Wait, Wake};
use super::{imported, not_begun, wait_type};
use crate::call;
use crate::exclusive::Exclusive;
use crate::home::Home;
use crate::transport::common::exact_bytes;
use crate::transport::is_socket_transport;
use motet_reactor::inflow::Want;
use pyo3::exceptions::PyConnectionResetError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};
use std::sync::OnceLock;

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// How data reaches the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// The reader is native, with the `feed_data` that it was born with.
    Native,
    /// By `feed_data`.
    Call,
}

#[derive(Default)]
struct State {
    /// Weak: a reader that the program has dropped wants no data.
    reader: Option<(Py<PyWeakrefReference>, Feed)>,
    /// A server's reader, until the program has it.
    kept_reader: Option<Py<PyAny>>,
    client_connected: Option<Py<PyAny>>,
    transport: Option<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    over_tls: bool,
    writing_paused: bool,
    /// That the connection is lost, and why.
    lost: Option<Option<Py<PyAny>>>,
    drains: Vec<Py<PyAny>>,
    closings: Vec<Py<PyAny>>,
}

/// The protocol of a stream.
#[pyclass(frozen, subclass, module = "motet._motet")]
pub struct ProtocolCore {
    home: OnceLock<Home>,
    state: Exclusive<State>,
}

/// Whether `deliver` may stand for a protocol's `data_received`: it is a native stream's, with the methods that protocol and
/// reader were born with, and so nothing of the program's runs.
pub fn is_native(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    static DATA: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static END: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = protocol.py();
    let Ok(core) = protocol.cast::<ProtocolCore>() else { return Ok(false) };
    let feed = core.get().state.with(py, |state| state.reader.as_ref().map(|(_, feed)| *feed));
    Ok(feed == Some(Feed::Native)
        && is_inherited::<ProtocolCore>(protocol, &DATA, intern!(py, "data_received"))?
        && is_inherited::<ProtocolCore>(protocol, &END, intern!(py, "eof_received"))?)
}

/// Whether the class of an object has a method from `T`.
fn is_inherited<T: pyo3::PyTypeInfo>(
    object: &Bound<'_, PyAny>,
    place: &'static PyOnceLock<Py<PyAny>>,
    name: &Bound<'_, pyo3::types::PyString>,
) -> PyResult<bool> {
    let py = object.py();
    let original =
        place.get_or_try_init(py, || Ok::<_, PyErr>(py.get_type::<T>().getattr(name)?.unbind()))?;
    Ok(object.get_type().getattr(name)?.is(original))
}

/// Hands data to the reader of a native stream, as its protocol's `data_received` does.
///
/// # Safety
/// `is_native` has said so of the protocol.
#[inline]
pub unsafe fn deliver(protocol: &Bound<'_, PyAny>, data: Bound<'_, PyBytes>) -> PyResult<()> {
    // SAFETY: the caller's word.
    deliver_to(unsafe { protocol.cast_unchecked::<ProtocolCore>() }, data)
}

#[inline]
fn deliver_to(protocol: &Bound<'_, ProtocolCore>, data: Bound<'_, PyBytes>) -> PyResult<()> {
    let py = protocol.py();
    let reader = protocol.get().state.with(py, |state| {
        let (reference, feed) = state.reader.as_ref()?;
        Some((reference.bind(py).upgrade()?, *feed))
    });
    match reader {
        None => Ok(()),
        Some((reader, Feed::Native)) => {
            // SAFETY: `_begin` has looked at its class.
            reader::feed(unsafe { reader.cast_unchecked::<ReaderCore>() }, data)
        }
        Some((reader, Feed::Call)) => {
            call::method_with(&reader, intern!(py, "feed_data"), data.as_any()).map(drop)
        }
    }
}

/// One step of `drain()` or `wait_closed()`.
pub fn step(
    protocol: &Bound<'_, ProtocolCore>,
    this: This<'_, '_>,
    wait: &Wait,
    arrival: Arrival,
) -> PyResult<Step> {
    let py = this.py();
    if arrival == Arrival::AfterWait {
        return Ok(Step::Finish);
    }
    let draining = wait.method() == Method::Drain;
    let outcome = protocol.get().state.with(py, |state| match &state.lost {
        Some(why) => Outcome::Lost(why.as_ref().map(|why| why.clone_ref(py))),
        None if draining && !state.writing_paused => Outcome::Finish,
        None => {
            let waits = if draining { &mut state.drains } else { &mut state.closings };
            waits.push(this.to_owned().unbind());
            wait.park(py);
            Outcome::Park
        }
    });
    match outcome {
        Outcome::Park => Ok(Step::Park),
        Outcome::Lost(_) if draining => Err(PyConnectionResetError::new_err("Connection lost")),
        Outcome::Lost(Some(why)) => Err(PyErr::from_value(why.into_bound(py))),
        Outcome::Lost(None) | Outcome::Finish => Ok(Step::Finish),
    }
}

/// What a step does once the state is let go.
enum Outcome {
    Finish,
    Park,
    Lost(Option<Py<PyAny>>),
}

impl ProtocolCore {
    /// The loop; none before `__init__`.
    #[inline]
    pub fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    /// Whether `drain()` has nothing to wait for, nor to complain of.
    #[inline]
    pub fn is_drained(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| !state.writing_paused && state.lost.is_none())
    }

    fn is_lost(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.lost.is_some())
    }

    /// Lets a wait go that is not to be woken.
    pub fn forget(&self, wait: This<'_, '_>) {
        let found = self.state.with(wait.py(), |state| {
            let take = |places: &mut Vec<Py<PyAny>>| {
                let place = places.iter().position(|place| place.is(wait))?;
                Some(places.remove(place))
            };
            (take(&mut state.drains), take(&mut state.closings))
        });
        drop(found);
    }

    fn reader(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| {
            let (reference, _) = state.reader.as_ref()?;
            reference.bind(py).upgrade().map(Bound::unbind)
        })
    }

    fn wake_all(py: Python<'_>, waits: Vec<Py<PyAny>>, why: impl Fn() -> Wake) -> PyResult<()> {
        let mut result = Ok(());
        for wait in waits {
            let wait = wait.into_bound(py);
            // SAFETY: nothing else is put into the lists of waits.
            let woken = wait::wake(&wait, unsafe { wait_type::body(wait.as_borrowed()) }, why());
            result = result.and(woken.map(drop));
        }
        result
    }
}

#[pymethods]
impl ProtocolCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { home: OnceLock::new(), state: Exclusive::new(State::default()) }
    }

    /// What `__init__` has to do.
    fn _begin(
        &self,
        py: Python<'_>,
        stream_reader: Option<Bound<'_, PyAny>>,
        client_connected_cb: Option<Py<PyAny>>,
        r#loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let name = intern!(py, "feed_data");
        let mut state = State::default();
        if let Some(reader) = stream_reader {
            let native =
                reader.is_instance_of::<ReaderCore>() && is_inherited::<ReaderCore>(&reader, &METHOD, name)?;
            let feed = if native { Feed::Native } else { Feed::Call };
            state.reader = Some((PyWeakrefReference::new(&reader)?.unbind(), feed));
            state.kept_reader = client_connected_cb.is_some().then(|| reader.unbind());
        }
        state.client_connected = client_connected_cb;
        let old = self.state.with(py, |place| std::mem::replace(place, state));
        drop(old);
        // A second call keeps the loop.
        let _ = self.home.set(Home::of(r#loop));
        Ok(())
    }

    /// The transport has a connection.
    fn connection_made(this: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let core = this.get();
        // Asking a transport of motet's would make its socket object, which nobody may need.
        let over_tls = !is_socket_transport(transport)
            && !transport.call_method1(intern!(py, "get_extra_info"), ("sslcontext",))?.is_none();
        let copy = transport.clone().unbind();
        let (old, client_connected, kept) = core.state.with(py, |state| {
            state.over_tls = over_tls;
            let client_connected = state.client_connected.as_ref().map(|function| function.clone_ref(py));
            (state.transport.replace(copy), client_connected, state.kept_reader.take())
        });
        drop(old);
        let reader = core.reader(py);
        if let Some(reader) = &reader {
            call::method_with(reader.bind(py), intern!(py, "set_transport"), transport)?;
        }
        if let Some(client_connected) = client_connected {
            static SERVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let serve = imported(&SERVE, py, "motet._streams", "serve")?;
            let event_loop = core._loop(py)?;
            let task = serve.call1((this, transport, &reader, client_connected, event_loop))?;
            if !task.is_none() {
                let old = core.state.with(py, |state| state.task.replace(task.unbind()));
                drop(old);
            }
        }
        drop(kept);
        Ok(())
    }

    /// The connection is lost.
    fn connection_lost(&self, py: Python<'_>, exc: Option<Py<PyAny>>) -> PyResult<()> {
        let copy =
            |exception: &Option<Py<PyAny>>| exception.as_ref().map(|exception| exception.clone_ref(py));
        let reader = self.reader(py);
        let why = copy(&exc);
        let (old, drains, closings) = self.state.with(py, |state| {
            let first = if state.lost.is_none() { state.lost.replace(why) } else { None };
            let old = (
                first,
                state.reader.take(),
                state.kept_reader.take(),
                state.transport.take(),
                state.task.take(),
            );
            (old, std::mem::take(&mut state.drains), std::mem::take(&mut state.closings))
        });
        drop(old);
        let told = match (reader, &exc) {
            (None, _) => Ok(()),
            (Some(reader), None) => call::method(reader.bind(py), intern!(py, "feed_eof")).map(drop),
            (Some(reader), Some(exception)) => {
                call::method_with(reader.bind(py), intern!(py, "set_exception"), exception.bind(py)).map(drop)
            }
        };
        let why = || copy(&exc).map_or(Wake::Ready, Wake::Failed);
        let closed = Self::wake_all(py, closings, why);
        let drained = Self::wake_all(py, drains, why);
        told.and(closed).and(drained)
    }

    /// Data has arrived.
    fn data_received(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        deliver_to(this, exact_bytes(data.as_borrowed())?)
    }

    /// The peer has ended its side; whether to keep the other open.
    fn eof_received(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(reader) = self.reader(py) {
            call::method(reader.bind(py), intern!(py, "feed_eof"))?;
        }
        // TLS knows no half-closed connection.
        Ok(!self._over_ssl(py))
    }

    /// The transport has more to send than its high-water mark.
    fn pause_writing(&self, py: Python<'_>) {
        self.state.with(py, |state| state.writing_paused = true);
    }

    /// The transport has less to send than its low-water mark.
    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        let drains = self.state.with(py, |state| {
            state.writing_paused = false;
            std::mem::take(&mut state.drains)
        });
        Self::wake_all(py, drains, || Wake::Ready)
    }

    /// Waits until the transport wants more to send; for asyncio's own writer.
    fn _drain_helper(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let wait = Wait::new(Method::Drain, Target::Protocol(this.clone().unbind()), Want::All);
        wait_type::allocate(this.py(), wait).map(Bound::unbind)
    }

    /// Waits until the connection is lost.
    pub fn _get_close_waiter(this: &Bound<'_, Self>, _stream: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let wait = Wait::new(Method::WaitClosed, Target::Protocol(this.clone().unbind()), Want::All);
        wait_type::allocate(this.py(), wait).map(Bound::unbind)
    }

    /// The connection goes on over another transport: that of TLS.
    fn _replace_transport(&self, py: Python<'_>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let over_tls = !transport.call_method1(intern!(py, "get_extra_info"), ("sslcontext",))?.is_none();
        let copy = transport.clone().unbind();
        let old = self.state.with(py, |state| {
            state.over_tls = over_tls;
            state.transport.replace(copy)
        });
        drop(old);
        match self.reader(py) {
            Some(reader) => reader.bind(py).setattr(intern!(py, "_transport"), transport),
            None => Ok(()),
        }
    }

    #[getter]
    fn _stream_reader(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.reader(py)
    }

    #[getter]
    fn _client_connected_cb(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.client_connected.as_ref().map(|function| function.clone_ref(py)))
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.transport.as_ref().map(|transport| transport.clone_ref(py)))
    }

    #[getter]
    fn _task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.task.as_ref().map(|task| task.clone_ref(py)))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.home().ok_or_else(|| not_begun("StreamReaderProtocol"))?.object().clone_ref(py))
    }

    #[getter]
    fn _over_ssl(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.over_tls)
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.writing_paused)
    }

    #[getter]
    fn _connection_lost(&self, py: Python<'_>) -> bool {
        self.is_lost(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.home.get().map(Home::object))?;
        let seen = self.state.inspect(|state| {
            visit.call(state.reader.as_ref().map(|(reference, _)| reference))?;
            visit.call(&state.kept_reader)?;
            visit.call(&state.client_connected)?;
            visit.call(&state.transport)?;
            visit.call(&state.task)?;
            visit.call(state.lost.as_ref().and_then(Option::as_ref))?;
            state.drains.iter().chain(&state.closings).try_for_each(|wait| visit.call(wait))
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, std::mem::take);
        drop(dropped);
    }
}
