//! Files of a loop: requests go out at the end of a round, all together, and their ends come back through the inbox, or from
//! the ring.
//!
//! What a request works with (its file, its memory) travels with it; what it is for (the future) stays here under a key, where
//! the collector sees it. So no thread of the pool ever needs the interpreter, not even when the loop is gone.

mod bytes;
mod class;
mod mailbox;
mod threads;

pub use class::{File, add_functions};
pub use mailbox::Mailbox;

use crate::call;
use crate::errors::{os_error, os_error_of};
use crate::event_loop::{Loop, Owner, closed_error};
use crate::schedule::create_future;
use crate::task::Task;
use bytes::Bytes;
use motet_files::ring::End;
use motet_files::{Backend, Outcome, Request, Ring, Value};
use motet_reactor::sys::Interest;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, intern};
use std::sync::OnceLock;
use threads::Job;

/// Jobs that are handed to the threads before the round ends, so that they begin while it goes on.
const BATCH: usize = 32;
/// The environment variable that forces a backend.
const WISH: &str = "MOTET_FILES";

/// What a request of a loop is known by.
pub type Key = usize;

/// A request has ended.
pub struct Completion {
    pub key: Key,
    pub outcome: Outcome<Bytes>,
}

/// Who waits for a request.
struct Pending {
    future: Py<PyAny>,
    /// What the program calls the file, for errors.
    name: Option<Py<PyAny>>,
    /// What was read before: a large file, or one that grows, comes in parts.
    parts: Vec<Py<PyBytes>>,
}

/// The ring, if there is to be one.
#[derive(Default)]
enum Means {
    /// This loop has used no files yet.
    #[default]
    Undecided,
    Ring(Box<Ring<Bytes, Key>>),
    Threads,
}

/// The requests of one loop.
#[derive(Default)]
pub struct Files {
    pending: Vec<Option<Pending>>,
    free: Vec<Key>,
    batch: Vec<Job>,
    means: Means,
}

impl Files {
    /// How the open files of this loop are read and written; nothing as long as none was.
    pub fn means(&self) -> Option<&'static str> {
        match &self.means {
            Means::Undecided => None,
            Means::Ring(_) => Some(Backend::Ring.name()),
            Means::Threads => Some(Backend::Threads.name()),
        }
    }

    fn enter(&mut self, pending: Pending) -> Key {
        match self.free.pop() {
            Some(key) => {
                self.pending[key] = Some(pending);
                key
            }
            None => {
                self.pending.push(Some(pending));
                self.pending.len() - 1
            }
        }
    }

    fn leave(&mut self, key: Key) -> Option<Pending> {
        let pending = self.pending.get_mut(key)?.take()?;
        self.free.push(key);
        Some(pending)
    }

    /// Queues a request; jobs that are to go to the threads now come back.
    fn queue(&mut self, request: Request<Bytes>, key: Key, mailbox: &Mailbox) -> Vec<Job> {
        match &mut self.means {
            Means::Ring(ring) if Ring::<Bytes, Key>::suits(&request) => {
                ring.push(request, key);
                Vec::new()
            }
            _ => {
                self.batch.push(Job::carry_out(request, key, mailbox));
                if self.batch.len() < BATCH { Vec::new() } else { std::mem::take(&mut self.batch) }
            }
        }
    }

    /// The loop is closed: what is under way ends by itself, and nobody hears of it.
    pub fn close(self) {
        if let Means::Ring(ring) = self.means
            && !ring.is_idle()
        {
            threads::submit([Job::Finish(ring)]);
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.pending.iter().flatten().try_for_each(|pending| {
            visit.call(&pending.future)?;
            visit.call(&pending.name)
        })
    }
}

/// What this process uses; decided once, when the first file is.
fn backend() -> PyResult<(Backend, bool)> {
    static CHOICE: OnceLock<Result<(Backend, bool), String>> = OnceLock::new();
    let choice = CHOICE.get_or_init(|| {
        let wish = std::env::var(WISH).ok().filter(|wish| !wish.is_empty());
        Backend::choose(wish.as_deref()).map(|backend| (backend, wish.is_some()))
    });
    choice.clone().map_err(|text| PyRuntimeError::new_err(format!("{WISH}: {text}")))
}

/// Decides by which means this loop's files are used, and opens the ring.
fn decide(event_loop: &Loop) -> PyResult<()> {
    if event_loop.with("motet.open()", |state| state.files.means().is_some())? {
        return Ok(());
    }
    let (backend, forced) = backend()?;
    event_loop.with("motet.open()", |state| {
        let (reactor, books) = state.parts().ok_or_else(closed_error)?;
        books.files.means = match backend {
            Backend::Threads => Means::Threads,
            Backend::Ring => {
                let opened = Ring::new().and_then(|ring| {
                    reactor.register(ring.number(), Interest::Read, Owner::Files).map(|_| ring)
                });
                match opened {
                    Ok(ring) => Means::Ring(Box::new(ring)),
                    // Too many descriptors or too much locked memory by now: this loop does without.
                    Err(_) if !forced => Means::Threads,
                    Err(error) => return Err(os_error(error)),
                }
            }
        };
        Ok(())
    })?
}

