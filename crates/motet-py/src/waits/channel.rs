//! The class `motet.Channel`.

use super::class::allocate;
use super::operations::Operation;
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{Item, errors, parties, waker};
use crate::method::{Arguments, attach_method, fast_method, method_of_one, plain_method};
use motet_sync::channel::{PutError, TryGetError};
use motet_sync::{Capacity, Overflow};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};
use pyo3::{Borrowed, PyTraverseError, PyVisit};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// A queue with two ends that threads and tasks may hold; thread-safe.
#[pyclass(frozen, generic, subclass, weakref, module = "motet._motet", name = "ChannelCore")]
pub struct Channel {
    inner: motet_sync::Channel<Item, Item>,
    capacity: Option<usize>,
    overflow: &'static str,
    /// Whether a put waits that finds no room.
    waits: bool,
}

const PUT: Names = Names { blocking: "Channel.put", awaited: "Channel.aput" };
const GET: Names = Names { blocking: "Channel.get", awaited: "Channel.aget" };
const PUTTING: Names = Names { blocking: "Channel.put", awaited: "Channel.putting" };
const GETTING: Names = Names { blocking: "Channel.get", awaited: "Channel.getting" };

const POLICIES: [(&str, Overflow); 4] = [
    ("wait", Overflow::Wait),
    ("drop_newest", Overflow::DropNewest),
    ("drop_oldest", Overflow::DropOldest),
    ("error", Overflow::Fail),
];

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (capacity, overflow))]
    fn new(capacity: Option<&Bound<'_, PyAny>>, overflow: &str) -> PyResult<Self> {
        let capacity = capacity.map(capacity_of).transpose()?;
        let Some(&(overflow, policy)) = POLICIES.iter().find(|(name, _)| *name == overflow) else {
            let names: Vec<_> = POLICIES.iter().map(|(name, _)| format!("{name:?}")).collect();
            return Err(PyValueError::new_err(format!(
                "overflow must be one of {}, not {overflow:?}",
                names.join(", ")
            )));
        };
        let room = capacity.map_or(Capacity::Unbounded, Capacity::Bounded);
        Ok(Self {
            inner: motet_sync::Channel::with_overflow(room, policy),
            capacity,
            overflow,
            waits: policy == Overflow::Wait,
        })
    }

    /// How many items it keeps; None without a limit.
    #[getter]
    fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// What a put does that finds no room.
    #[getter]
    fn overflow(&self) -> &'static str {
        self.overflow
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Also an empty channel is one.
    fn __bool__(&self) -> bool {
        true
    }

    /// Takes no more items; whoever waits is told. False if it was closed before.
    #[pyo3(signature = (error=None))]
    fn close(&self, error: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let error = match error {
            None => None,
            Some(error) if error.is_instance_of::<pyo3::exceptions::PyBaseException>() => {
                Some(error.unbind())
            }
            Some(error) => {
                return Err(PyTypeError::new_err(format!(
                    "a channel is closed with an exception or None, not {}",
                    error.get_type().name()?
                )));
            }
        };
        Ok(self.inner.close(error))
    }

    /// What it has done, and who waits.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.inner.statistics();
        let row = PyDict::new(py);
        row.set_item("length", found.length)?;
        row.set_item("capacity", self.capacity)?;
        row.set_item("put", found.put)?;
        row.set_item("got", found.got)?;
        row.set_item("dropped", found.dropped)?;
        row.set_item("waiting_to_put", found.waiting_to_put)?;
        row.set_item("waiting_to_get", found.waiting_to_get)?;
        row.set_item("closed", found.closed)?;
        row.set_item("waiters", parties::waiting(py, &self.inner)?)?;
        Ok(row)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        let mut show = |object: &Py<PyAny>| {
            if result.is_ok() {
                result = visit.call(object);
            }
        };
        let mut items = |item: &Py<PyAny>| show(item);
        let mut errors = Vec::new();
        self.inner.show(&mut items, &mut |error| errors.push(std::ptr::from_ref(error)));
        for error in errors {
            // SAFETY: the error lives as long as the channel, which does not change while the collector looks.
            show(unsafe { &*error });
        }
        result?;
        waker::show(&self.inner, &visit)
    }

    fn __clear__(&self) {
        drop(self.inner.drain());
    }
}

fn capacity_of(capacity: &Bound<'_, PyAny>) -> PyResult<usize> {
    if capacity.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err("capacity must be a number of items or None, not bool"));
    }
    let number: isize = capacity.extract().map_err(|_| {
        PyTypeError::new_err(format!("capacity must be a number of items or None, not {capacity:?}"))
    })?;
    usize::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("capacity must not be negative, not {number}")))
}

fn own<'a>(this: This<'a, '_>) -> &'a Channel {
    // SAFETY: the interpreter calls a method descriptor of `Channel` with instances of it only, which lives as long as the reference.
    let this = unsafe { this.cast_unchecked::<Channel>() };
    let channel: *const Channel = this.get();
    // SAFETY: as above.
    unsafe { &*channel }
}

