//! The methods and properties of the class.

use super::Loop;
use super::counters::counters;
use super::state::{Owner, State, traverse_state};
use crate::errors::os_error;
use crate::files::Mailbox;
use crate::handle::Handle;
use crate::task::Task;
use crate::thread_bound::ThreadBound;
use crate::watched::{self, Side};
use crate::{asyncio_classes, datagram, listener, native, run, tls, transport};
use motet_reactor::Reactor;
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_sync::inbox::inbox;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        asyncio_classes::ensure(args.py())?;
        let (reactor, waker) = Reactor::new().map_err(os_error)?;
        let (sender, receiver) = inbox();
        Ok(Self {
            state: ThreadBound::new(State::new(reactor, receiver)),
            mailbox: Mailbox::new(sender, waker),
            shared_spare: Mutex::default(),
            closed: AtomicBool::new(false),
            debug: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            thread: AtomicU64::new(0),
            task_factory: Mutex::new(None),
            has_task_factory: AtomicBool::new(false),
            makes_native_tasks: AtomicBool::new(false),
            watch: Arc::default(),
        })
    }

    /// Runs callbacks until `stop()` is called. The caller has prepared the thread (running loop, hooks).
    fn _run(this: &Bound<'_, Self>) -> PyResult<()> {
        run::run(this)
    }

    /// Ends `run_forever()` after the current round.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Drops all that waits, ends every registration and closes the poller.
    fn _shut(&self, py: Python<'_>) -> PyResult<()> {
        let (waiting, owners, files) = self.with("loop.close()", |state| {
            let owners = state.reactor.as_mut().map(Reactor::clear);
            state.reactor = None;
            state.read_buffer = Box::default();
            state.datagram_memory = datagram::Memory::default();
            (state.records, state.joined) = (Vec::new(), Vec::new());
            state.plaintext = Box::default();
            (state.turn.close(), owners, std::mem::take(&mut state.files))
        })?;
        files.close();
        self.mailbox.close();
        for owner in owners.into_iter().flatten() {
            match owner {
                Owner::Transport(transport) => transport::loop_closed(transport.bind(py)),
                Owner::Watched(watched) => watched.discard(py),
                Owner::Datagrams(transport) => datagram::loop_closed(transport.bind(py)),
                Owner::Listener(_) | Owner::Files => {}
            }
        }
        for task in waiting {
            // The program may hold the handle on; it must not keep the callback alive (see `handle`).
            if let Task::Callback(handle) = task {
                handle.get().discard(py);
            }
        }
        Ok(())
    }

    #[pyo3(signature = (descriptor, callback, *arguments))]
    fn _add_reader(
        this: &Bound<'_, Self>,
        descriptor: i32,
        callback: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        watched::add_callback(this, descriptor, Side::Read, callback, arguments)
    }

    #[pyo3(signature = (descriptor, callback, *arguments))]
    fn _add_writer(
        this: &Bound<'_, Self>,
        descriptor: i32,
        callback: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        watched::add_callback(this, descriptor, Side::Write, callback, arguments)
    }

    fn _remove_reader(this: &Bound<'_, Self>, descriptor: i32) -> PyResult<bool> {
        watched::remove_callback(this, descriptor, Side::Read)
    }

    fn _remove_writer(this: &Bound<'_, Self>, descriptor: i32) -> PyResult<bool> {
        watched::remove_callback(this, descriptor, Side::Write)
    }

    /// What `socket.recv(limit)` returns, or a future of it.
    fn _sock_receive(this: &Bound<'_, Self>, socket: &Bound<'_, PyAny>, limit: isize) -> PyResult<Py<PyAny>> {
        let limit =
            usize::try_from(limit).map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        watched::receive(this, socket, limit)
    }

    /// None when all is sent, or a future of that.
    fn _sock_send_all(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        watched::send_all(this, socket, data)
    }

    /// Counts bytes that a socket's own methods have moved.
    fn _count_bytes(&self, received: u64, sent: u64) -> PyResult<()> {
        self.with("loop.sock_recv()", |state| {
            state.turn.statistics.bytes_received += received;
            state.turn.statistics.bytes_sent += sent;
        })
    }

    /// A future of what `method(*arguments)` returns when the socket is readable and it no longer blocks.
    #[pyo3(signature = (socket, method, *arguments))]
    fn _sock_retry_read(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        method: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        watched::retry(this, socket, Side::Read, method, arguments)
    }

    /// As `_sock_retry_read`, for a socket that has to be writable.
    #[pyo3(signature = (socket, method, *arguments))]
    fn _sock_retry_write(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, PyAny>,
        method: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        watched::retry(this, socket, Side::Write, method, arguments)
    }

    /// A future of the socket's being writable.
    fn _sock_wait_writable(this: &Bound<'_, Self>, socket: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        watched::wait_writable(this, socket)
    }

    /// The open transport that uses a descriptor, or None.
    fn _transport_of(&self, py: Python<'_>, descriptor: i32) -> PyResult<Option<Py<PyAny>>> {
        self.with("loop.add_reader()", |state| {
            let reactor = state.reactor.as_ref()?;
            match reactor.descriptors().get(reactor.token_of(descriptor)?) {
                Some((_, Owner::Transport(transport) | Owner::Datagrams(transport))) => {
                    Some(transport.clone_ref(py))
                }
                _ => None,
            }
        })
    }

    /// Makes the transport of a connected socket, which it takes over.
    #[pyo3(signature = (sock, protocol, waiter=None, *, extra=None, server=None))]
    fn _make_socket_transport<'py>(
        this: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        transport::connect(this, sock, protocol, waiter, extra, server)
    }

    /// Makes the transport of a datagram socket, which it takes over.
    #[pyo3(signature = (sock, protocol, address=None, waiter=None, extra=None))]
    fn _begin_datagrams<'py>(
        this: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<Py<PyAny>>,
        waiter: Option<Py<PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        datagram::begin(this, sock, protocol, address, waiter, extra)
    }

    /// Makes the TLS side of a connection, which a socket's transport takes for its protocol; None where `ssl_object` can only be
    /// driven by its own methods.
    #[pyo3(signature = (protocol, ssl_object, context, waiter, server_side, made, handshake_timeout, shutdown_timeout))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of asyncio's own class")]
    fn _make_tls_transport<'py>(
        this: &Bound<'py, Self>,
        protocol: Bound<'py, PyAny>,
        ssl_object: Bound<'py, PyAny>,
        context: Bound<'py, PyAny>,
        waiter: Option<Py<PyAny>>,
        server_side: bool,
        made: bool,
        handshake_timeout: f32,
        shutdown_timeout: f32,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let settings = tls::Settings {
            protocol,
            ssl_object,
            context,
            waiter,
            server_side,
            made,
            handshake_seconds: handshake_timeout,
            shutdown_seconds: shutdown_timeout,
        };
        tls::create(this, settings)
    }

    /// Gives a socket's transport to the TLS above it, whose handshake begins in a later round. `received` is what has been read
    /// from the transport already.
    #[staticmethod]
    fn _start_tls(transport: &Bound<'_, PyAny>, tls: &Bound<'_, PyAny>, received: &[u8]) -> PyResult<()> {
        transport::put_below_tls(transport, tls, received)
    }

    /// Begins to accept connections on a listening socket.
    fn _start_listening(
        this: &Bound<'_, Self>,
        protocol_factory: Py<PyAny>,
        socket: &Bound<'_, PyAny>,
        server: Option<Py<PyAny>>,
        backlog: usize,
    ) -> PyResult<()> {
        listener::start(this, protocol_factory, socket, server, backlog)
    }

    /// The open connections that a server has accepted.
    fn _transports_of<'py>(
        this: &Bound<'py, Self>,
        server: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        transport::of_server(this, server)
    }

    /// Stops accepting connections on a listening socket; does not close it.
    fn _stop_listening(&self, descriptor: i32) -> PyResult<()> {
        listener::stop(self, descriptor)
    }

    /// The time of the loop's clock, in seconds.
    fn time(&self) -> f64 {
        MonotonicClock.now() as f64 / 1e9
    }

    fn is_running(&self) -> bool {
        self.is_in_run()
    }

    fn is_closed(&self) -> bool {
        !self.is_open()
    }

    fn get_debug(&self) -> bool {
        self.in_debug_mode()
    }

    fn _check_closed(&self) -> PyResult<()> {
        self.require_open()
    }

    #[getter(_closed)]
    fn get_closed(&self) -> bool {
        !self.is_open()
    }

    #[setter(_closed)]
    fn set_closed(&self, value: bool) {
        self.closed.store(value, Ordering::Relaxed);
    }

    #[getter(_debug)]
    fn get_debug_flag(&self) -> bool {
        self.in_debug_mode()
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.debug.store(value.is_truthy()?, Ordering::Relaxed);
        Ok(())
    }

    #[getter(_stopping)]
    fn get_stopping(&self) -> bool {
        self.is_stopping()
    }

    #[setter(_stopping)]
    fn set_stopping(&self, value: bool) {
        self.stopping.store(value, Ordering::Relaxed);
    }

    #[getter(_thread_id)]
    fn get_thread_id(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, value: Option<u64>) {
        self.thread.store(value.unwrap_or(0), Ordering::Relaxed);
    }

    #[getter(_task_factory)]
    fn get_task_factory_slot(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let factory = self.task_factory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        factory.as_ref().map(|factory| factory.clone_ref(py))
    }

    #[setter(_task_factory)]
    fn set_task_factory_slot(&self, py: Python<'_>, value: Option<Py<PyAny>>) {
        self.makes_native_tasks.store(native::is_task_factory(value.as_ref(), py), Ordering::Relaxed);
        self.has_task_factory.store(value.is_some(), Ordering::Relaxed);
        let old = {
            let mut factory = self.task_factory.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::replace(&mut *factory, value)
        };
        drop(old);
    }

    /// Seconds that one callback may hold the loop before the watchdog records where it is; 0 switches the watchdog off.
    /// Takes effect when the loop runs next.
    #[getter]
    fn blocked_threshold(&self) -> f64 {
        self.watch.threshold_nanoseconds() as f64 / 1e9
    }

    #[setter]
    fn set_blocked_threshold(&self, seconds: f64) -> PyResult<()> {
        if !(0.0..=86_400.0).contains(&seconds) {
            return Err(PyValueError::new_err(format!(
                "blocked_threshold must be between 0 (off) and 86400 seconds, not {seconds}"
            )));
        }
        self.watch.set_threshold_nanoseconds((seconds * 1e9) as u64);
        Ok(())
    }

    /// What the loop has done so far; see `motet.EventLoop.statistics`.
    fn _counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(self, py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        // SAFETY: called by the collector.
        unsafe {
            self.state.inspect_stopped(|state| result = traverse_state(state, &visit));
        }
        result?;
        match self.task_factory.try_lock() {
            Ok(factory) => visit.call(&*factory),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        // A loop that is collected is not running; what it drops may still call into it, hence the flag first.
        self.closed.store(true, Ordering::Relaxed);
        let _ = self._shut(py);
        self.set_task_factory_slot(py, None);
    }
}
