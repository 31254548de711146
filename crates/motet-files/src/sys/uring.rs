//! The ring of Linux.

use super::Entry;
use io_uring::{IoUring, Probe, opcode, types};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// An offset that stands for the file's own position.
const AT_POSITION: u64 = u64::MAX;

/// A submission queue and a completion queue.
pub(crate) struct Uring(IoUring);

/// Whether the kernel, and whoever may have restricted this process, lets a ring do what [`Entry`] names.
///
/// A filter of system calls may allow one and refuse another: so one operation is done from beginning to end.
pub(crate) fn probe() -> io::Result<()> {
    let mut ring = Uring::new(2)?;
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    if !ring.0.params().is_feature_rw_cur_pos() || !ring.0.params().is_feature_nodrop() {
        return Err(unsupported());
    }
    let mut known = Probe::new();
    ring.0.submitter().register_probe(&mut known)?;
    for code in [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::Nop::CODE] {
        if !known.is_supported(code) {
            return Err(unsupported());
        }
    }
    // SAFETY: the operation touches no memory.
    unsafe { ring.0.submission().push(&opcode::Nop::new().build()) }.map_err(|_| unsupported())?;
    ring.enter(true)?;
    match ring.next() {
        Some((_, 0)) => Ok(()),
        _ => Err(unsupported()),
    }
}

impl Uring {
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        IoUring::new(entries).map(Self)
    }

    /// The ring's own descriptor: readable when an operation has ended.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Queues an operation for [`Uring::enter`]; false when the queue is full.
    ///
    /// # Safety
    /// The descriptor and the memory of `entry` stay as they are until `key` comes out of [`Uring::next`].
    pub(crate) unsafe fn push(&mut self, entry: Entry, key: u64) -> bool {
        let entry = match entry {
            Entry::Read(descriptor, address, length) => {
                opcode::Read::new(types::Fd(descriptor), address, length).offset(AT_POSITION).build()
            }
            Entry::Write(descriptor, address, length) => {
                opcode::Write::new(types::Fd(descriptor), address, length).offset(AT_POSITION).build()
            }
            Entry::Sync(descriptor) => opcode::Fsync::new(types::Fd(descriptor)).build(),
        };
        // SAFETY: the caller's word.
        unsafe { self.0.submission().push(&entry.user_data(key)) }.is_ok()
    }

    /// Hands over what is queued, and waits for one end of an operation if told to.
    pub(crate) fn enter(&mut self, wait: bool) -> io::Result<()> {
        loop {
            match self.0.submit_and_wait(usize::from(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }

    /// The key and the result of an operation that has ended.
    pub(crate) fn next(&mut self) -> Option<(u64, i32)> {
        self.0.completion().next().map(|entry| (entry.user_data(), entry.result()))
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Uring").field(&self.number()).finish()
    }
}