/// The one argument `timeout`, by position or name.
fn timeout_of(arguments: &Arguments<'_, '_>, before: usize, function: &str) -> PyResult<Option<Limit>> {
    if arguments.len() == before && arguments.names().is_none() {
        return Ok(None);
    }
    let by_position = arguments.from(before).next();
    let mut timeout = by_position;
    for (name, value) in arguments.keywords() {
        if name.to_str()? != "timeout" || by_position.is_some() {
            return Err(PyTypeError::new_err(format!(
                "{function}() got an unexpected keyword argument '{}'",
                name.to_str()?
            )));
        }
        timeout = Some(value);
    }
    if arguments.len() > before + 1 {
        return Err(PyTypeError::new_err(format!("{function}() got too many arguments")));
    }
    Limit::of(timeout.as_deref(), Then::Raise)
}

/// The item, which is the first argument, and the timeout.
fn item_and_timeout(arguments: &Arguments<'_, '_>, function: &str) -> PyResult<(Item, Option<Limit>)> {
    if arguments.len() == 0 {
        return Err(PyTypeError::new_err(format!("{function}() needs an item, by position")));
    }
    let limit = timeout_of(arguments, 1, function)?;
    Ok((arguments.get(0).to_owned().unbind(), limit))
}

fn put(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (item, limit) = item_and_timeout(&arguments, "put")?;
    let channel = own(this);
    let item = match channel.inner.try_put(item) {
        Err(PutError::Full(item)) if channel.waits => item,
        put => return outcome_of_put(this.py(), put),
    };
    block(this.py(), &PUT, Work::One(Operation::Put(own(this).inner.put(item))), limit)
}

fn get(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limit = timeout_of(&arguments, 0, "get")?;
    match own(this).inner.try_get() {
        Ok(item) => return Ok(item),
        Err(TryGetError::Closed(closed)) => return Err(errors::closed(this.py(), closed.error.as_deref())),
        Err(TryGetError::Empty) => {}
    }
    block(this.py(), &GET, Work::One(Operation::Get(own(this).inner.get())), limit)
}

fn aput(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let (item, limit) = item_and_timeout(&arguments, "aput")?;
    make(this, &PUT, Operation::Put(own(this).inner.put(item)), limit, true)
}

fn aget(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limit = timeout_of(&arguments, 0, "aget")?;
    make(this, &GET, Operation::Get(own(this).inner.get()), limit, true)
}

fn putting(this: This<'_, '_>, item: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let item = item.to_owned().unbind();
    make(this, &PUTTING, Operation::Put(own(this).inner.put(item)), None, false)
}

fn getting(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    make(this, &GETTING, Operation::Get(own(this).inner.get()), None, false)
}

fn make(
    this: This<'_, '_>,
    names: &'static Names,
    operation: Operation,
    limit: Option<Limit>,
    must_be_awaited: bool,
) -> PyResult<Py<PyAny>> {
    let mut wait = Wait::new(names, Some(this.to_owned().unbind()), Work::One(operation), limit);
    wait.must_be_awaited = must_be_awaited;
    allocate(this.py(), wait)
}

fn try_put(this: This<'_, '_>, item: This<'_, '_>) -> PyResult<Py<PyAny>> {
    outcome_of_put(this.py(), own(this).inner.try_put(item.to_owned().unbind()))
}

/// What a put gives in Python.
pub fn outcome_of_put(
    py: Python<'_>,
    put: Result<Option<Item>, PutError<Item, Item>>,
) -> PyResult<Py<PyAny>> {
    // Dropped at once: by itself an object might ask first whether this thread is attached.
    match put {
        Ok(None) => {}
        Ok(Some(dropped)) => dropped.drop_ref(py),
        Err(PutError::Full(item)) => {
            item.drop_ref(py);
            return Err(errors::full(py));
        }
        Err(PutError::Closed(item, closed)) => {
            item.drop_ref(py);
            return Err(errors::closed(py, closed.error.as_deref()));
        }
    }
    Ok(py.None())
}

fn try_get(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    match own(this).inner.try_get() {
        Ok(item) => Ok(item),
        Err(TryGetError::Empty) => Err(errors::empty(this.py())),
        Err(TryGetError::Closed(closed)) => Err(errors::closed(this.py(), closed.error.as_deref())),
    }
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Channel>()?;
    let class = module.py().get_type::<Channel>();
    for definition in [
        fast_method!(
            c"put",
            put,
            c"put($self, item, timeout=None)\n--\n\nPuts an item in, when there is room."
        ),
        fast_method!(
            c"get",
            get,
            c"get($self, timeout=None)\n--\n\nGets the oldest item, when there is one."
        ),
        fast_method!(c"aput", aput, c"aput($self, item, timeout=None)\n--\n\nAs put(), awaited."),
        fast_method!(c"aget", aget, c"aget($self, timeout=None)\n--\n\nAs get(), awaited."),
        method_of_one!(
            c"try_put",
            try_put,
            c"try_put($self, item, /)\n--\n\nPuts an item in if there is room now."
        ),
        plain_method!(
            c"try_get",
            try_get,
            c"try_get($self, /)\n--\n\nGets the oldest item if there is one now."
        ),
        method_of_one!(
            c"putting",
            putting,
            c"putting($self, item, /)\n--\n\nThe put as an operation of a select."
        ),
        plain_method!(c"getting", getting, c"getting($self, /)\n--\n\nThe get as an operation of a select."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}
