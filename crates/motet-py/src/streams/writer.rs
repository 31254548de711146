//! The class `motet._motet.WriterCore`, which `motet.StreamWriter` is made of: a transport with `drain()`.

use super::protocol::{self, ProtocolCore};
use super::reader::ReaderCore;
use super::wait::{Arrival, Method, Step, Target, Wait};
use super::{imported, not_begun, spares, wait_type};
use crate::call;
use crate::exclusive::Exclusive;
use crate::home::Home;
use crate::method::{Arguments, Storage, attach_method, fast_method};
use crate::transport;
use motet_reactor::inflow::Want;
use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};
use std::sync::OnceLock;

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// What does not change.
struct Parts {
    home: Home,
    protocol: Part<ProtocolCore>,
    reader: Option<Part<ReaderCore>>,
}

/// A native part of a stream, or somebody else's.
enum Part<T> {
    Native(Py<T>),
    Other(Py<PyAny>),
}

impl<T: PyTypeInfo> Part<T> {
    fn of(object: &Bound<'_, PyAny>) -> Self {
        match object.cast::<T>() {
            Ok(native) => Self::Native(native.clone().unbind()),
            Err(_) => Self::Other(object.clone().unbind()),
        }
    }

    fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Native(native) => native.as_any(),
            Self::Other(object) => object,
        }
    }
}

/// A stream's writing side.
#[pyclass(frozen, subclass, module = "motet._motet")]
pub struct WriterCore {
    parts: OnceLock<Parts>,
    transport: Exclusive<Option<Py<PyAny>>>,
}

/// Puts the methods that are called for each write into the class.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<WriterCore>();
    for definition in [
        fast_method!(
            c"write",
            write,
            c"write($self, /, data)\n--\n\nSends bytes; what does not fit is queued."
        ),
        fast_method!(
            c"writelines",
            write_lines,
            c"writelines($self, /, data)\n--\n\nSends several pieces of bytes together."
        ),
        fast_method!(c"drain", drain, c"drain($self, /)\n--\n\nWaits while too much is queued."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}

fn core<'a, 'py>(this: This<'a, 'py>) -> Borrowed<'a, 'py, WriterCore> {
    // SAFETY: the interpreter calls a method descriptor of `WriterCore` with instances of it only.
    unsafe { this.cast_unchecked() }
}

fn write(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let writer = core(this);
    let transport = writer.get().transport(this.py())?;
    if transport::is_socket_transport(&transport) {
        return transport::write(transport.as_borrowed(), arguments);
    }
    let mut storage = Storage::default();
    let arguments = arguments.complete("write", &["data"], &mut storage)?;
    call::method_with(&transport, intern!(this.py(), "write"), &arguments.get(0)).map(Bound::unbind)
}

fn write_lines(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let writer = core(this);
    let transport = writer.get().transport(this.py())?;
    let mut storage = Storage::default();
    let arguments = arguments.complete("writelines", &["data"], &mut storage)?;
    if transport::is_socket_transport(&transport) {
        return transport::write_lines(transport.as_borrowed(), arguments);
    }
    call::method_with(&transport, intern!(this.py(), "writelines"), &arguments.get(0)).map(Bound::unbind)
}

fn drain(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let py = this.py();
    let writer = core(this);
    let core = writer.get();
    let parts = core.parts()?;
    let Part::Native(protocol) = &parts.protocol else {
        // Not a stream's protocol but a subprocess's, say: asyncio's own way.
        static DRAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        return imported(&DRAIN, py, "motet._streams", "stock_drain")?.call1((this,)).map(Bound::unbind);
    };
    if protocol.get().is_drained(py) && core.failure(py)?.is_none() && !core.is_closing_now(py)? {
        return spares::drained(py, &parts.home);
    }
    let wait = Wait::new(Method::Drain, Target::Writer(writer.to_owned().unbind()), Want::All);
    wait_type::allocate(py, wait).map(Bound::unbind)
}

/// One step of `drain()`.
pub fn step(
    writer: &Bound<'_, WriterCore>,
    this: This<'_, '_>,
    wait: &Wait,
    arrival: Arrival,
) -> PyResult<Step> {
    let py = this.py();
    let core = writer.get();
    if arrival == Arrival::First {
        if let Some(exception) = core.failure(py)? {
            return Err(PyErr::from_value(exception.into_bound(py)));
        }
        if core.is_closing_now(py)? {
            // For the protocol to hear of the loss: else a program that writes and drains in a loop would never end.
            return Ok(Step::Yield);
        }
    }
    match &core.parts()?.protocol {
        Part::Native(protocol) => protocol::step(protocol.bind(py), this, wait, arrival),
        Part::Other(_) => Ok(Step::Finish),
    }
}

impl WriterCore {
    fn parts(&self) -> PyResult<&Parts> {
        self.parts.get().ok_or_else(|| not_begun("StreamWriter"))
    }

    /// The loop; none before `__init__`.
    pub fn home(&self) -> Option<&Home> {
        self.parts.get().map(|parts| &parts.home)
    }

    /// Lets a wait go that is not to be woken.
    pub fn forget(&self, wait: This<'_, '_>) {
        if let Some(Parts { protocol: Part::Native(protocol), .. }) = self.parts.get() {
            protocol.get().forget(wait);
        }
    }

    #[inline]
    fn transport<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let transport = self
            .transport
            .with(py, |transport| transport.as_ref().map(|transport| transport.bind(py).clone()));
        transport.ok_or_else(|| not_begun("StreamWriter"))
    }

    #[inline]
    fn is_closing_now(&self, py: Python<'_>) -> PyResult<bool> {
        let transport = self.transport(py)?;
        if transport::is_socket_transport(&transport) {
            return transport::closes(transport.as_borrowed());
        }
        call::method(&transport, intern!(py, "is_closing"))?.is_truthy()
    }

    /// What the stream's reads fail with.
    #[inline]
    fn failure(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.parts()?.reader {
            None => Ok(None),
            Some(Part::Native(reader)) => Ok(reader.get().failure(py)),
            Some(Part::Other(reader)) => {
                let exception = call::method(reader.bind(py), intern!(py, "exception"))?;
                Ok((!exception.is_none()).then(|| exception.unbind()))
            }
        }
    }
}

