//! The shared-memory primitives of this crate: the standard library's, or loom's when built with `--cfg loom`.
//!
//! This is the only place that names either, so that the code that is model checked is the code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering, fence},
};
