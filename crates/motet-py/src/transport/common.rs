//! What the transport classes have in common: arguments, properties, and what is told to whom.

use crate::call;
use crate::event_loop::{Loop, State, wrong_thread};
use crate::method::Arguments;
use crate::thread_bound::Claim;
use pyo3::exceptions::{PyResourceWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};
use pyo3::{Borrowed, ffi, intern};
use std::ffi::c_int;

pub type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// Writes dropped after a connection was lost before asyncio, and so motet, logs it.
pub const DROPPED_WRITES_BEFORE_WARNING: u32 = 5;

/// The high-water mark of sockets, in bytes, where the program names none; as asyncio's.
pub const DEFAULT_HIGH_WATER: usize = 64 * 1024;

/// A property that cannot be set; it hides the slot of the base class.
pub fn property(name: &'static std::ffi::CStr, get: ffi::getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef { name: name.as_ptr(), get: Some(get), ..Default::default() }
}

macro_rules! getter {
    ($name:ident, $value:expr) => {
        unsafe extern "C" fn $name(
            this: *mut pyo3::ffi::PyObject,
            _: *mut std::ffi::c_void,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls the getter with an object of the class.
            unsafe { crate::method::enter(this, |this| $value(this)) }
        }
    };
}

pub(crate) use getter;

/// Claims the loop for a call.
#[inline]
pub fn claim<'a>(event_loop: &'a Py<Loop>, what: &str) -> PyResult<Claim<'a, State>> {
    event_loop.get().state.claim().map_err(|_| wrong_thread(what))
}

pub fn none(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    Ok(this.py().None())
}

/// Exact bytes of a bytes-like object: itself, or a copy of what the program may change later.
pub fn exact_bytes<'py>(data: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.to_owned());
    }
    if data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
        || data.is_instance_of::<PyBytes>()
    {
        // SAFETY: a valid reference; the result is a new reference or null with an exception set.
        let bytes =
            unsafe { Bound::from_owned_ptr_or_err(data.py(), ffi::PyBytes_FromObject(data.as_ptr()))? };
        return Ok(bytes.cast_into::<PyBytes>()?);
    }
    Err(PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not '{}'",
        data.get_type().name()?
    )))
}

/// The arguments of a method with two named ones.
pub fn bind<'a, 'py>(
    function: &str,
    names: [&str; 2],
    arguments: &Arguments<'a, 'py>,
) -> PyResult<[Option<Borrowed<'a, 'py, PyAny>>; 2]> {
    if arguments.len() > names.len() {
        return Err(PyTypeError::new_err(format!(
            "{function}() takes at most {} arguments, not {}",
            names.len(),
            arguments.len()
        )));
    }
    let mut values = [None; 2];
    for (value, argument) in values.iter_mut().zip(arguments.from(0)) {
        *value = Some(argument);
    }
    for (name, argument) in arguments.keywords() {
        let name = name.to_str()?.to_owned();
        match names.iter().position(|known| *known == name) {
            Some(index) if values[index].is_none() => values[index] = Some(argument),
            Some(_) => {
                return Err(PyTypeError::new_err(format!("{function}() got multiple values for '{name}'")));
            }
            None => {
                return Err(PyTypeError::new_err(format!(
                    "{function}() got an unexpected keyword argument '{name}'"
                )));
            }
        }
    }
    Ok(values)
}

/// Water marks, low and high, from arguments of which one decides the other, as in asyncio.
pub fn water_marks(
    function: &str,
    arguments: &Arguments<'_, '_>,
    default_high: usize,
) -> PyResult<(usize, usize)> {
    let [high, low] = bind(function, ["high", "low"], arguments)?;
    let number = |value: Option<Borrowed<'_, '_, PyAny>>| {
        value.filter(|value| !value.is_none()).map(|value| value.extract::<i64>()).transpose()
    };
    let (high, low) = (number(high)?, number(low)?);
    let high = high.unwrap_or_else(|| low.map_or(default_high as i64, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high / 4);
    if !(0 <= low && low <= high) {
        return Err(PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0")));
    }
    Ok((low as usize, high as usize))
}

/// What `get_extra_info` returns.
pub fn found_or(
    py: Python<'_>,
    found: Option<Bound<'_, PyAny>>,
    default: Option<Borrowed<'_, '_, PyAny>>,
) -> Py<PyAny> {
    match (found, default) {
        (Some(found), _) => found.unbind(),
        (None, Some(default)) => default.to_owned().unbind(),
        (None, None) => py.None(),
    }
}

/// Tells a socket object that it is in use, as `socket.makefile` does: its number must not be reused while a transport has it, even
/// if the program closes the object. To be called when nothing stands before the transport any more, which gives it up again.
pub fn hold(socket_object: &Bound<'_, PyAny>) -> PyResult<()> {
    let uses = intern!(socket_object.py(), "_io_refs");
    let count: i64 = socket_object.getattr(uses)?.extract()?;
    socket_object.setattr(uses, count + 1)
}

/// Ends a wait, unless its caller has gone: with None, or with an error.
pub fn resolve(py: Python<'_>, waiter: Option<Py<PyAny>>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    let waiter = waiter.bind(py);
    if call::method(waiter, intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match error {
        Some(error) => call::method_with(waiter, intern!(py, "set_exception"), error),
        None => call::method_with(waiter, intern!(py, "set_result"), &py.None().into_bound(py)),
    }
    .map(drop)
}

/// Hands an exception to the loop's exception handler; what must end the run comes back.
pub fn report(
    event_loop: &Bound<'_, Loop>,
    transport: &Bound<'_, PyAny>,
    protocol: Option<Bound<'_, PyAny>>,
    error: PyErr,
    message: &str,
) -> PyResult<()> {
    let py = transport.py();
    if call::ends_the_run(py, &error) {
        return Err(error);
    }
    let details = PyDict::new(py);
    details.set_item("message", message)?;
    details.set_item("exception", error.into_value(py))?;
    details.set_item("transport", transport)?;
    details.set_item("protocol", protocol)?;
    event_loop.call_method1(intern!(py, "call_exception_handler"), (details,)).map(drop)
}

/// Tells asyncio's logger that writes are dropped.
#[cold]
pub fn warn_dropped(py: Python<'_>, text: &str) -> PyResult<()> {
    let logger = py.import(intern!(py, "asyncio.log"))?.getattr(intern!(py, "logger"))?;
    logger.call_method1(intern!(py, "warning"), (text,)).map(drop)
}

/// `warnings.warn`, looked up when the class is made: at the interpreter's exit nothing can be imported any more.
pub fn warnings_warn(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static WARN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    WARN.get_or_try_init(py, || Ok(py.import("warnings")?.getattr("warn")?.unbind()))
        .map(|warn| warn.bind(py))
}

/// A transport is dropped that nobody has closed.
pub fn warn_unclosed(transport: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let text = format!("unclosed transport {}", transport.repr()?);
    let keywords = PyDict::new(py);
    keywords.set_item("source", transport)?;
    warnings_warn(py)?.call((text, py.get_type::<PyResourceWarning>()), Some(&keywords)).map(drop)
}

/// Shows the collector each of `referents`, until it wants no more.
pub fn visit_all<const N: usize>(
    referents: [Option<*mut ffi::PyObject>; N],
    visit: &mut dyn FnMut(*mut ffi::PyObject) -> c_int,
) -> c_int {
    let results = referents.into_iter().flatten().map(visit);
    results.into_iter().find(|result| *result != 0).unwrap_or(0)
}
