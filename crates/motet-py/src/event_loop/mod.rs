//! The class `motet._motet.Loop`: what `motet.EventLoop` (Python, over `asyncio.BaseEventLoop`) is made of.
//!
//! The flags that asyncio's base class keeps as attributes (`_closed`, `_debug`, `_thread_id`, `_stopping`, `_task_factory`) are
//! properties here, so that its methods and this crate read one and the same state.
//!
//! - `state.rs`: what only the loop's thread touches.
//! - `methods.rs`: the methods and properties of the class; `counters.rs`: what the loop has done.

mod counters;
mod methods;
mod state;

pub use state::{Books, Owner, READ_BUFFER, State};

use crate::errors::os_error;
use crate::files::Mailbox;
use crate::handle::Handle;
use crate::task::Task;
use crate::thread_bound::{ThreadBound, WrongThread};
use crate::watchdog::Watched as WatchedLoop;
use motet_reactor::{Reactor, TimerKey};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Handles kept for reuse by other threads.
const SHARED_SPARE_HANDLES: usize = 4096;

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
