//! Worker processes reached through shared memory: lanes carry calls, arenas carry what is large.
//!
//! Linux only (memfd, pidfd, futex); elsewhere the crate is empty.
//!
//! - [`lane`]: the memory between a parent and one worker, and its protocol. **Entry points:** [`lane::Requests::publish`],
//!   [`lane::Requests::claim`].
//! - [`arena`]: memory that one process allocates and others see. **Entry points:** [`arena::Arena::allocate`],
//!   [`arena::Attached::map_private`].

#[cfg(all(target_os = "linux", not(loom)))]
pub mod arena;
#[cfg(target_os = "linux")]
pub mod lane;
#[cfg(target_os = "linux")]
mod primitive;
#[cfg(all(target_os = "linux", not(loom)))]
pub mod sys;

#[cfg(all(target_os = "linux", not(loom)))]
pub use sys::descriptors;
