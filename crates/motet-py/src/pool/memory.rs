//! This process's arena, and memory in arenas as Python's buffers.

use super::waiting::allocate;
use motet_lanes::arena::{AllocateError, Arena, Kind, Location, Mapping, Piece};
use motet_lanes::lane::parcel::Staged;
use motet_lanes::lane::peer::Returns;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::ffi::c_int;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much an arena may hold if nobody has said, in bytes.
const USUAL_LIMIT: usize = 4 << 30;

/// The arena of one process; a forked child makes its own.
struct Home {
    process: u32,
    limit: usize,
    arena: Option<Arc<Arena>>,
    /// How to take in what others have given back, if nobody else does.
    take_in: Option<Arc<TakeIn>>,
}

/// Called by threads that wait for memory, without the interpreter.
pub type TakeIn = dyn Fn() + Send + Sync;

static HOME: Mutex<Home> = Mutex::new(Home { process: 0, limit: USUAL_LIMIT, arena: None, take_in: None });

fn home() -> MutexGuard<'static, Home> {
    let mut home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if home.process != process {
        home.process = process;
        // The parent's pieces are kept alive by what holds them.
        home.arena = None;
        home.take_in = None;
    }
    home
}

/// This process's arena.
pub fn arena() -> Arc<Arena> {
    let mut home = home();
    let limit = home.limit;
    home.arena.get_or_insert_with(|| Arc::new(Arena::new(limit, "motet arena"))).clone()
}

/// From now on, whoever waits for memory calls this.
pub fn set_take_in(take_in: Arc<TakeIn>) {
    home().take_in = Some(take_in);
}

/// What [`set_take_in`] has set.
pub fn take_in() -> Option<Arc<TakeIn>> {
    home().take_in.clone()
}

/// Sets how much the arena of this process may hold, in bytes.
#[pyfunction]
#[pyo3(name = "_set_arena_limit")]
pub fn set_arena_limit(limit: usize) -> PyResult<()> {
    let mut home = home();
    if home.arena.is_some() {
        return Err(PyRuntimeError::new_err(
            "the arena is in use: set its limit before the first executor or array",
        ));
    }
    home.limit = limit;
    Ok(())
}

/// What the arena of this process holds.
#[pyfunction]
#[pyo3(name = "_arena_statistics")]
pub fn arena_statistics(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let arena = arena();
    let found = arena.statistics();
    let all = PyDict::new(py);
    all.set_item("limit", arena.limit())?;
    all.set_item("live_bytes", found.live_bytes)?;
    all.set_item("held_bytes", found.held_bytes)?;
    all.set_item("peak_bytes", found.peak_live_bytes)?;
    all.set_item("kept_bytes", found.kept_bytes)?;
    all.set_item("given_bytes", found.given_bytes)?;
    all.set_item("allocations", found.allocations)?;
    Ok(all)
}

/// Memory in this process's arena, as a buffer: for arrays that are born there.
#[pyclass(module = "motet._motet", frozen)]
pub struct ArenaBuffer {
    piece: Piece,
}

#[pymethods]
impl ArenaBuffer {
    /// With `common`, workers write to this memory; otherwise they get copies of it when they write.
    #[new]
    #[pyo3(signature = (length, common = false))]
    fn new(py: Python<'_>, length: usize, common: bool) -> PyResult<Self> {
        let kind = if common { Kind::Common } else { Kind::Buffer };
        let piece = allocate(py, &arena(), length, kind, &[])?;
        // Before anybody else knows the piece.
        piece.expose();
        // The program holds it for as long as it likes.
        piece.settle();
        Ok(Self { piece })
    }

    fn __len__(&self) -> usize {
        self.piece.len()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let piece = &slf.get().piece;
        // SAFETY: the memory is the piece's, and the buffer keeps this object alive.
        unsafe { fill(&slf, view, flags, piece.expose().as_ptr(), piece.len()) }
    }
}

impl Drop for ArenaBuffer {
    fn drop(&mut self) {
        self.piece.unsettle();
    }
}

/// Memory of another process's arena, of which this process has a copy of its own, made page by page as it is written;
/// or, if it is common, that memory itself.
#[pyclass(module = "motet._motet", frozen)]
pub struct Leased {
    mapping: Option<Mapping>,
    location: Location,
    returns: Returns,
}

impl Leased {
    pub fn new(mapping: Mapping, location: Location, returns: Returns) -> Self {
        Self { mapping: Some(mapping), location, returns }
    }
}

#[pymethods]
impl Leased {
    /// Whether what is written here is seen by the owner.
    #[getter]
    fn is_common(&self) -> bool {
        self.location.is_common()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mapping = slf.get().mapping.as_ref().expect("it is dropped with the object");
        // SAFETY: the memory is the mapping's, and the buffer keeps this object alive.
        unsafe { fill(&slf, view, flags, mapping.pointer().as_ptr(), mapping.len()) }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // The place may be used again once nobody maps it.
        drop(self.mapping.take());
        self.returns.add(self.location);
    }
}

/// # Safety
/// The memory lives as long as `owner` and may be read and written until then; `view` is what the interpreter passed.
unsafe fn fill(
    owner: &Bound<'_, impl Sized>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
    start: *mut u8,
    length: usize,
) -> PyResult<()> {
    // SAFETY: the caller's word.
    let result = unsafe {
        ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.cast(), length as ffi::Py_ssize_t, 0, flags)
    };
    if result == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}

/// An error of the arena as an exception.
pub fn arena_error(py: Python<'_>, error: &AllocateError) -> PyErr {
    let name = match error {
        AllocateError::Full => "ArenaFull",
        AllocateError::TooLarge { .. } => "ArgumentTooLarge",
        AllocateError::System(_) => return PyMemoryError::new_err(error.to_string()),
    };
    let made = py
        .import("motet._executor.errors")
        .and_then(|errors| errors.getattr(name))
        .and_then(|class| class.call1((format!("{error}; see motet.set_arena_limit"),)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Puts buffers into the arena, as far as they were not born there.
pub fn stage(py: Python<'_>, buffers: Vec<PyBuffer<u8>>) -> PyResult<Box<[Staged]>> {
    let arena = arena();
    let mut staged = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let (start, length) = (buffer.buf_ptr().cast::<u8>(), buffer.len_bytes());
        if let Some((piece, location)) = arena.find(start, length) {
            staged.push(Staged { piece, location });
            continue;
        }
        let mut piece = allocate(py, &arena, length, Kind::Buffer, &staged)?;
        let target = piece.as_mut_slice().expect("nobody else has a share of it").as_mut_ptr() as usize;
        let source = start as usize;
        // SAFETY: the exporter keeps its memory while the buffer is held; the piece is new. A program that writes to its array
        // meanwhile in another thread gets a mixture, as it would from any copy that is made without the interpreter.
        py.detach(|| unsafe {
            std::ptr::copy_nonoverlapping(source as *const u8, target as *mut u8, length)
        });
        staged.push(Staged { location: piece.location(), piece });
    }
    Ok(staged.into())
}

/// The memory behind a list of `pickle.PickleBuffer`s.
pub fn buffers_of(outside: &Bound<'_, PyList>) -> PyResult<Vec<PyBuffer<u8>>> {
    let raw = |buffer: Bound<'_, PyAny>| PyBuffer::get(&buffer.call_method0(intern!(buffer.py(), "raw"))?);
    outside.iter().map(raw).collect()
}
