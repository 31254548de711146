//! How a datagram transport begins and ends, and what happens when something fails.

use super::address::Family;
use super::{DatagramTransport, Inner, Peer, Step, TYPE, apply, body};
use crate::errors::{closed_descriptor, os_error};
use crate::event_loop::{Loop, Owner};
use crate::task::Task;
use crate::transport::{common, extra_info};
use crate::{call, context};
use motet_reactor::Endpoint;
use motet_reactor::sys::Interest;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, intern};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

/// The transport of a datagram socket, which it takes over. The protocol hears of it in a later round.
pub fn begin<'py>(
    event_loop: &Bound<'py, Loop>,
    socket: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    remote: Option<Py<PyAny>>,
    waiter: Option<Py<PyAny>>,
    extra: Option<Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    event_loop.get().require_open()?;
    event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (socket,))?;
    let number = crate::watched::open_descriptor_of(socket)?;
    let family = socket.getattr(intern!(py, "family"))?.extract()?;
    let family = Family::of(family)
        .ok_or_else(|| PyValueError::new_err(format!("no datagram transport for address family {family}")))?;
    let extra = extra.unwrap_or_else(|| PyDict::new(py));
    extra_info::describe_socket(&extra, socket)?;
    let peer = match extra.get_item(intern!(py, "peername"))?.filter(|peer| !peer.is_none()) {
        None => Peer::Nobody,
        Some(name) if name.is_truthy()? => Peer::Named,
        Some(_) => Peer::Unnamed,
    };
    let inner = Inner {
        endpoint: Endpoint::default(),
        received: VecDeque::new(),
        socket: Some(socket.clone().unbind()),
        number,
        remote,
        token: None,
        retry_pending: false,
        protocol: Some(protocol.clone().unbind()),
        context: Some(context::copy_current(py)?),
        extra: Some(extra.unbind()),
        error: None,
    };
    let class = TYPE.get(py).expect("the module's initialisation has made the class");
    let event_loop_of = event_loop.clone().unbind();
    common::hold(socket)?;
    let transport = class.allocate(
        py,
        DatagramTransport { event_loop: event_loop_of, family, peer, inner: RefCell::new(inner) },
    )?;
    event_loop.get().push(Task::Datagrams(transport.clone().unbind(), Step::Begin(waiter)))?;
    Ok(transport)
}

/// Tells the protocol of the transport, begins to receive and resolves the waiter.
pub fn made(
    this: &DatagramTransport,
    transport: &Bound<'_, PyAny>,
    waiter: Option<Py<PyAny>>,
) -> PyResult<()> {
    let py = transport.py();
    let mut told = Ok(());
    if let Some(protocol) = this.protocol(py)
        && let Err(error) = call::method_with(&protocol, intern!(py, "connection_made"), transport)
    {
        told = report(transport, error, "Fatal error: protocol.connection_made() call failed.");
    }
    if let Err(error) = start_reading(this, transport)? {
        fail(transport, os_error(error))?;
    }
    common::resolve(py, waiter, None)?;
    // What ends the run ends it here; the transport goes on when the loop runs next.
    told
}

