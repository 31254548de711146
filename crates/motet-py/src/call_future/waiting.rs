//! Waiting for a future in a thread.
//!
//! A thread that waits looks for a moment, without the interpreter, whether the call ends: most of a short call's round trip would
//! be waking it. Then it makes a lock of Python's, puts it into the future and acquires it a second time: that detaches, knows
//! timeouts, and lets the handlers of signals run at once. Who changes the stage, or makes a condition, takes the lock out and
//! releases it. With a condition the thread waits for that one, since somebody may change the future by its attributes then.
//!
//! A signal that comes between the thread's last look and its sleep wakes nobody, and its handler would run after the wait.
//! So the main thread, where handlers run, looks every now and then; others sleep undisturbed.

use super::class::This;
use super::condition::{Errors, Held};
use super::state::Stage;
use super::stock;
use crate::call;
use crate::idling::Idling;
use crate::sys::thread_token;
use pyo3::exceptions::{PyBaseException, PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a done future gives: its result, or the exception of the call.
pub enum Outcome<'py> {
    Result(Bound<'py, PyAny>),
    Exception(Bound<'py, PyAny>),
}

/// What the future gives; nothing as long as it is not done.
///
/// # Errors
/// `CancelledError`.
pub fn outcome<'py>(this: This<'_, 'py>) -> PyResult<Option<Outcome<'py>>> {
    let py = this.py();
    let (stage, result, exception) = this.with(|state| match state.stage {
        Stage::Finished => {
            let exception = state.exception.as_ref().map(|exception| exception.clone_ref(py));
            let result = match exception {
                None => state.result.as_ref().map(|result| result.clone_ref(py)),
                Some(_) => None,
            };
            (Stage::Finished, result, exception)
        }
        stage => (stage, None, None),
    });
    if stage.is_cancelled() {
        return Err(stock::error(stock::cancelled_error(py), None));
    }
    if stage != Stage::Finished {
        return Ok(None);
    }
    Ok(Some(match exception {
        Some(exception) => Outcome::Exception(exception.into_bound(py)),
        None => Outcome::Result(result.unwrap_or_else(|| py.None()).into_bound(py)),
    }))
}

/// As [`outcome`], when the future is done.
///
/// # Errors
/// `CancelledError`, `TimeoutError`, and what the handler of a signal raises.
pub fn wait_for_outcome<'py>(
    this: This<'_, 'py>,
    timeout: Option<Bound<'py, PyAny>>,
) -> PyResult<Outcome<'py>> {
    if let Some(outcome) = outcome(this)? {
        return Ok(outcome);
    }
    wait(this, timeout)?;
    outcome(this)?.ok_or_else(|| PyTimeoutError::new_err(()))
}

/// The error of a call, raised once more: as by `raise`.
pub fn raised(exception: Bound<'_, PyAny>) -> PyErr {
    let py = exception.py();
    let exception = match exception.cast::<PyType>() {
        // Nobody checks what `set_exception` is given.
        Ok(class) if class.is_subclass_of::<PyBaseException>().unwrap_or(false) => match class.call0() {
            Ok(exception) => exception,
            Err(error) => return error,
        },
        _ => exception,
    };
    if !exception.is_instance_of::<PyBaseException>() {
        return PyTypeError::new_err("exceptions must derive from BaseException");
    }
    // SAFETY: an exception and its class. Unlike pyo3's way this sets the context, as `raise` does.
    unsafe { ffi::PyErr_SetObject(exception.get_type_ptr().cast(), exception.as_ptr()) };
    PyErr::fetch(py)
}

/// How long the main thread sleeps without a look at the signals, in seconds.
const SLICE: f64 = 0.1;

/// How long to wait.
struct Patience {
    deadline: Option<Instant>,
    /// Whether handlers of signals run in this thread.
    on_main_thread: bool,
}

impl Patience {
    /// Seconds from now; nothing without a limit.
    fn left(&self) -> Option<f64> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// Seconds until the next look; nothing without a limit.
    fn slice(&self) -> Option<f64> {
        let left = self.left();
        if self.on_main_thread { Some(left.map_or(SLICE, |left| left.min(SLICE))) } else { left }
    }

    fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left <= 0.0)
    }
}

