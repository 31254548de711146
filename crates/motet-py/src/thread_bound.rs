//! State that one thread at a time may touch, checked at each access.
//!
//! A loop is not thread-safe, yet a program can call it from a wrong thread, and on a free-threaded Python two threads can
//! do so at once. That must be an error, never a data race. So the state of a loop is *claimed*: by the thread that runs the loop
//! for as long as it runs, or for the length of one call while nobody runs it.
//!
//! Invariant: `value` is touched only while `owner` holds the token of the touching thread. `owner` goes from 0 to a token by
//! compare-exchange (acquire) and back to 0 by a release store of that same thread.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A value bound to the thread that has claimed it.
pub struct ThreadBound<T> {
    owner: AtomicUsize,
    /// The owner may use the value without the GIL: the collector must not look.
    away: AtomicBool,
    value: RefCell<T>,
}

// SAFETY: `value` is reached only through a `Claim`, which only the thread whose token `owner` holds can have (see the
// module's invariant), or through `inspect_stopped`, whose caller vouches that no other thread runs. T is sent between threads
// by successive claims, hence `T: Send`.
unsafe impl<T: Send> Sync for ThreadBound<T> {}

/// Another thread has claimed the value.
#[derive(Debug)]
pub struct WrongThread;

/// The claim of the thread that made it, which it cannot leave. Gives it back when dropped, unless it lies within another.
pub struct Claim<'a, T> {
    bound: &'a ThreadBound<T>,
    outermost: bool,
    not_send: PhantomData<*const ()>,
}

impl<T> Claim<'_, T> {
    /// Uses the value. `use_value` must not call into Python.
    ///
    /// # Panics
    /// When `use_value` comes back here: a defect of this crate.
    #[inline(always)]
    pub fn with<R>(&self, use_value: impl FnOnce(&mut T) -> R) -> R {
        use_value(&mut self.bound.value.borrow_mut())
    }
}

impl<T> Drop for Claim<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.outermost {
            self.bound.owner.store(0, Ordering::Release);
        }
    }
}

use crate::sys::thread_token;

impl<T> ThreadBound<T> {
    pub fn new(value: T) -> Self {
        Self { owner: AtomicUsize::new(0), away: AtomicBool::new(false), value: RefCell::new(value) }
    }

    /// Whether this thread holds the claim.
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread_token()
    }

    /// Claims the value for this thread until the guard is dropped; a claim within a claim of the same thread is free.
    #[inline]
    pub fn claim(&self) -> Result<Claim<'_, T>, WrongThread> {
        let token = thread_token();
        let claim = |outermost| Claim { bound: self, outermost, not_send: PhantomData };
        if self.owner.load(Ordering::Relaxed) == token {
            return Ok(claim(false));
        }
        match self.owner.compare_exchange(0, token, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(claim(true)),
            Err(_) => Err(WrongThread),
        }
    }

    /// Uses the value, claiming it for this call where nobody has. `use_value` must not call into Python.
    ///
    /// # Panics
    /// When `use_value` comes back here: a defect of this crate.
    #[inline]
    pub fn with<R>(&self, use_value: impl FnOnce(&mut T) -> R) -> Result<R, WrongThread> {
        Ok(self.claim()?.with(use_value))
    }

    /// Uses the value if this thread has claimed it and is not using it now.
    #[inline]
    pub fn with_mine<R>(&self, use_value: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.is_mine() {
            return None;
        }
        self.value.try_borrow_mut().ok().map(|mut value| use_value(&mut value))
    }

    /// Runs `wait`, which detaches from the interpreter and may use the value meanwhile.
    ///
    /// The mark is set and removed by an attached thread. So it stands still while a collector runs, which looks several times
    /// and has to see the same each time: a borrow that begins between two looks would have live objects taken for garbage.
    pub fn while_away<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.away.store(true, Ordering::Relaxed);
        let result = wait();
        self.away.store(false, Ordering::Relaxed);
        result
    }

    /// Looks at the value during garbage collection, unless it is in use.
    ///
    /// # Safety
    /// The collector holds the GIL, or has stopped the world, and so no attached thread runs. A thread that was stopped while it used
    /// the value has left the borrow marked; one that may use it detached has said so ([`ThreadBound::while_away`]). Then
    /// nothing is looked at.
    pub unsafe fn inspect_stopped(&self, look: impl FnOnce(&T)) {
        if self.away.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(value) = self.value.try_borrow() {
            look(&value);
        }
    }

    /// Takes exclusive access, for destruction.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}
