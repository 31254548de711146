//! The watchdog: names the place that blocks a loop, while it still blocks.
//!
//! A loop's thread counts its callbacks in a [`motet_sync::pulse::Pulse`] (two relaxed stores each). One thread of the process looks at
//! the counters of all running loops, four times within the shortest threshold. A counter that stands still for longer than
//! the threshold means that one callback holds the loop. The watchdog then sends the loop's thread a real-time signal which
//! `faulthandler` answers by writing that thread's Python stack into a pipe: a handler in C, which runs even while a C function
//! holds the GIL. The watchdog reads the pipe and never touches Python itself.
//!
//! The moment at which a callback began is known to a quarter of the threshold; its end exactly.
//!
//! - `records.rs`: what one loop publishes and what is known of its blocks.
//! - `thread.rs`: the watching thread.
//! - `stack.rs`: reads what `faulthandler` has written.
//! - `entry_frame.rs`: what `faulthandler` of CPython 3.13 must not look at.

#[cfg(all(Py_3_13, not(Py_3_14)))]
mod entry_frame;
mod records;
mod stack;
mod thread;

pub use records::Watched;
pub use thread::stop;
