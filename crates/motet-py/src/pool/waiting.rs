//! Waiting for memory of this process's arena.
//!
//! Memory comes back when calls end, workers are done with arguments, the program with results. What the other side keeps
//! for good would hold up the waiter for ever: so after some time without any return it is left to who has it, and does not
//! count any more. What cannot come back at all is an error: the program holds it.

use super::dispatch::is_dispatching;
use super::memory::{arena_error, take_in};
use motet_lanes::arena::{AllocateError, Arena, Kind, Piece};
use motet_lanes::lane::parcel::Staged;
use motet_lanes::sys::watch::monotonic_nanos;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How often a waiter looks again.
const INTERVAL: Duration = Duration::from_millis(1);

/// When nothing has come back for so long, in nanoseconds, what the other side holds is taken to be kept. Less would let a
/// program that takes its time with each result run far beyond the limit.
const PATIENCE_NANOS: u64 = 500_000_000;
/// A single waiter waits no longer for that, whatever comes back for others.
const LONGEST_NANOS: u64 = 4 * PATIENCE_NANOS;

/// How often something was kept since anything has come back, and the count of what has at that time: who only ever keeps
/// is waited for less each time. Two threads at once may spoil that, and wait longer.
static KEPT_TIMES: AtomicU32 = AtomicU32::new(0);
static KEPT_AT: AtomicU64 = AtomicU64::new(u64::MAX);

fn patience_nanos(returned: u64) -> u64 {
    if KEPT_AT.swap(returned, Ordering::Relaxed) != returned {
        KEPT_TIMES.store(0, Ordering::Relaxed);
    }
    PATIENCE_NANOS >> KEPT_TIMES.load(Ordering::Relaxed).min(5)
}

/// Memory in the arena; waits while some may come back. `mine` is what the caller has and lets go of only when it has all.
pub fn allocate(
    py: Python<'_>,
    arena: &Arena,
    length: usize,
    kind: Kind,
    mine: &[Staged],
) -> PyResult<Piece> {
    // Without the interpreter, since getting segments takes time.
    match py.detach(|| arena.allocate(length, kind)) {
        Err(AllocateError::Full) => {}
        result => return result.map_err(|error| arena_error(py, &error)),
    }
    let now = monotonic_nanos();
    let mut wait = Wait { arena, begun: now, since: now, returned: arena.returned(), _mine: Mine::new(mine) };
    loop {
        // A callback that waits keeps the answers from arriving that it would wait for.
        let may_wait = !is_dispatching();
        if let Some(result) = py.detach(|| wait.turn(length, kind, may_wait)) {
            return result.map_err(|error| arena_error(py, &error));
        }
        py.check_signals()?;
    }
}

struct Wait<'a> {
    arena: &'a Arena,
    begun: u64,
    /// The last time that something came back.
    since: u64,
    returned: u64,
    _mine: Mine<'a>,
}

impl Wait<'_> {
    /// Tries once more, and waits a moment if that is of use.
    fn turn(&mut self, length: usize, kind: Kind, may_wait: bool) -> Option<Result<Piece, AllocateError>> {
        let hopeless = !may_wait || !self.arena.may_return();
        // After this question: what comes back now is there for the attempt.
        if let Some(take_in) = take_in() {
            take_in();
        }
        match self.arena.allocate(length, kind) {
            Err(AllocateError::Full) => {}
            result => return Some(result),
        }
        let (now, returned) = (monotonic_nanos(), self.arena.returned());
        if returned != self.returned {
            (self.since, self.returned) = (now, returned);
        }
        if hopeless || now - self.since >= patience_nanos(returned) || now - self.begun >= LONGEST_NANOS {
            if self.arena.let_peers_keep() > 0 {
                KEPT_TIMES.fetch_add(1, Ordering::Relaxed);
                (self.begun, self.since) = (now, now);
                return None;
            }
            if hopeless {
                return Some(Err(AllocateError::Full));
            }
        }
        std::thread::sleep(INTERVAL);
        None
    }
}

/// What a waiter has, which comes back to nobody while he waits: of two that wait for each other, one must see it.
struct Mine<'a>(&'a [Staged]);

impl<'a> Mine<'a> {
    fn new(staged: &'a [Staged]) -> Self {
        staged.iter().for_each(|staged| staged.piece.settle());
        Self(staged)
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|staged| staged.piece.unsettle());
    }
}
