//! The class `motet.green.GreenThread`: a function, what has become of it, and how it waits.

use super::greenlets;
use super::hub::{self, Hub};
use crate::call;
use crate::context;
use crate::event_loop::Loop;
use crate::exclusive::Exclusive;
use crate::imported::imported;
use crate::task::Task;
use crate::waits::{self, Outcome, Parked, Wait};
use motet_sync::Event;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A function that runs on a stack of its own.
#[pyclass(frozen, weakref, module = "motet.green", name = "GreenThread")]
pub struct GreenThread {
    hub: Py<Hub>,
    /// Set when the function has ended.
    done: Event,
    name: Mutex<String>,
    is_root: bool,
    state: Exclusive<State>,
}

struct Function {
    function: Py<PyAny>,
    arguments: Py<PyTuple>,
    keywords: Option<Py<PyDict>>,
    context: Py<PyAny>,
}

enum Stage {
    New(Function),
    Started,
    Returned(Py<PyAny>),
    Raised(Py<PyBaseException>),
}

struct State {
    stage: Stage,
    /// Where it goes on: the greenlet that it waits in.
    resume: Option<Py<PyAny>>,
    /// By which it waits.
    wait: Option<Py<PyAny>>,
    /// What is raised where it waits, when it goes on.
    thrown: Option<Py<PyBaseException>>,
    /// Whether it is among those that are ready.
    is_ready: bool,
    /// Whether its stack is being collected while it waits.
    is_collected: bool,
    /// Whether somebody has asked for what has become of it.
    is_asked: bool,
}

/// How a body goes on.
pub enum Resume {
    At(Py<PyAny>),
    FromTheStart,
    /// It has ended.
    Never,
}

impl GreenThread {
    /// The thread's own greenlet.
    pub fn root(py: Python<'_>, hub: Py<Hub>, greenlet: Py<PyAny>) -> PyResult<Py<Self>> {
        let state = State {
            stage: Stage::Started,
            resume: Some(greenlet),
            wait: None,
            thrown: None,
            is_ready: false,
            is_collected: false,
            is_asked: true,
        };
        let name = Mutex::new("root".to_owned());
        Py::new(py, Self { hub, done: Event::new(), name, is_root: true, state: Exclusive::new(state) })
    }

    pub fn is_root(&self) -> bool {
        self.is_root
    }

    fn describe(&self) -> String {
        format!("green thread {:?}", self.name.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_new(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::New(_)))
    }

    /// Where to switch to.
    pub fn resume(&self, py: Python<'_>) -> Resume {
        self.state.with(py, |state| match (&state.stage, &state.resume) {
            (Stage::New(_), _) => Resume::FromTheStart,
            (Stage::Started, Some(greenlet)) => Resume::At(greenlet.clone_ref(py)),
            _ => Resume::Never,
        })
    }

