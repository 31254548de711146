//! Class `Worker`: the loop of a worker process.

use super::memory::{self, Leased};
use super::waiting::allocate;
use crate::errors::os_error;
use crate::idling::Idling;
use motet_lanes::arena::{Arena, Kind, Location};
use motet_lanes::lane::message::{INLINE, Reply, reply_kind, request_kind};
use motet_lanes::lane::parcel::{Parcel, Staged};
use motet_lanes::lane::peer::{Peer, behind_places};
use motet_lanes::lane::{Claimed, Sleep, WorkerSide};
use motet_lanes::sys::watch::{monotonic_nanos, ring};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};
use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// No request's number.
const NONE: u64 = u64::MAX;

/// The worker's end of a lane. `run` belongs to the main thread; signal handlers may ask `must_stop`.
#[pyclass(module = "motet._motet", frozen)]
pub struct Worker {
    ends: Arc<Mutex<Ends>>,
    arena: Arc<Arena>,
    /// The number of the request that runs.
    current: AtomicU64,
    policy: Py<PyAny>,
    functions: Mutex<HashMap<u32, Function>>,
    idling: Idling,
}

struct Ends {
    side: WorkerSide,
    peer: Peer,
    /// The parent's.
    bell: OwnedFd,
}

/// What a function's number stands for: the function, or why there is none.
enum Function {
    Loaded(Py<PyAny>),
    Failed(Py<PyAny>),
}

/// What a request says, copied out of the lane.
struct Asked<'py> {
    kind: u32,
    function: u32,
    bytes: Option<Bound<'py, PyBytes>>,
    buffers: Vec<Bound<'py, Leased>>,
}

/// What is answered.
struct Answer<'py> {
    kind: u32,
    bytes: Option<Bound<'py, PyBytes>>,
    buffers: Box<[Staged]>,
}

#[pymethods]
impl Worker {
    /// Owns the descriptors from now on: the lane's memory, the parent's bell, the lane's socket.
    ///
    /// `policy` has `load_function(bytes)`, `load_call(bytes, buffers)` which gives arguments and keywords,
    /// `dump_result(value)` which gives bytes and a list of buffers, and `dump_exception(exception)` which gives bytes and
    /// whether it means that the call was stopped; the last does not raise.
    #[new]
    fn new(lane: RawFd, bell: RawFd, control: RawFd, policy: Py<PyAny>) -> PyResult<Self> {
        // SAFETY: the caller gives these descriptors away.
        let [lane, bell, control] = [lane, bell, control].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let arena = memory::arena();
        let side = WorkerSide::open(lane).map_err(os_error)?;
        // SAFETY: the other end is the pool that this worker belongs to, which runs this crate.
        let peer = unsafe { Peer::new(&arena, control) };
        let ends = Arc::new(Mutex::new(Ends { side, peer, bell }));
        let starved = Arc::clone(&ends);
        memory::set_take_in(Arc::new(move || lock(&starved).starve()));
        Ok(Self {
            ends,
            arena,
            current: AtomicU64::new(NONE),
            policy,
            functions: Mutex::default(),
            idling: Idling::new(),
        })
    }

    /// Whether the parent wants the call that runs now stopped.
    fn must_stop(&self) -> bool {
        let current = self.current.load(Ordering::Relaxed);
        current != NONE && self.lock().side.must_stop(current)
    }

    /// For `sys.unraisablehook`: where the exception that stops a call has come up in code that cannot raise, a weak reference's
    /// callback, say, the signal whose handler has raised it comes once more. Compiled, so that it is not handled in here.
    fn unraisable(
        &self,
        py: Python<'_>,
        stopped: &Bound<'_, PyType>,
        signal: i32,
        what: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if what.getattr(intern!(py, "exc_type"))?.is(stopped) {
            // SAFETY: sets a flag for the main thread, for any number.
            unsafe { ffi::PyErr_SetInterruptEx(signal) };
            return Ok(());
        }
        py.import(intern!(py, "sys"))?.call_method1(intern!(py, "__unraisablehook__"), (what,)).map(drop)
    }

    /// Tells the parent that this process cannot work, and why.
    fn fail(&self, py: Python<'_>, exception: Bound<'_, PyBytes>) -> PyResult<()> {
        self.tell(py, reply_kind::RAISED, exception)
    }

    /// Sends a log record to the parent.
    fn log(&self, py: Python<'_>, record: Bound<'_, PyBytes>) -> PyResult<()> {
        self.tell(py, reply_kind::LOGGED, record)
    }

    /// Tells the parent what a call has cost, before its answer.
    fn measured(&self, py: Python<'_>, costs: Bound<'_, PyBytes>) -> PyResult<()> {
        self.tell(py, reply_kind::MEASURED, costs)
    }

