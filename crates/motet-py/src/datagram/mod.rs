//! The class `motet._motet.DatagramTransport`: a datagram socket's transport, a real subclass of `asyncio.DatagramTransport`.
//!
//! What may happen when is decided by [`motet_reactor::Endpoint`]; here its actions become calls of the protocol and system calls.
//! Datagrams come in batches into memory that the loop lends, and those of one round go out together where that loses no error:
//! on sockets that are not connected.
//!
//! - `methods.rs`: what the program calls.
//! - `input_output.rs`: what the loop calls: readiness, flushing, steps put off to a later round.
//! - `lifecycle.rs`: how a transport begins and ends.
//! - `address.rs`: addresses in Python's form and in the system's.

pub mod address;
mod input_output;
mod lifecycle;
mod methods;

pub use input_output::{Memory, flush, ready, run_step};
pub use lifecycle::{begin, loop_closed};
pub use methods::transport_type;

use crate::event_loop::Loop;
use crate::heap_type::{Body, HeapType};
use crate::transport::common;
use address::Family;
use motet_reactor::stream::Actions;
use motet_reactor::sys::datagram::Address;
use motet_reactor::{Endpoint, Token};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{Borrowed, ffi};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// A step that is put off to a later round.
pub enum Step {
    /// Tell the protocol of the transport, begin to receive, resolve the waiter.
    Begin(Option<Py<PyAny>>),
    /// Receive what no event will tell again.
    Read,
    /// Try to send to a Unix socket whose queue was full: no event tells when it is not.
    Retry,
    /// Tell the protocol of the end, and close the socket.
    Lost,
}

/// To whom the socket is connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Nobody,
    /// A socket with an address: whatever address a datagram is sent to, it goes there.
    Named,
    /// The other end of a pair.
    Unnamed,
}

/// What changes in the life of a transport.
struct Inner {
    endpoint: Endpoint<PyBackedBytes, Option<Address>>,
    /// Received, and not yet given to the protocol.
    received: VecDeque<(Py<PyBytes>, Address)>,
    /// The socket object; nothing once it is closed.
    socket: Option<Py<PyAny>>,
    number: RawFd,
    /// The only address that may be sent to, if one was given.
    remote: Option<Py<PyAny>>,
    token: Option<Token>,
    retry_pending: bool,
    protocol: Option<Py<PyAny>>,
    /// Where the protocol's methods run.
    context: Option<Py<PyAny>>,
    extra: Option<Py<PyDict>>,
    /// Why the transport ends, for `connection_lost`.
    error: Option<Py<PyAny>>,
}

impl Inner {
    fn context<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.context.as_ref().map(|context| context.bind(py).clone())
    }

    /// The open descriptor.
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        open(&self.socket, self.number)
    }
}

/// The open descriptor of a socket object with its number.
fn open(socket: &Option<Py<PyAny>>, number: RawFd) -> io::Result<BorrowedFd<'_>> {
    if socket.is_none() {
        return Err(crate::errors::closed_descriptor());
    }
    // SAFETY: the socket object keeps the descriptor open: it was told that it is in use, and `require_socket` has seen that it still
    // has the number.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The Rust part of a transport.
///
/// Invariant: `inner` is borrowed only by a thread that holds the claim of `event_loop`'s state, and never across a call into
/// Python.
pub struct DatagramTransport {
    event_loop: Py<Loop>,
    family: Family,
    peer: Peer,
    inner: RefCell<Inner>,
}

// SAFETY: see the invariant: the loop's claim admits one thread at a time. The collector looks while no other thread runs.
unsafe impl Sync for DatagramTransport {}

static TYPE: PyOnceLock<HeapType<DatagramTransport>> = PyOnceLock::new();

/// The Rust part of a transport that the loop keeps.
fn body<'a>(transport: Borrowed<'a, '_, PyAny>) -> &'a DatagramTransport {
    // SAFETY: only datagram transports are registered with a loop as such, and methods are called on them only.
    unsafe { HeapType::<DatagramTransport>::body_unchecked(transport) }
}

impl DatagramTransport {
    /// Uses what changes. `use_inner` must not call into Python, nor drop anything but exact bytes and addresses.
    #[inline]
    fn with<R>(&self, use_inner: impl FnOnce(&mut Inner) -> R) -> R {
        use_inner(&mut self.inner.borrow_mut())
    }

    /// Makes sure, before input and output, that the socket object, which the program may have as well, still has its descriptor:
    /// the number may be another file's by now.
    fn require_socket(&self, py: Python<'_>) -> PyResult<io::Result<()>> {
        let socket =
            self.with(|inner| inner.socket.as_ref().map(|socket| (socket.bind(py).clone(), inner.number)));
        if let Some((socket, number)) = socket {
            if crate::watched::descriptor_of(&socket)? == number {
                return Ok(Ok(()));
            }
            drop(self.with(|inner| inner.socket.take()));
        }
        Ok(Err(crate::errors::closed_descriptor()))
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(|inner| inner.protocol.as_ref().map(|protocol| protocol.bind(py).clone()))
    }
}

impl Body for DatagramTransport {
    fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int {
        let Ok(inner) = self.inner.try_borrow() else { return 0 };
        let referents = [
            Some(self.event_loop.as_ptr()),
            inner.remote.as_ref().map(Py::as_ptr),
            inner.socket.as_ref().map(Py::as_ptr),
            inner.protocol.as_ref().map(Py::as_ptr),
            inner.context.as_ref().map(Py::as_ptr),
            inner.extra.as_ref().map(Py::as_ptr),
            inner.error.as_ref().map(Py::as_ptr),
        ];
        common::visit_all(referents, visit)
    }

    fn clear(&self, _py: Python<'_>) {
        let dropped = self.inner.try_borrow_mut().map(|mut inner| {
            (
                inner.remote.take(),
                inner.protocol.take(),
                inner.context.take(),
                inner.extra.take(),
                inner.error.take(),
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

/// Carries out what the endpoint asks for. Exceptions of the protocol go to the loop's exception handler.
fn apply(transport: &Bound<'_, PyAny>, actions: Actions) -> PyResult<()> {
    if actions.is_empty() {
        return Ok(());
    }
    if actions.contains(Actions::PAUSE_WRITING) {
        lifecycle::tell_protocol(transport, pyo3::intern!(transport.py(), "pause_writing"))?;
    }
    if actions.contains(Actions::RESUME_WRITING) {
        lifecycle::tell_protocol(transport, pyo3::intern!(transport.py(), "resume_writing"))?;
    }
    if actions.contains(Actions::LOSE_CONNECTION) {
        lifecycle::lose_connection(transport)?;
    }
    if actions.contains(Actions::READ_LATER) {
        let task = crate::task::Task::Datagrams(transport.clone().unbind(), Step::Read);
        body(transport.as_borrowed()).event_loop.get().push(task)?;
    }
    Ok(())
}
