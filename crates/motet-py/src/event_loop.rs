//! The class `motet._motet.Loop`: what `motet.EventLoop` (Python, over `asyncio.BaseEventLoop`) is made of.
//!
//! The flags that asyncio's base class keeps as attributes (`_closed`, `_debug`, `_thread_id`, `_stopping`, `_task_factory`) are
//! properties here, so that its methods and this crate read one and the same state.

use crate::datagram;
use crate::errors::os_error;
use crate::files::{Files, Mailbox};
use crate::handle::Handle;
use crate::listener::Listener;
use crate::native;
use crate::task::Task;
use crate::thread_bound::{ThreadBound, WrongThread};
use crate::tls;
use crate::transport;
use crate::watchdog::Watched as WatchedLoop;
use crate::watched::{self, Side, Watched};
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_reactor::{Reactor, TimerKey, Turn};
use motet_sync::inbox::inbox;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Size of the buffer that reads land in before they become exact `bytes`: asyncio's and libuv's.
pub const READ_BUFFER: usize = 256 * 1024;
/// Size of the buffer for plaintext of small reads.
const PLAINTEXT_BUFFER: usize = 64 * 1024;
/// Handles kept for reuse by the loop's thread while the loop is idle. A busy loop keeps all that it has used in one burst.
const SPARE_HANDLES: usize = 1024;
/// Handles kept for reuse by other threads.
const SHARED_SPARE_HANDLES: usize = 4096;

/// Who hears of a descriptor.
pub enum Owner {
    /// A connection's transport.
    Transport(Py<PyAny>),
    /// A datagram socket's transport.
    Datagrams(Py<PyAny>),
    /// A server's listening socket.
    Listener(Py<Listener>),
    /// `add_reader`, `add_writer` and the `sock_…` methods.
    Watched(Box<Watched>),
    /// The ring of this loop's files.
    Files,
}

/// What only the loop's thread touches: the reactor, until the loop is closed, and the books beside it.
pub struct State {
    pub reactor: Option<Reactor<Owner>>,
    books: Books,
}

impl State {
    /// The open reactor and the books.
    pub fn parts(&mut self) -> Option<(&mut Reactor<Owner>, &mut Books)> {
        Some((self.reactor.as_mut()?, &mut self.books))
    }
}

impl std::ops::Deref for State {
    type Target = Books;
    fn deref(&self) -> &Books {
        &self.books
    }
}

impl std::ops::DerefMut for State {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

/// The loop's own books.
pub struct Books {
    pub turn: Turn<Task>,
    /// Transports that have collected data in this round.
    pub flush: Vec<Py<PyAny>>,
    /// Datagram transports that have collected datagrams in this round.
    pub datagram_flush: Vec<Py<PyAny>>,
    pub datagram_memory: datagram::Memory,
    pub addresses: datagram::address::AddressBook,
    pub spare: Vec<Py<Handle>>,
    pub read_buffer: Box<[u8]>,
    pub files: Files,
    /// TLS: plaintext before it becomes exact `bytes`.
    plaintext: Box<[MaybeUninit<u8>]>,
    /// TLS: records before they are sent; empty in between.
    pub records: Vec<u8>,
    /// TLS: small pieces before they become one record.
    pub joined: Vec<u8>,
    pub stream_spares: crate::streams::Spares,
    /// Writes made while the loop did not run: each is a round of its own.
    writes_between_runs: u64,
}

impl Books {
    /// A number for the round that is being run, for transports to see whether they have sent in it.
    pub fn round(&mut self, running: bool) -> u64 {
        if !running {
            self.writes_between_runs += 1;
        }
        self.turn.statistics.turns + self.writes_between_runs
    }

    /// What a TLS connection borrows to read.
    pub fn tls_buffers(&mut self) -> TlsBuffers<'_> {
        if self.plaintext.is_empty() {
            self.plaintext = Box::new_uninit_slice(PLAINTEXT_BUFFER);
        }
        TlsBuffers { received: &mut self.read_buffer, plaintext: &mut self.plaintext }
    }

    /// Gives back the handles that an idle loop does not keep.
    pub fn surplus(&mut self) -> Vec<Py<Handle>> {
        if self.spare.len() <= SPARE_HANDLES {
            return Vec::new();
        }
        let surplus = self.spare.split_off(SPARE_HANDLES);
        self.spare.shrink_to(SPARE_HANDLES);
        surplus
    }
}

/// What a TLS connection borrows of its loop to read.
pub struct TlsBuffers<'a> {
    /// The loop's read buffer.
    pub received: &'a mut Box<[u8]>,
    pub plaintext: &'a mut [MaybeUninit<u8>],
}

/// The machinery of one event loop. Not thread-safe, but for `call_soon_threadsafe` and the flags.
#[pyclass(frozen, subclass, module = "motet._motet")]
pub struct Loop {
    pub state: ThreadBound<State>,
    mailbox: Mailbox,
    /// Empty handles for other threads, whose own would come back to the loop's thread only.
    shared_spare: Mutex<Vec<Py<Handle>>>,
    closed: AtomicBool,
    debug: AtomicBool,
    stopping: AtomicBool,
    /// The identifier of the thread that runs the loop, 0 for none.
    thread: AtomicU64,
    task_factory: Mutex<Option<Py<PyAny>>>,
    has_task_factory: AtomicBool,
    makes_native_tasks: AtomicBool,
    pub watch: Arc<WatchedLoop>,
}

