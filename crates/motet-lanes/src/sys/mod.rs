//! Every system call of this crate.
