//! Worker processes reached through shared memory: lanes carry calls, arenas carry what is large.
//!
//! Linux only (memfd, pidfd, futex); elsewhere the crate is empty.
//!
//! - [`lane`]: the memory between a parent and one worker, and its protocol. **Entry points:** [`lane::Requests::publish`],
//!   [`lane::Requests::claim`].

#[cfg(target_os = "linux")]
pub mod lane;
#[cfg(target_os = "linux")]
mod primitive;
#[cfg(target_os = "linux")]
pub mod sys;
