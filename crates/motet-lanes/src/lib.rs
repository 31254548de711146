//! Worker processes reached through shared memory: lanes carry calls, arenas carry what is large.
//!
//! Linux only (memfd, pidfd, futex); elsewhere the crate is empty.

#[cfg(target_os = "linux")]
pub mod arena;
#[cfg(target_os = "linux")]
mod sys;

#[cfg(target_os = "linux")]
pub use sys::descriptors;
