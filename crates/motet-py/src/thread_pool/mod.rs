//! Class `ThreadPool`: the calls of an executor, and the threads of this process that run them.
//!
//! The threads are Python's own (`motet/_executor/threads.py` starts them); each is in method `work` from its begin to its end, and
//! between two calls of the program's functions runs nothing of Python's.
//!
//! - `call.rs`: a call, from its submission to its end.
//! - `queue.rs`, `queues.rs`: calls that wait, in one queue or, on free-threaded builds, in one for each worker.
//! - `idle.rs`: workers without a call, and who wakes them.
//! - `slot.rs`: what others may know of a worker, and how the call that it runs is stopped.
//! - `pool.rs`: what all of them share: how many there are, and when there are more.
//! - `work.rs`: what a worker does.
//! - `watch.rs`: what the thread does that looks after the time.
//! - `methods.rs`: class `ThreadPool`.
//!
//! Locks are held for a few instructions, by attached threads only, which call nothing meanwhile: so `fork()` never copies one that is
//! held, and nobody waits for the interpreter while others wait for him.
//!

mod call;
mod idle;
mod methods;
mod pool;
mod queue;
mod queues;
mod slot;
mod watch;
mod work;

use crate::method::attach_method;
use pyo3::prelude::*;

/// Puts the class into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<methods::ThreadPool>()?;
    attach_method(&module.py().get_type::<methods::ThreadPool>(), work::method())
}
