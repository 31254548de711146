//! Memory without a name that processes share: memfd, its seals, its mappings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::fork::Owner;
use crate::arena::{Backing, Source};

/// The file's length is fixed: no access inside it can ever meet its end.
const FIXED_LENGTH: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// So much is asked for at a time. A signal makes the system undo a request in hand, and a large one under frequent signals
/// would never end.
const ALLOCATED_AT_ONCE: usize = 16 << 20;

/// From this size on, the system is asked first how much it has.
const ASKED_FIRST: usize = 16 << 20;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The owner's, and everybody's to a common segment: what is written is seen by all.
    Own,
    /// A reader's: sees what the owner writes.
    Read,
    /// Pages become the mapping's own as they are written.
    Private,
}

/// Mapped pages, unmapped on drop.
///
/// Neither huge pages nor pages mapped beforehand gain anything, measured for 100 MB with pages that are there
/// (fallocate), Linux 6.18, times as multiples of reading what is mapped (4 ms):
///
/// | private mapping | mapped and not touched | mapped and read fully |
/// |---|---|---|
/// | faults (chosen; the kernel maps 16 pages for each) | 0.01 | 3.0 |
/// | `MADV_POPULATE_READ` | 1.8 | 2.8 |
/// | `MAP_POPULATE` (it copies all pages, as for writing) | 11.5 | 12.5 |
///
/// In the owner's mapping `MADV_POPULATE_WRITE` and then a copy takes 0.9 of the time of a copy with faults, and all of it
/// is in vain where little is written. `MADV_HUGEPAGE` changed no figure by more than a tenth.
#[derive(Debug)]
pub(crate) struct Pages {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: an address range; unmapping it is not bound to a thread. Access to the bytes is its users' matter.
unsafe impl Send for Pages {}
// SAFETY: as above; a shared reference gives out the address alone.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `length` bytes of a file from `offset` on, a multiple of the page size. The length is not zero.
    pub(crate) fn map(file: BorrowedFd<'_>, offset: u64, length: usize, access: Access) -> io::Result<Self> {
        let (protection, flags) = match access {
            Access::Own => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Access::Read => (ProtFlags::READ, MapFlags::SHARED),
            Access::Private => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE),
        };
        // SAFETY: a new mapping at a place of the kernel's choice touches no other.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, flags, file, offset)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// New pages of this process alone, cleared.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: as in `map`.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, protection, flags)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// The first byte.
    pub(crate) fn pointer(&self) -> NonNull<u8> {
        self.base
    }

    /// The number of bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped once; who uses the bytes keeps `self`.
        let result = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

/// Segments of the system's memory.
pub(crate) struct SystemSource {
    label: String,
    owner: Owner,
}

impl SystemSource {
    /// A source for this process.
    pub(crate) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), owner: Owner::new() }
    }
}

impl Source for SystemSource {
    fn segment(&self, length: usize) -> io::Result<Arc<dyn Backing>> {
        let segment = Segment::new(length, &self.label)?;
        // With the owner's mapping made, no process can make one that writes to the file.
        // Linux before 5.1 does not know this seal; peers that keep the rules do not need it.
        segment.seal(SealFlags::FUTURE_WRITE).or_else(|_| segment.seal(SealFlags::empty()))?;
        Ok(Arc::new(segment))
    }

    fn common_segment(&self, length: usize) -> io::Result<Arc<dyn Backing>> {
        let segment = Segment::new(length, &self.label)?;
        segment.seal(SealFlags::empty())?;
        Ok(Arc::new(segment))
    }

    fn page_size(&self) -> usize {
        page_size()
    }

    fn is_own_process(&self) -> bool {
        self.owner.is_this_process()
    }
}

/// A memfd with all of its pages, mapped by its owner.
struct Segment {
    pages: Pages,
    file: OwnedFd,
}

impl Segment {
    fn new(length: usize, label: &str) -> io::Result<Self> {
        // As most systems are set up, they promise all that they are asked for, and kill a process when it runs out.
        if length >= ASKED_FIRST && available().is_some_and(|available| length as u64 > available) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let file = create(label)?;
        let mut end = 0;
        while end < length {
            let step = ALLOCATED_AT_ONCE.min(length - end);
            rustix::io::retry_on_intr(|| {
                rustix::fs::fallocate(&file, FallocateFlags::empty(), end as u64, step as u64)
            })?;
            end += step;
        }
        let pages = Pages::map(file.as_fd(), 0, length, Access::Own)?;
        Ok(Self { pages, file })
    }

    /// Fixes the length, and `more`, for good.
    fn seal(&self, more: SealFlags) -> io::Result<()> {
        Ok(rustix::fs::fcntl_add_seals(&self.file, FIXED_LENGTH | SealFlags::SEAL | more)?)
    }
}

// SAFETY: the mapping is readable and writable, of pages that exist, which the kernel has cleared; it stays until drop.
unsafe impl Backing for Segment {
    fn pointer(&self) -> NonNull<u8> {
        self.pages.pointer()
    }

    fn length(&self) -> usize {
        self.pages.length()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

fn create(label: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Without this flag newer systems warn or refuse; those before 6.3 refuse it.
    match rustix::fs::memfd_create(label, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(label, flags)?),
        result => Ok(result?),
    }
}

/// The bytes that the system could give out without swapping, if it says so.
fn available() -> Option<u64> {
    let known = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = known.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The unit of mappings.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The length of a segment of another process, if it is one: a file of memory, of fixed length, without holes. Reading it
/// through a mapping can then neither meet its end nor need memory that is not there.
pub(crate) fn fixed_length(file: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let seals = match rustix::fs::fcntl_get_seals(file) {
        Err(rustix::io::Errno::INVAL) => return Ok(None),
        result => result?,
    };
    let known = rustix::fs::fstat(file)?;
    let (length, allocated) = (known.st_size as u64, known.st_blocks as u64 * 512);
    Ok(if seals.contains(FIXED_LENGTH) && allocated >= length { Some(length) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the system")]
    fn more_than_there_is_is_refused() {
        // Without this answer the attempt would be made.
        assert!(available().is_some_and(|available| available < 1 << 50));
        let refused = SystemSource::new("motet-test").segment(1 << 50).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    }
}
