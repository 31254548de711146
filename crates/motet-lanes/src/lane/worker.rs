//! The worker's side of a lane: the next request, and answers.

use super::message::{Reply, Request};
use super::requests::Progress;
use super::{Claimed, Lane};
use crate::arena::Location;
use crate::primitive::Ordering;
use crate::sys::futex;
use crate::sys::region::Region;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A lane as its worker uses it, one thread at a time, which `&mut` sees to.
#[derive(Debug)]
pub struct WorkerSide {
    lane: Arc<Region<Lane>>,
    next: u64,
}

/// A worker that has found nothing to do.
#[derive(Debug)]
#[must_use = "the parent rings for a sleeper"]
pub struct Sleep {
    lane: Arc<Region<Lane>>,
}

impl Sleep {
    /// Sleeps until there may be a request. May also end for no reason, or for a signal.
    pub fn sleep(self) {
        let bell = &self.lane.worker_bell;
        futex::sleep(bell);
        bell.get_up();
    }
}

impl WorkerSide {
    /// Maps the memory that the parent has made.
    ///
    /// # Errors
    /// The system's, and `InvalidInput` for a descriptor that is not a lane's.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self { lane: Arc::new(Region::open(descriptor)?), next: 0 })
    }

    /// The next request, if there is one.
    pub fn claim(&mut self) -> Option<Claimed> {
        self.lane.requests.claim(&mut self.next)
    }

    /// The next request, or leave to sleep.
    ///
    /// # Errors
    /// There is none.
    pub fn claim_or_sleep(&mut self) -> Result<Claimed, Sleep> {
        let bell = &self.lane.worker_bell;
        bell.lie_down();
        match self.lane.requests.claim(&mut self.next) {
            Some(claimed) => {
                bell.get_up();
                Ok(claimed)
            }
            None => Err(Sleep { lane: Arc::clone(&self.lane) }),
        }
    }

    /// After a claim: whether nothing waits behind it, and the parent dozes and must be woken.
    #[must_use]
    pub fn is_running_out(&self) -> bool {
        self.lane.requests.progress(self.next) != Progress::Waiting && self.rouse()
    }

    /// Whether the parent dozes and must be woken.
    #[must_use]
    pub fn rouse(&self) -> bool {
        self.lane.parent_bell.rouse()
    }

    /// Notes when a request's work begins, in nanoseconds of the monotonic clock.
    pub fn note_start(&self, claimed: &Claimed, now_nanos: u64) {
        self.lane.requests.note_start(claimed, now_nanos);
    }

    /// What a request says.
    pub fn read<R>(&self, claimed: &Claimed, read: impl FnOnce(&Request) -> R) -> R {
        self.lane.requests.read(claimed, read)
    }

    /// Adds a reply. `None` when there is no room, else whether the parent sleeps and must be woken.
    pub fn reply(&self, write: impl FnOnce(&mut Reply)) -> Option<bool> {
        self.lane.replies.push(write).then(|| self.lane.parent_bell.ring())
    }

    /// Is done with a request, having answered it.
    pub fn finish(&self, claimed: Claimed) {
        self.lane.requests.finish(claimed);
    }

    /// Whether the parent wants the request of this number stopped.
    #[must_use]
    pub fn must_stop(&self, position: u64) -> bool {
        self.lane.stop.load(Ordering::Acquire) == position + 1
    }

    /// What the parent has given back of this worker's arena.
    pub fn take_return(&self) -> Option<Location> {
        self.lane.returns.pop(|entry| *entry)
    }
}