#[pymethods]
impl WriterCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { parts: OnceLock::new(), transport: Exclusive::new(None) }
    }

    /// What `__init__` has to do.
    fn _begin(
        &self,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        reader: Option<&Bound<'_, PyAny>>,
        r#loop: &Bound<'_, PyAny>,
    ) {
        self.set_transport_attribute(transport);
        // A second call changes the transport only.
        let (protocol, reader) = (Part::of(protocol), reader.map(Part::of));
        let _ = self.parts.set(Parts { home: Home::of(r#loop), protocol, reader });
    }

    /// Ends the output when what is queued has been sent.
    fn write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call::method(&self.transport(py)?, intern!(py, "write_eof"))
    }

    /// Whether the output alone can be ended.
    fn can_write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call::method(&self.transport(py)?, intern!(py, "can_write_eof"))
    }

    /// Ends the connection when what is queued has been sent.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call::method(&self.transport(py)?, intern!(py, "close"))
    }

    /// Whether the connection is closing or closed.
    fn is_closing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call::method(&self.transport(py)?, intern!(py, "is_closing"))
    }

    /// Waits until the connection is closed.
    fn wait_closed<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        if let Part::Native(protocol) = &this.get().parts()?.protocol {
            let protocol = protocol.bind(py);
            return ProtocolCore::_get_close_waiter(protocol, this.as_any()).map(|wait| wait.into_bound(py));
        }
        static WAIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        imported(&WAIT, py, "motet._streams", "stock_wait_closed")?.call1((this,))
    }

    /// What the transport knows of the connection.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.transport(py)?.call_method1(intern!(py, "get_extra_info"), (name, default))
    }

    #[getter(transport)]
    fn get_transport<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport(py)
    }

    /// As `transport`; None before `__init__`.
    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.transport.with(py, |transport| transport.as_ref().map(|transport| transport.clone_ref(py)))
    }

    #[setter(_transport)]
    fn set_transport_attribute(&self, transport: &Bound<'_, PyAny>) {
        let given = transport.clone().unbind();
        let old = self.transport.with(transport.py(), |place| place.replace(given));
        drop(old);
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.protocol.object().clone_ref(py))
    }

    #[getter]
    fn _reader(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.parts()?.reader.as_ref().map(|reader| reader.object().clone_ref(py)))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.home.object().clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(parts) = self.parts.get() {
            visit.call(parts.home.object())?;
            visit.call(parts.protocol.object())?;
            visit.call(parts.reader.as_ref().map(Part::object))?;
        }
        self.transport.inspect(|transport| visit.call(transport)).unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.transport.with(py, Option::take);
        drop(dropped);
    }
}
