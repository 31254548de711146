//! What a body waits for.

use super::operations::Operation;
use super::select;
use motet_sync::{Party, Selection};
use pyo3::prelude::*;
use std::task::{Poll, Waker};

/// One operation, the first of several, or only time.
pub enum Work {
    One(Operation),
    Several(Several),
    Time,
    /// Nothing: here is the result.
    Done(Py<PyAny>),
}

/// Operations of which one is to happen.
pub struct Several {
    /// Each with its place among the arguments of the select.
    operations: Vec<(usize, Operation)>,
    selection: Selection,
    /// The one that could be done at once.
    done: Option<usize>,
}

impl Several {
    pub fn new(operations: Vec<(usize, Operation)>) -> Self {
        Self { operations, selection: Selection::default(), done: None }
    }

    fn poll(&mut self, py: Python<'_>, waker: &Waker) -> Poll<PyResult<Py<PyAny>>> {
        let index = match self.done {
            Some(index) => index,
            None => {
                let operations = self.operations.iter_mut();
                let mut selectable: Vec<_> =
                    operations.map(|(_, operation)| operation.as_selectable()).collect();
                match self.selection.poll(&mut selectable, waker) {
                    Poll::Ready(index) => index,
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        let (place, operation) = &mut self.operations[index];
        operation.poll(py, waker).map(|result| select::selected(py, *place, result?))
    }
}

impl Work {
    /// Says who waits, before it begins.
    pub fn by(self, party: Party) -> Self {
        match self {
            Self::One(operation) => Self::One(operation.by(party)),
            Self::Several(several) => {
                let operations = several.operations.into_iter();
                let operations = operations.map(|(place, operation)| (place, operation.by(party)));
                Self::Several(Several { operations: operations.collect(), ..several })
            }
            other => other,
        }
    }

    /// Whether who does it matters before it has to wait.
    pub fn has_owner(&self) -> bool {
        match self {
            Self::One(operation) => operation.has_owner(),
            Self::Several(several) => several.operations.iter().any(|(_, operation)| operation.has_owner()),
            Self::Time | Self::Done(_) => false,
        }
    }

    /// Does it if it can be done now.
    pub fn attempt(&mut self) -> bool {
        match self {
            Self::One(operation) => operation.attempt(),
            Self::Several(several) => {
                several.done = several.operations.iter_mut().position(|(_, operation)| operation.attempt());
                several.done.is_some()
            }
            Self::Time => false,
            Self::Done(_) => true,
        }
    }

    /// Does it now, or waits for it from now on; its result when it is done.
    pub fn poll(&mut self, py: Python<'_>, waker: &Waker) -> Poll<PyResult<Py<PyAny>>> {
        match self {
            Self::One(operation) => operation.poll(py, waker),
            Self::Several(several) => several.poll(py, waker),
            Self::Time => Poll::Pending,
            Self::Done(value) => Poll::Ready(Ok(value.clone_ref(py))),
        }
    }

    /// The result of what has been done.
    pub fn take(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.poll(py, Waker::noop()) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("it was done"),
        }
    }
}
