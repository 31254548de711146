//! Handles: one scheduled callback each, with its arguments inline.
//!
//! A handle's payload changes hands through one atomic word:
//!
//! ```text
//!   PENDING ──begin()─▶ DONE ─┐     the loop runs it
//!      │  └──cancel()─▶ CANCELLED   any thread cancels it
//!      └──look()──▶ LOOKING ──▶ PENDING
//! ```
//!
//! Invariant: `payload` is touched only by the thread whose compare-exchange has moved the state out of PENDING, and by the
//! garbage collector (which runs while no other thread does). A handle that only its loop holds is filled again for the next
//! callback, by the loop's thread.
//!
//! Handles are not known to the garbage collector: a program that schedules a hundred thousand of them would have it look at each
//! time and again. They need not be. A handle refers to something only while it is pending, and then its loop holds it; so a
//! loop that is collected shows what its handles hold ([`Handle::traverse`]).
//!
//! - `payload.rs`: what a handle calls.
//! - `timer.rs`: handles of timers.

mod payload;
mod timer;

pub use payload::Payload;
pub use timer::TimerHandle;

use crate::context;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi, intern};
use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

const PENDING: u8 = 0;
const CANCELLED: u8 = 1;
const DONE: u8 = 2;
const LOOKING: u8 = 3;

/// A scheduled callback, as `asyncio.Handle`.
///
/// Thread-safe: `cancel()` may be called from any thread.
#[pyclass(frozen, subclass, weakref, module = "motet._motet")]
pub struct Handle {
    state: AtomicU8,
    payload: UnsafeCell<Payload>,
    notes: OnceLock<Box<Notes>>,
}

/// What is asked of a handle after its run.
struct Notes {
    /// Where it was scheduled, in debug mode: a list of frames.
    source_traceback: Option<Py<PyAny>>,
    /// Where it ran, in debug mode and when it failed.
    context: Option<Py<PyAny>>,
    /// How it looks once it has failed. The text and not the callback: the collector does not see what a handle keeps.
    description: OnceLock<Py<PyString>>,
}

// SAFETY: see the module's invariant: the state word hands the payload from thread to thread.
unsafe impl Sync for Handle {}

impl Handle {
    /// Makes a handle.
    #[inline]
    pub fn create(py: Python<'_>, payload: Payload) -> PyResult<Bound<'_, Self>> {
        let handle = Bound::new(py, Self::new(payload))?;
        hide_from_collector(handle.as_any());
        Ok(handle)
    }

    fn new(payload: Payload) -> Self {
        Self { state: AtomicU8::new(PENDING), payload: UnsafeCell::new(payload), notes: OnceLock::new() }
    }

    /// Begins the one run of the callback; nothing when it was cancelled. The caller empties the payload.
    ///
    /// # Safety
    /// The payload is not used any more when the handle is filled again.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the state word admits one")]
    pub unsafe fn begin(&self) -> Option<&mut Payload> {
        // SAFETY: this thread has moved the state out of PENDING, and the caller's word.
        self.leave_pending(DONE).then(|| unsafe { &mut *self.payload.get() })
    }

    /// A copy of the payload, for a callback that is run more than once; nothing when it was cancelled.
    pub fn copy(&self, py: Python<'_>) -> Option<Payload> {
        self.look(|payload| payload.clone_ref(py))
    }

    #[inline]
    fn leave_pending(&self, to: u8) -> bool {
        loop {
            match self.state.compare_exchange(PENDING, to, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(LOOKING) => std::hint::spin_loop(),
                Err(_) => return false,
            }
        }
    }

    /// Uses the payload of a pending handle. `use_payload` must not allocate: a collection, which old Pythons begin in any
    /// allocation, could come back here and wait for ever.
    fn look<R>(&self, use_payload: impl FnOnce(&Payload) -> R) -> Option<R> {
        self.state.compare_exchange(PENDING, LOOKING, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: this thread has moved the state out of PENDING.
        let result = use_payload(unsafe { &*self.payload.get() });
        self.state.store(PENDING, Ordering::Release);
        Some(result)
    }

    /// Fills a handle again that has run or was cancelled.
    ///
    /// # Safety
    /// The caller holds the only reference to this handle.
    #[inline]
    pub unsafe fn refill(&self, payload: Payload) {
        // SAFETY: nobody else can reach the handle. The old payload is empty, with nothing to drop.
        unsafe { self.payload.get().write(payload) };
        self.state.store(PENDING, Ordering::Release);
    }

    /// Whether this handle may be filled again: it is a plain one, the reference in hand is the only one, and there is no weak one.
    #[inline]
    pub fn is_reusable(this: &Bound<'_, Self>) -> bool {
        // SAFETY: reads the reference count, the type and the list of weak references of a valid object of a class that has one.
        // Under the GIL nobody else can add a reference meanwhile; free-threaded builds ask the interpreter.
        unsafe {
            let object = this.as_ptr();
            #[cfg(not(Py_GIL_DISABLED))]
            let unique = ffi::Py_REFCNT(object) == 1;
            #[cfg(Py_GIL_DISABLED)]
            let unique = {
                let unique = ffi::PyUnstable_Object_IsUniquelyReferenced(object) == 1;
                // What another thread has done to the handle came before it gave its reference up.
                std::sync::atomic::fence(Ordering::Acquire);
                unique
            };
            let class = ffi::Py_TYPE(object);
            let weak = object.byte_offset((*class).tp_weaklistoffset).cast::<*mut ffi::PyObject>();
            unique
                && class == Self::type_object_raw(this.py())
                && (*weak).is_null()
                && this.get().notes.get().is_none()
        }
    }

    /// Notes where it was scheduled.
    pub fn note_origin(&self, py: Python<'_>, frames: Py<PyAny>) {
        let context = self.get_context(py);
        // The first note of a handle that has just been made.
        let _ = self.notes.set(Box::new(Notes {
            source_traceback: Some(frames),
            context,
            description: OnceLock::new(),
        }));
    }

    /// Notes where it ran, for the exception handler.
    pub fn note_context(&self, context: Option<Py<PyAny>>) {
        // Debug mode has noted it already.
        let _ =
            self.notes.set(Box::new(Notes { source_traceback: None, context, description: OnceLock::new() }));
    }

    pub fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CANCELLED
    }

    /// Cancels, and returns what was to be called if it was pending.
    pub fn cancel_pending(&self) -> Option<Payload> {
        if self.leave_pending(CANCELLED) {
            // SAFETY: this thread has moved the state out of PENDING.
            return Some(std::mem::take(unsafe { &mut *self.payload.get() }));
        }
        // Its payload is not touched; whoever cancels holds the handle, so that it is not filled again meanwhile.
        let _ = self.state.compare_exchange(DONE, CANCELLED, Ordering::Relaxed, Ordering::Relaxed);
        None
    }

    /// Drops what was to be called: the loop is closed.
    pub fn discard(&self, py: Python<'_>) {
        // SAFETY: the payload is used up here.
        if let Some(payload) = unsafe { self.begin() } {
            payload.release(py);
        }
    }

    /// Shows the collector what a handle holds that only its loop holds.
    pub fn traverse(this: &Py<Self>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: reads the reference count of a valid reference.
        if unsafe { ffi::Py_REFCNT(this.as_ptr()) } != 1 {
            return Ok(());
        }
        // SAFETY: the collector runs while no other thread does; see the module's invariant.
        unsafe { &*this.get().payload.get() }.traverse(visit)
    }
}

#[pymethods]
impl Handle {
    /// Cancels the callback. One that has run already only says from now on that it was cancelled.
    fn cancel(&self, py: Python<'_>) {
        if let Some(mut payload) = self.cancel_pending() {
            payload.release(py);
        }
    }