    /// It is not among those that are ready any more; whether it has not ended.
    pub fn has_its_turn(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| {
            state.is_ready = false;
            matches!(state.stage, Stage::New(_) | Stage::Started)
        })
    }

    /// Before its loop is closed: has it end where it waits; whether it can be switched to.
    pub fn end_where_it_waits(&self, py: Python<'_>) -> PyResult<bool> {
        let exit = greenlets::exit(py)?;
        let (can, before) = self.state.with(py, |state| {
            (state.resume.is_some() && matches!(state.stage, Stage::Started), state.thrown.replace(exit))
        });
        drop(before);
        Ok(can)
    }

    /// Calls the function; in a runner. False if this stack is to end with it: it is being collected.
    pub fn run(&self, this: &Py<Self>, py: Python<'_>) -> bool {
        let call = self.state.with(py, |state| match std::mem::replace(&mut state.stage, Stage::Started) {
            Stage::New(call) => Ok(call),
            other => Err(other),
        });
        let call = match call {
            Ok(call) => call,
            Err(stage) => {
                self.state.with(py, |state| state.stage = stage);
                return true;
            }
        };
        self.hub.get().note(py, this, true);
        let result = match self.state.with(py, |state| state.thrown.take()) {
            Some(thrown) => Err(PyErr::from_value(thrown.into_bound(py).into_any())),
            None => call_in_context(py, call),
        };
        self.hub.get().note(py, this, false);
        self.end(py, result);
        !self.state.with(py, |state| state.is_collected)
    }

    /// The function has ended.
    fn end(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) {
        let stage = match result {
            Ok(value) => Stage::Returned(value),
            // Killed: it is not a mistake.
            Err(error) if greenlets::is_exit(py, &error) => Stage::Returned(error.into_value(py).into_any()),
            Err(error) => {
                if call::ends_the_run(py, &error) {
                    // Somebody wants the program to end, and not just what happens to run.
                    self.hub.get().end_loop(py, error.clone_ref(py));
                }
                Stage::Raised(error.into_value(py))
            }
        };
        let before = self.state.with(py, |state| std::mem::replace(&mut state.stage, stage));
        drop(before);
        self.done.set();
    }

    fn is_thrown(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.thrown.is_some())
    }

    /// Has it go on, from whatever thread.
    fn make_ready(&self, this: &Py<Self>, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.hub.get().event_loop.get();
        if !event_loop.state.is_mine() && event_loop.is_in_run() {
            return event_loop.send(Task::GreenReady(this.clone_ref(py)));
        }
        event_loop.require_open()?;
        if self.state.with(py, |state| std::mem::replace(&mut state.is_ready, true)) {
            return Ok(());
        }
        self.hub.get().make_ready(&self.hub, py, this.clone_ref(py))
    }

    /// Has an exception raised where it waits, or before it begins.
    fn interrupt(&self, this: &Py<Self>, py: Python<'_>, error: Py<PyBaseException>) -> PyResult<bool> {
        let mut error = Some(error);
        let is_alive = self.state.with(py, |state| {
            let is_alive = matches!(state.stage, Stage::New(_) | Stage::Started);
            if is_alive {
                std::mem::swap(&mut state.thrown, &mut error);
            }
            is_alive
        });
        drop(error);
        if is_alive {
            self.make_ready(this, py)?;
        }
        Ok(is_alive)
    }
}

/// In a context of its own, which is this stack's until the call ends.
fn call_in_context(py: Python<'_>, call: Function) -> PyResult<Py<PyAny>> {
    let Function { function, arguments, keywords, context } = call;
    let entered = context::enter(context.bind(py))?;
    let keywords = keywords.as_ref().map(|keywords| keywords.bind(py));
    let result = function.bind(py).call(arguments.bind(py), keywords).map(Bound::unbind);
    drop(entered);
    result
}

/// The body that runs in this thread, if it is a green thread or the thread's own greenlet beside green threads.
pub fn here(py: Python<'_>) -> PyResult<Option<Py<GreenThread>>> {
    Ok(hub::known(py)?.and_then(|hub| hub.get().running(py)))
}

/// Waits for what is to wake this body: the heart of every wait of a green thread's.
pub fn park(py: Python<'_>, me: &Py<GreenThread>, wait: Wait) -> PyResult<Py<PyAny>> {
    let body = me.get();
    let hub = body.hub.clone_ref(py);
    let parked = match Parked::begin(py, wait, me, &hub.get().event_loop)? {
        Outcome::Done(value) => return Ok(value),
        Outcome::Waits(parked) => parked,
    };
    let greenlet = greenlets::current(py)?;
    let before = body.state.with(py, |state| {
        state.wait = Some(parked.object(py));
        state.resume.replace(greenlet)
    });
    drop(before);
    loop {
        let mut result = Ok(());
        // A greenlet may be switched to by anybody who knows it.
        while result.is_ok() && !parked.is_woken(py) && !body.is_thrown(py) {
            result = hub.get().leave(&hub, py, me);
        }
        let is_collected = result.as_ref().is_err_and(|error| greenlets::is_exit(py, error));
        let thrown = body.state.with(py, |state| {
            state.is_collected |= is_collected;
            state.thrown.take()
        });
        let thrown = thrown.map(|thrown| PyErr::from_value(thrown.into_bound(py).into_any()));
        let ended = match result.err().or(thrown) {
            Some(error) => {
                parked.close(py);
                Err(error)
            }
            None => match parked.finish(py) {
                Ok(None) => continue,
                Ok(Some(value)) => Ok(value),
                Err(error) => Err(error),
            },
        };
        let left = body.state.with(py, |state| state.wait.take());
        drop(left);
        return ended;
    }
}

/// A body's wait has ended: it goes on when its turn comes. Called by whoever wakes it.
///
/// # Errors
/// Its loop is closed.
pub fn wake(py: Python<'_>, body: &Bound<'_, GreenThread>) -> PyResult<()> {
    body.get().make_ready(&body.clone().unbind(), py)
}

static NAMES: AtomicU64 = AtomicU64::new(1);

