//! What one loop has done, counted as it goes: plain additions, no clock beyond those that the turn reads anyway.

use crate::histogram::Histogram;

/// Counters of one loop. They only grow.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Rounds: each runs what was ready when it began.
    pub turns: u64,
    /// Waits for I/O, with or without blocking.
    pub polls: u64,
    /// Callbacks run, timers and I/O callbacks included.
    pub callbacks: u64,
    /// Timers that came due.
    pub timers_fired: u64,
    /// Tasks made by `create_task`.
    pub tasks_started: u64,
    /// Connections that this loop opened.
    pub connections_opened: u64,
    /// Connections that this loop's servers accepted.
    pub connections_accepted: u64,
    /// Bytes that transports and socket calls received.
    pub bytes_received: u64,
    /// Bytes that transports and socket calls handed to the system.
    pub bytes_sent: u64,
    /// Time between waits.
    pub busy_nanoseconds: u64,
    /// Time inside waits that could block.
    pub idle_nanoseconds: u64,
    /// Lengths of the busy stretches between two waits: how long an event may have had to wait for the loop.
    pub lag: Histogram,
}
