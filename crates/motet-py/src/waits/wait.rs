//! What a task awaits: a coroutine to whoever awaits it, and the future that it waits for itself.
//!
//! ```text
//!   New ──step()─▶ Over                          it could be done at once
//!    └───step()─▶ Waiting ──wake()─▶ Woken ──step()─▶ Over
//! ```
//!
//! A task that awaits it is handed the object itself by way of asyncio's future protocol and leaves its callback here. What it was
//! given meanwhile stays with its operation until the woken task comes back for it; so a task that is cancelled then has taken
//! nothing: the operation, when it is dropped, gives it to the next.

use super::errors;
use super::parties;
use super::thread::Names;
use super::timeout::{Limit, Then};
use super::token::Watched;
use super::waker;
use super::work::Work;
use crate::call;
use crate::exclusive::Exclusive;
use crate::green::{self, GreenThread};
use crate::home::Home;
use crate::streams::{finished_future, is_wake_up};
use motet_sync::Party;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi, intern};
use std::ffi::c_int;
use std::task::{Poll, Waker};

/// Why a waiting task is woken.
pub enum Woken {
    /// It was given what it waits for.
    Ready,
    /// Its time is over.
    Late,
    /// It was cancelled, with this message.
    Cancelled(Option<Py<PyAny>>),
}

/// Where a wait is.
pub enum Phase {
    New,
    Waiting,
    Woken(Woken),
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
    /// Gone while it is being looked after, and when the wait is over.
    work: Option<Work>,
    /// Whose cancellation ends it: a green thread's scope.
    watched: Option<Watched>,
    /// The loop on which it waits. Without one, whoever wakes it calls the callback at once: it is trio's then.
    pub home: Option<Home>,
    timer: Option<Py<PyAny>>,
    pub first: Option<Callback>,
    pub more: Vec<Callback>,
}

/// The Rust part of a wait.
pub struct Wait {
    names: &'static Names,
    /// The channel, lock or other object, kept alive; none if there are several.
    owner: Option<Py<PyAny>>,
    limit: Option<Limit>,
    /// Whether it is a mistake never to await it.
    pub must_be_awaited: bool,
    /// Whether it gives None, whatever its operation gives: `async with`.
    pub is_silent: bool,
    pub state: Exclusive<State>,
}

/// How one step of a wait ended.
pub enum Step {
    /// It waits.
    Park,
    /// The others have a turn first.
    Yield,
    Return(Py<PyAny>),
}

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

impl Wait {
    pub fn new(names: &'static Names, owner: Option<Py<PyAny>>, work: Work, limit: Option<Limit>) -> Self {
        let state = State {
            phase: Phase::New,
            blocking: false,
            work: Some(work),
            watched: None,
            home: None,
            timer: None,
            first: None,
            more: Vec::new(),
        };
        Self { names, owner, limit, must_be_awaited: false, is_silent: false, state: Exclusive::new(state) }
    }

    /// One that is over already, for whoever awaits it.
    pub fn done(names: &'static Names, value: Py<PyAny>) -> Self {
        Self::new(names, None, Work::Done(value), None)
    }

    /// One that also ends when a scope is cancelled.
    pub fn watching(self, watched: Option<Watched>) -> Self {
        let mut state = self.state.into_inner();
        state.watched = watched;
        Self { state: Exclusive::new(state), ..self }
    }

    pub fn names(&self) -> &'static Names {
        self.names
    }

    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Takes the work out of one that has not begun, for a select; it is over then.
    pub fn take_work(&self, py: Python<'_>) -> Option<Work> {
        self.state.with(py, |state| {
            if !matches!(state.phase, Phase::New) {
                return None;
            }
            state.phase = Phase::Over;
            state.work.take()
        })
    }

    pub fn is_new(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.phase, Phase::New))
    }

    pub fn is_waiting(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.phase, Phase::Waiting))
    }

    /// Keeps the timer that ends it, to be cancelled when it ends otherwise.
    pub fn keep_timer(&self, timer: Bound<'_, PyAny>) {
        let py = timer.py();
        let timer = self.state.with(py, |state| match state.phase {
            Phase::Waiting => {
                state.timer = Some(timer.unbind());
                None
            }
            _ => Some(timer.unbind()),
        });
        cancel_timer(py, timer);
    }

    /// What is called when it ends.
    pub fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state
            .with(py, |state| state.first.as_ref().map(|first| first.callback.clone_ref(py).into_bound(py)))
    }

    /// Ends it: no callback is called, and what it was given and has not returned is the next one's. Whether it was over already.
    fn end(&self, py: Python<'_>) -> bool {
        let (phase, work, timer, callbacks) = self.state.with(py, |state| {
            (
                std::mem::replace(&mut state.phase, Phase::Over),
                (state.work.take(), state.watched.take()),
                state.timer.take(),
                (state.first.take(), std::mem::take(&mut state.more)),
            )
        });
        drop((work, callbacks));
        cancel_timer(py, timer);
        matches!(phase, Phase::Over)
    }

    /// Shows the collector what it keeps alive.
    pub fn traverse(&self, visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int) -> c_int {
        let inner = self.state.inspect(|state| {
            let message = match &state.phase {
                Phase::Woken(Woken::Cancelled(message)) => message.as_ref(),
                _ => None,
            };
            let callbacks = state.first.iter().chain(&state.more);
            callbacks
                .flat_map(|callback| [&callback.callback, &callback.context])
                .chain(message)
                .chain(&state.timer)
                .chain(state.home.as_ref().map(Home::object))
                .find_map(|object| Some(visit(object.as_ptr())).filter(|result| *result != 0))
        });
        match (inner.flatten(), &self.owner) {
            (Some(result), _) => result,
            (None, Some(owner)) => visit(owner.as_ptr()),
            (None, None) => 0,
        }
    }

    pub fn clear(&self, py: Python<'_>) {
        self.end(py);
    }

    /// Drops it, in a thread that is attached, whatever pyo3 knows of that.
    pub fn release(self, py: Python<'_>) {
        if let Some(owner) = self.owner {
            owner.drop_ref(py);
        }
        let State { phase, watched, home, timer, first, more, .. } = self.state.into_inner();
        if let Some(watched) = watched {
            watched.drop_ref(py);
        }
        if let Phase::Woken(Woken::Cancelled(Some(message))) = phase {
            message.drop_ref(py);
        }
        if let Some(home) = home {
            home.drop_ref(py);
        }
        if let Some(timer) = timer {
            timer.drop_ref(py);
        }
        for Callback { callback, context } in first.into_iter().chain(more) {
            callback.drop_ref(py);
            context.drop_ref(py);
        }
    }
}

