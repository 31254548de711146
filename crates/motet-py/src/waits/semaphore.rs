//! The class `motet.Semaphore`.

use super::class::allocate;
use super::lock::blocking_and_timeout;
use super::operations::{Operation, truth};
use super::thread::{Names, block};
use super::timeout::{Limit, Then};
use super::wait::Wait;
use super::work::Work;
use super::{parties, waker};
use crate::method::{Arguments, attach_method, fast_method, plain_method};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{Borrowed, PyTraverseError, PyVisit};

type This<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// So many threads and tasks may go on at the same time; thread-safe, first come, first served.
#[pyclass(frozen, subclass, weakref, module = "motet._motet", name = "SemaphoreCore")]
pub struct Semaphore {
    inner: motet_sync::Semaphore,
    most: Option<usize>,
}

const ACQUIRE: Names = Names { blocking: "Semaphore.acquire", awaited: "Semaphore.aacquire" };
const ACQUIRING: Names = Names { blocking: "Semaphore.acquire", awaited: "Semaphore.acquiring" };

#[pymethods]
impl Semaphore {
    #[new]
    fn new(value: isize, bounded: bool) -> PyResult<Self> {
        let value = usize::try_from(value)
            .map_err(|_| PyValueError::new_err(format!("value must not be negative, not {value}")))?;
        Ok(if bounded {
            Self { inner: motet_sync::Semaphore::bounded(value), most: Some(value) }
        } else {
            Self { inner: motet_sync::Semaphore::new(value), most: None }
        })
    }

    /// How many may go on now.
    #[getter]
    fn value(&self) -> usize {
        self.inner.left()
    }

    /// Whether nobody may go on now.
    fn locked(&self) -> bool {
        self.inner.left() == 0
    }

    /// Lets `n` more go on.
    #[pyo3(signature = (n=1))]
    fn release(&self, n: isize) -> PyResult<()> {
        let count = usize::try_from(n)
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| PyValueError::new_err("n must be one or more"))?;
        self.inner.release(count).map_err(|_| match self.most {
            Some(most) => PyValueError::new_err(format!(
                "semaphore released too many times: it is for {most}, of which {} are free",
                self.inner.left()
            )),
            None => PyValueError::new_err("semaphore released too many times"),
        })
    }

    /// How many may go on, and who waits.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let row = PyDict::new(py);
        row.set_item("value", self.inner.left())?;
        row.set_item("bound", self.most)?;
        row.set_item("waiters", parties::waiting(py, &self.inner)?)?;
        Ok(row)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        waker::show(&self.inner, &visit)
    }
}

impl Semaphore {
    fn try_keep(&self) -> bool {
        self.most != Some(0) && self.inner.try_keep(1)
    }

    /// For one; of a bounded semaphore for nobody there is never one, and it waits for ever.
    fn acquire(&self) -> Work {
        Work::One(match self.most {
            Some(0) => Operation::Event(motet_sync::Event::new().wait()),
            _ => Operation::AcquirePermits(self.inner.acquire(1)),
        })
    }
}

fn own<'a>(this: This<'a, '_>) -> &'a Semaphore {
    // SAFETY: the interpreter calls a method descriptor of `Semaphore` with instances of it only, which lives as long as the
    // reference.
    let this = unsafe { this.cast_unchecked::<Semaphore>() };
    let semaphore: *const Semaphore = this.get();
    // SAFETY: as above.
    unsafe { &*semaphore }
}

fn acquire(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let limit = blocking_and_timeout(&arguments)?;
    acquire_within(this, limit)
}

fn acquire_within(this: This<'_, '_>, limit: Option<Limit>) -> PyResult<Py<PyAny>> {
    let (py, semaphore) = (this.py(), own(this));
    if semaphore.try_keep() {
        return Ok(truth(py, true));
    }
    block(py, &ACQUIRE, semaphore.acquire(), limit)
}

fn try_acquire(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    Ok(truth(this.py(), own(this).try_keep()))
}

fn enter(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    acquire_within(this, None)
}

fn exit(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    own(this).release(1)?;
    Ok(this.py().None())
}

fn aacquire(this: This<'_, '_>, arguments: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    let timeout = arguments.from(0).next().or(arguments.keywords().next().map(|(_, value)| value));
    make(this, &ACQUIRE, Limit::of(timeout.as_deref(), Then::False)?, true)
}

fn acquiring(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    make(this, &ACQUIRING, None, false)
}

fn aenter(this: This<'_, '_>) -> PyResult<Py<PyAny>> {
    let mut wait = Wait::new(&ACQUIRE, Some(this.to_owned().unbind()), own(this).acquire(), None);
    (wait.must_be_awaited, wait.is_silent) = (true, true);
    allocate(this.py(), wait)
}

fn aexit(this: This<'_, '_>, _: Arguments<'_, '_>) -> PyResult<Py<PyAny>> {
    own(this).release(1)?;
    allocate(this.py(), Wait::done(&ACQUIRE, this.py().None()))
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

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Semaphore>()?;
    let class = module.py().get_type::<Semaphore>();
    for definition in [
        fast_method!(c"acquire", acquire, c"acquire($self, blocking=True, timeout=-1)\n--\n\nGoes on when it is the caller's turn; False if the time was over before."),
        plain_method!(c"try_acquire", try_acquire, c"try_acquire($self, /)\n--\n\nWhether the caller may go on now."),
        fast_method!(c"aacquire", aacquire, c"aacquire($self, timeout=None)\n--\n\nAs acquire(), awaited."),
        plain_method!(c"acquiring", acquiring, c"acquiring($self, /)\n--\n\nThe acquire as an operation of a select."),
        plain_method!(c"__enter__", enter, c"__enter__($self, /)\n--\n\nAcquires."),
        fast_method!(c"__exit__", exit, c"__exit__($self, *exception)\n--\n\nReleases."),
        plain_method!(c"__aenter__", aenter, c"__aenter__($self, /)\n--\n\nAcquires, awaited."),
        fast_method!(c"__aexit__", aexit, c"__aexit__($self, *exception)\n--\n\nReleases."),
    ] {
        attach_method(&class, definition)?;
    }
    Ok(())
}