    /// Works until the parent says that it is enough.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let claimed = self.lock().side.claim();
            let claimed = match claimed {
                Some(claimed) => claimed,
                None => {
                    self.say_released(py);
                    match py.detach(|| self.await_request()) {
                        Some(claimed) => claimed,
                        None => {
                            py.check_signals()?;
                            continue;
                        }
                    }
                }
            };
            self.lock().say_running_out();
            if !self.carry_out(py, claimed)? {
                return Ok(());
            }
        }
    }
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ends {
    /// Sends a reply if there is room; if not, the parent makes some.
    fn push(&self, write: impl FnOnce(&mut Reply)) -> bool {
        let sent = self.side.reply(write);
        if sent.unwrap_or_else(|| self.side.rouse()) {
            ring(self.bell.as_fd());
        }
        sent.is_some()
    }

    fn take_returns(&mut self) {
        while let Some(location) = self.side.take_return() {
            self.peer.returned(location);
        }
    }

    /// While the arena is full: takes what has come back, and has the parent look for more.
    fn starve(&mut self) {
        self.take_returns();
        // Without room for this the parent has enough to look at.
        self.push(|reply| {
            reply.kind = reply_kind::STARVED;
            reply.message.set_inline(&[]);
        });
        if self.side.rouse() {
            ring(self.bell.as_fd());
        }
    }

    /// Having claimed the last request that there is: tells a parent that dozes.
    fn say_running_out(&self) {
        if self.side.is_running_out() {
            ring(self.bell.as_fd());
        }
    }
}

impl Worker {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        lock(&self.ends)
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<u32, Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_request(&self) -> Option<Claimed> {
        let mut look = self.idling.look();
        loop {
            if let Some(claimed) = self.lock().side.claim() {
                look.find();
                return Some(claimed);
            }
            if look.is_tired() {
                break;
            }
            look.give_way();
        }
        look.sleep();
        let found = self.lock().side.claim_or_sleep();
        // Without the lock, which other threads of the program may want.
        found.map_err(Sleep::sleep).ok()
    }

    /// Carries a request out; false if it was the last.
    fn carry_out(&self, py: Python<'_>, claimed: Claimed) -> PyResult<bool> {
        let start = monotonic_nanos();
        let asked = self.read(py, &claimed, start);
        let position = claimed.position();
        let mut goes_on = true;
        let answer = match asked {
            Ok(asked) if asked.kind == request_kind::CALL => {
                self.current.store(position, Ordering::Relaxed);
                let answer = self.call(py, asked).or_else(|error| self.describe(py, &error));
                // To be stopped may have come in between; it comes once.
                let answer = answer.or_else(|stopped| self.describe(py, &stopped))?;
                self.current.store(NONE, Ordering::Relaxed);
                answer
            }
            Ok(asked) => {
                match asked.kind {
                    request_kind::DEFINE => self.define(py, &asked)?,
                    request_kind::FORGET => {
                        let forgotten = self.functions().remove(&asked.function);
                        drop(forgotten);
                    }
                    request_kind::RETIRE => self.lock().peer.let_go(asked.function),
                    _ => goes_on = false,
                }
                Answer { kind: reply_kind::DONE, bytes: None, buffers: Box::default() }
            }
            Err(error) => self.describe(py, &error)?,
        };
        let nanos = monotonic_nanos() - start;
        if let Err(error) = self.reply(py, position, nanos, answer) {
            // Nothing has been sent: the answer had no room in the arena.
            let answer = self.describe(py, &error)?;
            self.reply(py, position, nanos, answer)?;
        }
        self.lock().side.finish(claimed);
        Ok(goes_on)
    }

