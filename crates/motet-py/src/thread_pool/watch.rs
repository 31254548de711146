//! What the thread does that looks after the time: calls that run too long, and those that do not stop.

use super::call::{Call, Ending, unless_raised};
use super::methods::ThreadPool;
use super::slot::{Need, Slot, Stop};
use crate::call_future;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long a call has to end after it was asked to.
pub const GRACE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Alarm {
    thread: Option<Thread>,
    /// When the thread wakes; nothing while it looks around or waits for what may come.
    set_for: Option<Instant>,
    /// It has to look around.
    rung: bool,
}

/// When the thread has something to do.
#[derive(Default)]
pub struct Watch {
    alarm: Mutex<Alarm>,
    /// Whether there is a thread or will be.
    has_thread: AtomicBool,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Alarm> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once: whoever learns that starts the thread.
    pub fn needs_thread(&self) -> bool {
        !self.has_thread.load(Ordering::Relaxed) && !self.has_thread.swap(true, Ordering::SeqCst)
    }

    pub fn has_no_thread(&self) {
        self.has_thread.store(false, Ordering::SeqCst);
    }

    /// Something will have to be done then.
    pub fn expect(&self, due: Instant) {
        let mut alarm = self.lock();
        if alarm.set_for.is_none_or(|set| due < set) {
            alarm.rung = true;
            wake(alarm);
        }
    }

    pub fn ring(&self) {
        let mut alarm = self.lock();
        alarm.rung = true;
        wake(alarm);
    }

    /// The thread begins to look around.
    fn begin(&self) {
        let mut alarm = self.lock();
        alarm.thread.get_or_insert_with(std::thread::current);
        alarm.set_for = None;
        alarm.rung = false;
    }

    /// The thread has looked around; false if it has to once more.
    fn set(&self, due: Option<Instant>) -> bool {
        let mut alarm = self.lock();
        alarm.set_for = due;
        !alarm.rung
    }
}

fn wake(alarm: MutexGuard<'_, Alarm>) {
    let thread = alarm.thread.clone();
    drop(alarm);
    if let Some(thread) = thread {
        thread.unpark();
    }
}

impl ThreadPool {
    /// Looks after the time until the pool is closed and has no workers.
    pub fn look_after_time(slf: &Bound<'_, Self>) {
        let (py, this) = (slf.py(), slf.get());
        let shared = &this.shared;
        loop {
            shared.watch.begin();
            let is_over = shared.closed.load(Ordering::SeqCst) && shared.workers.load(Ordering::SeqCst) == 0;
            if is_over || shared.forsaken.load(Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            let mut next: Option<Instant> = None;
            for slot in shared.slots() {
                let due = match slot.need(py, now) {
                    Need::Nothing => None,
                    Need::At(due) => Some(due),
                    Need::Overdue(number, policy) => {
                        this.time_is_up(py, &slot, number, policy.into_bound(py));
                        Some(now + GRACE)
                    }
                    Need::Stubborn(number) => {
                        if let Some((call, stop)) = slot.abandon(number) {
                            this.abandon(slf, &slot, call, stop);
                        }
                        // It may have been the last worker of a closed pool.
                        Some(now)
                    }
                };
                next = next.into_iter().chain(due).min();
            }
            if shared.watch.set(next) {
                py.detach(|| match next {
                    None => std::thread::park(),
                    Some(due) => std::thread::park_timeout(due.saturating_duration_since(Instant::now())),
                });
            }
        }
    }

    fn time_is_up(&self, py: Python<'_>, slot: &Slot, number: u64, policy: Bound<'_, PyAny>) {
        let error = self.policy(py).call_method1(intern!(py, "timeout_error"), (policy,));
        let error = match error {
            Ok(error) => Some(error).filter(|error| !error.is_none()),
            Err(problem) => Some(problem.into_value(py).into_bound(py).into_any()),
        };
        let until = Instant::now() + GRACE;
        let future = slot.time_is_up(number, self.stopped(py), until, error.is_none());
        self.interrupt(py, slot);
        if let (Some(future), Some(error)) = (future, error) {
            unless_raised(py, call_future::finish(py, &future, Err(error.unbind())));
            future.drop_ref(py);
        }
    }

    /// Goes on without a thread whose call does not stop.
    fn abandon(&self, slf: &Bound<'_, Self>, slot: &Arc<Slot>, call: Call, stop: Option<Stop>) {
        let (py, shared) = (slf.py(), &self.shared);
        shared.discharge(slot);
        shared.abandoned.fetch_add(1, Ordering::SeqCst);
        shared.give_room_back();
        let told = self.policy(py).call_method1(intern!(py, "abandon"), (slot.identity(),));
        unless_raised(py, told);
        match stop {
            Some(stop) => shared.finish_stopped(py, call, stop),
            None => shared.finish(py, call, Ending::Cancelled),
        }
        while !shared.queues.is_empty() {
            let workers = shared.workers.load(Ordering::SeqCst);
            let provided = unless_raised(py, shared.provide(slf.as_any(), self.policy(py)));
            if provided.is_none() || shared.workers.load(Ordering::SeqCst) <= workers {
                break;
            }
        }
    }
}
