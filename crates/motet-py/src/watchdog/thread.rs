//! The watching thread: one for the process, from the first loop that runs to the interpreter's exit.
//!
//! After `fork` the child has no such thread, and the parent's locks may be held for ever; so the child makes a new [`Dog`]
//! and leaves the old one alone.

use super::records::Watched;
use super::stack::{self, Frame};
use crate::errors::os_error;
use crate::sys;
use motet_reactor::clock::{Clock, MonotonicClock};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looks within one threshold.
const LOOKS: u64 = 4;
/// Nanoseconds between two looks, at least.
const SHORTEST_TICK: u64 = 1_000_000;
/// How long the thread may take to begin to write its stack (it may sit in the kernel).
const FIRST_ANSWER: Duration = Duration::from_millis(50);
/// How long no more of the stack may come before it is taken as complete.
const NEXT_ANSWER: Duration = Duration::from_millis(5);

/// The watchdog of one process.
struct Dog {
    process: u32,
    signal: i32,
    dump: OwnedFd,
    /// Kept open: `faulthandler` writes to its number.
    _dump_writer: OwnedFd,
    kennel: Mutex<Kennel>,
    bell: Condvar,
}

#[derive(Default)]
struct Kennel {
    loops: Vec<Watch>,
    thread: Option<JoinHandle<()>>,
    stopped: bool,
}

/// What is known of one loop between two looks.
struct Watch {
    watched: Arc<Watched>,
    sequence: u64,
    began: u64,
    recorded: bool,
}

static DOG: AtomicPtr<Dog> = AtomicPtr::new(std::ptr::null_mut());
static STOPPED: AtomicBool = AtomicBool::new(false);

/// This process's watchdog, if it has one.
fn current() -> Option<&'static Dog> {
    // SAFETY: null, or a `Dog` that was leaked for good.
    let dog = unsafe { DOG.load(Ordering::Acquire).as_ref() }?;
    (dog.process == std::process::id()).then_some(dog)
}

