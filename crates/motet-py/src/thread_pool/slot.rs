//! What others may know of a worker, and how the call that it runs is stopped.
//!
//! A thread cannot be ended, but it can be made to raise an exception, at the next line of Python that it runs. That must be a line of
//! the call, not of the next one or of a future's callback. So who wants it raised does that holding the slot's lock, while the slot
//! says that the call runs; and the worker, after the call, first says that it does not, and then takes back what was not raised yet.
//! In between it runs no Python.

use super::call::{Body, Call};
use crate::call_future::CallFuture;
use crate::sys::thread_token;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_long;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    TimeIsUp,
    Cancelled,
}

/// A call that was asked to stop.
#[derive(Clone, Copy)]
pub struct Stop {
    pub reason: Reason,
    /// Until when it has time to.
    pub until: Instant,
    /// Whether it is to be tried again.
    pub again: bool,
}

#[derive(Default)]
struct State {
    running: Option<Call>,
    due: Option<Instant>,
    stop: Option<Stop>,
    /// A call that is to be cancelled, though the worker has only taken it.
    unwanted: u64,
    /// The call was given up, and the worker with it.
    abandoned: bool,
}

pub struct Slot {
    pub home: usize,
    thread: Thread,
    /// The thread as the interpreter calls it.
    identity: c_long,
    /// The call that the worker has taken, 0 when it has ended.
    taken: AtomicU64,
    woken: AtomicBool,
    finished: AtomicU64,
    /// Since when the times count.
    begun: Instant,
    idle_nanos: AtomicU64,
    /// When the wait began that is not over; 0: there is none.
    idle_since: AtomicU64,
    state: Mutex<State>,
}

/// How a call begins.
pub enum Begin {
    Run(Body),
    /// Not at all: it was cancelled.
    Cancelled(Call),
}

/// What a worker finds when its call has ended.
pub enum End {
    Ended(Call, Option<Stop>),
    /// The pool goes on without this thread.
    Abandoned,
}

/// What is to be done about a call now, or when.
pub enum Need {
    Nothing,
    At(Instant),
    /// Its time is up: its number and options.
    Overdue(u64, Py<PyAny>),
    /// It does not stop.
    Stubborn(u64),
}

impl Slot {
    /// The slot of a worker that this thread is.
    pub fn new(home: usize) -> Self {
        Self {
            home,
            thread: std::thread::current(),
            identity: thread_token() as c_long,
            taken: AtomicU64::new(0),
            woken: AtomicBool::new(false),
            finished: AtomicU64::new(0),
            begun: Instant::now(),
            idle_nanos: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn identity(&self) -> c_long {
        self.identity
    }

    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// The part of its life that the worker has not waited for calls. Takes time only from who waits.
    pub fn busy_share(&self) -> f64 {
        let since = self.idle_since.load(Ordering::Relaxed);
        let idle = self.idle_nanos.load(Ordering::Relaxed);
        let now = self.now();
        let current = if since == 0 { 0 } else { now.saturating_sub(since) };
        1.0 - ((idle + current) as f64 / now as f64).min(1.0)
    }

    /// Nanoseconds of its life.
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos().max(1) as u64
    }

    /// The number of the call that its worker has taken, if there is one.
    pub fn call(&self) -> Option<u64> {
        Some(self.taken.load(Ordering::SeqCst)).filter(|&number| number != 0)
    }

    pub fn is_busy(&self) -> bool {
        self.taken.load(Ordering::Relaxed) != 0
    }

    // ---- waiting ----

    /// Without the interpreter: waits until somebody wakes this worker.
    pub fn wait(&self) {
        let since = self.now();
        self.idle_since.store(since, Ordering::Relaxed);
        while !self.woken.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
        self.idle_since.store(0, Ordering::Relaxed);
        self.idle_nanos.fetch_add(self.now() - since, Ordering::Relaxed);
    }

    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }

    // ---- the worker's ----

    /// The worker takes a call; the queue's lock is held.
    pub fn note_taken(&self, number: u64) {
        self.taken.store(number, Ordering::SeqCst);
    }

    /// The call that the worker has taken does not begin.
    pub fn drop_taken(&self) {
        let mut state = self.lock();
        state.unwanted = 0;
        self.taken.store(0, Ordering::SeqCst);
    }

