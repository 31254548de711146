//! The Python module `motet._motet`: thin classes over motet-reactor and motet-sync.
//!
//! One file per Python class or per hot path. Rules that hold everywhere here:
//!
//! - No borrow of a loop's or a transport's state is held across a call into Python ([`thread_bound::ThreadBound::with`] takes a
//!   closure, and what it returns is acted on afterwards).
//! - What a loop owns is touched only by the thread that runs it; others send through its inbox.
//! - An exception of a callback goes to the loop's exception handler; only `KeyboardInterrupt` and `SystemExit` end the run.

#![allow(unreachable_pub, reason = "a cdylib exports nothing but the module")]

mod asyncio_classes;
mod bulk;
mod call;
mod call_future;
mod context;
mod datagram;
mod errors;
mod event_loop;
mod exclusive;
mod exit;
mod files;
mod green;
mod handle;
mod heap_type;
mod home;
mod idling;
mod imported;
mod listener;
mod method;
mod native;
mod pool;
mod run;
mod schedule;
mod streams;
mod sys;
mod task;
mod thread_bound;
mod thread_pool;
mod tls;
mod transport;
mod waits;
mod watchdog;
mod watched;

use pyo3::prelude::*;

/// Ends the watchdog and freezes the loops of other threads, before the interpreter is taken down.
#[pyfunction]
#[pyo3(name = "_prepare_exit")]
fn prepare_exit(py: Python<'_>) {
    py.detach(|| {
        watchdog::stop();
        exit::freeze_others();
    });
}

/// Whether TLS can be driven natively, on the OpenSSL that the interpreter's own module is linked with.
#[pyfunction]
#[pyo3(name = "_reach_libssl")]
fn reach_libssl(py: Python<'_>) -> PyResult<bool> {
    tls::reach(py)
}

/// The core of motet: the event loop's machinery.
#[pymodule(gil_used = false)]
fn _motet(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<event_loop::Loop>()?;
    module.add_class::<files::File>()?;
    module.add_class::<handle::Handle>()?;
    module.add_class::<handle::TimerHandle>()?;
    module.add_class::<listener::Listener>()?;
    module.add_function(wrap_pyfunction!(prepare_exit, module)?)?;
    files::add_functions(module)?;
    green::add_to(module)?;
    module.add_function(wrap_pyfunction!(reach_libssl, module)?)?;
    asyncio_classes::add_to(module)?;
    call_future::add_to(module)?;
    pool::add_to(module)?;
    schedule::add_methods(py)?;
    streams::add_to(module)?;
    thread_pool::add_to(module)?;
    waits::add_to(module)?;
    Ok(())
}
