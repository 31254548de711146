//! One operation on one object, and what it gives in Python.

use super::channel::outcome_of_put;
use super::{Item, errors};
use motet_sync::barrier::{Broken, WaitAtBarrier};
use motet_sync::channel::{Get, Put};
use motet_sync::condition::Notified;
use motet_sync::event::WaitForEvent;
use motet_sync::lock::Acquire;
use motet_sync::semaphore::AcquirePermits;
use motet_sync::{Party, Selectable};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// What can be waited for.
pub enum Operation {
    Get(Get<Item, Item>),
    Put(Put<Item, Item>),
    Acquire(Acquire),
    AcquirePermits(AcquirePermits),
    Event(WaitForEvent),
    Notified(Notified),
    Barrier(WaitAtBarrier),
}

/// Does the same with each kind.
macro_rules! each {
    ($operation:expr, $inner:ident => $result:expr) => {
        match $operation {
            Operation::Get($inner) => $result,
            Operation::Put($inner) => $result,
            Operation::Acquire($inner) => $result,
            Operation::AcquirePermits($inner) => $result,
            Operation::Event($inner) => $result,
            Operation::Notified($inner) => $result,
            Operation::Barrier($inner) => $result,
        }
    };
}

impl Operation {
    /// Says who waits, before it begins.
    pub fn by(self, party: Party) -> Self {
        match self {
            Self::Get(get) => Self::Get(get.by(party)),
            Self::Put(put) => Self::Put(put.by(party)),
            Self::Acquire(acquire) => Self::Acquire(acquire.by(party)),
            Self::AcquirePermits(acquire) => Self::AcquirePermits(acquire.by(party)),
            Self::Event(event) => Self::Event(event.by(party)),
            // It has begun.
            Self::Notified(notified) => Self::Notified(notified),
            Self::Barrier(barrier) => Self::Barrier(barrier.by(party)),
        }
    }

    /// Whether who does it matters before it has to wait: the owner of a lock.
    pub fn has_owner(&self) -> bool {
        matches!(self, Self::Acquire(_))
    }

    /// Does it if it can be done now.
    pub fn attempt(&mut self) -> bool {
        each!(self, operation => operation.attempt())
    }

    /// As one of several; never a barrier's, of which programs get no such operation.
    pub fn as_selectable(&mut self) -> &mut (dyn Selectable + Send) {
        match self {
            Self::Get(get) => get,
            Self::Put(put) => put,
            Self::Acquire(acquire) => acquire,
            Self::AcquirePermits(acquire) => acquire,
            Self::Event(event) => event,
            Self::Notified(notified) => notified,
            Self::Barrier(_) => unreachable!("a barrier's wait is never one of several"),
        }
    }

    /// Does it now, or waits for it from now on; its result when it is done.
    pub fn poll(&mut self, py: Python<'_>, waker: &Waker) -> Poll<PyResult<Py<PyAny>>> {
        let mut context = Context::from_waker(waker);
        match self {
            Self::Get(get) => Pin::new(get).poll(&mut context).map(|got| match got {
                Ok(item) => Ok(item),
                Err(closed) => Err(errors::closed(py, closed.error.as_deref())),
            }),
            Self::Put(put) => Pin::new(put).poll(&mut context).map(|put| outcome_of_put(py, put)),
            Self::Acquire(acquire) => Pin::new(acquire).poll(&mut context).map(|held| {
                held.keep();
                Ok(truth(py, true))
            }),
            Self::AcquirePermits(acquire) => Pin::new(acquire).poll(&mut context).map(|permits| {
                permits.keep();
                Ok(truth(py, true))
            }),
            Self::Event(event) => Pin::new(event).poll(&mut context).map(|()| Ok(truth(py, true))),
            Self::Notified(notified) => Pin::new(notified).poll(&mut context).map(|()| Ok(truth(py, true))),
            Self::Barrier(barrier) => Pin::new(barrier).poll(&mut context).map(|number| match number {
                Ok(number) => number.into_py_any(py),
                Err(Broken) => Err(errors::broken_barrier(py)),
            }),
        }
    }
}

/// True or False.
pub fn truth(py: Python<'_>, value: bool) -> Py<PyAny> {
    pyo3::types::PyBool::new(py, value).to_owned().into_any().unbind()
}