/// This process's watchdog, made at the first call.
fn current_or_new(py: Python<'_>) -> PyResult<&'static Dog> {
    if let Some(dog) = current() {
        return Ok(dog);
    }
    let _making = Making::begin(py);
    match current() {
        Some(dog) => Ok(dog),
        None => create(py),
    }
}

/// That a watchdog is being made: one in a process at a time. Making it calls Python, and so lets other threads run, which may fork:
/// a mutex would stay locked in the child.
struct Making {
    process: u32,
}

/// The process in which one is being made, or was when it forked; or 0.
static MAKER: AtomicU32 = AtomicU32::new(0);

impl Making {
    fn begin(py: Python<'_>) -> Self {
        let process = std::process::id();
        loop {
            let maker = MAKER.load(Ordering::Relaxed);
            let free = maker != process
                && MAKER.compare_exchange(maker, process, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if free {
                return Self { process };
            }
            py.detach(|| std::thread::sleep(Duration::from_millis(1)));
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // A failure means that this is a child, which was forked in between and has begun anew.
        let _ = MAKER.compare_exchange(self.process, 0, Ordering::Release, Ordering::Relaxed);
    }
}

fn create(py: Python<'_>) -> PyResult<&'static Dog> {
    let (dump, writer) = sys::pipe().map_err(os_error)?;
    let signal = free_signal()?;
    let keywords = PyDict::new(py);
    keywords.set_item("file", writer.as_raw_fd())?;
    keywords.set_item("all_threads", false)?;
    keywords.set_item("chain", false)?;
    py.import("faulthandler")?.call_method("register", (signal,), Some(&keywords))?;
    #[cfg(all(Py_3_13, not(Py_3_14)))]
    super::entry_frame::install(py, signal)?;
    let dog = Dog {
        process: std::process::id(),
        signal,
        dump,
        _dump_writer: writer,
        kennel: Mutex::default(),
        bell: Condvar::new(),
    };
    let dog: &'static Dog = Box::leak(Box::new(dog));
    DOG.store(std::ptr::from_ref(dog).cast_mut(), Ordering::Release);
    Ok(dog)
}

/// A signal that nobody has claimed.
fn free_signal() -> PyResult<i32> {
    sys::spare_signals().find(|signal| sys::signal_is_free(*signal)).ok_or_else(|| {
        PyRuntimeError::new_err(
            "no signal is free for the watchdog; switch it off by loop.blocked_threshold = 0",
        )
    })
}

/// Watches a loop that begins to run. `false` when the interpreter is going down.
pub fn watch(py: Python<'_>, watched: &Arc<Watched>) -> PyResult<bool> {
    if STOPPED.load(Ordering::Acquire) {
        return Ok(false);
    }
    let dog = current_or_new(py)?;
    let mut kennel = dog.lock();
    if kennel.stopped {
        return Ok(false);
    }
    let alone = kennel.loops.is_empty();
    kennel.loops.push(Watch { watched: Arc::clone(watched), sequence: 0, began: 0, recorded: true });
    if kennel.thread.is_none() {
        let thread = sys::with_signals_blocked(|| {
            std::thread::Builder::new().name("motet-watchdog".to_owned()).spawn(|| dog.run())
        })
        .map_err(os_error)?;
        kennel.thread = Some(thread);
    } else if alone {
        dog.bell.notify_one();
    }
    Ok(true)
}

/// Ends the watching of a loop.
pub fn forget(watched: &Arc<Watched>) {
    watched.settle(Some(MonotonicClock.now()));
    if let Some(dog) = current() {
        dog.lock().loops.retain(|watch| !Arc::ptr_eq(&watch.watched, watched));
    }
}

/// Ends the thread, for good.
pub fn stop() {
    STOPPED.store(true, Ordering::Release);
    let Some(dog) = current() else { return };
    let thread = {
        let mut kennel = dog.lock();
        kennel.stopped = true;
        dog.bell.notify_one();
        kennel.thread.take()
    };
    if let Some(thread) = thread {
        // A panic in it has been printed; nothing depends on it.
        let _ = thread.join();
    }
}

impl Dog {
    fn lock(&self) -> MutexGuard<'_, Kennel> {
        self.kennel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut kennel = self.lock();
        let mut last_look = MonotonicClock.now();
        while !kennel.stopped {
            if kennel.loops.is_empty() {
                kennel = self.bell.wait(kennel).unwrap_or_else(PoisonError::into_inner);
                last_look = MonotonicClock.now();
                continue;
            }
            let shortest = kennel
                .loops
                .iter()
                .map(|watch| watch.watched.threshold_nanoseconds())
                .filter(|t| *t > 0)
                .min();
            let tick = (shortest.unwrap_or(u64::MAX / LOOKS) / LOOKS).max(SHORTEST_TICK);
            let until = Instant::now() + Duration::from_nanos(tick);
            // Loops that come meanwhile are looked at in the next turn; only a stop is heard at once.
            while !kennel.stopped {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                kennel = self.bell.wait_timeout(kennel, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let now = MonotonicClock.now();
            for index in 0..kennel.loops.len() {
                if kennel.stopped {
                    break;
                }
                self.look(&mut kennel.loops[index], last_look, now);
            }
            last_look = now;
        }
    }

    /// Looks at one loop. Signals are sent only here, under the lock: a loop that has been forgotten is not signalled any more.
    fn look(&self, watch: &mut Watch, last_look: u64, now: u64) {
        let watched = &watch.watched;
        let seen = watched.pulse.observe();
        let Some(busy_since) = seen.busy_since_nanos else {
            watch.recorded = true;
            watch.sequence = seen.sequence;
            watched.settle(Some(now));
            return;
        };
        if seen.sequence != watch.sequence {
            watched.settle(Some(now));
            watch.sequence = seen.sequence;
            watch.began = last_look.max(busy_since);
            watch.recorded = false;
        }
        let threshold = watched.threshold_nanoseconds();
        if watch.recorded || threshold == 0 || now.saturating_sub(watch.began) < threshold {
            return;
        }
        watched.pulse.flag(seen.sequence);
        let frames = self.stack_of(watched.thread());
        // A stack that was written after the callback had ended is another callback's.
        if watched.pulse.observe() == seen && !frames.is_empty() {
            watched.enter(seen.sequence, watch.began, frames);
        }
        watch.recorded = true;
    }

    /// Has a thread write its Python stack, and reads it.
    fn stack_of(&self, thread: usize) -> Vec<Frame> {
        let mut buffer = [0; 4096];
        // What a late answer to an earlier question has left.
        while matches!(sys::read_within(&self.dump, &mut buffer, Duration::ZERO), Ok(count) if count > 0) {}
        // SAFETY: a thread forgets its loop when the run ends, for which it needs the lock that is held here.
        if unsafe { sys::signal_thread(thread, self.signal) }.is_err() {
            return Vec::new();
        }
        let mut dump = Vec::new();
        let mut patience = FIRST_ANSWER;
        while let Ok(count @ 1..) = sys::read_within(&self.dump, &mut buffer, patience) {
            dump.extend_from_slice(&buffer[..count]);
            patience = NEXT_ANSWER;
        }
        stack::parse(&String::from_utf8_lossy(&dump))
    }
}
