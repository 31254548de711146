//! What a worker does.
//!
//! A thread whose call does not stop may outlive the interpreter: up to Python 3.13 that ends it by `pthread_exit` when it wants the
//! GIL back, which unwinds its stack. So below a call lies one frame of Rust, [`run`], which has nothing to drop and lets that pass; all
//! else is done before the call or after it.

use super::call::{Body, Call, Ending, unless_raised};
use super::methods::ThreadPool;
use super::slot::{Begin, End, Reason, Slot};
use crate::call_future;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// After so many calls a worker lets another thread have the GIL: calls of compiled functions never do.
const TURN: usize = 32;

unsafe extern "C-unwind" {
    #[link_name = "PyObject_Call"]
    fn call_that_may_unwind(
        function: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        keywords: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// A worker between its begin and its end.
struct Worker {
    slot: Arc<Slot>,
    look: usize,
    /// What runs or is about to.
    body: Option<Body>,
    is_over: bool,
}

/// Method `work`.
pub fn method() -> ffi::PyMethodDef {
    type Called = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
    type Run = unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
    // SAFETY: both are called alike; who calls is C, through which the stack may be unwound.
    let run = unsafe { std::mem::transmute::<Run, Called>(run) };
    ffi::PyMethodDef {
        ml_name: c"work".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: run },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: c"work($self, /)\n--\n\nMakes this thread a worker, for which the policy was asked; returns when it is none any more.".as_ptr(),
    }
}

/// Nothing here has a destructor.
unsafe extern "C-unwind" fn run(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, attached, with an object of the class, which it keeps alive meanwhile; the worker is this
    // frame's alone, and what is called stays the worker's until `after_call`.
    unsafe {
        let worker = begin(this);
        while let Some([function, arguments, keywords]) = before_call(this, worker) {
            let result = call_that_may_unwind(function, arguments, keywords);
            after_call(this, worker, result);
        }
        if !worker.is_null() {
            drop(Box::from_raw(worker));
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Uses the pool that a method was called on; a panic is shown, and ends the worker.
///
/// # Safety
/// The thread is attached, and `this` of the class.
unsafe fn with_pool<R>(this: *mut ffi::PyObject, act: impl FnOnce(&Bound<'_, ThreadPool>) -> R) -> Option<R> {
    // SAFETY: the caller's word.
    let pool = unsafe { Borrowed::from_ptr(Python::assume_attached(), this).cast_unchecked::<ThreadPool>() };
    catch_unwind(AssertUnwindSafe(|| act(&pool))).ok()
}

/// The worker, if it could begin.
unsafe fn begin(this: *mut ffi::PyObject) -> *mut Worker {
    // SAFETY: as in `run`.
    let worker = unsafe {
        with_pool(this, |pool| {
            let slot = ThreadPool::begin_work(pool)?;
            Some(Box::new(Worker { slot, look: 0, body: None, is_over: false }))
        })
    };
    worker.flatten().map_or(std::ptr::null_mut(), Box::into_raw)
}

/// What to call next.
unsafe fn before_call(this: *mut ffi::PyObject, worker: *mut Worker) -> Option<[*mut ffi::PyObject; 3]> {
    // SAFETY: as in `run`.
    let (worker, body) = unsafe {
        let worker = worker.as_mut()?;
        let body = with_pool(this, |pool| ThreadPool::next(pool, worker)).flatten()?;
        (worker, body)
    };
    let pointers = body.pointers();
    worker.body = Some(body);
    Some(pointers)
}

unsafe fn after_call(this: *mut ffi::PyObject, worker: *mut Worker, result: *mut ffi::PyObject) {
    // SAFETY: as in `run`.
    unsafe {
        let worker = &mut *worker;
        let goes_on = with_pool(this, |pool| pool.get().conclude(pool.py(), worker, result));
        worker.is_over |= goes_on != Some(true);
    }
}

impl ThreadPool {
    /// The next call, for which this waits; nothing when the worker is to end.
    fn next(slf: &Bound<'_, Self>, worker: &mut Worker) -> Option<Body> {
        let (py, this) = (slf.py(), slf.get());
        let Worker { slot, look, is_over, .. } = worker;
        let shared = &this.shared;
        loop {
            if *is_over {
                return None;
            }
            if shared.forsaken.load(Ordering::Relaxed) || shared.leave_if_too_many() {
                this.leave(slf, slot);
                return None;
            }
            if let Some(call) = shared.queues.take(slot.home, *look, |number| slot.note_taken(number)) {
                *look = look.wrapping_add(1);
                if !shared.queues.is_empty() {
                    this.wake_another(slf);
                }
                if cfg!(not(Py_GIL_DISABLED)) && look.is_multiple_of(TURN) {
                    py.detach(|| {});
                }
                match this.prepare(py, slot, call) {
                    None => continue,
                    body => return body,
                }
            }
            if shared.is_over() {
                shared.give_room_back();
                this.leave(slf, slot);
                return None;
            }
            shared.idle.enter(slot);
            let must_look = !shared.queues.is_empty()
                || shared.is_over()
                || shared.workers.load(Ordering::SeqCst) > shared.wanted.load(Ordering::SeqCst);
            if !must_look {
                py.detach(|| slot.wait());
            }
            shared.idle.leave(slot);
        }
    }

    /// There is more than this worker takes.
    fn wake_another(&self, slf: &Bound<'_, Self>) {
        if self.shared.idle.count() > 0 {
            self.shared.idle.wake_one();
        } else if self.shared.workers.load(Ordering::Relaxed) < self.shared.wanted.load(Ordering::Relaxed) {
            // Seldom: who submits starts workers, but perhaps there were to be fewer then.
            unless_raised(slf.py(), self.shared.provide(slf.as_any(), self.policy(slf.py())));
        }
    }

    /// The worker goes; its room is another's already.
    fn leave(&self, slf: &Bound<'_, Self>, slot: &Arc<Slot>) {
        let shared = &self.shared;
        shared.discharge(slot);
        if shared.closed.load(Ordering::SeqCst) {
            shared.watch.ring();
        }
        // What was queued while this worker was taken for one.
        if !shared.queues.is_empty() && !shared.forsaken.load(Ordering::Relaxed) {
            unless_raised(slf.py(), shared.provide(slf.as_any(), self.policy(slf.py())));
        }
    }

    /// Begins a call; nothing if it is not to run.
    fn prepare(&self, py: Python<'_>, slot: &Slot, call: Call) -> Option<Body> {
        let shared = &self.shared;
        if !call.was_tried()
            && let Some(future) = &call.future
            && unless_raised(py, call_future::start(py, future)) == Some(false)
        {
            slot.drop_taken();
            shared.finish(py, call, Ending::Cancelled);
            return None;
        }
        let due = call.limit().and_then(|limit| Instant::now().checked_add(limit));
        match slot.begin(py, call, due) {
            Begin::Run(body) => {
                if let Some(due) = due {
                    shared.watch.expect(due);
                }
                Some(body)
            }
            Begin::Cancelled(call) => {
                shared.finish(py, call, Ending::Cancelled);
                None
            }
        }
    }

    /// Ends a call; false if the pool has given this thread up meanwhile.
    fn conclude(&self, py: Python<'_>, worker: &mut Worker, result: *mut ffi::PyObject) -> bool {
        let shared = &self.shared;
        let end = worker.slot.end(py);
        // SAFETY: what a call has returned: a new reference, or null with an exception set.
        let outcome = unsafe { Bound::from_owned_ptr_or_err(py, result) }
            .map(Bound::unbind)
            .map_err(|error| error.into_value(py).into_any());
        if let Some(body) = worker.body.take() {
            body.drop_ref(py);
        }
        let End::Ended(call, stop) = end else {
            // What it comes to is nobody's any more.
            let (Ok(object) | Err(object)) = outcome;
            object.drop_ref(py);
            return false;
        };
        let Err(error) = &outcome else {
            shared.finish(py, call, Ending::Outcome(outcome));
            return true;
        };
        let error = error.bind(py).clone();
        match stop {
            Some(stop)
                if error.is_instance(self.stopped(py)).unwrap_or(false)
                    || stop.reason == Reason::TimeIsUp =>
            {
                shared.finish_stopped(py, call, stop);
            }
            None if call.options.is_some()
                && error.is_instance_of::<PyException>()
                && call.may_try_again(py) =>
            {
                shared.queue_again(call);
            }
            _ => shared.finish(py, call, Ending::Outcome(outcome)),
        }
        true
    }
}
