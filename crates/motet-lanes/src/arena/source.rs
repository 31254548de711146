//! Where an arena's segments come from: the system, or a test's heap.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// The memory of one segment. Dropping it returns the memory to where it came from.
///
/// # Safety
/// From `pointer()` on, `length()` bytes are initialised, readable and writable until the value is dropped, at a place
/// that never changes, aligned to the page size of its [`Source`]. The value itself touches none of them.
pub unsafe trait Backing: Send + Sync {
    /// The first byte.
    fn pointer(&self) -> NonNull<u8>;
    /// The number of bytes.
    fn length(&self) -> usize;
    /// What another process needs to see the same bytes, where that is possible.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Supplies segments.
pub trait Source: Send + Sync {
    /// A segment of `length` bytes, a multiple of the page size. All of its memory is there for good.
    ///
    /// # Errors
    /// Of the system, when it has none.
    fn segment(&self, length: usize) -> io::Result<Arc<dyn Backing>>;

    /// As [`Self::segment`], but other processes may write to it.
    ///
    /// # Errors
    /// As above.
    fn common_segment(&self, length: usize) -> io::Result<Arc<dyn Backing>> {
        self.segment(length)
    }

    /// The unit in which another process can map a segment, a power of two of at least 64.
    fn page_size(&self) -> usize;

    /// Whether this is the process that allocates: false in a forked child, which has inherited the memory, and a copy
    /// of the books, but none of the rights.
    fn is_own_process(&self) -> bool;
}