    /// The worker begins the call that it has taken.
    pub fn begin(&self, py: Python<'_>, mut call: Call, due: Option<Instant>) -> Begin {
        let body = call.body_to_run(py);
        let mut state = self.lock();
        match body {
            Some(body) if state.unwanted != call.number => {
                state.due = due;
                state.running = Some(call);
                Begin::Run(body)
            }
            body => {
                drop(state);
                self.drop_taken();
                if let Some(body) = body {
                    body.drop_ref(py);
                }
                Begin::Cancelled(call)
            }
        }
    }

    /// The call has ended. Nothing that runs Python lies between its last line and this.
    pub fn end(&self, _attached: Python<'_>) -> End {
        let (call, stop, abandoned) = {
            let mut state = self.lock();
            state.due = None;
            self.taken.store(0, Ordering::SeqCst);
            (state.running.take(), state.stop.take(), state.abandoned)
        };
        if stop.is_some() || abandoned {
            // SAFETY: attached; null takes back what this thread was to raise. With the slot as it is now, nobody adds to that.
            unsafe { ffi::PyThreadState_SetAsyncExc(self.identity, std::ptr::null_mut()) };
        }
        match call {
            Some(call) if !abandoned => {
                // This thread alone writes it.
                self.finished.store(self.finished() + 1, Ordering::Relaxed);
                End::Ended(call, stop)
            }
            _ => End::Abandoned,
        }
    }

    // ---- others' ----

    /// Has the call of this number raise `stopped`, if it runs here; cancels it if it is about to. False if it does neither.
    pub fn cancel(&self, number: u64, stopped: &Bound<'_, PyAny>, until: Instant) -> bool {
        let mut state = self.lock();
        if state.running.as_ref().is_some_and(|call| call.number == number) {
            match &mut state.stop {
                // Asked already; but it is not to be tried again.
                Some(stop) => (stop.reason, stop.again) = (Reason::Cancelled, false),
                None => {
                    self.stop(&mut state, stopped, Stop { reason: Reason::Cancelled, until, again: false })
                }
            }
            return true;
        }
        let about_to = state.running.is_none() && self.taken.load(Ordering::SeqCst) == number;
        if about_to {
            state.unwanted = number;
        }
        about_to
    }

    /// Has the call of this number raise `stopped`, if it runs here, since its time is up. Gives it with its future if that has nothing
    /// more to wait for.
    pub fn time_is_up(
        &self,
        number: u64,
        stopped: &Bound<'_, PyAny>,
        until: Instant,
        again: bool,
    ) -> Option<CallFuture> {
        let mut state = self.lock();
        if state.stop.is_some() || state.running.as_ref().is_none_or(|call| call.number != number) {
            return None;
        }
        self.stop(&mut state, stopped, Stop { reason: Reason::TimeIsUp, until, again });
        if again { None } else { state.running.as_mut()?.future.take() }
    }

    fn stop(&self, state: &mut State, stopped: &Bound<'_, PyAny>, stop: Stop) {
        state.stop = Some(stop);
        // SAFETY: attached, and a class of exceptions. The thread is alive: it cannot leave the call without the lock that is held. What
        // the interpreter locks for this it holds for moments.
        unsafe { ffi::PyThreadState_SetAsyncExc(self.identity, stopped.as_ptr()) };
    }

    /// What the call needs that runs here.
    pub fn need(&self, py: Python<'_>, now: Instant) -> Need {
        let state = self.lock();
        let Some(call) = &state.running else { return Need::Nothing };
        match (&state.stop, state.due) {
            (Some(stop), _) if stop.until <= now => Need::Stubborn(call.number),
            (Some(stop), _) => Need::At(stop.until),
            (None, Some(due)) if due <= now => match &call.options {
                Some(options) => Need::Overdue(call.number, options.policy.clone_ref(py)),
                None => Need::Nothing,
            },
            (None, Some(due)) => Need::At(due),
            (None, None) => Need::Nothing,
        }
    }

    /// Gives the call of this number up, if it still runs, and this worker.
    pub fn abandon(&self, number: u64) -> Option<(Call, Option<Stop>)> {
        let mut state = self.lock();
        let call = state.running.take_if(|call| call.number == number)?;
        state.abandoned = true;
        Some((call, state.stop.take()))
    }
}
