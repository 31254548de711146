//! The class `motet._motet.SSLTransport`: TLS between a protocol and a [`SocketTransport`](crate::transport).
//!
//! One object is both: the transport of the protocol above, and what the socket's transport below has in place of a protocol
//! ([`Delivery::Tls`](crate::transport::Delivery)). The `SSL` object belongs to an `ssl.SSLObject` that the program's context has
//! made. Handshake and shutdown are driven by that object's own methods, so that hooks and exceptions are the interpreter's;
//! plaintext is read and written natively ([`motet_tls::Session`]).
//!
//! - `library.rs`: from an `ssl.SSLObject` to its session.
//! - `methods.rs`: what the program calls.
//! - `below.rs`: what the socket's transport calls.
//! - `handshake.rs`, `reading.rs`, `writing.rs`, `closing.rs`: the life of a connection.
//! - `extra_info.rs`: `get_extra_info`, made when asked for.

mod below;
mod closing;
mod extra_info;
mod handshake;
mod library;
mod methods;
mod reading;
mod writing;

pub use below::{
    attach, connection_lost, connection_made, end_of_input, forget_errors, put_input, received, run_step,
    sent, take_records,
};
pub use library::reach;
pub use methods::tls_type;

use crate::event_loop::Loop;
use crate::heap_type::{Body, HeapType};
use crate::transport::{Delivery, common};
use crate::{call, transport};
use motet_reactor::TimerKey;
use motet_reactor::stream::WriteQueue;
use motet_tls::Session;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{Borrowed, ffi};
use std::cell::RefCell;
use std::ffi::c_int;

/// A step of a connection that is put off to a later round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin the handshake on a transport that carried something else before.
    Begin,
    /// Go on where a pause, or an exception that ended the run, has stopped.
    Resume,
    /// The handshake has taken too long.
    HandshakeTimeout,
    /// The shutdown has taken too long.
    ShutdownTimeout,
}

/// Where in its life a connection is; later phases stand further down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The socket's transport has not begun.
    Waiting,
    Handshake,
    Open,
    /// Closing: what was written is still to be sent.
    Flushing,
    /// Closing: the peers tell each other the end.
    Shutdown,
    Closed,
}

/// What the protocol has been told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    ConnectionMade,
    EndOfInput,
    ConnectionLost,
}

/// Water marks, low and high.
#[derive(Clone, Copy)]
struct Limits {
    write: (usize, usize),
    read: (usize, usize),
}

impl Layer {
    fn limits(&self) -> Limits {
        self.limits.as_deref().copied().unwrap_or(DEFAULT_LIMITS)
    }
}

/// As asyncio's.
const DEFAULT_LIMITS: Limits = Limits { write: (128 * 1024, 512 * 1024), read: (64 * 1024, 256 * 1024) };

/// What changes in the life of a connection.
struct Layer {
    phase: Phase,
    told: Told,
    delivery: Delivery,
    /// `close()` or `abort()` was called, or the connection is going down by itself.
    closing: bool,
    reading_paused: bool,
    writing_paused: bool,
    /// The socket's transport is on the list of those flushed at the end of the round.
    flush_requested: bool,
    /// The peer has closed the connection below TLS.
    end_of_input: bool,
    dropped_writes: u32,
    /// Boxed, for most programs leave them as they are.
    limits: Option<Box<Limits>>,
    session: Session,
    queue: WriteQueue<PyBackedBytes>,
    timer: Option<TimerKey>,
    protocol: Option<Py<PyAny>>,
    /// The socket's transport.
    lower: Option<Py<PyAny>>,
    waiter: Option<Py<PyAny>>,
    /// What `get_extra_info` has been asked for.
    extra: Option<Py<PyDict>>,
}

/// The Rust part of such a transport.
///
/// Invariant: as [`crate::transport::Transport`]: `layer` is borrowed only by a thread that holds the claim of `event_loop`'s state, and
/// never across a call into Python. The `SSL` object of its session belongs to `ssl_socket`, which lives for as long.
pub struct Tls {
    event_loop: Py<Loop>,
    /// The `ssl.SSLObject`.
    ssl_object: Py<PyAny>,
    /// The `_ssl._SSLSocket` in it.
    ssl_socket: Py<PyAny>,
    /// The program's `ssl.SSLContext`.
    context: Py<PyAny>,
    server_side: bool,
    handshake_seconds: f32,
    shutdown_seconds: f32,
    layer: RefCell<Layer>,
}

// SAFETY: see the invariant: the loop's claim admits one thread at a time. The collector looks while no other thread runs.
unsafe impl Sync for Tls {}

static TYPE: PyOnceLock<HeapType<Tls>> = PyOnceLock::new();

/// The Rust part of an object that is known to be of this class.
fn body<'a>(transport: Borrowed<'a, '_, PyAny>) -> &'a Tls {
    // SAFETY: methods are called on objects of the class only, and `Delivery::Tls` stands for protocols of it alone.
    unsafe { HeapType::<Tls>::body_unchecked(transport) }
}

/// Whether an object is of this class.
pub fn is_tls(object: &Bound<'_, PyAny>) -> bool {
    TYPE.get(object.py()).is_some_and(|class| object.get_type().is(class.class(object.py())))
}

