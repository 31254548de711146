//! A loop's hub: who is ready, and who runs next.
//!
//! A body that waits goes on to the next that is ready by itself, without a detour by the loop's greenlet. After some such steps
//! it goes there, so that the loop's callbacks, timers and connections have their turn.

use super::greenlets;
use super::runner;
use super::thread::{GreenThread, Resume};
use crate::event_loop::Loop;
use crate::exclusive::Exclusive;
use crate::home::{Home, running_loop};
use crate::imported::imported;
use crate::run;
use crate::task::Task;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

/// Runners that are kept for functions to come; each has a stack.
const MOST_IDLE: usize = 256;
/// How many bodies run one after the other before the loop has its turn.
const STEPS: u32 = 64;

/// What the green threads of one loop share. Belongs to the loop's thread, but for its loop.
#[pyclass(frozen, module = "motet._motet", name = "_Hub")]
pub struct Hub {
    pub event_loop: Py<Loop>,
    /// Whether the loop was made for the hub, and runs only while the thread's own greenlet waits.
    owns_loop: bool,
    /// Whether its green threads are being ended, though the loop does not run.
    is_ending: AtomicBool,
    state: Exclusive<State>,
}

#[derive(Default)]
struct State {
    /// The one that runs the loop, once it has been seen.
    greenlet: Option<Py<PyAny>>,
    /// The thread's own greenlet, as a body that waits like the others, where the hub has made the loop.
    root: Option<Py<GreenThread>>,
    ready: VecDeque<Py<GreenThread>>,
    /// Those that have begun and not ended, by the addresses of their objects.
    living: HashMap<usize, Py<GreenThread>>,
    /// Runners that wait for a function.
    idle: Vec<Py<PyAny>>,
    /// For the runner that is switched to.
    job: Option<Py<GreenThread>>,
    running: Option<Py<GreenThread>>,
    /// What ends the loop: a green thread has raised it.
    fatal: Option<PyErr>,
    /// Whether the loop has been asked for a turn.
    scheduled: bool,
    steps_left: u32,
}

thread_local! {
    /// The hubs of this thread: of loops that run, and of one that was made for the thread.
    static HUBS: RefCell<Vec<Py<Hub>>> = const { RefCell::new(Vec::new()) };
}

/// The hub of the loop that runs in this thread, or of the one that was made for it.
pub fn known(py: Python<'_>) -> PyResult<Option<Py<Hub>>> {
    if HUBS.with(|hubs| hubs.borrow().is_empty()) {
        return Ok(None);
    }
    let running = match run::running(py) {
        Some(event_loop) => Some(event_loop.into_any()),
        None => running_loop(py)?.map(Bound::unbind),
    };
    let is_ending = |hub: &&Py<Hub>| hub.get().is_ending.load(Ordering::Relaxed);
    let is_right = |hub: &&Py<Hub>| match &running {
        Some(running) => hub.get().event_loop.as_ptr() == running.as_ptr(),
        None => hub.get().owns_loop && hub.get().event_loop.get().is_open(),
    };
    Ok(HUBS.with(|hubs| {
        let hubs = hubs.borrow();
        hubs.iter().find(is_ending).or_else(|| hubs.iter().find(is_right)).map(|hub| hub.clone_ref(py))
    }))
}

/// The hub of the loop that runs in this thread, or of one that is made for it.
pub fn here(py: Python<'_>) -> PyResult<Py<Hub>> {
    if let Some(known) = known(py)? {
        return Ok(known);
    }
    let (event_loop, owns_loop) = match running_loop(py)? {
        Some(running) => match Home::of(&running) {
            Home::Motet(event_loop) => (event_loop, false),
            Home::Other(other) => {
                return Err(PyRuntimeError::new_err(format!(
                    "green threads run on motet's loop, not on {}; run the program with motet.run() or 'motet run'",
                    other.bind(py).get_type().name()?
                )));
            }
        },
        None => {
            let made = py.import("motet._loop")?.call_method0("new_event_loop")?;
            (made.cast_into::<Loop>()?.unbind(), true)
        }
    };
    let hub = Py::new(
        py,
        Hub {
            event_loop,
            owns_loop,
            is_ending: AtomicBool::new(false),
            state: Exclusive::new(State::default()),
        },
    )?;
    if owns_loop {
        let root = GreenThread::root(py, hub.clone_ref(py), greenlets::current(py)?)?;
        hub.get().state.with(py, |state| {
            state.running = Some(root.clone_ref(py));
            state.root = Some(root);
        });
        py.import("motet.green._ending")?.call_method1("close_at_exit", (&hub.get().event_loop,))?;
    }
    let closed = HUBS.with(|hubs| {
        let mut hubs = hubs.borrow_mut();
        let closed: Vec<_> = hubs.extract_if(.., |hub| !hub.get().event_loop.get().is_open()).collect();
        hubs.push(hub.clone_ref(py));
        closed
    });
    drop(closed);
    Ok(hub)
}

impl Hub {
    /// The body that runs on this thread's stack now, if it is one of this hub's.
    pub fn running(&self, py: Python<'_>) -> Option<Py<GreenThread>> {
        self.state.with(py, |state| state.running.as_ref().map(|running| running.clone_ref(py)))
    }

