//! Every system call of this crate.

pub mod futex;
pub mod process;
pub mod region;
pub mod watch;
