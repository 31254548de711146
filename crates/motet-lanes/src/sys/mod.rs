//! Every system call of this crate.

pub mod descriptors;
mod fork;
pub(crate) mod memory;
