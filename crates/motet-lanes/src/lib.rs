//! Worker processes reached through shared memory: lanes carry calls, arenas carry what is large.
//!
//! Linux only (memfd, pidfd, futex); elsewhere the crate is empty.
