//! The class `motet._motet.SocketTransport`: a connection's transport, a real subclass of `asyncio.Transport`.
//!
//! What a connection may do when is decided by [`motet_reactor::Stream`]; here its actions become calls of the protocol and
//! system calls, and the methods of the class become its events.
//!
//! - `common.rs`: what all classes of transports have in common.
//! - `methods.rs`: what the program calls.
//! - `input_output.rs`: what the loop calls: readiness, flushing, steps put off to a later round.
//! - `delivery.rs`: how data reaches a protocol.
//! - `lifecycle.rs`: how a transport begins and ends.
//! - `sendfile.rs`: its part in `loop.sendfile`.
//! - `below_tls.rs`: a transport whose protocol is TLS, and what TLS asks of it.
//! - `peer.rs`: a peer's address.
//! - `extra_info.rs`: `get_extra_info`, made when asked for.

mod below_tls;
pub mod common;
mod delivery;
pub mod extra_info;
mod input_output;
mod lifecycle;
mod methods;
mod peer;
mod sendfile;

pub use below_tls::{
    close, force_close, has_to_wait, is_closing, pause_reading, put_below_tls, queued_bytes,
    request_flush_of, resume_reading, send_queue,
};
pub use delivery::{Delivery, feed_reader};
pub use input_output::{flush, ready, run_deferred};
pub use lifecycle::{begin_accepted, connect, loop_closed, of_server};
pub use methods::{closes, is_socket_transport, transport_type, write, write_lines};

use crate::event_loop::Loop;
use crate::heap_type::{Body, HeapType};
use motet_reactor::stream::Actions;
use motet_reactor::{Stream, Token};
use peer::Peer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{Borrowed, ffi};
use std::cell::RefCell;
use std::ffi::c_int;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A step that is put off to a later round.
pub enum Deferred {
    /// Tell the protocol of the connection, begin to read, resolve the waiter.
    Begin(Option<Py<PyAny>>),
    /// Read what no event will tell again.
    Read,
    /// Tell the protocol that the connection is lost, and close the socket.
    Lost,
    /// A step of the TLS above.
    Tls(crate::tls::Step),
}

/// One piece of queued data.
enum Piece {
    /// What the program has written.
    Bytes(PyBackedBytes),
    /// What TLS has made of it.
    Records(Vec<u8>),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Records(records) => records,
        }
    }
}

/// Who owns the descriptor.
enum Socket {
    /// This transport: an accepted connection whose socket nobody has asked for.
    Descriptor(OwnedFd),
    /// A Python socket object, which closes it.
    Object(Py<PyAny>, RawFd),
    /// A socket object that the program has as well and may take the descriptor from, by `detach()`.
    Shared(Py<PyAny>, RawFd),
    /// Nobody any more; the number it had, and the address.
    Closed(RawFd, Option<Box<SocketAddr>>),
}

impl Socket {
    /// The open descriptor.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Descriptor(descriptor) => Some(std::os::fd::AsFd::as_fd(descriptor)),
            Self::Object(_, descriptor) | Self::Shared(_, descriptor) => {
                // SAFETY: the socket object keeps the descriptor open: it is ours alone, or the program's and told that it is in use,
                // and `Transport::require_socket` has seen that it still has the number.
                Some(unsafe { BorrowedFd::borrow_raw(*descriptor) })
            }
            Self::Closed(..) => None,
        }
    }

    fn number(&self) -> RawFd {
        match self {
            Self::Descriptor(descriptor) => descriptor.as_raw_fd(),
            Self::Object(_, number) | Self::Shared(_, number) | Self::Closed(number, _) => *number,
        }
    }
}

/// What changes in the life of a transport.
struct Connection {
    stream: Stream<Piece>,
    socket: Socket,
    token: Option<Token>,
    protocol: Option<Py<PyAny>>,
    delivery: Delivery,
    /// Where the protocol's methods run.
    context: Option<Py<PyAny>>,
    server: Option<Py<PyAny>>,
    /// What `get_extra_info` has been asked for, or was given.
    extra: Option<Py<PyDict>>,
    peer: Option<Peer>,
    /// A file is being sent, which the output belongs to meanwhile.
    sendfile: Option<Box<sendfile::SendFile>>,
    /// Why the connection is lost, for `connection_lost`.
    error: Option<Py<PyAny>>,
}

impl Connection {
    fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.context.as_ref().map(|context| context.bind(py).clone())
    }
}

/// The Rust part of a transport.
///
/// Invariant: `connection` is borrowed only by a thread that holds the claim of `event_loop`'s state, and never across a call into
/// Python.
pub struct Transport {
    event_loop: Py<Loop>,
    connection: RefCell<Connection>,
}

