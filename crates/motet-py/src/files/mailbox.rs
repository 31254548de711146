//! The end of a loop's inbox that threads without an interpreter can hold.

use crate::task::Task;
use motet_reactor::sys::Waker;
use motet_sync::inbox::{Closed, Sender, Wake};
use std::io;
use std::sync::Arc;

/// Sends tasks to a loop, from any thread. It does not keep the loop alive.
#[derive(Clone)]
pub struct Mailbox {
    inbox: Sender<Task>,
    waker: Arc<Waker>,
}

impl Mailbox {
    pub fn new(inbox: Sender<Task>, waker: Waker) -> Self {
        Self { inbox, waker: Arc::new(waker) }
    }

    /// Has the loop's thread run `task`, and wakes it if need be. The task comes back when the loop is closed.
    pub fn send(&self, task: Task) -> Result<io::Result<()>, Closed<Task>> {
        Ok(match self.inbox.push(task)? {
            Wake::No => Ok(()),
            Wake::Needed => self.waker.wake(),
        })
    }
}
