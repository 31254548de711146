//! What one loop publishes for the watchdog, and what the watchdog has found out.

use super::stack::Frame;
use super::thread;
use crate::sys;
use motet_reactor::clock::{Clock, MonotonicClock};
use motet_sync::pulse::Pulse;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Blocks kept for each loop: the longest.
const KEPT: usize = 100;
/// Default threshold, in nanoseconds.
const THRESHOLD: u64 = 100_000_000;

/// One callback that held the loop for longer than the threshold.
#[derive(Clone)]
pub struct Record {
    sequence: u64,
    began: u64,
    ended: Option<u64>,
    /// Innermost first; never empty.
    stack: Vec<Frame>,
}

/// One loop, as the watchdog sees it.
pub struct Watched {
    pub pulse: Pulse,
    threshold: AtomicU64,
    thread: AtomicUsize,
    /// The process that has made this: in a child the lock of the records may be held for ever.
    process: u32,
    records: Mutex<Vec<Record>>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            pulse: Pulse::new(),
            threshold: AtomicU64::new(THRESHOLD),
            thread: AtomicUsize::new(0),
            process: std::process::id(),
            records: Mutex::default(),
        }
    }
}

/// Ends the watching when dropped.
pub struct Watching(Option<Arc<Watched>>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(watched) = &self.0 {
            watched.pulse.set_idle();
            thread::forget(watched);
        }
    }
}

impl Watched {
    pub fn threshold_nanoseconds(&self) -> u64 {
        self.threshold.load(Ordering::Relaxed)
    }

    pub fn set_threshold_nanoseconds(&self, threshold: u64) {
        self.threshold.store(threshold, Ordering::Relaxed);
    }

    /// The loop's thread begins to run.
    pub fn begin(self: &Arc<Self>) -> PyResult<Watching> {
        if self.threshold_nanoseconds() == 0 {
            return Ok(Watching(None));
        }
        self.thread.store(sys::current_thread(), Ordering::Relaxed);
        self.pulse.set_idle();
        let watched = Python::attach(|py| thread::watch(py, self))?;
        Ok(Watching(watched.then(|| Arc::clone(self))))
    }

    /// The thread that runs the loop, as `sys` names it.
    pub fn thread(&self) -> usize {
        self.thread.load(Ordering::Relaxed)
    }

    /// The records. In a child of the process that has made the loop, nothing when somebody has them: who does may be gone.
    fn lock(&self) -> Option<MutexGuard<'_, Vec<Record>>> {
        if self.process == std::process::id() {
            return Some(self.records.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.records.try_lock().ok()
    }

    /// Enters a block that still goes on.
    pub fn enter(&self, sequence: u64, began: u64, stack: Vec<Frame>) {
        if let Some(mut records) = self.lock() {
            records.push(Record { sequence, began, ended: None, stack });
        }
    }

    /// Notes the end of the block that was entered last, if it has ended, and keeps the longest ones. `moved_on` is when the loop
    /// was seen to do something else: the end of a block whose loop has not seen that it was marked.
    pub fn settle(&self, moved_on: Option<u64>) {
        let Some(mut records) = self.lock() else { return };
        if let Some(last) = records.iter_mut().find(|record| record.ended.is_none()) {
            last.ended = self.pulse.finished(last.sequence).or(moved_on);
        }
        if records.len() > KEPT {
            records.sort_by_key(|record| std::cmp::Reverse(record.nanoseconds()));
            // The one that goes on stays, whatever its length.
            let mut count = 0;
            records.retain(|record| {
                count += 1;
                count <= KEPT || record.ended.is_none()
            });
        }
    }

    /// The blocks so far, longest first.
    pub fn records(&self) -> Vec<Record> {
        self.settle(None);
        let mut records = self.lock().map_or_else(Vec::new, |records| records.clone());
        records.sort_by_key(|record| std::cmp::Reverse(record.nanoseconds()));
        records
    }
}

impl Record {
    /// How long the callback held the loop; so far, if it still does.
    fn nanoseconds(&self) -> u64 {
        self.ended.unwrap_or_else(|| MonotonicClock.now()).saturating_sub(self.began)
    }

    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let record = PyDict::new(py);
        if let Some(place) = self.stack.first() {
            record.set_item("function", &place.function)?;
            record.set_item("file", &place.file)?;
            record.set_item("line", place.line)?;
        }
        record.set_item("seconds", self.nanoseconds() as f64 / 1e9)?;
        record.set_item("ended", self.ended.is_some())?;
        let stack: Vec<_> =
            self.stack.iter().map(|frame| (&*frame.function, &*frame.file, frame.line)).collect();
        record.set_item("stack", stack)?;
        Ok(record)
    }
}
