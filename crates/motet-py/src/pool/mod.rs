//! Class `Pool`: the calls of an executor and the lanes of its worker processes; class `Worker`: the other end.
//!
//! The policy (starting workers, retries, limits, errors) is Python's, in `motet/_executor`; here is what happens for every call.
//!
//! - `call.rs`: a call, from its submission to its end.
//! - `state.rs`: what is waiting, what is sent to which lane, and which lane gets the next: under one lock, without Python.
//! - `lane.rs`: one lane: what its worker knows, and how calls and orders go there.
//! - `tally.rs`: what lanes have done, for statistics.
//! - `memory.rs`: this process's arena, and memory in arenas as Python's buffers.
//! - `waiting.rs`: what to do when the arena is full.
//! - `dispatch.rs`: the dispatcher's thread, which collects replies without the interpreter and delivers them in batches.
//! - `methods.rs`: class `Pool`.
//! - `worker.rs`: class `Worker`.
//!
//! The lock is never held while Python code runs or the interpreter is waited for: whoever holds it goes on at once.

mod call;
mod dispatch;
mod lane;
mod memory;
mod methods;
mod state;
mod tally;
mod waiting;
mod worker;

use motet_lanes::sys::watch::monotonic_nanos;
use pyo3::prelude::*;

/// Has this process end with the one that forked it, however that ends.
#[pyfunction]
#[pyo3(name = "_become_worker")]
fn become_worker(parent: u32) -> PyResult<()> {
    motet_lanes::sys::process::die_with_parent().map_err(crate::errors::os_error)?;
    // It may have ended just before.
    if std::os::unix::process::parent_id() != parent {
        return Err(pyo3::exceptions::PyRuntimeError::new_err("the zygote is gone"));
    }
    Ok(())
}

/// Sleeps without the interpreter, then gives the nanoseconds that it took to have it back. They tell whether another thread
/// held it; how late the sleep ended, which a busy machine is to blame for, is not in them.
#[pyfunction]
#[pyo3(name = "_wait_for_interpreter")]
fn wait_for_interpreter(py: Python<'_>, sleep_nanos: u64) -> u64 {
    let awake = py.detach(|| {
        std::thread::sleep(std::time::Duration::from_nanos(sleep_nanos));
        monotonic_nanos()
    });
    monotonic_nanos() - awake
}

/// Puts the classes into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<methods::Pool>()?;
    module.add_class::<worker::Worker>()?;
    module.add_class::<memory::ArenaBuffer>()?;
    module.add_class::<memory::Leased>()?;
    module.add_function(wrap_pyfunction!(memory::set_arena_limit, module)?)?;
    module.add_function(wrap_pyfunction!(memory::arena_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(wait_for_interpreter, module)?)?;
    module.add_function(wrap_pyfunction!(become_worker, module)?)
}