impl Tls {
    /// Uses the layer. `use_layer` must not call into Python, nor drop anything but exact bytes.
    #[inline]
    fn with<R>(&self, use_layer: impl FnOnce(&mut Layer) -> R) -> R {
        use_layer(&mut self.layer.borrow_mut())
    }

    /// As [`Tls::with`], for driving the session: keeps others from the `SSL` object meanwhile, where no GIL does.
    #[inline]
    fn with_session<R>(&self, py: Python<'_>, use_layer: impl FnOnce(&mut Layer) -> R) -> R {
        let mut use_layer = Some(use_layer);
        pyo3::sync::critical_section::with_critical_section(self.ssl_socket.bind(py), || {
            self.with(use_layer.take().expect("it is run once"))
        })
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(|layer| layer.protocol.as_ref().map(|protocol| protocol.bind(py).clone()))
    }

    fn lower<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(|layer| layer.lower.as_ref().map(|lower| lower.bind(py).clone()))
    }

    fn phase(&self) -> Phase {
        self.with(|layer| layer.phase)
    }
}

/// What `Loop._make_tls_transport` is given.
pub struct Settings<'py> {
    pub protocol: Bound<'py, PyAny>,
    pub ssl_object: Bound<'py, PyAny>,
    pub context: Bound<'py, PyAny>,
    pub waiter: Option<Py<PyAny>>,
    pub server_side: bool,
    /// The protocol has been told of the connection already.
    pub made: bool,
    pub handshake_seconds: f32,
    pub shutdown_seconds: f32,
}

/// Makes a TLS transport, to be given to a socket's transport as its protocol; nothing where the `SSL` object cannot be driven
/// natively.
pub fn create<'py>(
    event_loop: &Bound<'py, Loop>,
    settings: Settings<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    let Some((ssl_socket, session)) = library::session_of(&settings.ssl_object, &settings.context)? else {
        return Ok(None);
    };
    let layer = Layer {
        phase: Phase::Waiting,
        told: if settings.made { Told::ConnectionMade } else { Told::Nothing },
        delivery: Delivery::of(&settings.protocol)?,
        closing: false,
        reading_paused: false,
        writing_paused: false,
        flush_requested: false,
        end_of_input: false,
        dropped_writes: 0,
        limits: None,
        session,
        queue: WriteQueue::default(),
        timer: None,
        protocol: Some(settings.protocol.unbind()),
        lower: None,
        waiter: settings.waiter,
        extra: None,
    };
    let class = TYPE.get(py).expect("the module's initialisation has made the class");
    let made = class.allocate(
        py,
        Tls {
            event_loop: event_loop.clone().unbind(),
            ssl_object: settings.ssl_object.unbind(),
            ssl_socket: ssl_socket.unbind(),
            context: settings.context.unbind(),
            server_side: settings.server_side,
            handshake_seconds: settings.handshake_seconds,
            shutdown_seconds: settings.shutdown_seconds,
            layer: RefCell::new(layer),
        },
    )?;
    Ok(Some(made))
}

/// Hands an exception to the loop's exception handler; what must end the run comes back.
fn report(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let this = body(transport.as_borrowed());
    let py = transport.py();
    common::report(this.event_loop.bind(py), transport, this.protocol(py), error, message)
}

/// Ends the connection at once with an error, which the protocol hears of by `connection_lost`. The system's errors, and TLS's own,
/// are ordinary ends of a connection; anything else goes to the exception handler too.
fn fail(transport: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = transport.py();
    if call::ends_the_run(py, &error) {
        return Err(error);
    }
    if let Some(lower) = body(transport.as_borrowed()).lower(py) {
        transport::force_close(&lower, Some(error.clone_ref(py).into_value(py).into_any()))?;
    }
    if error.is_instance_of::<PyOSError>(py) { Ok(()) } else { report(transport, error, message) }
}

/// Calls a method of the protocol that takes nothing; its exception goes to the exception handler.
fn tell_protocol(transport: &Bound<'_, PyAny>, method: &Bound<'_, pyo3::types::PyString>) -> PyResult<()> {
    let Some(protocol) = body(transport.as_borrowed()).protocol(transport.py()) else { return Ok(()) };
    match call::method(&protocol, method) {
        Ok(_) => Ok(()),
        Err(error) => report(transport, error, &format!("protocol.{method}() failed")),
    }
}

impl Body for Tls {
    fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int {
        let Ok(layer) = self.layer.try_borrow() else { return 0 };
        let referents = [
            Some(self.event_loop.as_ptr()),
            Some(self.ssl_object.as_ptr()),
            Some(self.ssl_socket.as_ptr()),
            Some(self.context.as_ptr()),
            layer.protocol.as_ref().map(Py::as_ptr),
            layer.lower.as_ref().map(Py::as_ptr),
            layer.waiter.as_ref().map(Py::as_ptr),
            layer.extra.as_ref().map(Py::as_ptr),
        ];
        common::visit_all(referents, visit)
    }

    fn clear(&self, _py: Python<'_>) {
        let dropped = self.layer.try_borrow_mut().map(|mut layer| {
            (layer.protocol.take(), layer.lower.take(), layer.waiter.take(), layer.extra.take())
        });
        drop(dropped);
    }

    fn describe(this: Borrowed<'_, '_, PyAny>) -> PyResult<Py<PyAny>> {
        methods::describe(this)
    }

    fn finalise(this: Borrowed<'_, '_, PyAny>) {
        closing::warn_unclosed(this);
    }
}