/// One step of the coroutine.
pub fn step(this: This<'_, '_>, wait: &Wait) -> PyResult<Step> {
    let py = this.py();
    let (phase, work) = wait.state.with(py, |state| match &state.phase {
        Phase::Waiting => (Phase::Waiting, None),
        _ => (std::mem::replace(&mut state.phase, Phase::Over), state.work.take()),
    });
    match (phase, work) {
        (Phase::New, Some(mut work)) => {
            if !work.has_owner() && work.attempt() {
                return work.take(py).map(Step::Return);
            }
            begin(this, wait, work)
        }
        (Phase::Woken(Woken::Ready), Some(work)) => go_on(this, wait, work),
        (Phase::Woken(Woken::Late), Some(mut work)) => {
            let limit = wait.limit.expect("only who has a limit is late");
            if limit.then == Then::EndScope
                && let Some(watched) = wait.state.with(py, |state| state.watched.take())
            {
                drop(work);
                return Err(watched.expire(py));
            }
            // It may have been given something at the same moment.
            match work.poll(py, Waker::noop()) {
                Poll::Ready(result) => result.map(Step::Return),
                Poll::Pending => {
                    drop(work);
                    limit.then.outcome(py).map(Step::Return)
                }
            }
        }
        (Phase::Woken(Woken::Cancelled(message)), work) => {
            drop(work);
            Err(call::cancelled(py, message))
        }
        (Phase::Waiting, _) => Err(PyRuntimeError::new_err("await wasn't used with future")),
        _ => Err(reused()),
    }
}

/// The first step of work that nobody has begun.
fn begin(this: This<'_, '_>, wait: &Wait, work: Work) -> PyResult<Step> {
    let py = this.py();
    let Some(home) = Home::running(py)? else {
        return Err(PyRuntimeError::new_err(format!(
            "{}() is awaited outside of an event loop; use {}() in plain code",
            wait.names.awaited, wait.names.blocking
        )));
    };
    let mut work = match work.has_owner() {
        true => work.by(parties::current_task(py, home.object())?),
        false => work.by(parties::waiter(this)),
    };
    if work.attempt() {
        home.drop_ref(py);
        return work.take(py).map(Step::Return);
    }
    if let Some(limit) = wait.limit {
        if limit.after.is_zero() {
            home.drop_ref(py);
            if let Work::Time = work {
                wait.state
                    .with(py, |state| (state.phase, state.work) = (Phase::Woken(Woken::Late), Some(work)));
                return Ok(Step::Yield);
            }
            drop(work);
            return limit.then.outcome(py).map(Step::Return);
        }
        let event_loop = home.object().bind(py);
        let seconds = limit.after.as_secs_f64();
        let timer = match limit.after == std::time::Duration::MAX {
            true => None,
            false => {
                let callback = this.getattr(intern!(py, "_expire"))?;
                Some(event_loop.call_method1(intern!(py, "call_later"), (seconds, callback))?.unbind())
            }
        };
        wait.state.with(py, |state| state.timer = timer);
    }
    wait.state.with(py, |state| state.home = Some(home));
    go_on(this, wait, work)
}

/// Begins the wait of a task of trio's or of a green thread: `callback` is called with the wait, by whoever wakes it.
pub fn begin_direct(this: This<'_, '_>, wait: &Wait, callback: Py<PyAny>, party: Party) -> PyResult<Step> {
    let py = this.py();
    let Some(work) = wait.take_work(py) else { return Err(reused()) };
    let callback = Callback { callback, context: py.None() };
    wait.state.with(py, |state| state.first = Some(callback));
    let party = if work.has_owner() { party } else { parties::waiter(this) };
    go_on(this, wait, work.by(party))
}

