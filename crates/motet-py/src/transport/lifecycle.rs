//! How a transport begins and ends, and what happens when something fails.

use super::delivery::Delivery;
use super::{Connection, Deferred, Peer, Socket, TYPE, Transport, apply, body, common};
use crate::errors::os_error;
use crate::event_loop::{Loop, Owner};
use crate::task::Task;
use crate::{call, context, tls};
use motet_reactor::Stream;
use motet_reactor::sys::{Interest, socket};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{Borrowed, intern};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

fn allocate<'py>(
    event_loop: &Bound<'py, Loop>,
    socket: Socket,
    protocol: &Bound<'py, PyAny>,
    extra: Option<Py<PyDict>>,
    peer: Option<SocketAddr>,
    context: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let mut stream = Stream::default();
    if let Some(descriptor) = socket.descriptor() {
        if peer.is_some() || socket::local_address(descriptor).is_some() {
            socket::set_no_delay(descriptor);
        } else {
            stream.distrust_short_reads();
        }
    }
    let connection = Connection {
        stream,
        socket,
        token: None,
        protocol: Some(protocol.clone().unbind()),
        delivery: Delivery::of(protocol)?,
        context: Some(context),
        server: None,
        extra,
        peer: peer.map(Peer::from),
        sendfile: None,
        error: None,
    };
    let class = TYPE.get(py).expect("the module's initialisation has made the class");
    if let Socket::Shared(socket_object, _) = &connection.socket {
        common::hold(socket_object.bind(py))?;
    }
    let above = connection.delivery == Delivery::Tls;
    let transport = class.allocate(
        py,
        Transport { event_loop: event_loop.clone().unbind(), connection: RefCell::new(connection) },
    )?;
    if above {
        tls::attach(protocol, event_loop, &transport)?;
    }
    Ok(transport)
}

/// The transport of a socket object, which it takes over. The protocol hears of the connection in a later round.
pub fn connect<'py>(
    event_loop: &Bound<'py, Loop>,
    socket_object: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    waiter: Option<Py<PyAny>>,
    extra: Option<Bound<'py, PyDict>>,
    server: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    event_loop.get().require_open()?;
    event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (socket_object,))?;
    let descriptor = crate::watched::descriptor_of(socket_object)?;
    if descriptor < 0 {
        return Err(PyOSError::new_err((rustix::io::Errno::BADF.raw_os_error(), "the socket is closed")));
    }
    let extra = match extra {
        Some(extra) => extra,
        None => PyDict::new(py),
    };
    super::extra_info::describe_socket(&extra, socket_object)?;
    let socket = Socket::Shared(socket_object.clone().unbind(), descriptor);
    let context = context::copy_current(py)?;
    let transport = allocate(event_loop, socket, protocol, Some(extra.unbind()), None, context)?;
    if let Some(server) = server {
        attach(&transport, server)?;
    } else {
        event_loop
            .get()
            .with("loop.create_connection()", |state| state.turn.statistics.connections_opened += 1)?;
    }
    event_loop.get().push(Task::Transport(transport.clone().unbind(), Deferred::Begin(waiter)))?;
    Ok(transport)
}

/// The transport of an accepted connection: makes the protocol, tells it at once and begins to read; all in a context of the
/// connection's own, a copy of `context`.
pub fn begin_accepted(
    event_loop: &Bound<'_, Loop>,
    accepted: OwnedFd,
    peer: Option<SocketAddr>,
    factory: &Bound<'_, PyAny>,
    server: Option<&Py<PyAny>>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let own = context::copy(context)?.into_bound(py);
    let _entered = context::enter(&own)?;
    let protocol = factory.call0()?;
    let context = own.clone().unbind();
    let transport = allocate(event_loop, Socket::Descriptor(accepted), &protocol, None, peer, context)?;
    if let Some(server) = server {
        attach(&transport, server.clone_ref(py))?;
    }
    begin(body(transport.as_borrowed()), &transport, None)
}

/// Counts a transport among its server's connections; from now on it tells the server of its end.
fn attach(transport: &Bound<'_, PyAny>, server: Py<PyAny>) -> PyResult<()> {
    let py = transport.py();
    server.call_method1(py, intern!(py, "_attach"), (transport,))?;
    body(transport.as_borrowed()).with(|connection| connection.server = Some(server));
    Ok(())
}

