//! io_uring, for what moves little between an open file and memory.
//!
//! One loop owns a ring and is its only user. Requests are queued and handed over together by one system call; what needs no
//! waiting (data that is in the page cache) is done within that call. The rest is told by the ring's descriptor, which is
//! readable when something has ended.
//!
//! Invariant: a request handed over lies in `under_way`, with its file and its memory, until the kernel has told its end. So
//! neither can go while the kernel uses it: a ring that still has requests under way is not dropped but finished
//! ([`Ring::finish`]), which waits for them. They are of ordinary files only, hence that ends.

use crate::memory::Memory;
use crate::request::{Outcome, Request, Value};
use crate::sys::{self, Entry, Uring};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

/// What is handed over by one system call, at most: data in the cache is copied within it.
const AT_ONCE: u32 = 64;
/// What one request moves, at most, for the same reason.
pub const LITTLE: usize = 128 * 1024;

/// A ring, and what waits for it or is under way in it. `K` is what the owner knows a request by.
#[derive(Debug)]
pub struct Ring<M: Memory, K> {
    uring: Uring,
    process: u32,
    waiting: VecDeque<(Request<M>, K)>,
    under_way: Vec<Option<(Request<M>, K)>>,
    free: Vec<usize>,
    /// The last hand-over has failed: what it left in the queue has to be handed over again.
    left_over: bool,
}

/// How a request ended.
#[derive(Debug)]
pub enum End<M, K> {
    /// With this.
    Done(Outcome<M>, K),
    /// The kernel cannot do it this way; a thread can.
    Refused(Request<M>, K),
}

impl<M: Memory, K> Ring<M, K> {
    /// Opens a ring.
    ///
    /// # Errors
    /// The system's: not allowed, no more descriptors, no more memory that may be locked.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            uring: Uring::new(AT_ONCE)?,
            process: sys::process_id(),
            waiting: VecDeque::new(),
            under_way: (0..AT_ONCE).map(|_| None).collect(),
            free: (0..AT_ONCE as usize).rev().collect(),
            left_over: false,
        })
    }

    /// The descriptor that is readable when something has ended.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.uring.number()
    }

    /// Whether a request is of the kind that a ring is for.
    #[must_use]
    pub fn suits(request: &Request<M>) -> bool {
        match request {
            Request::Read(file, memory) | Request::Write(file, memory) => {
                file.is_regular() && (1..=LITTLE).contains(&memory.length())
            }
            Request::Sync(file) => file.is_regular(),
            _ => false,
        }
    }

    /// Queues a request that suits.
    pub fn push(&mut self, request: Request<M>, key: K) {
        self.waiting.push_back((request, key));
    }

    /// Whether requests wait to be handed over, and can be.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.left_over || (!self.waiting.is_empty() && !self.free.is_empty())
    }

    /// Whether it is this process's: a child has its parent's ring in hand, and nothing to look for in it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.process == sys::process_id()
    }

    /// Whether nothing waits and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.free.len() == self.under_way.len()
    }

    /// Hands over what waits, as far as there is room, by one system call. Where the kernel is out of resources it is to be
    /// tried again ([`Ring::has_more`]).
    pub fn submit(&mut self) {
        while let Some(slot) = self.free.pop() {
            let Some(waiting) = self.waiting.pop_front() else {
                self.free.push(slot);
                break;
            };
            let entry = match &waiting.0 {
                Request::Read(file, memory) => {
                    Entry::Read(file.number(), memory.address(), memory.length() as u32)
                }
                Request::Write(file, memory) => {
                    Entry::Write(file.number(), memory.address(), memory.length() as u32)
                }
                Request::Sync(file) => Entry::Sync(file.number()),
                other => unreachable!("{} does not suit a ring", std::any::type_name_of_val(other)),
            };
            self.under_way[slot] = Some(waiting);
            // SAFETY: file and memory lie in `under_way` until the kernel tells the end (see the module's invariant).
            let queued = unsafe { self.uring.push(entry, slot as u64) };
            debug_assert!(queued, "there are as many slots as the queue has room");
        }
        self.left_over = self.uring.enter(false).is_err();
    }

    /// The next request that has ended.
    pub fn next_end(&mut self) -> Option<End<M, K>> {
        let (slot, result) = self.uring.next()?;
        let slot = slot as usize;
        let (request, key) = self.under_way[slot].take()?;
        self.free.push(slot);
        if result < 0 && sys::is_refusal(-result) {
            return Some(End::Refused(request, key));
        }
        let result = match usize::try_from(result) {
            Ok(count) => Ok(Value::Count(count)),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let memory = match request {
            Request::Read(_, memory) | Request::Write(_, memory) => Some(memory),
            _ => None,
        };
        Some(End::Done(Outcome { memory, result }, key))
    }

    /// Takes back what was not handed over.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = (Request<M>, K)> + '_ {
        self.waiting.drain(..)
    }

    /// Waits for all that is under way; blocks for as long as that takes.
    pub fn finish(mut self) {
        self.waiting.clear();
        while !self.is_idle() && self.is_ours() {
            while self.next_end().is_some() {}
            if !self.is_idle() && self.uring.enter(true).is_err() {
                break;
            }
        }
    }
}

impl<M: Memory, K> Drop for Ring<M, K> {
    fn drop(&mut self) {
        // What the kernel may still write to must not go. Nothing is left here after `finish`, but where a system call failed or
        // in a child after fork, where the parent's requests are not the child's to wait for.
        self.under_way.drain(..).flatten().for_each(std::mem::forget);
    }
}
