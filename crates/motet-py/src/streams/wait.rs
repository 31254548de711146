//! The object that a stream's waiting methods return: a coroutine to whoever awaits it, and the future that it waits for itself.
//!
//! ```text
//!   New ──step()─▶ Over                       there was nothing to wait for
//!    └───step()─▶ Waiting ──wake()─▶ Woken ──step()─▶ Over, or Waiting again
//! ```
//!
//! A task that awaits it is handed the object itself by way of asyncio's future protocol, leaves its callback here, and is woken
//! from Rust. Nothing is consumed until the woken task comes back, so a task that is cancelled has lost nothing.

use super::protocol::{self, ProtocolCore};
use super::read;
use super::reader::ReaderCore;
use super::writer::{self, WriterCore};
use super::{spares, stock_task};
use crate::call;
use crate::exclusive::Exclusive;
use crate::home::Home;
use motet_reactor::inflow::Want;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};
use std::ffi::c_int;

/// Which method was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    ReadLine,
    /// One step of `async for`.
    Next,
    ReadUntil,
    ReadExactly,
    Read,
    Drain,
    WaitClosed,
}

impl Method {
    /// The class that has it.
    pub fn class(self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::ReadLine => "StreamReader.readline",
            Self::Next => "StreamReader.__anext__",
            Self::ReadUntil => "StreamReader.readuntil",
            Self::ReadExactly => "StreamReader.readexactly",
            Self::Read => "StreamReader.read",
            Self::Drain => "StreamWriter.drain",
            Self::WaitClosed => "StreamWriter.wait_closed",
        }
    }
}

/// Whose method was called.
pub enum Target {
    Reader(Py<ReaderCore>),
    Writer(Py<WriterCore>),
    Protocol(Py<ProtocolCore>),
    /// There is nothing to wait for, however often it is awaited.
    Nothing,
}

/// Why a waiting task is woken.
pub enum Wake {
    /// To try again.
    Ready,
    /// With this exception.
    Failed(Py<PyAny>),
    /// It was cancelled, with this message.
    Cancelled(Option<Py<PyAny>>),
}

/// Where a wait is.
pub enum Phase {
    New,
    /// The others have been given a turn before the wait.
    Yielded,
    Waiting,
    Woken(Wake),
    Over,
}

/// What is called when the wait ends.
pub struct Callback {
    pub callback: Py<PyAny>,
    pub context: Py<PyAny>,
}

/// What changes in a wait.
pub struct State {
    pub phase: Phase,
    /// asyncio's mark of a future that is being awaited.
    pub blocking: bool,
    want: Want,
    pub first: Option<Callback>,
    pub more: Vec<Callback>,
}

/// The Rust part of a wait.
pub struct Wait {
    method: Method,
    target: Target,
    pub state: Exclusive<State>,
}

/// How one step of a wait ended.
pub enum Step {
    /// It waits.
    Park,
    /// The others have a turn first.
    Yield,
    /// With a value.
    Return(Py<PyAny>),
    /// With None.
    Finish,
}

/// How a wait comes to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    First,
    AfterYield,
    AfterWait,
}

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

impl Wait {
    pub fn new(method: Method, target: Target, want: Want) -> Self {
        let state = State { phase: Phase::New, blocking: false, want, first: None, more: Vec::new() };
        Self { method, target, state: Exclusive::new(state) }
    }

    /// What is awaited where there is nothing to wait for.
    pub fn for_nothing(method: Method) -> Self {
        Self::new(method, Target::Nothing, Want::All)
    }

    pub fn method(&self) -> Method {
        self.method
    }

    /// The loop of whose method was called; none before its `__init__`.
    #[inline]
    pub fn home(&self) -> Option<&Home> {
        match &self.target {
            Target::Reader(reader) => reader.get().home(),
            Target::Writer(writer) => writer.get().home(),
            Target::Protocol(protocol) => protocol.get().home(),
            Target::Nothing => None,
        }
    }

    /// Takes it out of where it would be woken from.
    pub fn withdraw(&self, this: This<'_, '_>) {
        match &self.target {
            Target::Reader(reader) => reader.get().forget(this),
            Target::Writer(writer) => writer.get().forget(this),
            Target::Protocol(protocol) => protocol.get().forget(this),
            Target::Nothing => {}
        }
    }

    /// Uses what the read waits for.
    #[inline]
    pub fn with_want<R>(&self, py: Python<'_>, use_want: impl FnOnce(&mut Want) -> R) -> R {
        self.state.with(py, |state| use_want(&mut state.want))
    }

    /// Marks it as waiting. The caller puts it where it will be woken from, and has that locked meanwhile: without a GIL another
    /// thread might wake it from there before it waits, and the waking would be lost. No lock is taken while a wait's own is held.
    #[inline]
    pub fn park(&self, py: Python<'_>) {
        self.state.with(py, |state| {
            state.phase = Phase::Waiting;
            state.blocking = true;
        });
    }

