//! Reads: the methods of a reader that are awaited, and what a step of each does.

use super::reader::ReaderCore;
use super::wait::{self, Arrival, Method, Step, Target, Wait};
use super::{imported, wait_type};
use crate::call;
use crate::method::{Arguments, Storage, attach_method, fast_method};
use crate::transport::common::exact_bytes;
use motet_reactor::inflow::{Attempt, NoSeparator, Search, Want};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{Borrowed, intern};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

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
pub fn begin(this: This<'_, '_>, method: Method, want: Want) -> PyResult<Py<PyAny>> {
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
                    wait.park(py);
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
