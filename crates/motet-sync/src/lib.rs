//! What threads use to reach each other in motet: no I/O, no Python, no system call.
//!
//! * [`inbox`](mod@inbox): values for one consumer from any thread, with at most one wake-up per burst.
//! * [`pulse`]: the heartbeat that a loop's thread publishes and a watchdog thread reads.
//!
//! Nothing here can wake a sleeping thread: [`Sender::push`] says that a wake-up is owed and the caller,
//! which knows how its consumer sleeps, delivers it. This keeps every protocol within reach of loom and miri.

pub mod inbox;
mod primitive;
pub mod pulse;

pub use inbox::{Closed, Drain, Receiver, Sender, Wake, inbox};
pub use pulse::{Observation, Pulse};
