//! Green threads: functions that run on stacks of their own in a loop's thread, and let others run where they wait.
//!
//! The stacks are greenlet's. A loop's thread has a [`Hub`](hub::Hub): the greenlet that runs the loop, those that are ready, and
//! runners: greenlets that run one function after the other, since to make one costs more than all the rest.
//!
//! | file | holds |
//! |---|---|
//! | `greenlets.rs` | greenlet's C interface: the only place where stacks are exchanged |
//! | `hub.rs` | who is ready, and who runs next |
//! | `thread.rs` | class `GreenThread`: a function, what has become of it, and how it waits |
//! | `runner.rs` | what runners do |
//!
//! # Invariants
//!
//! * No state is locked, and nothing that waits lies on the stack, while stacks are exchanged: states are used by closures that cannot
//!   come to [`greenlets::switch`], and a green thread that waits is woken by a `Wait` on the heap. So a stack that is never
//!   resumed takes nothing along that another waits for.
//! * `HubState::running` names the body whose stack is in use; nobody while the loop's is.

mod greenlets;
mod hub;
mod runner;
mod thread;

pub use hub::{Hub, take_turn};
pub use thread::{GreenThread, here, park, wake};

use pyo3::prelude::*;

/// Puts the classes into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<GreenThread>()?;
    module.add_class::<Hub>()?;
    thread::add_functions(module)
}
