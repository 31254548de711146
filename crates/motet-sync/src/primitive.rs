//! The shared-memory primitives of this crate: the standard library's, or loom's when built with `--cfg loom`.
//!
//! This is the only place that names either, so that the code that is model checked is the code that ships.

#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{Thread, current as current_thread, park, park_timeout},
};

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::{Thread, current as current_thread, park},
};

// A waker is made from the standard library's, and only counts.
pub(crate) use std::sync::Arc as TaskArc;

use std::sync::PoisonError;
use std::sync::atomic::AtomicU64 as Counter;

use crate::waiters::Effects;

/// The state of a primitive, under its lock.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    state: Mutex<S>,
    number: u64,
}

impl<S> Shared<S> {
    pub(crate) fn new(state: S) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), number: next_number() })
    }

    /// No other primitive of this process has the same.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Nothing of anybody else's may run in here but the cloning of a waker; what must is kept as an effect.
    #[inline]
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut S, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), &mut effects);
        effects.run();
        result
    }
}

/// 1, 2, 3, … in this process.
pub(crate) fn next_number() -> u64 {
    // No part of any protocol, so nothing that loom need see; and its own cannot be static.
    static LAST: Counter = Counter::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// No time passes in a model.
#[cfg(loom)]
pub(crate) fn park_timeout(_: std::time::Duration) {
    park();
}