/// The time of a task of trio's is over.
pub fn give_up(this: This<'_, '_>, wait: &Wait) -> PyResult<Py<PyAny>> {
    let limit = wait.limit.expect("only who has a limit is late");
    wait.end(this.py());
    limit.then.outcome(this.py())
}

/// Begins to wait, or goes on with it.
fn go_on(this: This<'_, '_>, wait: &Wait, mut work: Work) -> PyResult<Step> {
    let py = this.py();
    // Before it waits, since another thread may wake it before the call that makes it wait has returned.
    wait.state.with(py, |state| {
        state.phase = Phase::Waiting;
        state.blocking = true;
    });
    let waker = waker::of(this);
    // Before a look at what it was given, which may come of the same cancellation: a lock that another has let go of.
    if is_cancelled(wait, py, &waker) {
        drop(work);
        wait.end(py);
        return Err(errors::cancelled(py));
    }
    match work.poll(py, &waker) {
        Poll::Ready(result) => {
            wait.end(py);
            result.map(Step::Return)
        }
        Poll::Pending => {
            // Somebody may have ended it meanwhile.
            let mut work = Some(work);
            wait.state.with(py, |state| {
                if !matches!(state.phase, Phase::Over) {
                    state.work = work.take();
                }
            });
            drop(work);
            Ok(Step::Park)
        }
    }
}

/// Whether the scope is cancelled in which it waits.
fn is_cancelled(wait: &Wait, py: Python<'_>, waker: &Waker) -> bool {
    let Some(mut watched) = wait.state.with(py, |state| state.watched.take()) else { return false };
    let is_cancelled = watched.is_cancelled(waker);
    wait.state.with(py, |state| state.watched = Some(watched));
    is_cancelled
}

/// Wakes whoever waits; whether it was waiting.
pub fn wake(this: This<'_, '_>, wait: &Wait, why: Woken) -> bool {
    let py = this.py();
    let ready = !matches!(why, Woken::Cancelled(_));
    let mut why = Some(why);
    let waiting = wait.state.with(py, |state| {
        if !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        state.phase = Phase::Woken(why.take()?);
        let home = state.home.as_ref().map(|home| home.clone_ref(py));
        // Who is cancelled waits no more from now on, not only when it comes to run.
        let work = if ready { None } else { state.work.take() };
        Some((home, work, state.timer.take(), state.first.take(), std::mem::take(&mut state.more)))
    });
    let Some((home, work, timer, first, more)) = waiting else { return false };
    drop(work);
    cancel_timer(py, timer);
    for Callback { callback, context } in first.into_iter().chain(more) {
        let called = match &home {
            None => match callback.bind(py).cast::<GreenThread>() {
                // Its loop is closed, and it waits no more: what it was given is the next one's.
                Ok(body) if green::wake(py, body).is_err() => {
                    wait.end(py);
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(_) => callback.bind(py).call1((this,)).map(drop),
            },
            Some(home) => {
                // A stock task asks any future but its own kind for the result by a name that it has to make first.
                let argument = match ready && is_wake_up(callback.bind(py)) {
                    true => finished_future(py, home),
                    false => Ok(this.to_owned().unbind()),
                };
                argument.and_then(|argument| home.send_call(py, callback, argument, context))
            }
        };
        if let Err(error) = called {
            no_longer(this, wait, error);
        }
    }
    if let Some(home) = home {
        home.drop_ref(py);
    }
    true
}

/// It cannot be woken: its loop is closed, and nobody waits any more. What it was given is the next one's.
#[cold]
fn no_longer(this: This<'_, '_>, wait: &Wait, error: PyErr) {
    let py = this.py();
    wait.end(py);
    let is_closed = wait.state.with(py, |state| state.home.as_ref().map(|home| home.clone_ref(py)));
    let is_closed = is_closed
        .map(|home| home.object().bind(py).call_method0(intern!(py, "is_closed")))
        .is_some_and(|answer| answer.and_then(|answer| answer.is_truthy()).unwrap_or(false));
    if !is_closed {
        error.write_unraisable(py, Some(&this));
    }
}

fn cancel_timer(py: Python<'_>, timer: Option<Py<PyAny>>) {
    let Some(timer) = timer else { return };
    if let Err(error) = timer.bind(py).call_method0(intern!(py, "cancel")) {
        error.write_unraisable(py, None);
    }
    timer.drop_ref(py);
}

/// Ends the coroutine.
pub fn close(this: This<'_, '_>, wait: &Wait) {
    wait.end(this.py());
}

/// Ends the coroutine with an exception, given as `generator.throw` takes it.
pub fn throw(this: This<'_, '_>, wait: &Wait, arguments: [Option<This<'_, '_>>; 3]) -> PyErr {
    if wait.end(this.py()) {
        return reused();
    }
    call::thrown(arguments).unwrap_or_else(|error| error)
}

fn reused() -> PyErr {
    PyRuntimeError::new_err("this operation was awaited or selected before; make a new one each time")
}