/// Waits until the future is done or the time is over.
fn wait<'py>(this: This<'_, 'py>, timeout: Option<Bound<'py, PyAny>>) -> PyResult<()> {
    let py = this.py();
    let main_thread: usize = stock::main_thread(py)?.call0()?.getattr(intern!(py, "ident"))?.extract()?;
    let on_main_thread = main_thread == thread_token();
    let patience = match &timeout {
        None => Patience { deadline: None, on_main_thread },
        Some(timeout) if timeout.gt(0)? => {
            let seconds = timeout.extract::<f64>()?;
            // One that is too long for a clock is for a lock too, which says so.
            let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            if duration == Duration::MAX {
                parker(py)?.call_method1(intern!(py, "acquire"), (true, timeout))?;
            }
            Patience { deadline: Instant::now().checked_add(duration), on_main_thread }
        }
        Some(_) => return Ok(()),
    };
    let has_ended = this.has_ended();
    py.detach(|| look(has_ended, &patience));
    while !patience.is_over() {
        let lock = parker(py)?;
        let mut candidate = Some(lock.clone().unbind());
        let (is_done, condition) = this.with(|state| {
            let condition = state.condition(py);
            let is_done = state.stage.is_done();
            if !is_done && condition.is_none() {
                state.extras_mut().parked.extend(candidate.take());
            }
            (is_done, condition)
        });
        let parked = candidate.is_none();
        candidate
            .into_iter()
            .chain(condition.as_ref().map(|condition| condition.clone_ref(py)))
            .for_each(|object| object.drop_ref(py));
        match condition {
            Some(condition) => {
                let condition = condition.into_bound(py);
                return if is_done { Ok(()) } else { wait_for_condition(this, condition, &patience) };
            }
            None if !parked => return Ok(()),
            None => park(this, &lock, &patience)?,
        }
    }
    Ok(())
}

/// What threads that wait for futures know of the machine.
static IDLING: Idling = Idling::new();

/// Looks for a moment whether the call ends.
fn look(has_ended: &AtomicBool, patience: &Patience) {
    let mut look = IDLING.look();
    while !has_ended.load(Ordering::Acquire) {
        if look.is_tired() {
            return look.sleep();
        }
        if patience.is_over() {
            return;
        }
        look.give_way();
    }
    look.find();
}

/// A lock that is held.
fn parker(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let lock = stock::allocate_lock(py)?.call0()?;
    call::method(&lock, intern!(py, "acquire"))?;
    Ok(lock)
}

/// Waits until somebody releases the lock, which is in the future, or the time is over.
fn park<'py>(this: This<'_, 'py>, lock: &Bound<'py, PyAny>, patience: &Patience) -> PyResult<()> {
    let py = lock.py();
    let acquired = acquire(lock, patience);
    if matches!(acquired, Ok(true)) {
        return Ok(());
    }
    let own = this.with(|state| {
        let parked = &mut state.extras_mut().parked;
        let place = parked.iter().position(|parked| parked.is(lock))?;
        Some(parked.swap_remove(place))
    });
    if let Some(own) = own {
        own.drop_ref(py);
    }
    acquired.map(drop)
}

/// Acquires a lock; false when the time is over.
fn acquire(lock: &Bound<'_, PyAny>, patience: &Patience) -> PyResult<bool> {
    let py = lock.py();
    loop {
        // A signal that has come on the way here would not end the wait.
        py.check_signals()?;
        let acquired = match patience.slice() {
            None => call::method(lock, intern!(py, "acquire")),
            Some(seconds) => lock.call_method1(intern!(py, "acquire"), (true, seconds)),
        };
        if acquired?.is_truthy()? {
            return Ok(true);
        }
        if patience.is_over() {
            return Ok(false);
        }
    }
}

fn wait_for_condition(this: This<'_, '_>, condition: Bound<'_, PyAny>, patience: &Patience) -> PyResult<()> {
    let py = this.py();
    let held = Held::try_acquire(condition)?;
    let mut errors = Errors::default();
    while !this.with(|state| state.stage.is_done()) && !patience.is_over() {
        let waited = held.0.call_method1(intern!(py, "wait"), (patience.slice(),));
        let failed = waited.is_err();
        errors.note(py, waited);
        if failed {
            break;
        }
    }
    held.release(&mut errors);
    errors.report(())
}
