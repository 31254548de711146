//! What a loop runs: the element of its ready ring, its timers and its inbox.

use crate::datagram;
use crate::green::{GreenThread, Hub};
use crate::handle::{Handle, TimerHandle};
use crate::transport::Deferred;
use motet_reactor::TimerKey;
use pyo3::prelude::*;

/// One thing to run.
pub enum Task {
    /// A callback of the program's, perhaps a timer's.
    Callback(Py<Handle>),
    /// A task of motet's own takes a step.
    Step(Py<PyAny>),
    /// A callback that stays: that of `add_reader` or `add_writer`.
    Repeated(Py<Handle>),
    /// A step that a transport has put off to a later round.
    Transport(Py<PyAny>, Deferred),
    /// A step that a datagram transport has put off to a later round.
    Datagrams(Py<PyAny>, datagram::Step),
    /// Another thread has started this timer.
    StartTimer(Py<TimerHandle>),
    /// Another thread has cancelled this timer.
    CancelTimer(TimerKey),
    /// A listener that ran out of resources tries again.
    Accept(Py<crate::listener::Listener>),
    /// A request to a file has ended.
    File(Box<crate::files::Completion>),
    /// The ring takes more requests.
    Files,
    /// Green threads are ready.
    Green(Py<Hub>),
    /// Another thread has made this green thread ready.
    GreenReady(Py<GreenThread>),
}

impl Task {
    /// Shows the collector what this keeps alive.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self {
            Self::Callback(handle) | Self::Repeated(handle) => Handle::traverse(handle, visit),
            Self::Step(task) => visit.call(task),
            Self::Transport(transport, Deferred::Begin(waiter))
            | Self::Datagrams(transport, datagram::Step::Begin(waiter)) => {
                visit.call(waiter)?;
                visit.call(transport)
            }
            Self::Transport(transport, _) | Self::Datagrams(transport, _) => visit.call(transport),
            Self::StartTimer(timer) => visit.call(timer),
            Self::Accept(listener) => visit.call(listener),
            Self::Green(hub) => visit.call(hub),
            Self::GreenReady(body) => visit.call(body),
            Self::CancelTimer(_) | Self::File(_) | Self::Files => Ok(()),
        }
    }
}