/// The open transports of a server.
pub fn of_server<'py>(
    event_loop: &Bound<'py, Loop>,
    server: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    event_loop.get().with("server.close_clients()", |state| {
        let owners = state.reactor.iter().flat_map(|reactor| reactor.descriptors().owners());
        let transports = owners.filter_map(|owner| match owner {
            Owner::Transport(transport) => Some(transport.bind(py)),
            _ => None,
        });
        let is_of_server = |transport: &&Bound<'_, PyAny>| {
            body(transport.as_borrowed())
                .with(|connection| connection.server.as_ref().is_some_and(|known| known.is(server)))
        };
        transports.filter(is_of_server).cloned().collect()
    })
}

/// Tells the protocol of the connection, begins to read and resolves the waiter.
pub fn begin(this: &Transport, transport: &Bound<'_, PyAny>, waiter: Option<Py<PyAny>>) -> PyResult<()> {
    let py = transport.py();
    let mut told = Ok(());
    // Before the protocol, which may have its server end all connections.
    let registered = register(this, transport)?;
    if let Some(protocol) = this.protocol(py)
        && let Err(error) = if tls::is_tls(&protocol) {
            tls::connection_made(&protocol)
        } else {
            call::method_with(&protocol, intern!(py, "connection_made"), transport).map(drop)
        }
    {
        told = report(transport, error, "Fatal error: protocol.connection_made() call failed.");
    }
    this.with(|connection| connection.stream.start_reading());
    if let Err(error) = registered {
        fail(transport, os_error(error), "Fatal error: the socket cannot be polled")?;
    }
    common::resolve(py, waiter, None)?;
    // What ends the run ends it here; the connection goes on when the loop runs next.
    told
}

fn register(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<std::io::Result<()>> {
    let wanted = this.with(|connection| (!connection.stream.is_lost()).then(|| connection.socket.number()));
    let Some(number) = wanted else { return Ok(Ok(())) };
    crate::watched::release(this.event_loop.bind(transport.py()), number)?;
    let owner = Owner::Transport(transport.clone().unbind());
    let mut owner = Some(owner);
    let registered = this.event_loop.get().with_reactor("loop.create_connection()", |reactor| {
        let owner = owner.take().expect("the closure runs once");
        let token = reactor.register(number, Interest::Both, owner)?;
        Ok(token)
    })?;
    Ok(registered.map(|token| this.with(|connection| connection.token = Some(token))))
}

/// Calls a method of the protocol that takes nothing; its exception goes to the exception handler.
pub fn tell_protocol(transport: &Bound<'_, PyAny>, method: &Bound<'_, PyString>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    if this.delivery() == Delivery::Tls {
        // TLS asks for itself how much waits.
        return Ok(());
    }
    let Some(protocol) = this.protocol(transport.py()) else { return Ok(()) };
    match call::method(&protocol, method) {
        Ok(_) => Ok(()),
        Err(error) => report(transport, error, &format!("protocol.{method}() failed")),
    }
}

/// Hands an exception to the loop's exception handler; what must end the run comes back.
pub fn report(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let py = transport.py();
    common::report(this.event_loop.bind(py), transport, this.protocol(py), error, message)
}

/// A method of the protocol has raised where the stream cannot go on without it: reports it and ends the connection.
pub fn protocol_failed(transport: &Bound<'_, PyAny>, error: PyErr, method: &str) -> PyResult<()> {
    fail_with(transport, error, &format!("Fatal error: protocol.{method}() call failed."), true)
}

/// Ends the connection with an error. The system's errors are ordinary ends of a connection: the protocol hears of them by
/// `connection_lost`; anything else goes to the exception handler too.
pub fn fail(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    fail_with(transport, error, message, false)
}

fn fail_with(transport: &Bound<'_, PyAny>, error: PyErr, message: &str, by_protocol: bool) -> PyResult<()> {
    let py = transport.py();
    if by_protocol || !error.is_instance_of::<PyOSError>(py) {
        report(transport, error.clone_ref(py), message)?;
    }
    abort(transport, Some(error.into_value(py).into_any()))
}

/// Ends the connection at once. Data that is queued is dropped.
pub fn abort(transport: &Bound<'_, PyAny>, error: Option<Py<PyAny>>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let (actions, dropped) = this.with(|connection| {
        let (actions, queue) = connection.stream.abort();
        let old = if actions.is_empty() { error } else { std::mem::replace(&mut connection.error, error) };
        (actions, (queue, old))
    });
    drop(dropped);
    apply(transport, actions)
}