    fn read<'py>(&self, py: Python<'py>, claimed: &Claimed, now: u64) -> PyResult<Asked<'py>> {
        let mut ends = self.lock();
        let Ends { side, peer, .. } = &mut *ends;
        side.note_start(claimed, now);
        side.read(claimed, |request| {
            let message = &request.message;
            let received = peer.open(message).map_err(|error| PyOSError::new_err(error.to_string()))?;
            let bytes = behind_places(message, &received);
            let bytes = (!bytes.is_empty()).then(|| PyBytes::new(py, bytes));
            let lease =
                |(mapping, location)| Bound::new(py, Leased::new(mapping, location, peer.returns().clone()));
            let buffers = received.buffers.into_iter().map(lease).collect::<PyResult<_>>()?;
            Ok(Asked { kind: request.kind, function: request.function, bytes, buffers })
        })
    }

    fn call<'py>(&self, py: Python<'py>, asked: Asked<'py>) -> PyResult<Answer<'py>> {
        let function = match self.functions().get(&asked.function) {
            Some(Function::Loaded(function)) => function.clone_ref(py),
            Some(Function::Failed(error)) => return Err(PyErr::from_value(error.bind(py).clone())),
            None => {
                return Err(PyRuntimeError::new_err(
                    "a worker was not given the call's function; please report it",
                ));
            }
        };
        let policy = self.policy.bind(py);
        let value = match asked.bytes {
            None => function.call0(py)?,
            Some(bytes) => {
                let loaded = policy.call_method1(intern!(py, "load_call"), (bytes, asked.buffers))?;
                let (arguments, keywords): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = loaded.extract()?;
                let keywords = (!keywords.is_empty()).then_some(&keywords);
                function.call(py, arguments, keywords)?
            }
        };
        if value.is_none(py) {
            return Ok(Answer { kind: reply_kind::RETURNED, bytes: None, buffers: Box::default() });
        }
        let dumped = policy.call_method1(intern!(py, "dump_result"), (value,))?;
        let (bytes, outside): (Bound<'py, PyBytes>, Bound<'py, PyList>) = dumped.extract()?;
        let buffers = memory::buffers_of(&outside)?;
        let buffers = memory::stage(py, buffers)?;
        Ok(Answer { kind: reply_kind::RETURNED, bytes: Some(bytes), buffers })
    }

    fn define(&self, py: Python<'_>, asked: &Asked<'_>) -> PyResult<()> {
        let policy = self.policy.bind(py);
        let function = match policy.call_method1(intern!(py, "load_function"), (&asked.bytes,)) {
            Ok(function) => Function::Loaded(function.unbind()),
            Err(error) => Function::Failed(error.into_value(py).into_any()),
        };
        let before = self.functions().insert(asked.function, function);
        drop(before);
        Ok(())
    }

    fn describe<'py>(&self, py: Python<'py>, error: &PyErr) -> PyResult<Answer<'py>> {
        // Not `value`, which has no traceback before Python 3.12.
        let value = error.clone_ref(py).into_value(py);
        let described = self.policy.bind(py).call_method1(intern!(py, "dump_exception"), (value,))?;
        let (bytes, stopped): (Bound<'py, PyBytes>, bool) = described.extract()?;
        let kind = if stopped { reply_kind::STOPPED } else { reply_kind::RAISED };
        Ok(Answer { kind, bytes: Some(bytes), buffers: Box::default() })
    }

    /// Sends what answers no request.
    fn tell(&self, py: Python<'_>, kind: u32, bytes: Bound<'_, PyBytes>) -> PyResult<()> {
        self.reply(py, NONE, 0, Answer { kind, bytes: Some(bytes), buffers: Box::default() })
    }

    /// Sends an answer, once there is room for it.
    fn reply(&self, py: Python<'_>, position: u64, nanos: u64, answer: Answer<'_>) -> PyResult<()> {
        let bytes = answer.bytes.as_ref().map_or(&[][..], |bytes| bytes.as_bytes());
        let parcel = Parcel { buffers: &answer.buffers, bytes };
        let arena = &*self.arena;
        let packed = parcel.pack(|length| match answer.kind {
            // What went wrong is told in any case.
            reply_kind::RAISED => {
                arena.allocate_beyond(length, Kind::Message).map_err(|error| memory::arena_error(py, &error))
            }
            _ => allocate(py, arena, length, Kind::Message, &answer.buffers),
        })?;
        while let Err(error) = packed.lend(&parcel, &mut self.lock().peer) {
            // The socket is full of segments that the parent has not taken.
            if error.kind() != std::io::ErrorKind::WouldBlock {
                return Err(os_error(error));
            }
            self.pause(py);
        }
        self.say_released(py);
        while !self.push(|reply| {
            reply.kind = answer.kind;
            reply.position = position;
            reply.wall_nanos = nanos;
            packed.write(&parcel, &mut reply.message);
        }) {
            self.pause(py);
        }
        Ok(())
    }

    /// Sends a reply if there is room.
    fn push(&self, write: impl FnOnce(&mut Reply)) -> bool {
        self.lock().push(write)
    }

    /// Lets the parent go on.
    fn pause(&self, py: Python<'_>) {
        py.detach(|| std::thread::sleep(std::time::Duration::from_micros(50)));
    }

    /// Tells the parent what of its arena this process has no more use for, and which segments of this one's are no more.
    fn say_released(&self, py: Python<'_>) {
        let (returned, retired) = {
            let mut ends = self.lock();
            ends.take_returns();
            (ends.peer.returns().take(), ends.peer.retired())
        };
        for some in returned.chunks(INLINE / Location::SIZE) {
            let bytes: Vec<u8> = some.iter().flat_map(|location| location.to_bytes()).collect();
            while !self.push(|reply| {
                reply.kind = reply_kind::RELEASED;
                reply.message.set_inline(&bytes);
            }) {
                self.pause(py);
            }
        }
        for segment in retired {
            // Without room the parent keeps it until this process ends.
            self.push(|reply| {
                reply.kind = reply_kind::RETIRED;
                reply.position = u64::from(segment);
                reply.message.set_inline(&[]);
            });
        }
    }
}
