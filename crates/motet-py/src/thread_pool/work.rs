//! What a worker does.

use super::call::{Call, Ending, unless_raised};
use super::methods::ThreadPool;
use super::slot::{Begin, End, Reason, Slot};
use crate::call_future;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// After so many calls a worker lets another thread have the GIL: calls of compiled functions never do.
const TURN: usize = 32;

impl ThreadPool {
    /// Runs calls until there is nothing more to do.
    pub fn work(slf: &Bound<'_, Self>) {
        let (py, this) = (slf.py(), slf.get());
        let shared = &this.shared;
        let slot = shared.enlist();
        let mut look = 0_usize;
        loop {
            shared.idle.arrive();
            while let Some(call) = shared.queues.take(slot.home, look, |number| slot.note_taken(number)) {
                if !shared.queues.is_empty() {
                    this.wake_another(slf);
                }
                if !this.perform(py, &slot, call) {
                    return;
                }
                look = look.wrapping_add(1);
                if shared.forsaken.load(Ordering::Relaxed) || shared.leave_if_too_many() {
                    return this.leave(slf, &slot);
                }
                if cfg!(not(Py_GIL_DISABLED)) && look.is_multiple_of(TURN) {
                    py.detach(|| {});
                }
            }
            if shared.leave_if_too_many() {
                return this.leave(slf, &slot);
            }
            if shared.is_over() {
                shared.give_room_back();
                return this.leave(slf, &slot);
            }
            shared.idle.enter(&slot);
            let must_look = !shared.queues.is_empty()
                || shared.is_over()
                || shared.workers.load(Ordering::SeqCst) > shared.wanted.load(Ordering::SeqCst);
            if !must_look {
                py.detach(|| slot.wait());
            }
            shared.idle.leave(&slot);
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

    /// Runs a call; false if the pool has given this thread up meanwhile.
    fn perform(&self, py: Python<'_>, slot: &Slot, call: Call) -> bool {
        let shared = &self.shared;
        if !call.was_tried()
            && let Some(future) = &call.future
            && unless_raised(py, call_future::start(py, future)) == Some(false)
        {
            slot.drop_taken();
            shared.finish(py, call, Ending::Cancelled);
            return true;
        }
        let due = call.limit().and_then(|limit| Instant::now().checked_add(limit));
        let body = match slot.begin(py, call, due) {
            Begin::Run(body) => body,
            Begin::Cancelled(call) => {
                shared.finish(py, call, Ending::Cancelled);
                return true;
            }
        };
        if let Some(due) = due {
            shared.watch.expect(due);
        }
        let result = body.run(py);
        let end = slot.end(py);
        // SAFETY: what a call has returned: a new reference, or null with an exception set.
        let outcome = unsafe { Bound::from_owned_ptr_or_err(py, result) }
            .map(Bound::unbind)
            .map_err(|error| error.into_value(py).into_any());
        body.drop_ref(py);
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