impl GreenThread {
    fn make(
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        arguments: Py<PyTuple>,
        keywords: Option<Py<PyDict>>,
    ) -> PyResult<Self> {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "a green thread needs a function, not {}",
                function.get_type().name()?
            )));
        }
        let hub = hub::here(py)?;
        let context = context::copy_current(py)?;
        let call = Function { function: function.clone().unbind(), arguments, keywords, context };
        let state = State {
            stage: Stage::New(call),
            resume: None,
            wait: None,
            thrown: None,
            is_ready: false,
            is_collected: false,
            is_asked: false,
        };
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            hub,
            done: Event::new(),
            name: Mutex::new(format!("green-{number}")),
            is_root: false,
            state: Exclusive::new(state),
        })
    }

    /// What its function has returned or raised; nothing as long as it runs.
    fn outcome(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        self.state.with(py, |state| {
            state.is_asked = true;
            match &state.stage {
                Stage::Returned(value) => Some(Ok(value.clone_ref(py))),
                Stage::Raised(error) => {
                    Some(Err(PyErr::from_value(error.clone_ref(py).into_bound(py).into_any())))
                }
                Stage::New(_) | Stage::Started => None,
            }
        })
    }
}

/// An exception that nobody has asked for is told of.
impl Drop for GreenThread {
    fn drop(&mut self) {
        Python::attach(|py| {
            let untold = self.state.with(py, |state| match &state.stage {
                Stage::Raised(error) if !state.is_asked => Some(error.clone_ref(py)),
                _ => None,
            });
            let Some(error) = untold else { return };
            let pending = PyErr::take(py);
            let context = PyDict::new(py);
            let told = context
                .set_item("message", format!("{} raised, and nobody asked for its result", self.describe()))
                .and_then(|()| context.set_item("exception", error))
                .and_then(|()| {
                    let event_loop = self.hub.bind(py).get().event_loop.bind(py);
                    event_loop.call_method1(intern!(py, "call_exception_handler"), (context,)).map(drop)
                });
            if let Err(error) = told {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

#[pymethods]
impl GreenThread {
    /// Has it begin when its turn comes.
    fn _start(this: &Bound<'_, Self>) -> PyResult<()> {
        wake(this.py(), this)
    }

    /// What people call it.
    #[getter]
    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[setter]
    fn set_name(&self, name: String) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Whether its function has ended.
    #[getter]
    fn done(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Returned(_) | Stage::Raised(_)))
    }

    /// Whether its function has begun.
    #[getter]
    fn started(&self, py: Python<'_>) -> bool {
        !self.is_new(py)
    }

    /// What its function has returned, None otherwise.
    #[getter]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match &state.stage {
            Stage::Returned(value) => Some(value.clone_ref(py)),
            _ => None,
        })
    }

    /// What its function has raised, None otherwise.
    #[getter]
    fn exception(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.state.with(py, |state| {
            state.is_asked = true;
            match &state.stage {
                Stage::Raised(error) => Some(error.clone_ref(py)),
                _ => None,
            }
        })
    }

    /// The loop whose thread it runs in.
    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.hub.get().event_loop.clone_ref(py).into_any()
    }

    /// Has an exception raised where it waits, or instead of its function; false if it has ended.
    fn throw(this: &Bound<'_, Self>, error: Bound<'_, PyBaseException>) -> PyResult<bool> {
        let py = this.py();
        if this.get().is_root && this.get().state.with(py, |state| state.wait.is_none()) {
            return Err(PyRuntimeError::new_err("the thread's own greenlet does not wait"));
        }
        this.get().interrupt(&this.clone().unbind(), py, error.unbind())
    }

    /// Waits for its end; false if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        waits::wait_for_green_thread(py, &self.done, timeout)
    }

    /// As join(), awaited.
    #[pyo3(signature = (timeout=None))]
    fn ajoin(this: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        waits::await_green_thread(this.as_any(), &this.get().done, timeout)
    }

    /// Waits for its end and returns what its function has returned, or raises what that has raised.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        waits::wait_for_green_thread(py, &self.done, timeout)?;
        self.outcome(py).unwrap_or_else(|| Err(PyTimeoutError::new_err(())))
    }

    fn __await__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static AWAIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let made = imported(&AWAIT, this.py(), "motet.green._waiting", "result")?.call1((this,))?;
        made.call_method0(intern!(this.py(), "__await__")).map(Bound::unbind)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let stage = self.state.with(py, |state| match &state.stage {
            Stage::New(_) => "not begun",
            Stage::Started if state.wait.is_some() => "waiting",
            Stage::Started => "begun",
            Stage::Returned(_) => "ended",
            Stage::Raised(_) => "failed",
        });
        format!("<{} {stage}>", self.describe())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.hub)?;
        waits::show_wakers(&self.done, &visit)?;
        self.state
            .inspect(|state| {
                match &state.stage {
                    Stage::New(call) => {
                        visit.call(&call.function)?;
                        visit.call(&call.arguments)?;
                        visit.call(&call.keywords)?;
                        visit.call(&call.context)?;
                    }
                    Stage::Started => {}
                    Stage::Returned(value) => visit.call(value)?,
                    Stage::Raised(error) => visit.call(error)?,
                }
                visit.call(&state.resume)?;
                visit.call(&state.wait)?;
                visit.call(&state.thrown)
            })
            .unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            let stage = std::mem::replace(&mut state.stage, Stage::Started);
            (stage, state.resume.take(), state.wait.take(), state.thrown.take())
        });
        drop(dropped);
    }
}