// SAFETY: see the invariant: the loop's claim admits one thread at a time. The collector looks while no other thread runs.
unsafe impl Sync for Transport {}

static TYPE: PyOnceLock<HeapType<Transport>> = PyOnceLock::new();

/// The Rust part of a transport that the loop keeps.
fn body<'a>(transport: Borrowed<'a, '_, PyAny>) -> &'a Transport {
    // SAFETY: only transports are registered with a loop as transports, and methods are called on them only.
    unsafe { HeapType::<Transport>::body_unchecked(transport) }
}

impl Transport {
    /// Uses the connection. `use_connection` must not call into Python, nor drop anything but exact bytes.
    #[inline]
    fn with<R>(&self, use_connection: impl FnOnce(&mut Connection) -> R) -> R {
        use_connection(&mut self.connection.borrow_mut())
    }

    /// Makes sure, before input and output, that a socket object that the program has as well still has its descriptor: the
    /// number may be another file's by now.
    #[inline]
    fn require_socket(&self, py: Python<'_>) -> PyResult<std::io::Result<()>> {
        let shared = self.with(|connection| match &connection.socket {
            Socket::Shared(socket, number) => Some((socket.bind(py).clone(), *number)),
            _ => None,
        });
        let Some((socket, number)) = shared else { return Ok(Ok(())) };
        if crate::watched::descriptor_of(&socket)? == number {
            return Ok(Ok(()));
        }
        let gone =
            self.with(|connection| std::mem::replace(&mut connection.socket, Socket::Closed(number, None)));
        drop(gone);
        Ok(Err(crate::errors::closed_descriptor()))
    }

    fn delivery(&self) -> Delivery {
        self.with(|connection| connection.delivery)
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(|connection| connection.protocol.as_ref().map(|protocol| protocol.bind(py).clone()))
    }
}

impl Body for Transport {
    fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int {
        let Ok(connection) = self.connection.try_borrow() else { return 0 };
        let referents = [
            Some(self.event_loop.as_ptr()),
            connection.protocol.as_ref().map(Py::as_ptr),
            connection.context.as_ref().map(Py::as_ptr),
            connection.server.as_ref().map(Py::as_ptr),
            connection.extra.as_ref().map(Py::as_ptr),
            connection.error.as_ref().map(Py::as_ptr),
            connection.sendfile.as_ref().and_then(|sendfile| Some(sendfile.waiter.as_ref()?.as_ptr())),
            match &connection.socket {
                Socket::Object(socket, _) | Socket::Shared(socket, _) => Some(socket.as_ptr()),
                _ => None,
            },
        ];
        common::visit_all(referents, visit)
    }

    fn clear(&self, _py: Python<'_>) {
        let dropped = self.connection.try_borrow_mut().map(|mut connection| {
            (
                connection.protocol.take(),
                connection.context.take(),
                connection.server.take(),
                connection.extra.take(),
                connection.error.take(),
                connection.sendfile.take(),
            )
        });
        drop(dropped);
    }

    fn describe(this: Borrowed<'_, '_, PyAny>) -> PyResult<Py<PyAny>> {
        methods::describe(this)
    }

    fn finalise(this: Borrowed<'_, '_, PyAny>) {
        lifecycle::warn_unclosed(this);
    }
}

/// Carries out what the stream asks for. Exceptions of the protocol go to the loop's exception handler.
fn apply(transport: &Bound<'_, PyAny>, actions: Actions) -> PyResult<()> {
    if actions.is_empty() {
        return Ok(());
    }
    if actions.contains(Actions::PAUSE_WRITING) {
        lifecycle::tell_protocol(transport, pyo3::intern!(transport.py(), "pause_writing"))?;
    }
    if actions.contains(Actions::RESUME_WRITING) {
        lifecycle::tell_protocol(transport, pyo3::intern!(transport.py(), "resume_writing"))?;
        let rest = body(transport.as_borrowed()).with(|connection| connection.stream.resumed());
        apply(transport, rest)?;
    }
    if actions.contains(Actions::SHUTDOWN) {
        lifecycle::shut_down_output(transport);
    }
    if actions.contains(Actions::LOSE_CONNECTION) {
        lifecycle::lose_connection(transport)?;
    }
    if actions.contains(Actions::READ_LATER) {
        let task = crate::task::Task::Transport(transport.clone().unbind(), Deferred::Read);
        body(transport.as_borrowed()).event_loop.get().push(task)?;
    }
    Ok(())
}
