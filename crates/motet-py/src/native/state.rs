//! What a future and a task know.

use super::guarded::Guarded;
use pyo3::prelude::*;
use std::mem::take;

/// Shows the collector one reference; anything but 0 ends the visit.
pub type Visit<'a> = dyn FnMut(&Py<PyAny>) -> i32 + 'a;

/// Shows references that may be there, and returns when the visit is to end.
macro_rules! show {
    ($visit:ident: $($reference:expr),+) => {$(
        if let Some(reference) = &$reference {
            let result = $visit(reference);
            if result != 0 {
                return result;
            }
        }
    )+};
}

/// Where a future is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Pending,
    Cancelled,
    Finished,
}

/// Who is told when a future is done.
pub enum Waiter {
    /// A task of motet's, which goes on then.
    Task(Py<PyAny>),
    /// A function and the context to call it in.
    Callback(Py<PyAny>, Py<PyAny>),
}

impl Waiter {
    pub fn release(self, py: Python<'_>) {
        match self {
            Self::Task(task) => drop_now(py, Some(task)),
            Self::Callback(callback, context) => {
                drop_now(py, Some(callback));
                drop_now(py, Some(context));
            }
        }
    }
}

/// Those who wait for a future, in the order in which they came. Nearly always there is one.
#[derive(Default)]
pub struct Waiters {
    first: Option<Waiter>,
    more: Vec<Waiter>,
}

impl Waiters {
    #[inline]
    pub fn push(&mut self, waiter: Waiter) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(waiter);
        } else {
            self.more.push(waiter);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.first.iter().chain(&self.more)
    }

    /// Hands out each, in order.
    #[inline]
    pub fn for_each(self, mut tell: impl FnMut(Waiter)) {
        if let Some(first) = self.first {
            tell(first);
        }
        if !self.more.is_empty() {
            self.more.into_iter().for_each(tell);
        }
    }

    fn release(self, py: Python<'_>) {
        self.for_each(|waiter| waiter.release(py));
    }

    /// Takes out those that `belongs` accepts.
    pub fn extract(&mut self, mut belongs: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        let mut out = Vec::new();
        out.extend(self.first.take_if(|first| belongs(first)));
        out.extend(self.more.extract_if(.., |waiter| belongs(waiter)));
        out
    }
}

/// What few futures need.
#[derive(Default)]
pub struct Rare {
    pub exception_traceback: Option<Py<PyAny>>,
    pub cancel_message: Option<Py<PyAny>>,
    pub cancelled_error: Option<Py<PyAny>>,
    pub source_traceback: Option<Py<PyAny>>,
}

/// The state of a future; of a task, its part as a future.
#[derive(Default)]
pub struct FutureState {
    /// None before `__init__`.
    pub event_loop: Option<Py<PyAny>>,
    pub waiters: Waiters,
    pub result: Option<Py<PyAny>>,
    pub exception: Option<Py<PyAny>>,
    rare: Option<Box<Rare>>,
    pub status: Status,
    /// The loop is motet's, with nothing overridden: tasks and callbacks go straight into its ready ring.
    pub own_loop: bool,
    /// A coroutine has yielded this future, and its task has not seen that yet.
    pub blocking: bool,
    /// An exception that nobody has asked for is told when the future goes.
    pub log_traceback: bool,
}

impl FutureState {
    pub fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Replaces a rare value; what was there is for the caller to drop.
    #[must_use]
    pub fn replace_rare(
        &mut self,
        field: impl FnOnce(&mut Rare) -> &mut Option<Py<PyAny>>,
        value: Option<Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        if value.is_none() && self.rare.is_none() {
            return None;
        }
        std::mem::replace(field(self.rare_mut()), value)
    }

    fn traverse(&self, visit: &mut Visit<'_>) -> i32 {
        show!(visit: self.event_loop, self.result, self.exception);
        if let Some(rare) = &self.rare {
            show!(visit: rare.exception_traceback, rare.cancel_message, rare.cancelled_error, rare.source_traceback);
        }
        for waiter in self.waiters.iter() {
            let result = match waiter {
                Waiter::Task(task) => visit(task),
                Waiter::Callback(callback, context) => match visit(callback) {
                    0 => visit(context),
                    result => result,
                },
            };
            if result != 0 {
                return result;
            }
        }
        0
    }

