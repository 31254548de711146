//! Readiness I/O for one thread: descriptors with generations, timers, the turn of an event loop, and byte-stream
//! transports as state machines.
//!
//! Nothing here knows Python. What a loop runs ([`Turn`]) and who owns a descriptor ([`Reactor`]) are type parameters;
//! a binding supplies them and carries out what [`turn::Step`] and [`stream::Actions`] ask for.
//!
//! System calls are made in `sys` alone; time is read through [`clock::Clock`] alone.

pub mod clock;
pub mod descriptors;
pub mod endpoint;
pub mod histogram;
pub mod inflow;
pub mod reactor;
pub mod statistics;
pub mod stream;
pub mod sys;
pub mod timers;
pub mod turn;

pub use descriptors::{Descriptors, Token};
pub use endpoint::Endpoint;
pub use inflow::Inflow;
pub use reactor::{Event, Reactor};
pub use statistics::Statistics;
pub use stream::Stream;
pub use timers::{TimerKey, Timers};
pub use turn::{Step, Turn};
