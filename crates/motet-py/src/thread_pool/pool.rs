//! What the workers of a pool share.

use super::call::{Call, Ending};
use super::idle::Idle;
use super::queues::Queues;
use super::slot::{Reason, Slot, Stop};
use super::watch::Watch;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// The pool that this thread works for, by its address, and the worker's own queue.
    static WORKS_FOR: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

#[derive(Default)]
pub struct Shared {
    pub queues: Queues,
    pub idle: Idle,
    pub watch: Watch,
    /// How many workers there may be.
    pub wanted: AtomicUsize,
    /// How many there are or begin; without the abandoned ones.
    pub workers: AtomicUsize,
    pub abandoned: AtomicUsize,
    /// Calls that have not ended.
    pub unfinished: AtomicUsize,
    pub closed: AtomicBool,
    pub broken: AtomicBool,
    /// This is a forked child: the calls and the threads are the parent's.
    pub forsaken: AtomicBool,
    started: AtomicUsize,
    /// What workers have finished that are gone.
    finished: AtomicU64,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl Shared {
    fn lock_slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.lock_slots().clone()
    }

    /// The queue for what this thread submits.
    pub fn home(&self) -> Option<usize> {
        if cfg!(not(Py_GIL_DISABLED)) {
            return None;
        }
        let (pool, home) = WORKS_FOR.get();
        (pool == std::ptr::from_ref(self) as usize).then_some(home)
    }

    /// This thread is a worker from now on.
    pub fn enlist(&self) -> Arc<Slot> {
        let home = self.queues.home(self.started.fetch_add(1, Ordering::Relaxed));
        WORKS_FOR.set((std::ptr::from_ref(self) as usize, home));
        let slot = Arc::new(Slot::new(home));
        self.lock_slots().push(slot.clone());
        slot
    }

    /// The worker is none any more.
    pub fn discharge(&self, slot: &Arc<Slot>) {
        self.lock_slots().retain(|other| !Arc::ptr_eq(other, slot));
        self.finished.fetch_add(slot.finished(), Ordering::Relaxed);
    }

    pub fn finished(&self) -> u64 {
        let slots = self.lock_slots();
        self.finished.load(Ordering::Relaxed) + slots.iter().map(|slot| slot.finished()).sum::<u64>()
    }

    /// Makes room for one worker more, if there is to be one.
    fn reserve(&self) -> bool {
        let mut workers = self.workers.load(Ordering::SeqCst);
        while workers < self.wanted.load(Ordering::Relaxed)
            && workers < self.unfinished.load(Ordering::SeqCst)
        {
            match self.workers.compare_exchange(workers, workers + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => workers = now,
            }
        }
        false
    }

    /// Takes one worker's room back, if there are more than there are to be.
    pub fn leave_if_too_many(&self) -> bool {
        let mut workers = self.workers.load(Ordering::SeqCst);
        while workers > self.wanted.load(Ordering::SeqCst) {
            match self.workers.compare_exchange(workers, workers - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => workers = now,
            }
        }
        false
    }

    /// A worker that was wanted is none after all.
    pub fn give_room_back(&self) {
        self.workers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has somebody run the calls that wait: a worker that is idle, or a new one.
    ///
    /// # Errors
    /// A thread could not be started.
    #[inline]
    pub fn provide(&self, pool: &Bound<'_, PyAny>, policy: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.reserve() {
            match policy.call_method1(intern!(pool.py(), "start_worker"), (pool,)) {
                Ok(interruption) if interruption.is_none() => {}
                Ok(interruption) => return Err(PyErr::from_value(interruption)),
                Err(error) => {
                    self.give_room_back();
                    return Err(error);
                }
            }
        } else {
            self.idle.wake_one();
        }
        Ok(())
    }

    /// A call ends. Its worker counts as free before anybody hears of it.
    pub fn finish(&self, py: Python<'_>, call: Call, ending: Ending) {
        self.unfinished.fetch_sub(1, Ordering::SeqCst);
        call.finish(py, ending);
    }

    /// A call that was stopped, or given up after that, ends or waits for its next attempt.
    pub fn finish_stopped(&self, py: Python<'_>, call: Call, stop: Stop) {
        if stop.reason == Reason::TimeIsUp && stop.again && call.may_try_again(py) {
            self.queue_again(call);
        } else {
            // When the time was up, the future knows already.
            self.finish(py, call, Ending::Cancelled);
        }
    }

    pub fn queue_again(&self, mut call: Call) {
        if let Some(options) = &mut call.options {
            options.tried = true;
        }
        self.queues.insert(call);
        self.idle.wake_one();
    }

    /// Whether a worker without a call has nothing to wait for.
    pub fn is_over(&self) -> bool {
        self.closed.load(Ordering::SeqCst) || self.broken.load(Ordering::SeqCst)
    }

    /// No calls come any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.idle.wake_all();
        self.watch.ring();
    }
}
