//! The classes `motet.Lock` and `motet.RLock`, and what their conditions wait for.

use super::class::allocate;
use super::operations::{Operation, truth};
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{parties, waker};
use crate::method::{Arguments, attach_method, fast_method, plain_method};
use motet_sync::{Inspect, Party};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{Borrowed, PyTraverseError, PyVisit};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// A lock for threads and tasks; thread-safe, first come, first served.
#[pyclass(frozen, subclass, weakref, module = "motet._motet", name = "LockCore")]
pub struct Lock {
    inner: motet_sync::Lock,
    reentrant: bool,
}

const ACQUIRE: Names = Names { blocking: "Lock.acquire", awaited: "Lock.aacquire" };
const ACQUIRING: Names = Names { blocking: "Lock.acquire", awaited: "Lock.acquiring" };
const ENTER: Names = Names { blocking: "with lock: Lock.acquire", awaited: "Lock.aacquire" };

#[pymethods]
impl Lock {
    #[new]
    fn new(reentrant: bool) -> Self {
        let inner = if reentrant { motet_sync::Lock::reentrant() } else { motet_sync::Lock::new() };
        Self { inner, reentrant }
    }

    /// Whether somebody holds it.
    fn locked(&self) -> bool {
        self.inner.owner().is_some()
    }

    /// Whether the caller holds it.
    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner.owner().is_some_and(|owner| Ok(owner) == parties::here(py).map_err(drop)))
    }

    /// Releases it as often as it was acquired; how often that was.
    fn _release_all(&self, py: Python<'_>) -> PyResult<usize> {
        let party = self.party(py)?;
        let depth = self.inner.depth();
        for _ in 0..depth.max(1) {
            self.release_once(py, party)?;
        }
        Ok(depth)
    }

    /// Who holds it, and who waits.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.inner.inspect();
        let row = PyDict::new(py);
        row.set_item("locked", !found.owners.is_empty())?;
        row.set_item("owners", parties::names(py, &found.owners)?)?;
        row.set_item("waiters", parties::waiting(py, &self.inner)?)?;
        Ok(row)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        waker::show(&self.inner, &visit)
    }
}

impl Lock {
    fn acquire(&self) -> Work {
        Work::One(Operation::Acquire(self.inner.acquire()))
    }

    /// Who acquires or releases here: of a lock that anybody may release, the thread will do.
    fn party(&self, py: Python<'_>) -> PyResult<Party> {
        if self.reentrant { parties::here(py) } else { Ok(parties::this_thread()) }
    }

    fn release_once(&self, py: Python<'_>, party: Party) -> PyResult<()> {
        self.inner.release(party).map_err(|error| match error {
            motet_sync::lock::ReleaseError::NotHeld => PyRuntimeError::new_err("release unlocked lock"),
            motet_sync::lock::ReleaseError::HeldBy(owner) => match parties::names(py, &[owner]) {
                Ok(names) => PyRuntimeError::new_err(format!(
                    "cannot release a lock that is held by {}",
                    names.get_item(0).map(|name| name.to_string()).unwrap_or_default()
                )),
                Err(error) => error,
            },
        })
    }
}

fn own<'a>(this: This<'a, '_>) -> &'a Lock {
    // SAFETY: the interpreter calls a method descriptor of `Lock` with instances of it only, which lives as long as the reference.
    let this = unsafe { this.cast_unchecked::<Lock>() };
    let lock: *const Lock = this.get();
    // SAFETY: as above.
    unsafe { &*lock }
}

/// The arguments of `threading.Lock.acquire`.
pub fn blocking_and_timeout(arguments: &Arguments<'_, '_>) -> PyResult<Option<Limit>> {
    if arguments.len() == 0 && arguments.names().is_none() {
        return Ok(None);
    }
    let (mut blocking, mut timeout) = (true, -1.0);
    let mut given = arguments.from(0);
    if let Some(value) = given.next() {
        blocking = value.is_truthy()?;
    }
    if let Some(value) = given.next() {
        timeout = value.extract()?;
    }
    for (name, value) in arguments.keywords() {
        match name.to_str()? {
            "blocking" => blocking = value.is_truthy()?,
            "timeout" if value.is_none() => timeout = -1.0,
            "timeout" => timeout = value.extract()?,
            other => {
                return Err(PyTypeError::new_err(format!(
                    "acquire() got an unexpected keyword argument '{other}'"
                )));
            }
        }
    }
    Limit::of_acquire(blocking, timeout)
}

fn acquire(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limit = blocking_and_timeout(&arguments)?;
    acquire_within(this, &ACQUIRE, limit)
}

fn acquire_within(this: This<'_, '_>, names: &'static Names, limit: Option<Limit>) -> PyResult<Py<PyAny>> {
    let (py, lock) = (this.py(), own(this));
    if lock.inner.try_keep(lock.party(py)?) {
        return Ok(truth(py, true));
    }
    block(py, names, lock.acquire(), limit)
}

fn release(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let (py, lock) = (this.py(), own(this));
    lock.release_once(py, lock.party(py)?)?;
    Ok(py.None())
}

fn enter(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    acquire_within(this, &ENTER, None)
}

fn exit(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    release(this)
}

fn try_acquire(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let lock = own(this);
    Ok(truth(this.py(), lock.inner.try_keep(lock.party(this.py())?)))
}

fn aacquire(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let timeout = arguments.from(0).next().or(arguments.keywords().next().map(|(_, value)| value));
    make(this, &ACQUIRE, Limit::of(timeout.as_deref(), Then::False)?, true)
}

fn acquiring(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    make(this, &ACQUIRING, None, false)
}

fn make(
    this: This<'_, '_>,
    names: &'static Names,
    limit: Option<Limit>,
    must_be_awaited: bool,
) -> PyResult<Py<PyAny>> {
    let mut wait = Wait::new(names, Some(this.to_owned().unbind()), own(this).acquire(), limit);
    wait.must_be_awaited = must_be_awaited;
    allocate(this.py(), wait)
}

fn aenter(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut wait = Wait::new(&ACQUIRE, Some(this.to_owned().unbind()), own(this).acquire(), None);
    (wait.must_be_awaited, wait.is_silent) = (true, true);
    allocate(this.py(), wait)
}

fn aexit(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    release(this)?;
    // Something to await that is there.
    allocate(this.py(), Wait::done(&ACQUIRE, this.py().None()))
}

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lock>()?;
    let class = module.py().get_type::<Lock>();
    for definition in [
        fast_method!(c"acquire", acquire, c"acquire($self, blocking=True, timeout=-1)\n--\n\nAcquires it, when it is the caller's turn; False if the time was over before."),
        plain_method!(c"try_acquire", try_acquire, c"try_acquire($self, /)\n--\n\nAcquires it if it can be had now; whether it could."),
        plain_method!(c"release", release, c"release($self, /)\n--\n\nReleases it."),
        fast_method!(c"aacquire", aacquire, c"aacquire($self, timeout=None)\n--\n\nAs acquire(), awaited."),
        plain_method!(c"acquiring", acquiring, c"acquiring($self, /)\n--\n\nThe acquire as an operation of a select."),
        plain_method!(c"__enter__", enter, c"__enter__($self, /)\n--\n\nAcquires it."),
        fast_method!(c"__exit__", exit, c"__exit__($self, *exception)\n--\n\nReleases it."),
        plain_method!(c"__aenter__", aenter, c"__aenter__($self, /)\n--\n\nAcquires it, awaited."),
        fast_method!(c"__aexit__", aexit, c"__aexit__($self, *exception)\n--\n\nReleases it."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}
