//! The future of a call: `concurrent.futures.Future` with its state here, for pools that make and finish very many.
//!
//! The public class is derived in Python (`motet/_executor/futures.py`) from this one and from Python's own, so that `wait()`,
//! `as_completed()` and `asyncio.wrap_future()` work on it as they are. What makes it cheap is what is not made until somebody
//! asks: the condition, the list of waiters, the list of callbacks.
//!
//! | file | holds |
//! |---|---|
//! | `state.rs` | what a future knows |
//! | `class.rs` | the class, how objects come and go |
//! | `changes.rs` | how the stage changes, and the rule for the condition |
//! | `condition.rs`, `callbacks.rs` | what others see or add |
//! | `waiting.rs` | waiting in a thread |
//! | `methods.rs`, `properties.rs` | what programs call and look at |
//! | `stock.rs` | what is Python's own |

mod callbacks;
mod changes;
mod class;
mod condition;
mod methods;
mod properties;
mod state;
mod stock;
mod waiting;

use changes::{Ending, Start};
use class::This;
use pyo3::prelude::*;
use state::State;

/// A `motet.CallFuture`.
pub struct CallFuture(Py<PyAny>);

/// Makes a future. `origin` is asked, by methods that must not block for long, about the call with this number:
/// `_withdraw(number)`, whether it had not begun and never will; `_is_running(number)`; `_kill(number)`, whether it is being
/// stopped, and [`finish_cancelled`] will be called.
pub fn new(py: Python<'_>, origin: Option<Py<PyAny>>, number: u64) -> PyResult<CallFuture> {
    let class = stock::call_future(py)?;
    class::allocate(class, State::of(origin, number)).map(|future| CallFuture(future.unbind()))
}

impl CallFuture {
    /// The future as Python sees it.
    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    pub fn drop_ref(self, py: Python<'_>) {
        self.0.drop_ref(py);
    }

    /// The future that a method was called on.
    fn of(this: This<'_, '_>) -> Self {
        Self(this.object().to_owned().unbind())
    }

    fn this<'py>(&self, py: Python<'py>) -> This<'_, 'py> {
        // SAFETY: nothing else is put into a `CallFuture`.
        unsafe { This::new(self.0.bind_borrowed(py)) }
    }
}

/// The call begins; false when it was cancelled, and then must not run.
///
/// # Errors
/// What the handler of a signal raised meanwhile, on the main thread; the future has changed all the same.
pub fn start(py: Python<'_>, future: &CallFuture) -> PyResult<bool> {
    changes::start(future.this(py)).map(|start| start == Start::Begun)
}

/// The call has returned, or raised an exception; false when the future was done already.
///
/// # Errors
/// What the handler of a signal, or a callback, raised that is no `Exception`; the future is done all the same.
pub fn finish(py: Python<'_>, future: &CallFuture, result: Result<Py<PyAny>, Py<PyAny>>) -> PyResult<bool> {
    changes::complete(future.this(py), result.map_or_else(Ending::Exception, Ending::Result))
}

/// The call was stopped, or never will run; false when the future was done already.
///
/// # Errors
/// As [`finish`].
pub fn finish_cancelled(py: Python<'_>, future: &CallFuture) -> PyResult<bool> {
    changes::complete(future.this(py), Ending::CancelledAndNotified)
}

/// As [`new`].
#[pyfunction]
#[pyo3(name = "_call_future", signature = (origin, number))]
fn call_future(py: Python<'_>, origin: Option<Py<PyAny>>, number: u64) -> PyResult<Py<PyAny>> {
    new(py, origin, number).map(|future| future.object(py).clone().unbind())
}

/// Puts the class into the module.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(call_future, module)?)?;
    module.add("CallFutureCore", class::core(module.py())?)
}
