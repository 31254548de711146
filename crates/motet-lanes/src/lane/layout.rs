//! The memory of a lane.

use super::message::{Reply, Request};
use super::{Bell, Requests, Ring};
use crate::arena::Location;
use crate::primitive::AtomicU64;

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
    /// Rung by the worker: there are replies, or it has begun its last request.
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
