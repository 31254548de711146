//! State of an object that any thread may call, used by one at a time.
//!
//! Unlike a loop's state ([`crate::thread_bound`]) it belongs to no thread: a stream that is called from a wrong one may get into
//! disorder, as asyncio's does, but never into a data race.

use pyo3::prelude::*;

/// A value for one user at a time: under the GIL by itself, on free-threaded builds by a lock that is held for moments.
pub struct Exclusive<T>(Inner<T>);

#[cfg(not(Py_GIL_DISABLED))]
type Inner<T> = std::cell::RefCell<T>;
#[cfg(Py_GIL_DISABLED)]
type Inner<T> = std::sync::Mutex<T>;

// SAFETY: the value is used by attached threads only (`with`), so under the GIL by one, and nothing in between lets go of it; or by
// the collector (`inspect`), while no other thread runs.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Uses the value. `use_value` must not call into Python, nor drop anything but exact bytes.
    ///
    /// # Panics
    /// When `use_value` comes back here: a defect of this crate.
    #[inline]
    pub fn with<R>(&self, _attached: Python<'_>, use_value: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(not(Py_GIL_DISABLED))]
        let mut value = self.0.borrow_mut();
        #[cfg(Py_GIL_DISABLED)]
        let mut value = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        use_value(&mut value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        #[cfg(not(Py_GIL_DISABLED))]
        return self.0.into_inner();
        #[cfg(Py_GIL_DISABLED)]
        return self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    }

    /// Lets the collector look at the value. It finds it free: a thread is never stopped while it uses one.
    pub fn inspect<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        #[cfg(not(Py_GIL_DISABLED))]
        return self.0.try_borrow().ok().map(|value| look(&value));
        #[cfg(Py_GIL_DISABLED)]
        return self.0.try_lock().ok().map(|value| look(&value));
    }
}