/// Has a request carried out; returns the future of what comes of it.
pub fn start<'py>(
    event_loop: &Bound<'py, Loop>,
    request: Request<Bytes>,
    name: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let inner = event_loop.get();
    inner.require_open()?;
    decide(inner)?;
    let future = create_future(event_loop)?;
    let pending = Pending { future: future.clone().unbind(), name, parts: Vec::new() };
    queue(inner, request, pending)?;
    Ok(future)
}

fn queue(event_loop: &Loop, request: Request<Bytes>, pending: Pending) -> PyResult<()> {
    let jobs = event_loop.with("motet.open()", |state| {
        state.turn.request_flush();
        let key = state.files.enter(pending);
        state.files.queue(request, key, event_loop.mailbox())
    })?;
    threads::submit(jobs);
    Ok(())
}

/// Hands over what was queued in this round, and tells what the ring has done at once.
pub fn flush(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let inner = event_loop.get();
    let (jobs, ring) = inner.with("motet.open()", |state| {
        let files = &mut state.files;
        let mut jobs = std::mem::take(&mut files.batch);
        let Means::Ring(ring) = &mut files.means else { return (jobs, false) };
        if ring.is_ours() {
            if ring.has_more() {
                ring.submit();
            }
            return (jobs, !ring.is_idle());
        }
        // A child goes on with its parent's loop, if only to end it.
        let waiting = ring.take_waiting();
        jobs.extend(waiting.map(|(request, key)| Job::carry_out(request, key, inner.mailbox())));
        (jobs, false)
    })?;
    threads::submit(jobs);
    if ring { ready(event_loop) } else { Ok(()) }
}

/// Tells what the ring has done.
pub fn ready(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let inner = event_loop.get();
    let mut result = Ok(());
    loop {
        let end = inner.with("motet.open()", |state| match &mut state.files.means {
            Means::Ring(ring) if ring.is_ours() => ring.next_end(),
            _ => None,
        })?;
        match end {
            None => break,
            // Each is told even when an earlier one asks to end the run.
            Some(End::Done(outcome, key)) => {
                result = result.and(complete(event_loop, Completion { key, outcome }));
            }
            Some(End::Refused(request, key)) => {
                threads::submit([Job::carry_out(request, key, inner.mailbox())]);
            }
        }
    }
    inner.with("motet.open()", |state| {
        if let Means::Ring(ring) = &state.files.means
            && ring.is_ours()
            && ring.has_more()
        {
            state.turn.push(Task::Files);
        }
    })?;
    result
}

/// A request has ended: resolves its future, or goes on with what it began. Only what must end the run comes back.
pub fn complete(event_loop: &Bound<'_, Loop>, completion: Completion) -> PyResult<()> {
    let py = event_loop.py();
    let inner = event_loop.get();
    let Some(mut pending) = inner.with("motet.open()", |state| state.files.leave(completion.key))? else {
        return Ok(());
    };
    let future = pending.future.bind(py).clone();
    if call::method(&future, intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    let value = match go_on(py, completion.outcome, &mut pending) {
        Ok(Next::Request(request)) => return queue(inner, request, pending),
        Ok(Next::Value(value)) => Ok(value),
        Err(error) => Err(error),
    };
    match value {
        Ok(value) => call::method_with(&future, intern!(py, "set_result"), value.bind(py)).map(drop),
        Err(error) => {
            let error = error.into_value(py).into_bound(py).into_any();
            call::method_with(&future, intern!(py, "set_exception"), &error).map(drop)
        }
    }
}

/// What follows the end of a request.
enum Next {
    Value(Py<PyAny>),
    Request(Request<Bytes>),
}

fn go_on(py: Python<'_>, outcome: Outcome<Bytes>, pending: &mut Pending) -> PyResult<Next> {
    let value = match outcome.result {
        Ok(value) => value,
        Err(error) => {
            return Err(match pending.name.take() {
                Some(name) => os_error_of(error, name),
                None => os_error(error),
            });
        }
    };
    let value = match (value, outcome.memory) {
        (Value::Data(data), _) => joined(py, pending, PyBytes::new(py, &data))?,
        (Value::Large(file, size), _) => {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            return Ok(Next::Request(Request::Fill(file, Bytes::new(py, size)?)));
        }
        (Value::Filled(count, Some(file)), Some(memory)) => {
            pending.parts.push(memory.filled(py, count).unbind());
            return Ok(Next::Request(Request::Rest(file)));
        }
        (Value::Filled(count, None), Some(memory)) => joined(py, pending, memory.filled(py, count))?,
        (Value::Opened(file), _) => File::new(file).into_bound_py_any(py)?,
        (Value::Count(count), Some(memory)) if memory.is_for_reading() => memory.filled(py, count).into_any(),
        (Value::Count(count) | Value::Filled(count, _), _) => count.into_bound_py_any(py)?,
    };
    Ok(Next::Value(value.unbind()))
}

/// All that was read.
fn joined<'py>(
    py: Python<'py>,
    pending: &mut Pending,
    last: Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    if pending.parts.is_empty() {
        return Ok(last.into_any());
    }
    pending.parts.push(last.unbind());
    PyBytes::new(py, b"").call_method1(intern!(py, "join"), (std::mem::take(&mut pending.parts),))
}