fn start_reading(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<io::Result<()>> {
    let wanted = this.with(|inner| {
        inner.endpoint.start_reading();
        (!inner.endpoint.is_lost()).then_some(inner.number)
    });
    let Some(number) = wanted else { return Ok(Ok(())) };
    if this.require_socket(transport.py())?.is_err() {
        return Ok(Err(closed_descriptor()));
    }
    crate::watched::release(this.event_loop.bind(transport.py()), number)?;
    let mut owner = Some(Owner::Datagrams(transport.clone().unbind()));
    let registered = this.event_loop.get().with_reactor("loop.create_datagram_endpoint()", |reactor| {
        reactor.register(number, Interest::Both, owner.take().expect("the closure runs once"))
    })?;
    Ok(registered.map(|token| this.with(|inner| inner.token = Some(token))))
}

/// Calls a method of the protocol that takes nothing; its exception goes to the exception handler.
pub fn tell_protocol(transport: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> PyResult<()> {
    let Some(protocol) = body(transport.as_borrowed()).protocol(transport.py()) else { return Ok(()) };
    match call::method(&protocol, method) {
        Ok(_) => Ok(()),
        Err(error) => report(transport, error, &format!("protocol.{method}() failed")),
    }
}

/// Tells the protocol of an error of the system after which the socket goes on.
pub fn tell_error(transport: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = transport.py();
    let Some(protocol) = body(transport.as_borrowed()).protocol(py) else { return Ok(()) };
    let error = error.into_value(py).into_bound(py).into_any();
    match call::method_with(&protocol, intern!(py, "error_received"), &error) {
        Ok(_) => Ok(()),
        Err(error) => report(transport, error, "protocol.error_received() failed"),
    }
}

/// Hands an exception to the loop's exception handler; what must end the run comes back.
pub fn report(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let py = transport.py();
    common::report(this.event_loop.bind(py), transport, this.protocol(py), error, message)
}

/// The socket is gone: ends the transport with the system's error, which the protocol hears of by `connection_lost`.
pub fn fail(transport: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    abort(transport, Some(error.into_value(transport.py()).into_any()))
}

/// Ends the transport at once. What is queued is dropped.
pub fn abort(transport: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let (actions, dropped) = this.with(|inner| {
        let (actions, queue) = inner.endpoint.abort();
        let old = if actions.is_empty() { error } else { std::mem::replace(&mut inner.error, error) };
        (actions, (queue, old))
    });
    drop(dropped);
    apply(transport, actions)
}

/// Stops hearing of the descriptor; the protocol is told in a later round.
pub fn lose_connection(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let event_loop = this.event_loop.get();
    if let Some(token) = this.with(|inner| inner.token.take()) {
        let owner = event_loop.with_reactor("transport.close()", |reactor| reactor.deregister(token))?;
        drop(owner);
    }
    event_loop.push(Task::Datagrams(transport.clone().unbind(), Step::Lost))
}

/// Tells the protocol of the end and closes the socket.
pub fn connection_lost(this: &DatagramTransport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let (protocol, error, context, received) = this.with(|inner| {
        let received = std::mem::take(&mut inner.received);
        (inner.protocol.take(), inner.error.take(), inner.context.take(), received)
    });
    drop(received);
    let mut told = Ok(());
    if let Some(protocol) = &protocol {
        let error = error.unwrap_or_else(|| py.None());
        if let Err(error) =
            call::method_with(protocol.bind(py), intern!(py, "connection_lost"), error.bind(py))
        {
            told = report(transport, error, "Fatal error: protocol.connection_lost() call failed.");
        }
    }
    drop((protocol, context));
    told.and(close_socket(this, py))
}

/// Closes the socket, once.
fn close_socket(this: &DatagramTransport, py: Python<'_>) -> PyResult<()> {
    if let Some(socket) = this.with(|inner| inner.socket.take()) {
        let socket = socket.bind(py);
        socket.call_method0(intern!(py, "_decref_socketios"))?;
        socket.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

/// The loop is closed under an open transport: nothing will happen to it any more.
pub fn loop_closed(transport: &Bound<'_, PyAny>) {
    body(transport.as_borrowed()).with(|inner| inner.token = None);
}

/// A transport is dropped that nobody has closed.
pub fn warn_unclosed(this: Borrowed<'_, '_, PyAny>) {
    let py = this.py();
    let transport = body(this);
    if transport.inner.try_borrow().map_or(true, |inner| inner.socket.is_none()) {
        return;
    }
    let warned = common::warn_unclosed(this);
    let closed = close_socket(transport, py);
    if let Err(error) = warned.and(closed) {
        error.write_unraisable(py, Some(&this));
    }
}
