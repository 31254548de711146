//! The class `motet._motet.ReaderCore`, which `motet.StreamReader` is made of: what has arrived, and the read that waits for more.

use super::home::Home;
use super::wait::{self, Arrival, Method, Step, Target, Wait, Wake};
use super::{imported, not_begun, wait_type};
use crate::call;
use crate::exclusive::Exclusive;
use crate::method::{Arguments, Storage, attach_method, fast_method};
use crate::transport::exact_bytes;
use motet_reactor::inflow::{Attempt, Inflow, NoSeparator, Search, Want};
use pyo3::exceptions::{PyAssertionError, PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyVisit, intern};
use std::sync::OnceLock;

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

struct State {
    inflow: Inflow<PyBackedBytes>,
    exception: Option<Py<PyAny>>,
    transport: Option<Py<PyAny>>,
    /// The read that waits.
    waiting: Option<Py<PyAny>>,
}

/// A stream's reading side.
#[pyclass(frozen, subclass, module = "motet._motet")]
pub struct ReaderCore {
    home: OnceLock<Home>,
    state: Exclusive<State>,
}

/// Puts the methods that are called for each read into the class.
pub fn add_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<ReaderCore>();
    for definition in [
        fast_method!(c"readline", read_line, c"readline($self, /)\n--\n\nReads a line; b'' at the end of the stream."),
        fast_method!(c"readuntil", read_until, c"readuntil($self, /, separator=b'\\n')\n--\n\nReads up to and with a separator, or with whichever of a tuple of them ends first."),
        fast_method!(c"readexactly", read_exactly, c"readexactly($self, /, n)\n--\n\nReads n bytes, no fewer."),
        fast_method!(c"read", read, c"read($self, /, n=-1)\n--\n\nReads at most n bytes, as soon as there is one; without n, all up to the end of the stream."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}

fn core<'a, 'py>(this: This<'a, 'py>) -> Borrowed<'a, 'py, ReaderCore> {
    // SAFETY: the interpreter calls a method descriptor of `ReaderCore` with instances of it only.
    unsafe { this.cast_unchecked() }
}

/// What waits to be awaited.
#[inline]
fn begin(this: This<'_, '_>, method: Method, want: Want) -> PyResult<Py<PyAny>> {
    let target = Target::Reader(core(this).to_owned().unbind());
    wait_type::allocate(this.py(), Wait::new(method, target, want)).map(Bound::unbind)
}

fn read_line(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    begin(this, Method::ReadLine, Want::Line(Search::byte(b'\n')))
}

fn read_until(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let search = match optional(&arguments, "readuntil", "separator")? {
        None => Search::byte(b'\n'),
        Some(separator) => search_for(&separator)?,
    };
    begin(this, Method::ReadUntil, Want::Until(search))
}

fn search_for(separator: &Bound<'_, PyAny>) -> PyResult<Search> {
    let search = match separator.cast::<PyTuple>() {
        Ok(separators) => {
            let separators = separators
                .iter()
                .map(|separator| exact_bytes(separator.as_borrowed()))
                .collect::<PyResult<Vec<_>>>()?;
            Search::any_of(separators.iter().map(|separator| separator.as_bytes()))
        }
        Err(_) => Search::any_of([exact_bytes(separator.as_borrowed())?.as_bytes()]),
    };
    search.map_err(|error| {
        PyValueError::new_err(match error {
            NoSeparator::None => "Separator should contain at least one element",
            NoSeparator::Empty => "Separator should be at least one-byte string",
        })
    })
}

fn read_exactly(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut storage = Storage::default();
    let arguments = arguments.complete("readexactly", &["n"], &mut storage)?;
    let count: isize = arguments.get(0).extract()?;
    let count = usize::try_from(count)
        .map_err(|_| PyValueError::new_err("readexactly size can not be less than zero"))?;
    begin(this, Method::ReadExactly, Want::Exactly(count))
}

fn read(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let count = match optional(&arguments, "read", "n")? {
        None => -1,
        Some(count) => count.extract::<isize>()?,
    };
    begin(this, Method::Read, usize::try_from(count).map_or(Want::All, Want::Some))
}

/// The one argument of a method that may be left out, or be given by name.
fn optional<'a, 'py>(
    arguments: &Arguments<'a, 'py>,
    method: &str,
    name: &str,
) -> PyResult<Option<Borrowed<'a, 'py, PyAny>>> {
    let mut given = (arguments.len() > 0).then(|| arguments.get(0));
    for (keyword, value) in arguments.keywords() {
        let keyword = keyword.to_str()?;
        if keyword != name {
            let message = format!("{method}() got an unexpected keyword argument '{keyword}'");
            return Err(PyTypeError::new_err(message));
        }
        if given.replace(value).is_some() {
            return Err(PyTypeError::new_err(format!(
                "{method}() got multiple values for argument '{name}'"
            )));
        }
    }
    if arguments.len() > 1 {
        let message = format!("{method}() takes at most 1 argument ({} given)", arguments.len());
        return Err(PyTypeError::new_err(message));
    }
    Ok(given)
}

/// What a step of a read does once the state is let go.
enum Outcome {
    Done(PyBackedBytes, Option<Py<PyAny>>),
    Incomplete(PyBackedBytes),
    Overrun { found: bool, consumed: usize, resume: Option<Py<PyAny>> },
    Fail(Py<PyAny>),
    Busy,
    Park(Option<Py<PyAny>>),
}

/// One step of a read: takes what it wants, or waits for it.
pub fn step(
    reader: &Bound<'_, ReaderCore>,
    this: This<'_, '_>,
    wait: &Wait,
    arrival: Arrival,
) -> PyResult<Step> {
    let py = this.py();
    let core = reader.get();
    let outcome = core.state.with(py, |state| {
        if arrival == Arrival::First
            && let Some(exception) = &state.exception
        {
            return Outcome::Fail(exception.clone_ref(py));
        }
        // Allocating bytes runs no Python code.
        let copy = |bytes: &[u8]| PyBackedBytes::from(PyBytes::new(py, bytes));
        match wait.with_want(py, |want| state.inflow.attempt(want, copy)) {
            Attempt::Done(bytes) => Outcome::Done(bytes, state.transport_to_resume(py)),
            Attempt::Incomplete(partial) => Outcome::Incomplete(partial),
            Attempt::Overrun { found, consumed } => {
                Outcome::Overrun { found, consumed, resume: state.transport_to_resume(py) }
            }
            Attempt::Wait => match (&state.exception, &state.waiting) {
                (Some(exception), _) => Outcome::Fail(exception.clone_ref(py)),
                (None, Some(_)) => Outcome::Busy,
                (None, None) => {
                    state.waiting = Some(this.to_owned().unbind());
                    // It may wait for more than the limits allow.
                    let paused = state.inflow.resume();
                    Outcome::Park(
                        state.transport.as_ref().filter(|_| paused).map(|found| found.clone_ref(py)),
                    )
                }
            },
        }
    });
    match outcome {
        Outcome::Done(bytes, resume) => {
            resume_reading(py, resume)?;
            let bytes = bytes.into_pyobject(py)?;
            if wait.method() == Method::Next && bytes.as_bytes().is_empty() {
                return Err(wait_type::end_of_iteration());
            }
            Ok(Step::Return(bytes.into_any().unbind()))
        }
        Outcome::Park(resume) => {
            wait.park(py);
            resume_reading(py, resume).inspect_err(|_| wait::close(this, wait))?;
            Ok(Step::Park)
        }
        Outcome::Fail(exception) => Err(PyErr::from_value(exception.into_bound(py))),
        Outcome::Busy => Err(PyRuntimeError::new_err(format!(
            "{}() called while another coroutine is already waiting for incoming data",
            function_name(wait.method())
        ))),
        Outcome::Incomplete(partial) => Err(incomplete(py, wait, partial)?),
        Outcome::Overrun { found, consumed, resume } => {
            resume_reading(py, resume)?;
            Err(overrun(py, wait.method(), found, consumed)?)
        }
    }
}

/// The name in asyncio's message: its lines are read by `readuntil`.
fn function_name(method: Method) -> &'static str {
    match method {
        Method::Read => "read",
        Method::ReadExactly => "readexactly",
        _ => "readuntil",
    }
}

