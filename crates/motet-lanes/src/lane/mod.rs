//! A lane: the shared memory between a parent and one worker.
//!
//! ```text
//!   parent ──requests──▶ worker      slots with a state each: what is not claimed can be taken back
//!   parent ◀─replies──── worker      a ring: results, and what the worker has no more use for
//!   parent ──returns───▶ worker      a ring: what the parent has no more use for
//! ```
//!
//! Each has one producer and one consumer, and there is no lock: whoever dies, dies holding nothing. The dead worker's lane
//! belongs to the parent alone, which reads what is left in it ([`requests`]) and throws it away; a replacement gets a lane
//! of its own. A side that finds nothing to do sleeps on its [`bell`], which the other side rings only then.
//!
//! What is read from a lane was written by another process, whose memory a fault of its program may have damaged. So all of it
//! is plain data for which any bits are valid, and every length is checked where it is used.

/// A step at which a test may kill the process. Nothing without the feature `failpoints`.
macro_rules! step {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}

pub mod bell;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
pub mod message;
#[cfg(not(loom))]
pub mod parcel;
#[cfg(not(loom))]
mod parent;
#[cfg(not(loom))]
pub mod peer;
pub mod requests;
pub mod ring;
#[cfg(not(loom))]
mod worker;

pub use bell::Bell;
#[cfg(not(loom))]
pub use layout::{Lane, REPLIES, REQUESTS, RETURNS};
#[cfg(not(loom))]
pub use parent::{Answered, ParentSide, Wreck};
pub use requests::{Claimed, Requests, TakeBack};
pub use ring::Ring;
#[cfg(not(loom))]
pub use worker::{Sleep, WorkerSide};
