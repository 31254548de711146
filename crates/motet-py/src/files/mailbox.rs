//! The end of a loop's inbox that threads without an interpreter can hold.

use crate::task::Task;
use motet_reactor::sys::Waker;
use motet_sync::inbox::{Closed, Sender, Wake};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// Sends tasks to a loop, from any thread. It does not keep the loop alive.
#[derive(Clone)]
pub struct Mailbox {
    inbox: Sender<Task>,
    /// None when the loop is closed. Senders share the lock: after fork nobody may be there to let go of it, and the child can still
    /// send. Only the loop's thread writes, attached to the interpreter, and so not while another thread forks.
    waker: Arc<RwLock<Option<Waker>>>,
}

impl Mailbox {
    pub fn new(inbox: Sender<Task>, waker: Waker) -> Self {
        Self { inbox, waker: Arc::new(RwLock::new(Some(waker))) }
    }

    /// Has the loop's thread run `task`, and wakes it if need be. The task comes back when the loop is closed.
    pub fn send(&self, task: Task) -> Result<io::Result<()>, Closed<Task>> {
        Ok(match self.inbox.push(task)? {
            Wake::No => Ok(()),
            Wake::Needed => match &*self.waker.read().unwrap_or_else(PoisonError::into_inner) {
                Some(waker) => waker.wake(),
                None => Ok(()),
            },
        })
    }

    /// Closes the waker's descriptor: the loop is closed.
    ///
    /// Never waits: in a forked child nobody might let go of the lock. A wake-up under way leaves the descriptor to the end of
    /// the last sender.
    pub fn close(&self) {
        if let Ok(mut waker) = self.waker.try_write() {
            *waker = None;
        }
    }
}
