//! What can be asked of a file, and how a thread carries it out.

use crate::file::File;
use crate::memory::Memory;
use crate::sys;
use std::ffi::CString;
use std::io;
use std::sync::Arc;

/// Up to this size a whole file is read at once into memory of this crate's, and copied by its owner. A larger one is measured
/// first, so that its owner can provide the memory that it wants to have the data in.
pub const SMALL: u64 = 256 * 1024;

/// One thing to do.
#[derive(Debug)]
pub enum Request<M> {
    /// Read a file from beginning to end: [`Value::Data`] or [`Value::Large`].
    ReadFile(CString),
    /// Replace a file's content: [`Value::Count`].
    WriteFile(CString, M),
    /// Open a file with the flags of `open(2)`: [`Value::Opened`].
    Open(CString, i32),
    /// Close a file, if no other request is under way: [`Value::Count`].
    Close(Arc<File>),
    /// Read once, as much as there is: [`Value::Count`].
    Read(Arc<File>, M),
    /// Read until the memory is full or the file ends: [`Value::Filled`].
    Fill(Arc<File>, M),
    /// Read from the position to the end: [`Value::Data`] or [`Value::Large`].
    Rest(Arc<File>),
    /// Write, at the position: [`Value::Count`], which is less than all where an error stopped it.
    Write(Arc<File>, M),
    /// Cut a file off, or extend it: [`Value::Count`].
    Truncate(Arc<File>, u64),
    /// Have the system bring a file's content to the disk: [`Value::Count`].
    Sync(Arc<File>),
}

/// What came of it.
#[derive(Debug)]
pub enum Value {
    /// The content.
    Data(Vec<u8>),
    /// There is more than [`SMALL`], this much by all that is known; nothing was read.
    Large(Arc<File>, u64),
    /// The file.
    Opened(File),
    /// So many bytes; 0 where nothing is counted.
    Count(usize),
    /// So many bytes, and the file if it goes on behind them.
    Filled(usize, Option<Arc<File>>),
}

/// The end of a request, which gives its memory back.
#[derive(Debug)]
pub struct Outcome<M> {
    /// The memory that was handed in.
    pub memory: Option<M>,
    /// What came of it, or the system's error.
    pub result: io::Result<Value>,
}

impl<M: Memory> Request<M> {
    /// Carries it out; blocks for as long as it takes.
    pub fn carry_out(self) -> Outcome<M> {
        let (memory, result) = match self {
            Self::ReadFile(path) => (None, read_file(&path)),
            Self::WriteFile(path, data) => {
                let result = write_file(&path, &data);
                (Some(data), result)
            }
            Self::Open(path, flags) => {
                let opened =
                    sys::open(&path, flags).map(|(descriptor, kind)| File::new(descriptor, kind.regular));
                (None, opened.map(Value::Opened))
            }
            // Where a request of a loop that is gone is still under way, it closes the file.
            Self::Close(file) => {
                (None, Arc::into_inner(file).map_or(Ok(()), File::close).map(|()| Value::Count(0)))
            }
            Self::Read(file, memory) => {
                let result = read_once(&file, &memory);
                (Some(memory), result.map(Value::Count))
            }
            Self::Fill(file, memory) => {
                let result = fill(file, &memory);
                (Some(memory), result)
            }
            Self::Rest(file) => (None, rest(file)),
            Self::Write(file, data) => {
                let result = write(&file, &data);
                (Some(data), result.map(Value::Count))
            }
            Self::Truncate(file, length) => {
                (None, sys::truncate(file.descriptor(), length).map(|()| Value::Count(0)))
            }
            Self::Sync(file) => (None, sys::sync(file.descriptor()).map(|()| Value::Count(0))),
        };
        Outcome { memory, result }
    }
}

fn read_file(path: &std::ffi::CStr) -> io::Result<Value> {
    let (descriptor, kind) = sys::open(path, sys::READ_ONLY)?;
    if kind.size > SMALL {
        return Ok(Value::Large(Arc::new(File::new(descriptor, kind.regular)), kind.size));
    }
    sys::read_to_end(&descriptor, kind.size as usize).map(Value::Data)
}

fn write_file<M: Memory>(path: &std::ffi::CStr, data: &M) -> io::Result<Value> {
    let (descriptor, kind) = sys::open(path, sys::REPLACE)?;
    let file = File::new(descriptor, kind.regular);
    let mut written = 0;
    while written < data.length() {
        written += write_from(&file, data, written)?;
    }
    file.close()?;
    Ok(Value::Count(written))
}

fn rest(file: Arc<File>) -> io::Result<Value> {
    let left = sys::size_left(file.descriptor())?;
    if left > SMALL {
        return Ok(Value::Large(file, left));
    }
    sys::read_to_end(file.descriptor(), left as usize).map(Value::Data)
}

fn read_once<M: Memory>(file: &File, memory: &M) -> io::Result<usize> {
    // SAFETY: `Memory` vouches for the range, and that nobody else touches it while this value lives.
    unsafe { sys::read_into(file.descriptor(), memory.address(), memory.length()) }
}

fn fill<M: Memory>(file: Arc<File>, memory: &M) -> io::Result<Value> {
    let mut filled = 0;
    while filled < memory.length() {
        // SAFETY: as in `read_once`; `filled` is within the range.
        let count = unsafe {
            sys::read_into(file.descriptor(), memory.address().add(filled), memory.length() - filled)
        }?;
        if count == 0 {
            return Ok(Value::Filled(filled, None));
        }
        filled += count;
    }
    let goes_on = sys::size_left(file.descriptor())? > 0;
    Ok(Value::Filled(filled, goes_on.then_some(file)))
}

fn write<M: Memory>(file: &File, data: &M) -> io::Result<usize> {
    let mut written = 0;
    loop {
        match write_from(file, data, written) {
            Ok(count) => written += count,
            // What was written must be known; the error comes again with the next attempt to write the rest.
            Err(_) if written > 0 => return Ok(written),
            Err(error) => return Err(error),
        }
        if written == data.length() {
            return Ok(written);
        }
    }
}

fn write_from<M: Memory>(file: &File, data: &M, start: usize) -> io::Result<usize> {
    // SAFETY: `Memory` vouches for the range, and that nobody changes it while this value lives.
    let rest = unsafe { std::slice::from_raw_parts(data.address().add(start), data.length() - start) };
    match sys::write(file.descriptor(), rest) {
        Ok(0) if !rest.is_empty() => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}
