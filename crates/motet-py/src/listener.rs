//! A server's listening socket: accepts what waits and makes the connections.

use crate::errors::os_error;
use crate::event_loop::{Loop, Owner};
use crate::task::Task;
use crate::transport;
use crate::watched::descriptor_of;
use crate::{call, context};
use motet_reactor::Token;
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_reactor::sys::{Interest, socket};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit, intern};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Nanoseconds until a listener that ran out of descriptors or memory tries again: asyncio's `ACCEPT_RETRY_DELAY`.
const RETRY_DELAY: u64 = 1_000_000_000;

/// One listening socket of a server.
#[pyclass(frozen, module = "motet._motet")]
pub struct Listener {
    descriptor: RawFd,
    socket: Py<PyAny>,
    protocol_factory: Py<PyAny>,
    server: Option<Py<PyAny>>,
    backlog: usize,
    stopped: AtomicBool,
    /// Where the server was started: connections run in copies of it.
    context: Py<PyAny>,
}

#[pymethods]
impl Listener {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        visit.call(&self.protocol_factory)?;
        visit.call(&self.context)?;
        visit.call(&self.server)
    }
}

/// Begins to accept connections.
pub fn start(
    event_loop: &Bound<'_, Loop>,
    protocol_factory: Py<PyAny>,
    socket: &Bound<'_, PyAny>,
    server: Option<Py<PyAny>>,
    backlog: usize,
) -> PyResult<()> {
    let descriptor = descriptor_of(socket)?;
    let listener = Listener {
        descriptor,
        socket: socket.clone().unbind(),
        protocol_factory,
        server,
        backlog: backlog.max(1),
        stopped: AtomicBool::new(false),
        context: context::copy_current(event_loop.py())?,
    };
    crate::watched::release(event_loop, descriptor)?;
    let mut owner = Some(Owner::Listener(Py::new(event_loop.py(), listener)?));
    event_loop
        .get()
        .with_reactor("server.start_serving()", |reactor| {
            let owner = owner.take().expect("the closure runs once");
            let token = reactor.register(descriptor, Interest::Read, owner)?;
            Ok::<Token, io::Error>(token)
        })?
        .map_err(os_error)?;
    Ok(())
}

/// Stops accepting.
pub fn stop(event_loop: &Loop, descriptor: RawFd) -> PyResult<()> {
    if !event_loop.is_open() {
        return Ok(());
    }
    let owner = event_loop.with_reactor("server.close()", |reactor| {
        let token = reactor.token_of(descriptor)?;
        reactor.deregister(token)
    })?;
    if let Some(Owner::Listener(listener)) = &owner {
        listener.get().stopped.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Accepts what waits, at most the backlog's number before others have a turn.
pub fn accept(event_loop: &Bound<'_, Loop>, listener: &Bound<'_, Listener>) -> PyResult<()> {
    let py = listener.py();
    let this = listener.get();
    if descriptor_of(this.socket.bind(py))? != this.descriptor {
        // The program has closed the server's socket itself; the number may be another's.
        return stop(event_loop.get(), this.descriptor);
    }
    for _ in 0..this.backlog {
        if this.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        // SAFETY: the listener is registered, hence not stopped, and the socket object that it holds keeps the number open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(this.descriptor) };
        match socket::accept(descriptor) {
            Ok((accepted, peer)) => {
                event_loop
                    .get()
                    .with("loop.run_forever()", |state| state.turn.statistics.connections_accepted += 1)?;
                let peer = peer.and_then(|peer| peer.try_into().ok());
                let server = this.server.as_ref();
                let (factory, context) = (this.protocol_factory.bind(py), this.context.bind(py));
                let begun = transport::begin_accepted(event_loop, accepted, peer, factory, server, context);
                if let Err(error) = begun {
                    report(
                        event_loop,
                        listener,
                        error,
                        "Error on transport creation for incoming connection",
                    )?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return accept_failed(event_loop, listener, error),
        }
    }
    // More may wait, which no event will tell again.
    event_loop.get().push(Task::Accept(listener.clone().unbind()))
}

fn accept_failed(
    event_loop: &Bound<'_, Loop>,
    listener: &Bound<'_, Listener>,
    error: io::Error,
) -> PyResult<()> {
    let code = Errno::from_io_error(&error);
    let out_of_resources = matches!(code, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM));
    if out_of_resources {
        report(event_loop, listener, os_error(error), "socket.accept() out of system resource")?;
        let deadline = MonotonicClock.now() + RETRY_DELAY;
        let task = Task::Accept(listener.clone().unbind());
        return event_loop.get().with("loop.run_forever()", |state| {
            state.turn.schedule(deadline, task);
        });
    }
    report(event_loop, listener, os_error(error), "socket.accept() failed")
}

fn report(
    event_loop: &Bound<'_, Loop>,
    listener: &Bound<'_, Listener>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    let py = listener.py();
    if call::ends_the_run(py, &error) {
        return Err(error);
    }
    let details = PyDict::new(py);
    details.set_item("message", message)?;
    details.set_item("exception", error.into_value(py))?;
    let wrapper = py.import(intern!(py, "asyncio.trsock"))?.getattr(intern!(py, "TransportSocket"))?;
    details.set_item("socket", wrapper.call1((&listener.get().socket,))?)?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (details,)).map(drop)
}
