//! One segment: memory, and which of it is in use.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use offset_allocator::{Allocation, Allocator};

use super::piece::Inner;
use super::policy::Kind;
use super::source::Backing;

/// How a segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// By many pieces of one kind.
    Shared(Kind),
    /// By one piece at a time.
    Whole,
    /// By one piece of [`Kind::Common`], once.
    Common,
}

/// Where a piece lies.
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) generation: u32,
    pub(super) offset: usize,
    /// Keeps the memory, also when the arena has forgotten the segment.
    pub(super) backing: Arc<dyn Backing>,
    /// What the segment's allocator wants back; a segment used whole has none.
    allocation: Option<Allocation>,
}

/// A segment in the owner's books.
pub(super) struct Segment {
    pub(super) backing: Arc<dyn Backing>,
    pub(super) layout: Layout,
    allocator: Option<(usize, Allocator)>,
    /// The pieces in it.
    pub(super) pieces: usize,
    /// Those whose addresses are known outside, by offset: length and piece.
    pub(super) exposed: BTreeMap<usize, (usize, Weak<Inner>)>,
    /// When its last piece went, if it has none.
    pub(super) idle_since: Option<u64>,
}

impl Segment {
    /// A segment with nothing in it.
    pub(super) fn new(backing: Arc<dyn Backing>, layout: Layout, page: usize) -> Self {
        let allocator = match layout {
            Layout::Whole | Layout::Common => None,
            Layout::Shared(kind) => {
                let granule = kind.granule(page);
                let granules = u32::try_from(backing.length() / granule).unwrap_or(u32::MAX >> 1);
                Some((granule, Allocator::with_max_allocs(granules, kind.places(granules))))
            }
        };
        Self { backing, layout, allocator, pieces: 0, exposed: BTreeMap::new(), idle_since: None }
    }

    pub(super) fn length(&self) -> usize {
        self.backing.length()
    }

    /// A place for `length` bytes, if there is one.
    pub(super) fn place(&mut self, segment: u32, generation: u32, length: usize) -> Option<Place> {
        let (offset, allocation) = match &mut self.allocator {
            None if self.pieces == 0 && length <= self.backing.length() => (0, None),
            None => return None,
            Some((granule, allocator)) => {
                let granules = u32::try_from(length.div_ceil(*granule).max(1)).ok()?;
                let allocation = allocator.allocate(granules)?;
                (allocation.offset as usize * *granule, Some(allocation))
            }
        };
        self.pieces += 1;
        Some(Place { segment, generation, offset, backing: self.backing.clone(), allocation })
    }

    /// Takes a place back.
    pub(super) fn give_back(&mut self, place: &Place) {
        self.pieces -= 1;
        self.exposed.remove(&place.offset);
        if let (Some((_, allocator)), Some(allocation)) = (&mut self.allocator, place.allocation) {
            allocator.free(allocation);
        }
    }
}
