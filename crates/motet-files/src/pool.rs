//! Threads that carry out work that blocks.
//!
//! Threads are few where work is done as fast as the processors allow (data in the cache), and many where it waits (for a disk,
//! or a pipe that nobody has opened yet). To tell the two apart needs no knowledge of the work: while work waits and all threads
//! are busy, a warden looks every `PATIENCE` whether any was begun since its last look, and adds a thread if none was.
//! Threads that have had nothing to do for `IDLE` leave, so that a process which uses no files any more has none.
//!
//! Who hands in thousands of small pieces of work would be woken for each of them. So results are kept back while more work
//! waits, until there are `TOGETHER` of them or the warden looks; the last ones are never kept back.

use crate::sys;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Threads, at most.
const MOST: usize = 64;
/// How long work may wait, with none begun, before there is one thread more.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long a thread waits for work before it leaves.
const IDLE: Duration = Duration::from_secs(10);

/// How many results are told together, at most.
const TOGETHER: usize = 16;

/// Something to do.
pub trait Work: Send + 'static {
    /// What comes of it.
    type Result: Send;
    /// Does it.
    fn run(self) -> Self::Result;
    /// Tells what has come of several.
    fn tell(results: Vec<Self::Result>);
}

/// Starts a thread that runs what it is given.
pub type Spawn = fn(Box<dyn FnOnce() + Send>) -> io::Result<()>;

/// The threads and what waits for them. They are not ended with the pool: it is there for a process's whole life.
pub struct Pool<W: Work> {
    shared: Arc<Shared<W>>,
}

struct Shared<W: Work> {
    state: Mutex<State<W>>,
    /// For threads that wait for work.
    work: Condvar,
    /// For the warden, which waits for work that nobody takes.
    surplus: Condvar,
    spawn: Spawn,
    /// Threads that are started without waiting for the warden's word.
    few: usize,
}

struct State<W: Work> {
    waiting: VecDeque<W>,
    /// Results that are kept back.
    results: Vec<W::Result>,
    threads: usize,
    idle: usize,
    warden: Warden,
    /// How much work was ever begun.
    begun: u64,
}

/// What the warden does.
#[derive(Debug)]
enum Warden {
    /// There is none.
    Gone,
    /// It waits for work that is left waiting.
    Resting,
    /// It looks every now and then whether work is begun.
    Watching,
}

impl<W: Work> Pool<W> {
    /// A pool without threads; they come with the work.
    #[must_use]
    pub fn new(spawn: Spawn) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            results: Vec::new(),
            threads: 0,
            idle: 0,
            warden: Warden::Gone,
            begun: 0,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                work: Condvar::new(),
                surplus: Condvar::new(),
                spawn,
                few: (sys::processors() + 2).min(MOST),
            }),
        }
    }

    /// Has work done, begun in this order. Where not one thread can be had, it is done here and now.
    pub fn submit(&self, batch: impl IntoIterator<Item = W>) {
        let mut state = self.shared.lock();
        state.waiting.extend(batch);
        if !state.waiting.is_empty() {
            self.shared.call_for_hands(&mut state);
        }
        if state.threads == 0 {
            let left = std::mem::take(&mut state.waiting);
            drop(state);
            W::tell(left.into_iter().map(W::run).collect());
        }
    }
}

impl<W: Work> State<W> {
    /// The results that have to be told now. Others are told when there are more of them, or by the warden.
    fn take_due_results(&mut self) -> Vec<W::Result> {
        let watched = matches!(self.warden, Warden::Watching);
        if watched && !self.waiting.is_empty() && self.results.len() < TOGETHER {
            return Vec::new();
        }
        std::mem::take(&mut self.results)
    }
}

fn tell<W: Work>(results: Vec<W::Result>) {
    if !results.is_empty() {
        W::tell(results);
    }
}

impl<W: Work> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes one thread for the work that waits, or starts one, or has the warden see to it. A thread that takes work and leaves
    /// some calls again, so that one call is enough for a batch.
    fn call_for_hands(self: &Arc<Self>, state: &mut State<W>) {
        if state.idle > 0 {
            self.work.notify_one();
            return;
        }
        if state.threads < self.few {
            self.start_thread(state);
            return;
        }
        match state.warden {
            Warden::Watching => {}
            Warden::Resting => {
                state.warden = Warden::Watching;
                self.surplus.notify_one();
            }
            Warden::Gone => {
                let shared = Arc::clone(self);
                if (self.spawn)(Box::new(move || shared.watch())).is_ok() {
                    state.warden = Warden::Watching;
                }
            }
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut State<W>) {
        let shared = Arc::clone(self);
        if (self.spawn)(Box::new(move || shared.serve())).is_ok() {
            state.threads += 1;
        }
    }

    fn serve(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                state.begun += 1;
                if !state.waiting.is_empty() {
                    self.call_for_hands(&mut state);
                }
                let results = state.take_due_results();
                drop(state);
                tell::<W>(results);
                let result = work.run();
                state = self.lock();
                state.results.push(result);
                continue;
            }
            if !state.results.is_empty() {
                let results = state.take_due_results();
                drop(state);
                tell::<W>(results);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, waited) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn watch(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            while state.waiting.is_empty() {
                state.warden = Warden::Resting;
                let (woken, waited) =
                    self.surplus.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if waited.timed_out() && state.waiting.is_empty() {
                    state.warden = Warden::Gone;
                    return;
                }
            }
            state.warden = Warden::Watching;
            let begun = state.begun;
            state = self.surplus.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
            if state.begun == begun && !state.waiting.is_empty() && state.threads < MOST {
                self.start_thread(&mut state);
            }
            if !state.results.is_empty() {
                let results = std::mem::take(&mut state.results);
                drop(state);
                tell::<W>(results);
                state = self.lock();
            }
        }
    }
}