    /// Has a body go on when its turn comes; from the loop's thread.
    pub fn make_ready(&self, this: &Py<Self>, py: Python<'_>, body: Py<GreenThread>) -> PyResult<()> {
        let must_ask = self.state.with(py, |state| {
            state.ready.push_back(body);
            !std::mem::replace(&mut state.scheduled, true)
        });
        if must_ask { self.event_loop.get().push(Task::Green(this.clone_ref(py))) } else { Ok(()) }
    }

    /// The next body that is ready, unless it is the loop's turn.
    fn next(&self, py: Python<'_>) -> Option<Py<GreenThread>> {
        loop {
            let next = self.state.with(py, |state| {
                if state.fatal.is_some() {
                    return None;
                }
                state.steps_left = state.steps_left.checked_sub(1)?;
                state.ready.pop_front()
            })?;
            // One that has ended may still be there: it was made ready for two reasons.
            if next.get().has_its_turn(py) {
                return Some(next);
            }
            next.drop_ref(py);
        }
    }

    /// A body has begun, or has ended.
    pub fn note(&self, py: Python<'_>, body: &Py<GreenThread>, is_living: bool) {
        let before = self.state.with(py, |state| match is_living {
            true => state.living.insert(body.as_ptr().addr(), body.clone_ref(py)),
            false => state.living.remove(&body.as_ptr().addr()),
        });
        if let Some(before) = before {
            before.drop_ref(py);
        }
    }

    /// The loop ends with this error, which is not the green thread's own affair.
    pub fn end_loop(&self, py: Python<'_>, error: PyErr) {
        let before = self.state.with(py, |state| state.fatal.replace(error));
        drop(before);
    }

    /// The function for the runner that asks.
    pub fn take_job(&self, py: Python<'_>) -> Option<Py<GreenThread>> {
        self.state.with(py, |state| state.job.take())
    }

    /// Leaves this stack, whose body waits or has asked for its next turn, for whoever is next. Returns when it is switched to again.
    pub fn leave(&self, this: &Py<Self>, py: Python<'_>, me: &Py<GreenThread>) -> PyResult<()> {
        match self.next(py) {
            // Nobody else was.
            Some(next) if next.is(me) => {
                self.set_running(py, Some(next));
                Ok(())
            }
            Some(next) => {
                self.leave_root(py, me)?;
                self.enter(this, py, next)
            }
            None => {
                self.leave_root(py, me)?;
                self.enter_loop(this, py)
            }
        }
    }

    /// What a runner does next that has run its function: the next function, or nothing before it is switched to.
    pub fn go_on(&self, this: &Py<Self>, py: Python<'_>) -> PyResult<Option<Py<GreenThread>>> {
        let next = self.next(py);
        if let Some(next) = &next
            && next.get().is_new(py)
        {
            let next = next.clone_ref(py);
            self.set_running(py, Some(next.clone_ref(py)));
            return Ok(Some(next));
        }
        let runner = greenlets::current(py)?;
        let (surplus, next) = self.state.with(py, |state| {
            if state.idle.len() < MOST_IDLE {
                state.idle.push(runner);
                return (None, next);
            }
            // It ends, and the loop's greenlet, where it goes then, finds who is next.
            if let Some(next) = next {
                state.ready.push_front(next);
            }
            (Some(runner), None)
        });
        if surplus.is_some() {
            return Ok(None);
        }
        match next {
            Some(next) => self.enter(this, py, next)?,
            None => self.enter_loop(this, py)?,
        }
        Ok(self.take_job(py))
    }

    fn set_running(&self, py: Python<'_>, running: Option<Py<GreenThread>>) {
        let before = self.state.with(py, |state| std::mem::replace(&mut state.running, running));
        if let Some(before) = before {
            before.drop_ref(py);
        }
    }

    /// Switches to a body.
    fn enter(&self, this: &Py<Self>, py: Python<'_>, body: Py<GreenThread>) -> PyResult<()> {
        let target = match body.get().resume(py) {
            Resume::At(greenlet) => greenlet,
            Resume::FromTheStart => {
                let idle = self.state.with(py, |state| {
                    state.job = Some(body.clone_ref(py));
                    state.idle.pop()
                });
                match idle {
                    Some(runner) => runner,
                    None => self.new_runner(this, py)?,
                }
            }
            Resume::Never => return Ok(()),
        };
        if body.get().is_root() && self.owns_loop {
            set_running(py, &self.event_loop, false)?;
        }
        self.set_running(py, Some(body));
        greenlets::switch(py, &target)
    }

    fn new_runner(&self, this: &Py<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let greenlet =
            self.state.with(py, |state| state.greenlet.as_ref().map(|greenlet| greenlet.clone_ref(py)));
        let parent = match greenlet {
            Some(greenlet) => greenlet,
            None => greenlets::current(py)?,
        };
        greenlets::new(py, &runner::function(py, this)?, &parent)
    }

