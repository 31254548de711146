//! The only place in this crate that makes system calls.
//!
//! `uring.rs` is the ring of Linux; `no_ring.rs` compiles anywhere and says that there is none, and `--cfg motet_stub` selects
//! it.

#[cfg(any(motet_stub, not(target_os = "linux")))]
mod no_ring;
#[cfg(all(not(motet_stub), target_os = "linux"))]
mod uring;

#[cfg(any(motet_stub, not(target_os = "linux")))]
pub(crate) use no_ring::{Uring, probe};
#[cfg(all(not(motet_stub), target_os = "linux"))]
pub(crate) use uring::{Uring, probe};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};

/// The flags of `open(2)` for reading.
pub(crate) const READ_ONLY: i32 = OFlags::RDONLY.bits() as i32;
/// The flags of `open(2)` for writing anew.
pub(crate) const REPLACE: i32 = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::TRUNC).bits() as i32;

/// One operation that a ring can do. The addresses are those of memory that outlives it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    any(motet_stub, not(target_os = "linux")),
    allow(dead_code, reason = "nobody reads it where there is no ring")
)]
pub(crate) enum Entry {
    Read(i32, *mut u8, u32),
    Write(i32, *const u8, u32),
    Sync(i32),
}

/// What the system says of an open descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) regular: bool,
    pub(crate) size: u64,
}

/// Errors by which the kernel refuses a ring's way and not the request: not without waiting, not on this kind of file, ended
/// with the thread that had asked.
pub(crate) fn is_refusal(number: i32) -> bool {
    [Errno::AGAIN, Errno::OPNOTSUPP, Errno::INVAL, Errno::CANCELED, Errno::INTR]
        .iter()
        .any(|refusal| refusal.raw_os_error() == number)
}

/// The number of this process, another one after `fork`.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// How many threads run at the same time here.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

pub(crate) fn open(path: &CStr, flags: i32) -> io::Result<(OwnedFd, Kind)> {
    let flags = OFlags::from_bits_retain(flags as _) | OFlags::CLOEXEC;
    let descriptor = retry_on_intr(|| rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)))?;
    let kind = require_file(&descriptor)?;
    Ok((descriptor, kind))
}

/// What kind of file it is; a folder is refused.
pub(crate) fn require_file(descriptor: impl AsFd) -> io::Result<Kind> {
    let status = rustix::fs::fstat(descriptor)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => Err(Errno::ISDIR.into()),
        kind => Ok(Kind { regular: kind == FileType::RegularFile, size: status.st_size.max(0) as u64 }),
    }
}

/// How much lies between the position and the end; 0 where that cannot be known.
pub(crate) fn size_left(descriptor: impl AsFd) -> io::Result<u64> {
    let size = rustix::fs::fstat(&descriptor)?.st_size.max(0) as u64;
    let position = rustix::fs::seek(&descriptor, SeekFrom::Current(0)).unwrap_or(size);
    Ok(size.saturating_sub(position))
}

/// Reads up to the end, of which `expected` bytes are known.
pub(crate) fn read_to_end(descriptor: impl AsFd, expected: usize) -> io::Result<Vec<u8>> {
    // One more, so that the read that finds the end needs no more room.
    let mut data = Vec::with_capacity(expected + 1);
    loop {
        if data.len() == data.capacity() {
            data.reserve(data.len().max(8192));
        }
        if retry_on_intr(|| rustix::io::read(&descriptor, rustix::buffer::spare_capacity(&mut data)))? == 0 {
            return Ok(data);
        }
    }
}

/// Reads once.
///
/// # Safety
/// The memory is valid for writing `length` bytes, and nobody else touches it during the call.
pub(crate) unsafe fn read_into(descriptor: impl AsFd, address: *mut u8, length: usize) -> io::Result<usize> {
    loop {
        // SAFETY: the caller's word; what is not initialised is not read.
        let room =
            unsafe { std::slice::from_raw_parts_mut(address.cast::<std::mem::MaybeUninit<u8>>(), length) };
        match rustix::io::read(&descriptor, room) {
            Ok((filled, _)) => return Ok(filled.len()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn write(descriptor: impl AsFd, data: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::write(&descriptor, data))?)
}

pub(crate) fn truncate(descriptor: impl AsFd, length: u64) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::ftruncate(&descriptor, length))?)
}

pub(crate) fn sync(descriptor: impl AsFd) -> io::Result<()> {
    Ok(retry_on_intr(|| rustix::fs::fsync(&descriptor))?)
}

/// Closes, and says how that went: a file of a network may have failed to be written.
pub(crate) fn close(descriptor: OwnedFd) -> io::Result<()> {
    // SAFETY: the number was owned, and is not used after this call.
    if unsafe { libc::close(descriptor.into_raw_fd()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // The descriptor is gone all the same.
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}
