//! Keeps `faulthandler` off a frame that it cannot read: CPython 3.13 only.
//!
//! Where C calls Python, the interpreter puts an entry frame without code below the function's. While a function that C has
//! called is over and its variables are freed, that entry frame is the innermost, and 3.13's `faulthandler` takes what it has in
//! place of code for code: the process ends by a segmentation fault. Freeing much is just what may block a loop.
//!
//! So the signal first comes to [`guard`], which has `faulthandler` begin at the innermost frame with code.

use crate::sys;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{ffi, intern};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where `PyThreadState` has `current_frame`: `Include/cpython/pystate.h` of 3.13, with the GIL and without.
const CURRENT_FRAME: usize = 72;

/// How an interpreter's frame begins.
#[repr(C)]
struct Frame {
    executable: *mut ffi::PyObject,
    previous: *mut Frame,
}

/// `faulthandler`'s own handler.
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// The place of a thread's innermost frame.
///
/// # Safety
/// `thread` is the state of the calling thread.
unsafe fn current_frame(thread: *mut ffi::PyThreadState) -> *mut *mut Frame {
    // SAFETY: the caller's word, and the layout that `install` has checked.
    unsafe { thread.byte_add(CURRENT_FRAME).cast() }
}

/// # Safety
/// `frame` is one of the calling thread's frames.
unsafe fn has_code(frame: *mut Frame) -> bool {
    // SAFETY: the caller's word; what a frame executes is alive or null.
    unsafe {
        let executable = (*frame).executable;
        !executable.is_null() && ffi::PyCode_Check(executable) != 0
    }
}

/// Puts the guard before `faulthandler`'s handler of `signal`.
///
/// # Errors
/// `RuntimeError` when this interpreter's frames do not look as expected; the watchdog must not be used then.
pub fn install(py: Python<'_>, signal: i32) -> PyResult<()> {
    let code = py.import(intern!(py, "sys"))?.call_method0(intern!(py, "_getframe"))?.getattr("f_code")?;
    // SAFETY: a thread that is attached has a state; a frame of Python's called this.
    let known = unsafe {
        let frame = *current_frame(ffi::PyThreadState_Get());
        !frame.is_null() && (*frame).executable == code.as_ptr()
    };
    if !known {
        return Err(PyRuntimeError::new_err(
            "the watchdog does not know this Python's frames; switch it off by loop.blocked_threshold = 0",
        ));
    }
    // SAFETY: `guard` is a handler of the same kind, and does nothing that a handler may not.
    unsafe { sys::put_handler_before(signal, guard, &HANDLER) };
    Ok(())
}

/// The handler: nothing in it allocates, locks or changes a reference count.
///
/// Other threads see the innermost frame without its entry frame meanwhile, which leaves no code out.
extern "C" fn guard(signal: libc::c_int) {
    // SAFETY: set before this handler was, from a handler of this kind (`faulthandler` sets no `SA_SIGINFO`).
    let handler: extern "C" fn(libc::c_int) =
        unsafe { std::mem::transmute(HANDLER.load(Ordering::Acquire) as *const ()) };
    // SAFETY: `faulthandler` asks in the same way; null on a thread that the interpreter does not know. The thread's frames stand
    // still while it is in here.
    unsafe {
        let thread = ffi::PyGILState_GetThisThreadState();
        if thread.is_null() {
            return handler(signal);
        }
        let place = current_frame(thread);
        let innermost = place.read_volatile();
        let mut frame = innermost;
        while !frame.is_null() && !has_code(frame) {
            frame = (*frame).previous;
        }
        if frame != innermost {
            place.write_volatile(frame);
        }
        handler(signal);
        if frame != innermost {
            place.write_volatile(innermost);
        }
    }
}
