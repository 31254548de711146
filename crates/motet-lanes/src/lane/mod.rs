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

pub mod bell;
pub mod message;
#[cfg(not(loom))]
mod parent;
pub mod requests;
pub mod ring;
#[cfg(not(loom))]
mod worker;

use crate::primitive::AtomicU64;
use message::{Location, Reply, Request};

pub use bell::Bell;
#[cfg(not(loom))]
pub use parent::{ParentSide, Wreck};
pub use requests::{Claimed, Requests, TakeBack};
pub use ring::Ring;
#[cfg(not(loom))]
pub use worker::WorkerSide;

/// How many requests a lane holds: with calls of 4 µs, half a millisecond's work.
pub const REQUESTS: usize = 128;
/// How many replies wait at most; a worker that finds no room waits for its parent.
pub const REPLIES: usize = 128;
/// How many leases travel back at most before the worker looks; the rest waits in the parent.
pub const RETURNS: usize = 512;

/// The memory that both sides map. All zeros is a lane in which nothing has happened.
#[repr(C)]
#[derive(Debug)]
pub struct Lane {
    /// Rung by the parent: there are requests, or returns that the worker waits for.
    pub worker_bell: Bell,
    /// Rung by the worker: there are replies.
    pub parent_bell: Bell,
    /// One more than the number of the request that the parent wants stopped; it also sends a signal.
    pub stop: AtomicU64,
    /// What the parent asks of the worker.
    pub requests: Requests<Request, REQUESTS>,
    /// What the worker answers.
    pub replies: Ring<Reply, REPLIES>,
    /// Pieces of the worker's arena that the parent gives back.
    pub returns: Ring<Location, RETURNS>,
}