    /// Whether the callback was cancelled.
    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }

    /// The context that the callback runs in, or has failed in; None when it has run or was cancelled.
    fn get_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.notes.get() {
            Some(notes) => notes.context.as_ref().map(|context| context.clone_ref(py)),
            None => {
                self.look(|payload| payload.context.as_ref().map(|context| context.clone_ref(py))).flatten()
            }
        }
    }

    /// The callback, or None when it has run or was cancelled.
    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.look(|payload| payload.callback.as_ref().map(|callback| callback.clone_ref(py))).flatten()
    }

    /// The callback's arguments, or None when it has run or was cancelled.
    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.copy(py).map(|payload| payload.arguments(py)).transpose()
    }

    /// Where the callback was scheduled: a list of frames in debug mode, else None.
    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.notes.get()?.source_traceback.as_ref().map(|frames| frames.clone_ref(py))
    }

    /// Notes how the handle looked when its callback failed.
    fn _note_description(&self, description: Py<PyString>) {
        if let Some(notes) = self.notes.get() {
            // A repeated callback that fails again looks the same.
            let _ = notes.description.set(description);
        }
    }

    /// How the handle looked when its callback failed, or None.
    #[getter]
    fn _description(&self, py: Python<'_>) -> Option<Py<PyString>> {
        Some(self.notes.get()?.description.get()?.clone_ref(py))
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.is_cancelled()
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = this.py();
        Ok(py.import(intern!(py, "motet._handles"))?.call_method1(intern!(py, "describe"), (this,))?.unbind())
    }
}

/// See the module's last paragraph. pyo3 gives every class the collector's header.
fn hide_from_collector(handle: &Bound<'_, PyAny>) {
    // SAFETY: a tracked object of a class with that header, which nobody else has seen yet.
    unsafe { ffi::PyObject_GC_UnTrack(handle.as_ptr().cast()) };
}

/// The context given to a scheduling method, checked, or a copy of the current one.
#[inline]
pub fn given_or_current(py: Python<'_>, given: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<Py<PyAny>> {
    match given {
        Some(given) if !given.is_none() => {
            context::check(&given)?;
            Ok(given.to_owned().unbind())
        }
        _ => context::copy_current(py),
    }
}
