//! Every system call of this crate.

pub mod descriptors;
pub(crate) mod memory;