/// Runs a function in a green thread, when its turn comes.
#[pyfunction]
#[pyo3(signature = (function, /, *args, **kwargs))]
fn spawn<'py>(
    function: &Bound<'py, PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
) -> PyResult<Bound<'py, GreenThread>> {
    let made = make(function, args, kwargs)?;
    wake(function.py(), &made)?;
    Ok(made)
}

/// A green thread that has not begun.
#[pyfunction]
#[pyo3(name = "_make_green_thread", signature = (function, /, *args, **kwargs))]
fn make<'py>(
    function: &Bound<'py, PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
) -> PyResult<Bound<'py, GreenThread>> {
    let py = function.py();
    Bound::new(py, GreenThread::make(py, function, args, kwargs)?)
}

/// The green thread that runs here, or None.
#[pyfunction]
fn _current_green_thread(py: Python<'_>) -> PyResult<Option<Py<GreenThread>>> {
    Ok(here(py)?.filter(|body| !body.get().is_root))
}

/// The same, or what stands for the thread's own greenlet beside green threads.
#[pyfunction]
fn _running_body(py: Python<'_>) -> PyResult<Option<Py<GreenThread>>> {
    Ok(hub::here(py)?.get().running(py))
}

/// Lets others run that are ready, the loop as well.
#[pyfunction]
fn _give_way(py: Python<'_>) -> PyResult<()> {
    // Where nobody has made a green thread yet there is nobody else.
    match hub::here(py)?.get().running(py) {
        Some(me) => give_way(py, &me),
        None => Err(waits::would_block(
            py,
            "green.sleep() would block the event loop of this thread; use 'await motet.asleep()'",
        )),
    }
}

fn give_way(py: Python<'_>, me: &Py<GreenThread>) -> PyResult<()> {
    let body = me.get();
    let hub = body.hub.clone_ref(py);
    let greenlet = greenlets::current(py)?;
    let before = body.state.with(py, |state| state.resume.replace(greenlet));
    drop(before);
    body.make_ready(me, py)?;
    if let Err(error) = hub.get().leave(&hub, py, me) {
        body.state.with(py, |state| state.is_collected |= greenlets::is_exit(py, &error));
        return Err(error);
    }
    match body.state.with(py, |state| state.thrown.take()) {
        Some(thrown) => Err(PyErr::from_value(thrown.into_bound(py).into_any())),
        None => Ok(()),
    }
}

/// Ends the green threads of a loop that is about to be closed, in its thread.
#[pyfunction]
fn _end_green_threads(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    hub::end_all(event_loop.py(), event_loop)
}

/// A loop for the green threads of this thread.
#[pyfunction]
fn _loop_of_green_threads(py: Python<'_>) -> PyResult<Py<PyAny>> {
    Ok(hub::here(py)?.get().event_loop.clone_ref(py).into_any())
}

pub fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(spawn, module)?)?;
    module.add_function(wrap_pyfunction!(make, module)?)?;
    module.add_function(wrap_pyfunction!(_current_green_thread, module)?)?;
    module.add_function(wrap_pyfunction!(_running_body, module)?)?;
    module.add_function(wrap_pyfunction!(_give_way, module)?)?;
    module.add_function(wrap_pyfunction!(_end_green_threads, module)?)?;
    module.add_function(wrap_pyfunction!(_loop_of_green_threads, module)?)
}
