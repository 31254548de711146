//! A piece of memory that two processes map: nameless, of a size that nobody can change.

use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{self, MapFlags, ProtFlags};
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// Memory shared with another process, seen as a `T`.
///
/// # Invariants
/// The mapping has at least `size_of::<T>()` bytes, is page aligned, and lives as long as this. The file behind it cannot shrink
/// (it is sealed) and has all of its pages, so that no access can fail.
#[derive(Debug)]
pub struct Region<T> {
    start: NonNull<T>,
    file: OwnedFd,
    kind: PhantomData<T>,
}

// SAFETY: it gives out nothing but `&T`.
unsafe impl<T: Sync> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Region<T> {}

/// Types for which any bits are valid, so that what another process writes cannot be wrong.
///
/// # Safety
/// Any bit pattern is a valid value, and all that changes while it is shared is atomic or given to one side at a time by
/// something atomic.
pub unsafe trait Shared: Sync {}

// SAFETY: integers, arrays of them, atomics, and bodies whose slots say whose they are.
unsafe impl Shared for crate::lane::Lane {}

impl<T: Shared> Region<T> {
    /// Makes the memory, all zeros.
    ///
    /// # Errors
    /// The system's: no memory, too many descriptors.
    pub fn create(label: &CStr) -> io::Result<Self> {
        let file = fs::memfd_create(label, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fs::ftruncate(&file, size_of::<T>() as u64)?;
        // Memory that is short is told now, not by a signal at the first access.
        fs::fallocate(&file, FallocateFlags::empty(), 0, size_of::<T>() as u64)?;
        fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file)
    }

    /// Maps memory that another process has made.
    ///
    /// # Errors
    /// The system's, and `InvalidInput` for a file that is not such memory.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let seals = fs::fcntl_get_seals(&file)?;
        let size = fs::fstat(&file)?.st_size;
        if !seals.contains(SealFlags::SHRINK) || (size as usize) < size_of::<T>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this descriptor is not a lane's memory",
            ));
        }
        Self::map(file)
    }

    fn map(file: OwnedFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the system's choice.
        let start = unsafe {
            mm::mmap(std::ptr::null_mut(), size_of::<T>(), protection, MapFlags::SHARED, &file, 0)?
        };
        let start = NonNull::new(start.cast()).expect("a mapping is not at address 0");
        Ok(Self { start, file, kind: PhantomData })
    }
}

impl<T> Region<T> {
    /// The descriptor, for the other process.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<T: Shared> std::ops::Deref for Region<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the type's invariants, and any bits are a valid T.
        unsafe { self.start.as_ref() }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, and no reference outlives it. An error would mean that it is not mapped.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), size_of::<T>()) };
    }
}
