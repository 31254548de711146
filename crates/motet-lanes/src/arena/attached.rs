//! The peer's side: segments of one other process, seen from here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, OnceLock};

use super::location::Location;
use crate::sys::memory::{Access, Pages, fixed_length, page_size};

/// Why a segment cannot be attached.
#[derive(Debug)]
pub enum AttachError {
    /// A segment of this number is attached already.
    Known(u32),
    /// It is no file of memory, could change its length, or has holes: accesses could fail at any time.
    NotFixed,
    /// The system has refused.
    System(io::Error),
}

impl fmt::Display for AttachError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(segment) => write!(formatter, "segment {segment} is attached already"),
            Self::NotFixed => write!(formatter, "not a segment of an arena: its memory could go away"),
            Self::System(error) => write!(formatter, "a segment cannot be attached: {error}"),
        }
    }
}

impl std::error::Error for AttachError {}

/// A location that is not in the segments of the process that named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLocation(pub Location);

impl fmt::Display for InvalidLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not in an attached segment: {:?}", self.0)
    }
}

impl std::error::Error for InvalidLocation {}

/// Why a location cannot be mapped.
#[derive(Debug)]
pub enum MapError {
    /// It is not in an attached segment.
    Invalid(InvalidLocation),
    /// The system has refused.
    System(io::Error),
}

impl fmt::Display for MapError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(formatter),
            Self::System(error) => write!(formatter, "a segment cannot be mapped: {error}"),
        }
    }
}

impl std::error::Error for MapError {}

impl From<InvalidLocation> for MapError {
    fn from(error: InvalidLocation) -> Self {
        Self::Invalid(error)
    }
}

/// The segments of one other process.
///
/// Whatever that process says is checked: numbers and ranges against what is attached, segments for seals that keep their
/// memory in place. A wrong word is an error here and nothing else.
pub struct Attached {
    segments: HashMap<u32, Segment>,
}

struct Segment {
    file: OwnedFd,
    length: u64,
    /// All of it, once something was read here.
    view: OnceLock<Arc<Pages>>,
}

impl Attached {
    /// No segments yet.
    ///
    /// # Safety
    /// The one thing that cannot be checked: the process whose segments these will be leaves lent bytes alone, as
    /// [`super::Leased`] does, and this one keeps no [`View`] of what it has said to be returned.
    pub unsafe fn new() -> Self {
        Self { segments: HashMap::new() }
    }

    /// Takes in a segment that the other process has sent.
    ///
    /// # Errors
    /// See [`AttachError`]. The descriptor is closed then.
    pub fn add(&mut self, segment: u32, file: OwnedFd) -> Result<(), AttachError> {
        let Entry::Vacant(entry) = self.segments.entry(segment) else {
            return Err(AttachError::Known(segment));
        };
        let length = fixed_length(file.as_fd()).map_err(AttachError::System)?.ok_or(AttachError::NotFixed)?;
        entry.insert(Segment { file, length, view: OnceLock::new() });
        Ok(())
    }

    /// Lets go of a segment that its owner has retired; false if it is not attached. Views and mappings stay good.
    pub fn remove(&mut self, segment: u32) -> bool {
        self.segments.remove(&segment).is_some()
    }

    /// Whether this segment is attached.
    pub fn contains(&self, segment: u32) -> bool {
        self.segments.contains_key(&segment)
    }

    /// The number of segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn segment(&self, location: Location) -> Result<&Segment, InvalidLocation> {
        let end = location.offset.checked_add(location.length);
        match self.segments.get(&location.segment) {
            Some(segment) if end.is_some_and(|end| end <= segment.length) => Ok(segment),
            _ => Err(InvalidLocation(location)),
        }
    }

    /// The bytes at a location, in place: for messages, which are taken apart and returned soon. The segment is mapped as a
    /// whole, once, and stays mapped.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn read(&self, location: Location) -> Result<View, MapError> {
        let segment = self.segment(location)?;
        if location.is_common() {
            // A view is a promise that its bytes stay as they are.
            return Err(InvalidLocation(location).into());
        }
        if location.length == 0 {
            return Ok(View { pages: None, offset: 0, length: 0 });
        }
        let invalid = |_| InvalidLocation(location);
        let offset = usize::try_from(location.offset).map_err(invalid)?;
        let length = usize::try_from(location.length).map_err(invalid)?;
        let pages = segment.view().map_err(MapError::System)?;
        Ok(View { pages: Some(pages), offset, length })
    }

    /// A mapping of just this location, whose bytes are this process's own: writing copies the page, and nobody else sees
    /// it. For arrays. The place may be said to be returned after the mapping is dropped, not before.
    ///
    /// Each call maps anew, so pages written in an earlier mapping of the same place never show up in a later one.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map_private(&self, location: Location) -> Result<Mapping, MapError> {
        self.map(location, Access::Private)
    }

    /// A mapping for an array: what is written to a [common](Location::is_common) location is seen by its owner and by all
    /// others that map it; of other locations the mapping is [private](Self::map_private).
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn map_array(&self, location: Location) -> Result<Mapping, MapError> {
        self.map(location, if location.is_common() { Access::Own } else { Access::Private })
    }

    fn map(&self, location: Location, access: Access) -> Result<Mapping, MapError> {
        let segment = self.segment(location)?;
        if location.length == 0 {
            return Ok(Mapping { pages: None, offset: 0, length: 0 });
        }
        // The kernel maps whole pages: a slice may begin in the middle of one.
        let before = location.offset % page_size() as u64;
        let invalid = |_| InvalidLocation(location);
        let offset = usize::try_from(before).map_err(invalid)?;
        let length = usize::try_from(location.length).map_err(invalid)?;
        let mapped = offset.checked_add(length).ok_or(InvalidLocation(location))?;
        let pages = Pages::map(segment.file.as_fd(), location.offset - before, mapped, access)
            .map_err(MapError::System)?;
        Ok(Mapping { pages: Some(pages), offset, length })
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.segments.keys()).finish()
    }
}

impl Segment {
    fn view(&self) -> io::Result<Arc<Pages>> {
        if let Some(pages) = self.view.get() {
            return Ok(pages.clone());
        }
        let length = usize::try_from(self.length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let pages = Pages::map(self.file.as_fd(), 0, length, Access::Read)?;
        // Another thread may have been faster; its mapping is as good.
        Ok(self.view.get_or_init(|| Arc::new(pages)).clone())
    }
}

/// Bytes of another process, in place. Keeps the segment mapped.
#[derive(Debug)]
pub struct View {
    pages: Option<Arc<Pages>>,
    offset: usize,
    length: usize,
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(pages) = &self.pages else { return &[] };
        // SAFETY: the range is inside the mapping, which lives as long as `self`, of memory that stays (`fixed_length`).
        // Its owner does not write it while it is lent (`Attached::new`).
        unsafe { slice::from_raw_parts(pages.pointer().add(self.offset).as_ptr(), self.length) }
    }
}

/// Another process's bytes: a private copy, made page by page as they are written, or, of a common location, themselves.
/// Unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    pages: Option<Pages>,
    offset: usize,
    length: usize,
}

impl Mapping {
    /// The first byte. It and the following [`Self::len`] are readable and writable until the mapping is dropped. Of no
    /// bytes, an address that must not be used.
    pub fn pointer(&self) -> NonNull<u8> {
        match &self.pages {
            None => NonNull::dangling(),
            // SAFETY: the offset is inside the mapping.
            Some(pages) => unsafe { pages.pointer().add(self.offset) },
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}