#[cold]
fn incomplete(py: Python<'_>, wait: &Wait, partial: PyBackedBytes) -> PyResult<PyErr> {
    static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = imported(&ERROR, py, "asyncio.exceptions", "IncompleteReadError")?;
    let expected = wait.with_want(py, |want| match want {
        Want::Exactly(count) => Some(*count),
        _ => None,
    });
    Ok(PyErr::from_value(class.call1((partial, expected))?))
}

#[cold]
fn overrun(py: Python<'_>, method: Method, found: bool, consumed: usize) -> PyResult<PyErr> {
    let message = if found {
        "Separator is found, but chunk is longer than limit"
    } else {
        "Separator is not found, and chunk exceed the limit"
    };
    if method != Method::ReadUntil {
        return Ok(PyValueError::new_err(message));
    }
    static ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = imported(&ERROR, py, "asyncio.exceptions", "LimitOverrunError")?;
    Ok(PyErr::from_value(class.call1((message, consumed))?))
}

fn resume_reading(py: Python<'_>, transport: Option<Py<PyAny>>) -> PyResult<()> {
    match transport {
        Some(transport) => call::method(transport.bind(py), intern!(py, "resume_reading")).map(drop),
        None => Ok(()),
    }
}

/// Data has arrived.
pub fn feed(reader: &Bound<'_, ReaderCore>, data: Bound<'_, PyBytes>) -> PyResult<()> {
    let py = reader.py();
    let core = reader.get();
    let (woken, pause) = core.state.with(py, |state| {
        if state.inflow.has_ended() {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        state.inflow.feed(data.into());
        let concerned = match &state.waiting {
            // SAFETY: nothing else is put there.
            Some(waiting) => unsafe { wait_type::body(waiting.bind_borrowed(py)) }
                .with_want(py, |want| state.inflow.concerns(want)),
            None => false,
        };
        let woken = if concerned { state.waiting.take() } else { None };
        // A read that waits on may want more than the limits allow.
        let pause = state.waiting.is_none() && state.transport.is_some() && state.inflow.must_pause();
        Ok((woken, state.transport.as_ref().filter(|_| pause).map(|transport| transport.clone_ref(py))))
    })?;
    core.wake(py, woken, Wake::Ready)?;
    match pause {
        Some(transport) => core.pause(transport.bind(py)),
        None => Ok(()),
    }
}

impl State {
    /// The transport, if it was paused and what is left allows it to go on.
    #[inline]
    fn transport_to_resume(&mut self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.inflow.may_resume() {
            return None;
        }
        self.transport.as_ref().map(|transport| transport.clone_ref(py))
    }
}

impl ReaderCore {
    pub fn home(&self) -> PyResult<&Home> {
        self.home.get().ok_or_else(|| not_begun("StreamReader"))
    }

    /// Lets a waiting read go that is not to be woken.
    pub fn forget(&self, wait: This<'_, '_>) {
        let found = self.state.with(wait.py(), |state| state.waiting.take_if(|waiting| waiting.is(wait)));
        drop(found);
    }

    fn wake(&self, py: Python<'_>, waiting: Option<Py<PyAny>>, why: Wake) -> PyResult<()> {
        match waiting {
            Some(waiting) => {
                let waiting = waiting.into_bound(py);
                // SAFETY: nothing else is put into `waiting`.
                wait::wake(&waiting, unsafe { wait_type::body(waiting.as_borrowed()) }, why)
            }
            None => Ok(()),
        }
    }

    /// Pauses a transport. One that cannot be paused is never asked again.
    fn pause(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        let Err(error) = call::method(transport, intern!(py, "pause_reading")) else { return Ok(()) };
        let cannot = error.is_instance_of::<PyNotImplementedError>(py);
        let dropped = self.state.with(py, |state| {
            state.inflow.resume();
            if cannot { state.transport.take() } else { None }
        });
        drop(dropped);
        if cannot { Ok(()) } else { Err(error) }
    }

    pub fn set_exception_object(&self, py: Python<'_>, exception: Py<PyAny>) -> PyResult<()> {
        let copy = exception.clone_ref(py);
        let (old, woken) = self.state.with(py, |state| (state.exception.replace(copy), state.waiting.take()));
        drop(old);
        self.wake(py, woken, Wake::Failed(exception))
    }

    /// The exception that reads fail with.
    pub fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.exception.as_ref().map(|exception| exception.clone_ref(py)))
    }

    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        let woken = self.state.with(py, |state| {
            state.inflow.end();
            state.waiting.take()
        });
        self.wake(py, woken, Wake::Ready)
    }

    /// Has reads pause and resume another transport from now on.
    pub fn exchange_transport(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        let old = self.state.with(py, |state| {
            state.inflow.resume();
            std::mem::replace(&mut state.transport, transport)
        });
        drop(old);
    }
}