    /// Drops what it holds. Dropping a `Py` would ask pyo3 each time whether this thread is attached.
    pub fn release(self, py: Python<'_>) {
        drop_now(py, self.event_loop);
        drop_now(py, self.result);
        drop_now(py, self.exception);
        self.waiters.release(py);
        if let Some(rare) = self.rare {
            let Rare { exception_traceback, cancel_message, cancelled_error, source_traceback } = *rare;
            drop_now(py, exception_traceback);
            drop_now(py, cancel_message);
            drop_now(py, cancelled_error);
            drop_now(py, source_traceback);
        }
    }
}

/// Drops a reference on a thread that is attached.
#[inline(always)]
pub fn drop_now(py: Python<'_>, object: Option<Py<PyAny>>) {
    drop(object.map(|object| object.into_bound(py)));
}

/// A task's name.
pub enum Name {
    /// `Task-` and this number, made when somebody asks.
    Number(u64),
    Given(Py<PyAny>),
}

impl Default for Name {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// What the next step of a task begins with.
#[derive(Default)]
pub enum Cause {
    /// Nothing: the first step, or one after a bare `yield`.
    #[default]
    Due,
    /// The future that it waits for is done.
    Woken,
    /// An exception that is raised where the coroutine waits.
    Error(Py<PyAny>),
}

/// The state of a task beside that of its future.
#[derive(Default)]
pub struct TaskState {
    pub coroutine: Option<Py<PyAny>>,
    pub context: Option<Py<PyAny>>,
    pub name: Name,
    pub waiting_for: Option<Py<PyAny>>,
    pub cause: Cause,
    /// The weak reference in asyncio's set of tasks, where that is a set.
    pub registration: Option<Py<PyAny>>,
    pub cancel_requests: i32,
    pub must_cancel: bool,
    pub hide_destruction: bool,
}

impl TaskState {
    fn traverse(&self, visit: &mut Visit<'_>) -> i32 {
        show!(visit: self.coroutine, self.context, self.waiting_for, self.registration);
        if let Name::Given(name) = &self.name {
            show!(visit: Some(name));
        }
        if let Cause::Error(error) = &self.cause {
            show!(visit: Some(error));
        }
        0
    }

    /// Drops what it holds.
    pub fn release(self, py: Python<'_>) {
        drop_now(py, self.coroutine);
        drop_now(py, self.context);
        drop_now(py, self.waiting_for);
        drop_now(py, self.registration);
        if let Name::Given(name) = self.name {
            drop_now(py, Some(name));
        }
        if let Cause::Error(error) = self.cause {
            drop_now(py, Some(error));
        }
    }
}

/// The Rust part of a future or a task; a future leaves the second half alone.
#[derive(Default)]
#[repr(C)]
pub struct Parts {
    pub future: Guarded<FutureState>,
    pub task: Guarded<TaskState>,
}

impl FutureState {
    /// Shows the collector what this keeps alive.
    ///
    /// # Safety
    /// Called by the collector.
    pub unsafe fn show(state: &Guarded<Self>, visit: &mut Visit<'_>) -> i32 {
        // SAFETY: the caller's word.
        unsafe { state.inspect_stopped(|state| state.traverse(visit)) }
    }

    /// Empties the state.
    pub fn clear(state: &Guarded<Self>, py: Python<'_>) {
        state.with(py, take).release(py);
    }

    /// As [`FutureState::clear`], for an object that others may still see for a moment: it goes on to name its loop.
    pub fn break_cycles(state: &Guarded<Self>, py: Python<'_>) {
        let held = state.with(py, |state| {
            let event_loop = state.event_loop.take();
            std::mem::replace(state, Self { event_loop, own_loop: state.own_loop, ..Self::default() })
        });
        held.release(py);
    }
}

impl TaskState {
    /// Shows the collector what this keeps alive.
    ///
    /// # Safety
    /// Called by the collector.
    pub unsafe fn show(state: &Guarded<Self>, visit: &mut Visit<'_>) -> i32 {
        // SAFETY: the caller's word.
        unsafe { state.inspect_stopped(|state| state.traverse(visit)) }
    }

    /// Empties the state.
    pub fn clear(state: &Guarded<Self>, py: Python<'_>) {
        state.with(py, take).release(py);
    }
}
