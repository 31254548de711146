//! Segments on the heap.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use motet_lanes::arena::{Backing, Source};

const PAGE: usize = 4096;

/// A source that counts.
#[derive(Clone, Default)]
pub(crate) struct Heap {
    /// Bytes in segments.
    pub(crate) held: Arc<AtomicUsize>,
    /// All that is given out at a time, unless it is 0.
    pub(crate) capacity: Arc<AtomicUsize>,
    /// Whether the arena is to believe that it is in a forked child.
    pub(crate) forked: Arc<AtomicBool>,
}

struct Segment {
    pointer: NonNull<u8>,
    length: usize,
    held: Arc<AtomicUsize>,
}

// SAFETY: memory of the allocator is not bound to a thread, and the other field is `Send`.
unsafe impl Send for Segment {}
// SAFETY: shared references give out the address alone.
unsafe impl Sync for Segment {}

impl Source for Heap {
    fn segment(&self, length: usize) -> io::Result<Arc<dyn Backing>> {
        assert!(length > 0 && length.is_multiple_of(PAGE));
        let capacity = self.capacity.load(Ordering::Relaxed);
        if capacity > 0 && self.held.load(Ordering::Relaxed) + length > capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let layout = Layout::from_size_align(length, PAGE).unwrap();
        // SAFETY: the layout is not empty.
        let pointer = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        self.held.fetch_add(length, Ordering::Relaxed);
        Ok(Arc::new(Segment { pointer, length, held: self.held.clone() }))
    }

    fn page_size(&self) -> usize {
        PAGE
    }

    fn is_own_process(&self) -> bool {
        !self.forked.load(Ordering::Relaxed)
    }
}

// SAFETY: zeroed memory of this length and alignment, freed in `drop` and not before.
unsafe impl Backing for Segment {
    fn pointer(&self) -> NonNull<u8> {
        self.pointer
    }

    fn length(&self) -> usize {
        self.length
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.held.fetch_sub(self.length, Ordering::Relaxed);
        // SAFETY: allocated with this layout in `segment`.
        unsafe { dealloc(self.pointer.as_ptr(), Layout::from_size_align_unchecked(self.length, PAGE)) };
    }
}
