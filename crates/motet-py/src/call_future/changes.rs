//! How a future's stage changes, and who is told.
//!
//! Python's own futures change it holding their condition, and `wait()`, `as_completed()` and asyncio rely on that. Here the condition
//! is made when somebody first asks for it, which is seldom. Two rules make that the same thing to whoever has the condition:
//!
//! 1. The stage and the condition are both behind the future's lock ([`Guarded`](crate::native::guarded::Guarded)), and a condition
//!    that was made stays.
//! 2. In one use of that lock a change finds either that there is no condition, and then is complete at its end; or that there is
//!    one, and then nothing changes until the condition was acquired.
//!
//! So who gets the condition, and then looks at the stage, sees every change that went without it; all others wait for the condition.
//! What needs the condition to be looked at (the waiters, the list of callbacks) is made after the condition was. Reading the stage
//! needs no more than the lock.
//!
//! The lock is held for a few instructions, by an attached thread that calls nothing: `fork()`, which other attached threads are
//! stopped for or excluded from, never copies it held.

use super::callbacks::{invoke, invoke_listed};
use super::class::This;
use super::condition::{Errors, Held, unpark};
use super::state::{Stage, State};
use super::stock;
use crate::call;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::atomic::Ordering;

/// How a call ends.
pub enum Ending {
    Result(Py<PyAny>),
    Exception(Py<PyAny>),
    /// Cancelled before it began; its executor will come across it.
    Cancelled,
    /// Cancelled, and its executor knows.
    CancelledAndNotified,
}

impl Ending {
    fn fits(&self, stage: Stage) -> bool {
        match self {
            Self::Cancelled => stage == Stage::Pending,
            _ => !stage.is_done(),
        }
    }

    /// The method of a waiter that is told.
    fn waiters_method(&self) -> Option<&'static str> {
        match self {
            Self::Result(_) => Some("add_result"),
            Self::Exception(_) => Some("add_exception"),
            Self::CancelledAndNotified => Some("add_cancelled"),
            Self::Cancelled => None,
        }
    }

    /// Returns what was there before.
    fn write(self, state: &mut State) -> Option<Py<PyAny>> {
        let (stage, old) = match self {
            Self::Result(value) => (Stage::Finished, state.result.replace(value)),
            Self::Exception(value) => (Stage::Finished, state.exception.replace(value)),
            Self::Cancelled => (Stage::Cancelled, None),
            Self::CancelledAndNotified => (Stage::CancelledAndNotified, None),
        };
        state.stage = stage;
        old
    }
}

/// What one use of the lock has come to.
enum Attempt<T> {
    Done(T),
    /// The stage does not allow it.
    Refused,
    /// Only with the condition, which is this one.
    With(Py<PyAny>),
}

/// What a future lets go of when it is done.
struct Freed {
    callbacks: Vec<Py<PyAny>>,
    parked: Vec<Py<PyAny>>,
    origin: Option<Py<PyAny>>,
    old: Option<Py<PyAny>>,
}

/// Ends the call; false when the stage does not allow that.
///
/// # Errors
/// What a callback raised that is not an `Exception`, or a signal's handler while this waited for the condition. The future is done
/// all the same, and everybody was told.
pub fn complete(this: This<'_, '_>, ending: Ending) -> PyResult<bool> {
    let py = this.py();
    let method = ending.waiters_method();
    let mut ending = Some(ending);
    let mut errors = Errors::default();
    let mut attempt = |held: bool| {
        this.with(|state| {
            if !ending.as_ref().is_some_and(|ending| ending.fits(state.stage)) {
                return Attempt::Refused;
            }
            if let Some(condition) = state.condition(py).filter(|_| !held) {
                return Attempt::With(condition);
            }
            let old = ending.take().and_then(|ending| ending.write(state));
            let (callbacks, parked) = state.set_free();
            Attempt::Done(Freed { callbacks, parked, origin: state.origin.take(), old })
        })
    };
    let mut found = attempt(false);
    if let Attempt::With(condition) = found {
        let held = Held::acquire(condition.into_bound(py), &mut errors);
        found = attempt(true);
        if matches!(found, Attempt::Done(_)) {
            if let Some(method) = method {
                tell_waiters(this, method, &mut errors);
            }
            errors.note(py, call::method(&held.0, intern!(py, "notify_all")));
        }
        held.release(&mut errors);
    }
    let Attempt::Done(freed) = found else {
        if let Some(Ending::Result(unused) | Ending::Exception(unused)) = ending {
            unused.drop_ref(py);
        }
        return errors.report(false);
    };
    this.has_ended().store(true, Ordering::Release);
    for parked in freed.parked {
        errors.note(py, unpark(&parked.into_bound(py)));
    }
    for callback in freed.callbacks {
        errors.note(py, invoke(this, &callback.into_bound(py)));
    }
    errors.note(py, invoke_listed(this));
    [freed.origin, freed.old].into_iter().flatten().for_each(|object| object.drop_ref(py));
    errors.report(true)
}

/// What becomes of a call that is to begin.
#[derive(PartialEq, Eq)]
pub enum Start {
    Begun,
    Cancelled,
    /// It has begun before, or has ended.
    Unexpected(Stage),
}

/// The executor begins the call, or learns that it was cancelled and has the waiters told.
///
/// # Errors
/// As [`complete`].
pub fn start(this: This<'_, '_>) -> PyResult<Start> {
    let py = this.py();
    let attempt = |held: bool| {
        this.with(|state| {
            let next = match state.stage {
                Stage::Pending => Stage::Running,
                Stage::Cancelled => Stage::CancelledAndNotified,
                _ => return Attempt::Refused,
            };
            if let Some(condition) = state.condition(py).filter(|_| !held) {
                return Attempt::With(condition);
            }
            state.stage = next;
            Attempt::Done(if next == Stage::Running { Start::Begun } else { Start::Cancelled })
        })
    };
    let mut errors = Errors::default();
    let mut found = attempt(false);
    if let Attempt::With(condition) = found {
        let held = Held::acquire(condition.into_bound(py), &mut errors);
        found = attempt(true);
        if matches!(found, Attempt::Done(Start::Cancelled)) {
            tell_waiters(this, "add_cancelled", &mut errors);
        }
        held.release(&mut errors);
    }
    errors.report(match found {
        Attempt::Done(start) => start,
        _ => Start::Unexpected(this.with(|state| state.stage)),
    })
}

fn tell_waiters(this: This<'_, '_>, method: &str, errors: &mut Errors) {
    let py = this.py();
    let waiters = this.with(|state| Some(state.extras()?.waiters.as_ref()?.clone_ref(py)));
    let Some(waiters) = waiters.map(|waiters| waiters.into_bound(py)) else { return };
    for waiter in waiters.iter() {
        errors.note(py, waiter.call_method1(method, (this.object(),)));
    }
}

/// The error of an executor that begins a call twice.
pub fn unexpected(this: This<'_, '_>, stage: Stage) -> PyErr {
    let py = this.py();
    let arguments =
        ("Future %s in unexpected state: %s", this.object().as_ptr() as usize, stage.constant(py));
    match stock::logger(py).and_then(|logger| logger.call_method1("critical", arguments)) {
        Ok(_) => PyRuntimeError::new_err("Future in unexpected state"),
        Err(error) => error,
    }
}
