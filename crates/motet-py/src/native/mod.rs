//! Tasks and futures of motet's own, for programs that ask for them (`motet.task_factory`).
//!
//! Behaviour is asyncio's; what is saved is the way there. A stock task is woken by a bound method in a handle that its future
//! makes; here the future knows the task ([`state::Waiter::Task`]) and puts it into the loop's ready ring, which steps it.
//!
//! | file | holds |
//! |---|---|
//! | `class.rs` | the two classes, derived from asyncio's |
//! | `state.rs`, `guarded.rs` | what their objects know, and who may touch it |
//! | `completion.rs` | how a future becomes done and wakes who waits |
//! | `beginning.rs`, `ending.rs` | how they begin, and what is told when they go |
//! | `parting.rs` | what the collector asks for, and how objects are freed |
//! | `step.rs`, `waiting.rs` | one step of a task, and what it waits for then |
//! | `awaiting.rs` | `await` |
//! | `registry.rs` | asyncio's books: all tasks, the current one, who awaits whom |
//! | `visible.rs` | what is shown where asyncio keeps it: to its own methods, and to tools outside of the process |
//! | `future_methods.rs`, `future_properties.rs`, `task_methods.rs` | what programs call |

mod awaiting;
mod beginning;
mod class;
mod completion;
mod ending;
mod future_methods;
pub mod future_properties;
pub mod guarded;
mod parting;
mod registry;
mod state;
mod step;
mod stock;
mod task_methods;
mod visible;
mod waiting;

pub use beginning::{Options, create_future, create_task};
pub use registry::{enter, leave, swap};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

static FACTORY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Makes tasks of motet's own: `loop.set_task_factory(motet.task_factory)`.
#[pyfunction]
#[pyo3(signature = (r#loop, coro, **kwargs))]
fn task_factory<'py>(
    r#loop: &Bound<'py, PyAny>,
    coro: &Bound<'py, PyAny>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let keywords = kwargs.map_or_else(|| Ok(PyDict::new(py)), |kwargs| kwargs.copy())?;
    keywords.set_item("loop", r#loop)?;
    class::task(py)?.call((coro,), Some(&keywords))
}

/// Puts the classes and the task factory into the module. Called once, before there is a loop.
pub fn make(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let (future, task) = class::make(py)?;
    awaiting::make(py)?;
    visible::look(py)?;
    registry::open(py)?;
    module.setattr("Future", future)?;
    module.setattr("Task", task)?;
    let factory = wrap_pyfunction!(task_factory, module)?;
    FACTORY.get_or_init(py, || factory.clone().into_any().unbind());
    module.setattr("task_factory", factory)
}

/// Whether a loop's task factory is motet's, so that the loop may make tasks and futures without calling it.
pub fn is_task_factory(factory: Option<&Py<PyAny>>, py: Python<'_>) -> bool {
    matches!((factory, FACTORY.get(py)), (Some(factory), Some(own)) if factory.is(own))
}

/// Runs the step of a task that was in the ready ring; it is the current task.
#[inline]
pub fn run_step(task: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: only tasks are put into the ring as such.
    step::run(unsafe { class::TaskRef::new(task.as_borrowed()) })
}
