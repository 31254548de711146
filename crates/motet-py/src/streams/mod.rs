//! Native streams: what `motet.StreamReader`, `motet.StreamWriter` and `motet.StreamReaderProtocol` are made of.
//!
//! The public classes are derived in Python (`motet/_streams.py`) from these and from asyncio's: what is called for each read or
//! write is here, the rest is asyncio's own. A transport of motet's hands its bytes to the reader without a call into
//! Python ([`deliver`]); any other transport calls the protocol as it would any.
//!
//! - `reader.rs`, `writer.rs`, `protocol.rs`: one class each; `read.rs`: what a reader is asked for.
//! - `wait.rs`: what their methods return to be awaited, coroutine and future (`wait_future.rs`) in one object; its class
//!   (`wait_type.rs`, `wait_methods.rs`).
//! - `spares.rs`: what a loop keeps for its streams;
//!   `stock_task.rs`: what is known of asyncio's tasks.

mod protocol;
mod read;
mod reader;
mod spares;
mod stock_task;
mod wait;
mod wait_future;
mod wait_methods;
mod wait_type;
mod writer;

pub use protocol::{deliver, is_native};
pub use spares::{Spares, finished_future};
pub use stock_task::is_wake_up;

use crate::imported::imported;
use pyo3::prelude::*;

/// Puts the classes into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("StreamWait", wait_type::make(py)?)?;
    module.add_class::<reader::ReaderCore>()?;
    module.add_class::<writer::WriterCore>()?;
    module.add_class::<protocol::ProtocolCore>()?;
    read::add_methods(py)?;
    writer::add_methods(py)
}

/// The error for an object whose `__init__` has not run.
fn not_begun(class: &str) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err(format!("{class}.__init__() was not called"))
}
