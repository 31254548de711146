//! What the interpreter calls for what an object refers to, and when the object goes.

use super::class::{FutureRef, TaskRef, base_of, parts_of};
use super::ending;
use super::state::{FutureState, TaskState};
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};
use std::ffi::{c_int, c_void};

pub unsafe extern "C" fn traverse<const IS_TASK: bool>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector calls this with live objects of the class, and a visitor for the length of the call. The base shows
    // the object's class if it is itself made at run time, which asyncio's are from Python 3.12 on.
    unsafe {
        let base = base_of::<IS_TASK>();
        if ffi::PyType_HasFeature(base, ffi::Py_TPFLAGS_HEAPTYPE) == 0 {
            let result = visit(ffi::Py_TYPE(object).cast(), argument);
            if result != 0 {
                return result;
            }
        }
        let result = (*base).tp_traverse.map_or(0, |traverse| traverse(object, visit, argument));
        if result != 0 {
            return result;
        }
        let mut show = |referent: &Py<PyAny>| visit(referent.as_ptr(), argument);
        let parts = parts_of(object);
        let result = FutureState::show(&(*parts).future, &mut show);
        if result != 0 || !IS_TASK {
            return result;
        }
        TaskState::show(&(*parts).task, &mut show)
    }
}

pub unsafe extern "C" fn clear<const IS_TASK: bool>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: called with a live object of the class, attached. `all_tasks()` of another thread may have found the task in asyncio's
    // list just now, and asks for its loop, which has ways of its own to break a cycle.
    unsafe {
        let py = Python::assume_attached();
        let parts = parts_of(object);
        FutureState::break_cycles(&(*parts).future, py);
        if IS_TASK {
            TaskState::clear(&(*parts).task, py);
        }
        (*base_of::<IS_TASK>()).tp_clear.map_or(0, |clear| clear(object))
    }
}

pub unsafe extern "C" fn finalise<const IS_TASK: bool>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this with a live object of the class, attached.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, object);
        if IS_TASK {
            ending::finalise_task(TaskRef::new(object));
        }
        ending::finalise_future(FutureRef::new(object));
    }
}

pub unsafe extern "C" fn deallocate<const IS_TASK: bool>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this once, attached, for an object without references. The finaliser may make it live again,
    // and then nothing is touched. Untracked first, since what is dropped may start a collection.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        #[cfg(Py_3_14)]
        dismantle::<IS_TASK>(object);
        #[cfg(not(Py_3_14))]
        in_turn::carry_out(object, dismantle::<IS_TASK>);
    }
}

/// Drops what an object holds, and frees it.
///
/// # Safety
/// The object is of the class that `IS_TASK` names or of a subclass, has no references and is not tracked; the thread is attached.
unsafe fn dismantle<const IS_TASK: bool>(object: *mut ffi::PyObject) {
    // SAFETY: the caller's word. The base frees the memory, and from Python 3.14 on takes the task out of asyncio's list; it lets go
    // of the class if it is itself made at run time.
    unsafe {
        ffi::PyObject_ClearWeakRefs(object);
        let (py, parts) = (Python::assume_attached(), parts_of(object));
        FutureState::clear(&(*parts).future, py);
        if IS_TASK {
            TaskState::clear(&(*parts).task, py);
        }
        let class = ffi::Py_TYPE(object);
        let base = base_of::<IS_TASK>();
        if let Some(deallocate) = (*base).tp_dealloc {
            deallocate(object);
        }
        if ffi::PyType_HasFeature(base, ffi::Py_TPFLAGS_HEAPTYPE) == 0 {
            ffi::Py_DECREF(class.cast());
        }
    }
}

/// Futures that hold one another go one after the other: within one another they would need a stack as deep as their number. From
/// Python 3.14 on the interpreter sees to that for all objects; before, it is the matter of each class.
#[cfg(not(Py_3_14))]
mod in_turn {
    use pyo3::ffi;
    use std::cell::Cell;
    use std::mem::ManuallyDrop;

    /// How many may go within one another.
    const DEEPEST: usize = 50;

    type Dismantle = unsafe fn(*mut ffi::PyObject);

    struct Going {
        depth: Cell<usize>,
        /// Those whose turn comes when the outermost has gone. Empty outside of it, so there is nothing to drop with the thread.
        waiting: Cell<ManuallyDrop<Vec<(*mut ffi::PyObject, Dismantle)>>>,
    }

    thread_local! {
        static GOING: Going =
            const { Going { depth: Cell::new(0), waiting: Cell::new(ManuallyDrop::new(Vec::new())) } };
    }

    /// Dismantles an object now or, deep within others, when the outermost of them has gone.
    ///
    /// An object that waits is to the interpreter what one in its own queue of this kind is: it has no references, weak ones
    /// see that, and the collector does not know it.
    ///
    /// # Safety
    /// What `dismantle` asks for holds of the object, and stays so: nobody else has it.
    pub unsafe fn carry_out(object: *mut ffi::PyObject, dismantle: Dismantle) {
        GOING.with(|going| {
            let depth = going.depth.get();
            if depth == DEEPEST {
                let mut waiting = going.waiting.take();
                waiting.push((object, dismantle));
                going.waiting.set(waiting);
                return;
            }
            going.depth.set(depth + 1);
            // SAFETY: the caller's word.
            unsafe { dismantle(object) };
            if depth == 0 {
                loop {
                    let waiting = ManuallyDrop::into_inner(going.waiting.take());
                    if waiting.is_empty() {
                        break;
                    }
                    for (object, dismantle) in waiting {
                        // SAFETY: the word of whoever has put it there, on this thread, within this call.
                        unsafe { dismantle(object) };
                    }
                }
            }
            going.depth.set(depth);
        });
    }
}
