//! What a future and a task know.

use super::guarded::Guarded;
use pyo3::prelude::*;
use std::mem::take;

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

    /// Takes out those that `belongs` accepts.
    pub fn extract(&mut self, mut belongs: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        let mut out = Vec::new();
        out.extend(self.first.take_if(|first| belongs(first)));
        out.extend(self.more.extract_if(.., |waiter| belongs(waiter)));
        out
    }
}

impl IntoIterator for Waiters {
    type Item = Waiter;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Waiter>, std::vec::IntoIter<Waiter>>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
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

    fn traverse(&self, visit: &mut impl FnMut(&Py<PyAny>) -> i32) -> i32 {
        let rare = self.rare.iter().flat_map(|rare| {
            [&rare.exception_traceback, &rare.cancel_message, &rare.cancelled_error, &rare.source_traceback]
        });
        let held = [&self.event_loop, &self.result, &self.exception].into_iter().chain(rare).flatten();
        let waiters = self.waiters.iter().flat_map(|waiter| match waiter {
            Waiter::Task(task) => [Some(task), None],
            Waiter::Callback(callback, context) => [Some(callback), Some(context)],
        });
        held.chain(waiters.flatten()).map(visit).find(|result| *result != 0).unwrap_or(0)
    }

    /// Drops what it holds. Dropping a `Py` would ask pyo3 each time whether this thread is attached.
    pub fn release(self, py: Python<'_>) {
        for object in [self.event_loop, self.result, self.exception] {
            drop_now(py, object);
        }
        for waiter in self.waiters {
            match waiter {
                Waiter::Task(task) => drop_now(py, Some(task)),
                Waiter::Callback(callback, context) => {
                    drop_now(py, Some(callback));
                    drop_now(py, Some(context));
                }
            }
        }
        if let Some(rare) = self.rare {
            let Rare { exception_traceback, cancel_message, cancelled_error, source_traceback } = *rare;
            for object in [exception_traceback, cancel_message, cancelled_error, source_traceback] {
                drop_now(py, object);
            }
        }
    }
}

/// Drops a reference on a thread that is attached.
#[inline]
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
    fn traverse(&self, visit: &mut impl FnMut(&Py<PyAny>) -> i32) -> i32 {
        let name = if let Name::Given(name) = &self.name { Some(name) } else { None };
        let error = if let Cause::Error(error) = &self.cause { Some(error) } else { None };
        [self.coroutine.as_ref(), self.context.as_ref(), name, self.waiting_for.as_ref(), error]
            .into_iter()
            .chain([self.registration.as_ref()])
            .flatten()
            .map(visit)
            .find(|result| *result != 0)
            .unwrap_or(0)
    }

    pub fn release(self, py: Python<'_>) {
        let name = if let Name::Given(name) = self.name { Some(name) } else { None };
        let error = if let Cause::Error(error) = self.cause { Some(error) } else { None };
        for object in [self.coroutine, self.context, name, self.waiting_for, error, self.registration] {
            drop_now(py, object);
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
    pub unsafe fn show(state: &Guarded<Self>, visit: &mut impl FnMut(&Py<PyAny>) -> i32) -> i32 {
        // SAFETY: the caller's word.
        unsafe { state.inspect_stopped(|state| state.traverse(visit)) }
    }

    /// Empties the state.
    pub fn clear(state: &Guarded<Self>, py: Python<'_>) {
        state.with(py, take).release(py);
    }
}

impl TaskState {
    /// Shows the collector what this keeps alive.
    ///
    /// # Safety
    /// Called by the collector.
    pub unsafe fn show(state: &Guarded<Self>, visit: &mut impl FnMut(&Py<PyAny>) -> i32) -> i32 {
        // SAFETY: the caller's word.
        unsafe { state.inspect_stopped(|state| state.traverse(visit)) }
    }

    /// Empties the state.
    pub fn clear(state: &Guarded<Self>, py: Python<'_>) {
        state.with(py, take).release(py);
    }
}