/// The peer has ended its side: closes the connection unless the protocol wants to write on.
pub fn end_of_input(
    this: &Transport,
    transport: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = transport.py();
    this.with(|connection| connection.stream.end_of_input());
    // The protocol may have been replaced since it was looked up: its own class decides.
    let keep_open = if tls::is_tls(protocol) {
        tls::end_of_input(protocol)
    } else {
        call::method(protocol, intern!(py, "eof_received")).and_then(|keep_open| keep_open.is_truthy())
    };
    match keep_open {
        Ok(true) => Ok(()),
        Ok(false) => close(transport),
        Err(error) => protocol_failed(transport, error, "eof_received"),
    }
}

/// Ends the connection when what is queued has been sent.
pub fn close(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let actions = body(transport.as_borrowed()).with(|connection| connection.stream.close());
    apply(transport, actions)
}

/// Sends the end of the stream. A peer that has gone already is no error here: reading tells it.
pub fn shut_down_output(transport: &Bound<'_, PyAny>) {
    body(transport.as_borrowed()).with(|connection| {
        if let Some(descriptor) = connection.socket.descriptor() {
            let _ = socket::shutdown_write(descriptor);
        }
    });
}

/// Stops hearing of the descriptor; the protocol is told in a later round.
pub fn lose_connection(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    forget_registration(this)?;
    super::sendfile::connection_lost(transport)?;
    this.event_loop.get().push(Task::Transport(transport.clone().unbind(), Deferred::Lost))
}

fn forget_registration(this: &Transport) -> PyResult<()> {
    let token = this.with(|connection| connection.token.take());
    let Some(token) = token else { return Ok(()) };
    let owner =
        this.event_loop.get().with_reactor("transport.close()", |reactor| reactor.deregister(token))?;
    drop(owner);
    Ok(())
}

/// Tells the protocol that the connection is lost and closes the socket.
pub fn connection_lost(this: &Transport, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let (protocol, delivery, error) =
        this.with(|connection| (connection.protocol.take(), connection.delivery, connection.error.take()));
    let mut result = Ok(());
    if let Some(protocol) = &protocol {
        let error = error.unwrap_or_else(|| py.None());
        let (protocol, error) = (protocol.bind(py), error.bind(py));
        let told = match delivery {
            Delivery::Tls => tls::connection_lost(protocol, Some(error)),
            _ => call::method_with(protocol, intern!(py, "connection_lost"), error).map(drop),
        };
        if let Err(error) = told {
            result = report(transport, error, "Fatal error: protocol.connection_lost() call failed.");
        }
    }
    let closed = close_socket(this, py);
    let (server, context) = this.with(|connection| (connection.server.take(), connection.context.take()));
    if let Some(server) = server {
        server.call_method1(py, intern!(py, "_detach"), (transport,))?;
    }
    drop((protocol, context));
    result.and(closed)
}

/// Closes the socket, once.
fn close_socket(this: &Transport, py: Python<'_>) -> PyResult<()> {
    let socket = this.with(|connection| {
        let number = connection.socket.number();
        let address = connection.socket.descriptor().and_then(socket::local_address).map(Box::new);
        std::mem::replace(&mut connection.socket, Socket::Closed(number, address))
    });
    if let Socket::Object(object, _) | Socket::Shared(object, _) = socket {
        let object = object.bind(py);
        object.call_method0(intern!(py, "_decref_socketios"))?;
        object.call_method0(intern!(py, "close"))?;
    }
    Ok(())
}

/// The loop is closed under an open transport: nothing will happen to it any more.
pub fn loop_closed(transport: &Bound<'_, PyAny>) {
    body(transport.as_borrowed()).with(|connection| connection.token = None);
}

/// A transport is dropped that nobody has closed.
pub fn warn_unclosed(this: Borrowed<'_, '_, PyAny>) {
    let py = this.py();
    let transport = body(this);
    if transport
        .connection
        .try_borrow()
        .map_or(true, |connection| super::input_output::is_closed(&connection))
    {
        return;
    }
    let warned = common::warn_unclosed(this);
    let closed = close_socket(transport, py);
    if let Err(error) = warned.and(closed) {
        error.write_unraisable(py, Some(&this));
    }
    let server = transport.with(|connection| connection.server.take());
    if let Some(server) = server
        && let Err(error) = server.call_method1(py, intern!(py, "_detach"), (this,))
    {
        error.write_unraisable(py, Some(&this));
    }
}