    /// How it comes to this step.
    #[inline]
    fn arrive(&self, py: Python<'_>) -> PyResult<Arrival> {
        let phase = self.state.with(py, |state| match &state.phase {
            Phase::Waiting => Phase::Waiting,
            _ => std::mem::replace(&mut state.phase, Phase::Over),
        });
        match phase {
            Phase::New => Ok(Arrival::First),
            Phase::Yielded => Ok(Arrival::AfterYield),
            Phase::Woken(Wake::Ready) => Ok(Arrival::AfterWait),
            Phase::Woken(Wake::Failed(exception)) => Err(PyErr::from_value(exception.into_bound(py))),
            Phase::Woken(Wake::Cancelled(message)) => Err(call::cancelled(py, message)),
            Phase::Waiting => Err(PyRuntimeError::new_err("await wasn't used with future")),
            Phase::Over => Err(reused()),
        }
    }

    /// Takes it out of where it would be woken from, and ends it; whether it was over already.
    fn end(&self, this: This<'_, '_>) -> bool {
        let py = this.py();
        if let Target::Nothing = self.target {
            return false;
        }
        self.withdraw(this);
        let (phase, callbacks) = self.state.with(py, |state| {
            (
                std::mem::replace(&mut state.phase, Phase::Over),
                (state.first.take(), std::mem::take(&mut state.more)),
            )
        });
        drop(callbacks);
        matches!(phase, Phase::Over)
    }

    pub fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int {
        let target = match &self.target {
            Target::Reader(reader) => reader.as_ptr(),
            Target::Writer(writer) => writer.as_ptr(),
            Target::Protocol(protocol) => protocol.as_ptr(),
            Target::Nothing => return 0,
        };
        let inner = self.state.inspect(|state| {
            let woken = match &state.phase {
                Phase::Woken(Wake::Failed(object)) | Phase::Woken(Wake::Cancelled(Some(object))) => {
                    Some(object)
                }
                _ => None,
            };
            let callbacks = state.first.iter().chain(&state.more);
            callbacks
                .flat_map(|callback| [&callback.callback, &callback.context])
                .chain(woken)
                .find_map(|object| Some(visit(object.as_ptr())).filter(|result| *result != 0))
        });
        match inner.flatten() {
            Some(result) => result,
            None => visit(target),
        }
    }

    pub fn clear(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| (state.first.take(), std::mem::take(&mut state.more)));
        drop(dropped);
    }

    /// Drops it at once. Dropping a `Py` would ask pyo3 each time whether this thread is attached.
    #[inline]
    pub fn release(self, py: Python<'_>) {
        match self.target {
            Target::Reader(reader) => drop(reader.into_bound(py)),
            Target::Writer(writer) => drop(writer.into_bound(py)),
            Target::Protocol(protocol) => drop(protocol.into_bound(py)),
            Target::Nothing => {}
        }
        let State { phase, first, more, .. } = self.state.into_inner();
        if let Phase::Woken(Wake::Failed(object) | Wake::Cancelled(Some(object))) = phase {
            drop(object.into_bound(py));
        }
        for Callback { callback, context } in first.into_iter().chain(more) {
            drop((callback.into_bound(py), context.into_bound(py)));
        }
    }
}

/// One step of the coroutine.
#[inline]
pub fn step(this: This<'_, '_>, wait: &Wait) -> PyResult<Step> {
    let py = this.py();
    let step = match &wait.target {
        Target::Reader(reader) => read::step(reader.bind(py), this, wait, wait.arrive(py)?),
        Target::Writer(writer) => writer::step(writer.bind(py), this, wait, wait.arrive(py)?),
        Target::Protocol(protocol) => protocol::step(protocol.bind(py), this, wait, wait.arrive(py)?),
        Target::Nothing => Ok(Step::Finish),
    }?;
    if let Step::Yield = step {
        wait.state.with(py, |state| state.phase = Phase::Yielded);
    }
    Ok(step)
}

/// Wakes whoever waits; whether it was waiting. Somebody else may have woken or ended it since it was taken from its place.
pub fn wake(object: &Bound<'_, PyAny>, wait: &Wait, why: Wake) -> PyResult<bool> {
    let py = object.py();
    let ready = matches!(why, Wake::Ready);
    let mut why = Some(why);
    let waiting = wait.state.with(py, |state| {
        if !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        state.phase = Phase::Woken(why.take()?);
        Some((state.first.take(), std::mem::take(&mut state.more)))
    });
    let Some((first, more)) = waiting else { return Ok(false) };
    let Some(home) = wait.home() else { return Ok(true) };
    for Callback { callback, context } in first.into_iter().chain(more) {
        // A stock task asks any future but its own kind for the result by a name that it has to make first.
        let argument = match ready && stock_task::is_wake_up(callback.bind(py)) {
            true => spares::finished_future(py, home)?,
            false => object.clone().unbind(),
        };
        home.call_soon(py, callback, argument, context)?;
    }
    Ok(true)
}

/// Whether it has never been awaited.
pub fn is_new(wait: &Wait, py: Python<'_>) -> bool {
    wait.state.with(py, |state| matches!(state.phase, Phase::New)) && !matches!(wait.target, Target::Nothing)
}

/// Ends the coroutine.
pub fn close(this: This<'_, '_>, wait: &Wait) {
    wait.end(this);
}

/// Ends the coroutine with an exception, given as `generator.throw` takes it.
pub fn throw(this: This<'_, '_>, wait: &Wait, arguments: [Option<This<'_, '_>>; 3]) -> PyErr {
    if wait.end(this) {
        return reused();
    }
    call::thrown(arguments).unwrap_or_else(|error| error)
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("cannot reuse already awaited coroutine")
}
