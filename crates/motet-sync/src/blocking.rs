//! Waiting with a thread.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::primitive::{AtomicBool, Ordering, TaskArc, Thread, current_thread, park, park_timeout};

/// Wakes a thread; a wake-up that comes before the sleep is kept.
struct Unparker {
    thread: Thread,
    woken: AtomicBool,
}

impl Unparker {
    fn new() -> TaskArc<Self> {
        TaskArc::new(Self { thread: current_thread(), woken: AtomicBool::new(false) })
    }

    /// Whether it was woken by then.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        while !self.woken.swap(false, Ordering::Acquire) {
            match deadline.map(|deadline| deadline.checked_duration_since(Instant::now())) {
                None => park(),
                Some(None) => return false,
                Some(Some(left)) => park_timeout(left),
            }
        }
        true
    }
}

impl Wake for Unparker {
    fn wake(self: TaskArc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &TaskArc<Self>) {
        // Who finds it set is not the one to wake the thread: whoever set it is about to.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    block_on_until(future, None).expect("it has no deadline")
}

/// The same until a deadline: nothing then, and the future is dropped.
pub fn block_on_until<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    let unparker = Unparker::new();
    let waker = Waker::from(TaskArc::clone(&unparker));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if !unparker.sleep(deadline) {
            return None;
        }
    }
}
