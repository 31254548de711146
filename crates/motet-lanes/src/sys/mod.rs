//! Every system call of this crate.

pub mod descriptors;
mod fork;
pub mod futex;
pub(crate) mod memory;
pub mod process;
pub mod region;
pub mod watch;