    /// Switches to the greenlet that runs the loop.
    fn enter_loop(&self, this: &Py<Self>, py: Python<'_>) -> PyResult<()> {
        self.set_running(py, None);
        let known =
            self.state.with(py, |state| state.greenlet.as_ref().map(|greenlet| greenlet.clone_ref(py)));
        let greenlet = match known {
            Some(greenlet) => greenlet,
            None => {
                let run = py.import("motet.green._ending")?.getattr("run_forever")?;
                let root = self.state.with(py, |state| state.root.as_ref().map(|root| root.clone_ref(py)));
                let parent = match root.map(|root| root.get().resume(py)) {
                    Some(Resume::At(greenlet)) => greenlet,
                    _ => greenlets::current(py)?,
                };
                let run = runner::loop_function(py, this, &run)?;
                let made = greenlets::new(py, &run, &parent)?;
                self.state.with(py, |state| state.greenlet = Some(made.clone_ref(py)));
                made
            }
        };
        greenlets::switch(py, &greenlet)
    }

    /// The loop of a hub's own has ended, by `stop()` or an exception; another greenlet may run it again.
    pub fn loop_has_ended(&self, py: Python<'_>) {
        let before = self.state.with(py, |state| {
            state.running = state.root.as_ref().map(|root| root.clone_ref(py));
            state.scheduled = false;
            state.greenlet.take()
        });
        if let Some(before) = before {
            before.drop_ref(py);
        }
    }

    /// The thread's own greenlet gives up its stack for a while, and the loop goes on in the middle of a callback.
    fn leave_root(&self, py: Python<'_>, me: &Py<GreenThread>) -> PyResult<()> {
        let in_callback = || self.state.with(py, |state| state.greenlet.is_some());
        if me.get().is_root() && self.owns_loop && in_callback() {
            set_running(py, &self.event_loop, true)?;
        }
        Ok(())
    }
}

/// Tells asyncio, and motet, whether the loop runs in this thread.
fn set_running(py: Python<'_>, event_loop: &Py<Loop>, runs: bool) -> PyResult<()> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    run::mark_running(event_loop, runs);
    imported(&FUNCTION, py, "_asyncio", "_set_running_loop")?.call1((runs.then_some(event_loop),)).map(drop)
}

/// The loop's turn for its green threads: lets those run that are ready.
pub fn take_turn(py: Python<'_>, this: &Py<Hub>) -> PyResult<()> {
    let hub = this.get();
    let current = greenlets::current(py)?;
    let before = hub.state.with(py, |state| {
        (state.scheduled, state.steps_left) = (false, STEPS);
        state.greenlet.replace(current)
    });
    if let Some(before) = before {
        before.drop_ref(py);
    }
    let result = match hub.next(py) {
        Some(next) => hub.enter(this, py, next),
        None => Ok(()),
    };
    hub.set_running(py, None);
    let (must_ask, fatal) = hub.state.with(py, |state| {
        let must_ask = !state.ready.is_empty() && !std::mem::replace(&mut state.scheduled, true);
        (must_ask, state.fatal.take())
    });
    if must_ask {
        hub.event_loop.get().push(Task::Green(this.clone_ref(py)))?;
    }
    match fatal {
        Some(error) => Err(error),
        None => result,
    }
}

/// So often a green thread is ended that waits again as it ends.
const ENDINGS: usize = 10;

/// Ends the green threads of a loop that is about to be closed: where each waits, `GreenletExit` is raised, again and again.
pub fn end_all(py: Python<'_>, event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let is_its = |hub: &&Py<Hub>| hub.get().event_loop.is(event_loop);
    let found = HUBS.with(|hubs| hubs.borrow().iter().find(is_its).map(|hub| hub.clone_ref(py)));
    let Some(this) = found else { return Ok(()) };
    let hub = this.get();
    let current = greenlets::current(py)?;
    hub.is_ending.store(true, Ordering::Relaxed);
    // They come back here, and nowhere else.
    let before = hub.state.with(py, |state| {
        state.steps_left = 0;
        (state.greenlet.replace(current), std::mem::take(&mut state.ready))
    });
    drop(before);
    for _ in 0..ENDINGS {
        let left: Vec<_> =
            hub.state.with(py, |state| state.living.values().map(|body| body.clone_ref(py)).collect());
        if left.is_empty() {
            break;
        }
        for body in left {
            if body.get().end_where_it_waits(py)? {
                hub.enter(&this, py, body)?;
            }
        }
    }
    hub.set_running(py, None);
    let state = hub.state.with(py, std::mem::take);
    let gone = HUBS.with(|hubs| hubs.borrow_mut().extract_if(.., |hub| hub.is(&this)).collect::<Vec<_>>());
    drop((state, gone));
    Ok(())
}

#[pymethods]
impl Hub {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        self.state
            .inspect(|state| {
                for body in state
                    .root
                    .iter()
                    .chain(&state.ready)
                    .chain(&state.job)
                    .chain(&state.running)
                    .chain(state.living.values())
                {
                    visit.call(body)?;
                }
                for greenlet in state.greenlet.iter().chain(&state.idle) {
                    visit.call(greenlet)?;
                }
                Ok(())
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let state = self.state.with(py, std::mem::take);
        drop(state);
    }
}
