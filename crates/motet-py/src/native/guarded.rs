//! State inside a Python object that several threads may reach.
//!
//! Futures and tasks belong to one loop and so to one thread, yet a program can hand them to any. With a GIL, being attached to
//! the interpreter is what excludes others; free-threaded builds take a lock of one byte, which is held for a few instructions
//! at a time.
//!
//! Invariant: `value` is touched only by the attached thread that has set `busy`, and what it runs meanwhile calls no Python and
//! drops no reference. So nobody waits long, and nothing comes back here.

use pyo3::Python;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value in a Python object.
#[derive(Default)]
pub struct Guarded<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the module's invariant: one thread at a time has set `busy`.
unsafe impl<T: Send> Sync for Guarded<T> {}

struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Guarded<T> {
    pub fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Uses the value. `use_value` must neither call into Python nor drop a reference to an object.
    ///
    /// # Panics
    /// With a GIL, when `use_value` comes back here: a defect of this crate.
    #[inline]
    pub fn with<R>(&self, _attached: Python<'_>, use_value: impl FnOnce(&mut T) -> R) -> R {
        let _release = self.acquire();
        // SAFETY: this thread has set `busy`.
        use_value(unsafe { &mut *self.value.get() })
    }

    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    fn acquire(&self) -> Release<'_> {
        assert!(!self.busy.load(Ordering::Relaxed), "state used within its own use");
        self.busy.store(true, Ordering::Relaxed);
        Release(&self.busy)
    }

    #[cfg(Py_GIL_DISABLED)]
    #[inline]
    fn acquire(&self) -> Release<'_> {
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        Release(&self.busy)
    }

    /// Looks at the value during garbage collection.
    ///
    /// # Safety
    /// Called by the collector: no attached thread runs, and so none is in the middle of [`Guarded::with`].
    pub unsafe fn inspect_stopped<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the caller's word.
        look(unsafe { &*self.value.get() })
    }
}
