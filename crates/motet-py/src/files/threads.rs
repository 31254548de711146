//! The threads that carry out requests: one pool for all loops of a process.
//!
//! After `fork` the child has none of these threads, and the parent's locks may be held for ever; so the child makes a new pool
//! and leaves the old one alone.

use super::bytes::Bytes;
use super::mailbox::Mailbox;
use super::{Completion, Key};
use crate::sys;
use crate::task::Task;
use motet_files::{Pool, Request, Ring, Work};
use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Work of the pool.
pub enum Job {
    /// Carry out a request and tell its loop.
    CarryOut(Box<(Request<Bytes>, Key, Mailbox)>),
    /// Wait for what a closed loop's ring has under way.
    Finish(Box<Ring<Bytes, Key>>),
}

impl Job {
    pub fn carry_out(request: Request<Bytes>, key: Key, mailbox: &Mailbox) -> Self {
        Self::CarryOut(Box::new((request, key, mailbox.clone())))
    }
}

impl Work for Job {
    type Result = Option<(Mailbox, Box<Completion>)>;

    fn run(self) -> Self::Result {
        match self {
            Self::CarryOut(job) => {
                let (request, key, mailbox) = *job;
                Some((mailbox, Box::new(Completion { key, outcome: request.carry_out() })))
            }
            Self::Finish(ring) => {
                ring.finish();
                None
            }
        }
    }

    fn tell(results: Vec<Self::Result>) {
        for (mailbox, completion) in results.into_iter().flatten() {
            // A closed loop wants to hear of nothing. A waker fails only where it is full: then the loop is awake.
            let _ = mailbox.send(Task::File(completion));
        }
    }
}

struct OfProcess {
    process: u32,
    pool: Pool<Job>,
}

static POOL: AtomicPtr<OfProcess> = AtomicPtr::new(std::ptr::null_mut());

/// Hands work to the threads.
pub fn submit(jobs: impl IntoIterator<Item = Job, IntoIter: ExactSizeIterator>) {
    let jobs = jobs.into_iter();
    if jobs.len() > 0 {
        pool().submit(jobs);
    }
}

fn pool() -> &'static Pool<Job> {
    let process = std::process::id();
    let mut found = POOL.load(Ordering::Acquire);
    loop {
        // SAFETY: null, or a pool that was stored below and is never freed.
        if let Some(known) = unsafe { found.as_ref() }
            && known.process == process
        {
            return &known.pool;
        }
        let made = Box::into_raw(Box::new(OfProcess { process, pool: Pool::new(start_thread) }));
        match POOL.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: never freed from here on.
            Ok(_) => return &unsafe { &*made }.pool,
            Err(other) => {
                found = other;
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
    }
}

fn start_thread(body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    sys::with_signals_blocked(|| {
        std::thread::Builder::new().name("motet-files".to_owned()).spawn(body).map(drop)
    })
}