/// The error for a call from a thread that must not make it.
pub fn wrong_thread(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{what} was called from another thread than the one that runs the event loop; \
         use loop.call_soon_threadsafe() to have it called there"
    ))
}

impl Loop {
    /// Uses the loop's state on its own thread, or on any while it does not run.
    #[inline]
    pub fn with<R>(&self, what: &str, use_state: impl FnOnce(&mut State) -> R) -> PyResult<R> {
        self.state.with(use_state).map_err(|WrongThread| wrong_thread(what))
    }

    /// Uses the loop's open reactor.
    pub fn with_reactor<R>(&self, what: &str, use_it: impl FnOnce(&mut Reactor<Owner>) -> R) -> PyResult<R> {
        self.with(what, |state| state.reactor.as_mut().map(use_it))?.ok_or_else(closed_error)
    }

    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Whether a thread runs the loop now.
    pub fn is_in_run(&self) -> bool {
        self.thread.load(Ordering::Relaxed) != 0
    }

    pub fn in_debug_mode(&self) -> bool {
        self.debug.load(Ordering::Relaxed)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn has_task_factory(&self) -> bool {
        self.has_task_factory.load(Ordering::Relaxed)
    }

    /// Whether the task factory is motet's.
    #[inline]
    pub fn makes_native_tasks(&self) -> bool {
        self.makes_native_tasks.load(Ordering::Relaxed)
    }

    /// Refuses a closed loop.
    #[inline]
    pub fn require_open(&self) -> PyResult<()> {
        if self.is_open() { Ok(()) } else { Err(closed_error()) }
    }

    /// Has the loop's thread run `task`, from any thread.
    pub fn send(&self, task: Task) -> PyResult<()> {
        match self.mailbox.send(task) {
            Ok(woken) => woken.map_err(os_error),
            Err(_) => Err(closed_error()),
        }
    }

    /// What threads that know no Python send by.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// An empty handle that nobody else holds, for a thread that does not run the loop.
    pub fn take_shared_spare(&self) -> Option<Py<Handle>> {
        self.shared_spare.try_lock().ok()?.pop()
    }

    /// Keeps what an idle loop has too many of for other threads; what comes back is for the caller to drop.
    pub fn share_spare(&self, mut surplus: Vec<Py<Handle>>) -> Vec<Py<Handle>> {
        if let Ok(mut shared) = self.shared_spare.try_lock() {
            let room = SHARED_SPARE_HANDLES.saturating_sub(shared.len()).min(surplus.len());
            shared.extend(surplus.drain(..room));
        }
        surplus
    }

    /// Runs `task` in a later round. Order is kept between what this thread and others send.
    #[inline]
    pub fn push(&self, task: Task) -> PyResult<()> {
        let mut task = Some(task);
        let pushed = self.state.with(|state| {
            state.turn.collect_inbox();
            state.turn.push(task.take().expect("the closure runs once"));
        });
        match (pushed, task) {
            (Err(WrongThread), Some(task)) => self.send(task),
            _ => Ok(()),
        }
    }

    /// Takes a timer back, from any thread.
    pub fn cancel_timer(&self, key: TimerKey) {
        // What comes back is dropped here, outside: it may run a finaliser.
        let cancelled = self.state.with(|state| state.turn.cancel(key));
        if cancelled.is_err() {
            // A closed loop has dropped its timers.
            let _ = self.send(Task::CancelTimer(key));
        }
    }
}

pub fn closed_error() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (reactor, waker) = Reactor::new().map_err(os_error)?;
        let (sender, receiver) = inbox();
        Ok(Self {
            state: ThreadBound::new(State {
                reactor: Some(reactor),
                books: Books {
                    turn: Turn::new(receiver),
                    flush: Vec::new(),
                    datagram_flush: Vec::new(),
                    datagram_memory: datagram::Memory::default(),
                    addresses: datagram::address::AddressBook::default(),
                    spare: Vec::new(),
                    read_buffer: Box::default(),
                    files: Files::default(),
                    plaintext: Box::default(),
                    records: Vec::new(),
                    joined: Vec::new(),
                    stream_spares: crate::streams::Spares::default(),
                    writes_between_runs: 0,
                },
            }),
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
        crate::run::run(this)
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
            state.books.plaintext = Box::default();
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
            // The program may hold the handle on; it must not keep the callback alive (see handle.rs).
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
        crate::listener::start(this, protocol_factory, socket, server, backlog)
    }

    /// Stops accepting connections on a listening socket; does not close it.
    fn _stop_listening(&self, descriptor: i32) -> PyResult<()> {
        crate::listener::stop(self, descriptor)
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
        crate::run::counters(self, py)
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

fn traverse_state(state: &State, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    state.turn.waiting().try_for_each(|task| task.traverse(visit))?;
    state.flush.iter().chain(&state.datagram_flush).try_for_each(|transport| visit.call(transport))?;
    state.files.traverse(visit)?;
    let owners = state.reactor.iter().flat_map(|reactor| reactor.descriptors().owners());
    for owner in owners {
        match owner {
            Owner::Transport(transport) | Owner::Datagrams(transport) => visit.call(transport)?,
            Owner::Listener(listener) => visit.call(listener)?,
            Owner::Watched(watched) => watched.traverse(visit)?,
            Owner::Files => {}
        }
    }
    Ok(())
}