#[pymethods]
impl ReaderCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let state = State { inflow: Inflow::new(0), exception: None, transport: None, waiting: None };
        Self { home: OnceLock::new(), state: Exclusive::new(state) }
    }

    /// What `__init__` has to do.
    fn _begin(&self, limit: &Bound<'_, PyAny>, r#loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = limit.py();
        // As asyncio's, a limit may be a float, or larger than any memory.
        let limit = match limit.extract::<usize>() {
            Ok(limit) => limit,
            Err(_) => limit.extract::<f64>()? as usize,
        };
        self.state.with(py, |state| state.inflow = Inflow::new(limit));
        // A second call changes the limit only.
        let _ = self.home.set(Home::of(r#loop));
        Ok(())
    }

    /// Data has arrived.
    fn feed_data(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let ended = this.get().state.with(this.py(), |state| state.inflow.has_ended());
        if ended {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        if data.is_truthy()? { feed(this, exact_bytes(data.as_borrowed())?) } else { Ok(()) }
    }

    /// The stream has ended.
    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py)
    }

    /// Whether the stream has ended and all was read.
    fn at_eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.has_ended() && state.inflow.bytes().is_empty())
    }

    /// What reads fail with, or None.
    fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure(py)
    }

    /// Has reads fail from now on.
    fn set_exception(&self, py: Python<'_>, exc: Py<PyAny>) -> PyResult<()> {
        self.set_exception_object(py, exc)
    }

    /// Names the transport that is paused while too much waits to be read.
    pub fn set_transport(&self, py: Python<'_>, transport: Py<PyAny>) -> PyResult<()> {
        let given = self.state.with(py, |state| match &state.transport {
            None => {
                state.transport = Some(transport);
                None
            }
            Some(_) => Some(transport),
        });
        match given {
            None => Ok(()),
            Some(_) => Err(PyAssertionError::new_err("Transport already set")),
        }
    }

    /// Names another transport.
    fn _replace_transport(&self, py: Python<'_>, transport: Py<PyAny>) {
        self.exchange_transport(py, Some(transport));
    }

    fn __aiter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __anext__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        begin(this.as_any().as_borrowed(), Method::Next, Want::Line(Search::byte(b'\n')))
    }

    /// A copy of what waits to be read.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        let copy = self.state.with(py, |state| state.inflow.bytes().to_vec());
        PyByteArray::new(py, &copy)
    }

    #[getter]
    fn _eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.has_ended())
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure(py)
    }

    #[getter]
    fn _limit(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.inflow.limit())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.home()?.object().clone_ref(py))
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.inflow.is_paused())
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.transport.as_ref().map(|transport| transport.clone_ref(py)))
    }

    #[setter(_transport)]
    fn set_transport_attribute(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        self.exchange_transport(py, transport);
    }

    #[getter]
    fn _waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.waiting.as_ref().map(|waiting| waiting.clone_ref(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.home.get().map(Home::object))?;
        let seen = self.state.inspect(|state| {
            visit.call(&state.exception)?;
            visit.call(&state.transport)?;
            visit.call(&state.waiting)
        });
        seen.unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        let dropped = self
            .state
            .with(py, |state| (state.exception.take(), state.transport.take(), state.waiting.take()));
        drop(dropped);
    }
}
