//! The interpreter's exit while other threads run loops.
//!
//! A daemon thread that wants the GIL back when the interpreter is gone is ended by `pthread_exit` (up to Python 3.13), which
//! unwinds its stack; through Rust's frames that is undefined behaviour. So no such thread may want the GIL back: before the
//! interpreter is taken down, each loop's thread is *frozen*, without the GIL and for good, as Python 3.14 does with all threads.
//!
//! A loop looks between two callbacks and after each wait. A callback that does not return within [`PATIENCE`] is left to its
//! fate, as it would be without motet.

use crate::sys::thread_token;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long the exit waits for loops that are busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread that takes the interpreter down, 0 before.
static EXITING: AtomicUsize = AtomicUsize::new(0);
/// Loops that run and do not wait for I/O.
static BUSY: AtomicUsize = AtomicUsize::new(0);
/// The process that `BUSY` counts for: after fork the other threads are gone.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// A loop that runs.
pub struct Busy(());

impl Busy {
    pub fn begin() -> Self {
        let process = std::process::id();
        if PROCESS.swap(process, Ordering::Relaxed) != process {
            BUSY.store(0, Ordering::Relaxed);
        }
        BUSY.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Whether another thread takes the interpreter down.
    #[inline]
    pub fn must_freeze(&self) -> bool {
        let exiting = EXITING.load(Ordering::Relaxed);
        exiting != 0 && exiting != thread_token()
    }

    /// Waits for I/O without the GIL; does not come back once the interpreter exits.
    pub fn wait<R: Send>(&self, py: Python<'_>, wait: impl FnOnce() -> R + Send) -> R {
        py.detach(|| {
            leave();
            let result = wait();
            BUSY.fetch_add(1, Ordering::Relaxed);
            if self.must_freeze() {
                leave();
                freeze();
            }
            result
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    // Never below 0: a child after fork has started to count anew.
    let _ = BUSY.fetch_update(Ordering::Release, Ordering::Relaxed, |count| count.checked_sub(1));
}

/// Ends this thread's part, between two callbacks.
#[cold]
pub fn freeze_attached(py: Python<'_>) -> ! {
    leave();
    py.detach(|| freeze())
}

fn freeze() -> ! {
    loop {
        std::thread::park();
    }
}

/// The interpreter is about to be taken down by this thread: freezes the loops of the others.
pub fn freeze_others() {
    EXITING.store(thread_token(), Ordering::SeqCst);
    if PROCESS.load(Ordering::Relaxed) != std::process::id() {
        return;
    }
    let until = Instant::now() + PATIENCE;
    while BUSY.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}
