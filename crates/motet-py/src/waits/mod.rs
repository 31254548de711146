//! Channels, locks, events and the other things that bodies wait for, and how each kind of body waits.
//!
//! The state of all of them is motet-sync's. Whoever waits polls a future of that crate with a waker of its own kind; here are those
//! kinds, and the classes.
//!
//! | file | holds |
//! |---|---|
//! | `operations.rs` | one operation on one of these objects, and what it gives |
//! | `work.rs` | what a body waits for: one operation, the first of several, or only time |
//! | `thread.rs` | waiting in a thread |
//! | `wait.rs` | waiting in a task: coroutine and future in one object; its class (`class.rs`), methods (`methods.rs`, `future.rs`) |
//! | `parked.rs` | waiting in a green thread |
//! | `waker.rs` | what wakes a waiting task |
//! | `token.rs` | how a scope's cancellation reaches waits |
//! | `channel.rs`, `lock.rs`, … | one class each |
//! | `parties.rs` | who holds and who waits, in words |
//!
//! # Invariants
//!
//! * These objects are used by threads that are attached to the interpreter alone, wakers included: what is put into a channel
//!   may be dropped wherever motet-sync drops it.
//! * No state of a wait is locked while motet-sync or Python is called: an operation is taken out of it first.

mod barrier;
mod channel;
mod class;
mod condition;
mod errors;
mod event;
mod future;
mod join;
mod lock;
mod methods;
mod operations;
mod parked;
mod parties;
mod select;
mod semaphore;
mod thread;
mod timeout;
mod token;
mod wait;
mod waker;
mod work;

pub use errors::would_block;
pub use join::{await_green_thread, wait_for_green_thread};
pub use parked::{Outcome, Parked};
pub use wait::Wait;
pub use waker::show as show_wakers;

use pyo3::prelude::*;

/// What is put into channels.
type Item = Py<PyAny>;

/// Puts the classes into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Wait", class::make(py)?)?;
    barrier::add_to(module)?;
    channel::add_to(module)?;
    condition::add_to(module)?;
    event::add_to(module)?;
    lock::add_to(module)?;
    semaphore::add_to(module)?;
    select::add_to(module)?;
    token::add_to(module)
}
