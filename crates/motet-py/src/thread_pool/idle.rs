//! Workers without a call, and who wakes them.
//!
//! No call is forgotten: who queues one looks for idle workers afterwards, and a worker looks at the queues after it has said that it is
//! idle. One worker at a time is on its way: it looks at the queues when it is there, and wakes the next if there is more than it takes.
//! So many short calls wake few workers, and long ones wake as many as are needed.

use super::slot::Slot;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Idle {
    /// The one that was idle last is the first to work.
    workers: Mutex<Vec<Arc<Slot>>>,
    /// As the list's length, to be read without the lock.
    count: AtomicUsize,
    /// Whether a worker was woken and has not looked at the queues since. Set holding the lock only.
    on_its_way: AtomicBool,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The worker is about to wait. It must look at the queues once more, and then wait or [`leave`](Self::leave).
    pub fn enter(&self, slot: &Arc<Slot>) {
        let mut workers = self.lock();
        workers.push(slot.clone());
        self.count.store(workers.len(), Ordering::SeqCst);
    }

    /// The worker does not wait after all.
    pub fn leave(&self, slot: &Arc<Slot>) {
        let mut workers = self.lock();
        if let Some(place) = workers.iter().rposition(|other| Arc::ptr_eq(other, slot)) {
            workers.remove(place);
        }
        self.count.store(workers.len(), Ordering::SeqCst);
        drop(workers);
        // If it was woken meanwhile, it is here.
        self.arrive();
    }

    /// A worker that was woken is going to look at the queues.
    pub fn arrive(&self) {
        self.on_its_way.store(false, Ordering::SeqCst);
    }

    /// There is a call for somebody.
    #[inline]
    pub fn wake_one(&self) {
        if self.count() == 0 || self.on_its_way.load(Ordering::SeqCst) {
            return;
        }
        let woken = {
            let mut workers = self.lock();
            if self.on_its_way.load(Ordering::SeqCst) {
                return;
            }
            let woken = workers.pop();
            self.count.store(workers.len(), Ordering::SeqCst);
            self.on_its_way.store(woken.is_some(), Ordering::SeqCst);
            woken
        };
        if let Some(slot) = woken {
            slot.wake();
        }
    }

    pub fn wake_all(&self) {
        let woken = {
            let mut workers = self.lock();
            self.count.store(0, Ordering::SeqCst);
            std::mem::take(&mut *workers)
        };
        woken.iter().for_each(|slot| slot.wake());
    }
}
