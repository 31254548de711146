//! The owner's side: memory is allocated here, and nowhere else.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::location::Location;
use super::piece::Piece;
use super::policy::Kind;
use super::segment::{Layout, Place, Segment};
use super::source::Source;
use super::space::{Answer, Space};
use super::statistics::Statistics;
use super::table::{Table, Tables};
use crate::sys::memory::SystemSource;

/// Why there is no memory.
#[derive(Debug)]
pub enum AllocateError {
    /// Too much is in use. It may succeed once pieces return.
    Full,
    /// It can never succeed.
    TooLarge {
        /// What was asked for, in bytes.
        length: usize,
        /// All that this arena may hold.
        limit: usize,
    },
    /// The system has refused: no memory, no descriptor. Also the answer to a forked child, of kind
    /// [`io::ErrorKind::Unsupported`]: it shares the segments with its parent, who alone allocates.
    System(io::Error),
}

impl fmt::Display for AllocateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(formatter, "the arena is full until pieces of it are given back"),
            Self::TooLarge { length, limit } => {
                write!(formatter, "{length} bytes do not fit into an arena of at most {limit} bytes")
            }
            Self::System(error) => write!(formatter, "no memory for the arena: {error}"),
        }
    }
}

impl std::error::Error for AllocateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

/// The arena of this process. All its methods may be called from any thread. Pieces may outlive it.
///
/// It takes memory in segments that grow with use, and gives segments back that have been idle the longest, so that it
/// never keeps more idle memory than half of its limit.
pub struct Arena {
    pub(super) shared: Arc<Shared>,
}

/// What the arena, its pieces and its tables of leases have in common.
pub(super) struct Shared {
    source: Box<dyn Source>,
    limit: usize,
    space: Mutex<Space>,
    tables: Mutex<Tables>,
    /// Grows when segments cease to exist.
    retirements: AtomicU64,
}

impl Arena {
    /// An arena that holds at most `limit` bytes, in memory of the system. `label` names it in `/proc/<pid>/maps`.
    pub fn new(limit: usize, label: &str) -> Self {
        Self::with_source(limit, Box::new(SystemSource::new(label)))
    }

    /// An arena with segments from somewhere else.
    pub fn with_source(limit: usize, source: Box<dyn Source>) -> Self {
        let space = Mutex::new(Space::new(limit, source.page_size()));
        let (tables, retirements) = (Mutex::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { source, limit, space, tables, retirements }) }
    }

    /// A piece of `length` bytes, aligned to 64 bytes ([`Kind::Message`]) or to a page (the others).
    ///
    /// When nothing else is allocated, everything succeeds that fits into the limit in whole pages.
    ///
    /// # Errors
    /// See [`AllocateError`].
    pub fn allocate(&self, length: usize, kind: Kind) -> Result<Piece, AllocateError> {
        let place = self.shared.allocate(length, kind, false)?;
        Ok(Piece::new(self.shared.clone(), place, length, kind))
    }

    /// As [`Self::allocate`], also where the limit leaves no room: for the little without which what is held would
    /// never be given back. The caller sees to it that few such pieces live at a time.
    ///
    /// # Errors
    /// See [`AllocateError`], but for [`AllocateError::Full`].
    pub fn allocate_beyond(&self, length: usize, kind: Kind) -> Result<Piece, AllocateError> {
        let place = self.shared.allocate(length, kind, true)?;
        Ok(Piece::new(self.shared.clone(), place, length, kind))
    }

    /// Whether there are pieces that come back by themselves, in time: not [settled](Piece::settle), nor kept.
    pub fn may_return(&self) -> bool {
        self.shared.is_own_process() && self.shared.space().may_return()
    }

    /// How many buffers have come back so far: if it grows, waiting is of use. Messages always come back.
    pub fn returned(&self) -> u64 {
        if self.shared.is_own_process() { self.shared.space().returned } else { 0 }
    }

    /// Lets peers keep the buffers that they alone have a share of: from now on these are their memory, and do not count
    /// against the limit. Gives how many bytes that makes free.
    ///
    /// Nothing is copied, and the peers need not answer. A segment that is used whole is given up for good: once its
    /// peer has been [told](super::Leased::retired), nobody here has a descriptor or mapping of it, and it lives as
    /// long as the peer's mapping. The others stay, so that their places can be used again.
    pub fn let_peers_keep(&self) -> usize {
        if self.shared.is_own_process() { self.shared.let_peers_keep() } else { 0 }
    }

    /// The piece in which all of `length` bytes from `pointer` on lie, and the location of exactly this range: whether an
    /// array, or a slice of one, can go to a peer as it is. Knows only pieces that were [exposed](Piece::expose): no other
    /// code has an address in the others. `None` for no bytes.
    pub fn find(&self, pointer: *const u8, length: usize) -> Option<(Piece, Location)> {
        if !self.shared.is_own_process() {
            return None;
        }
        let (inner, offset) = self.shared.space().find(pointer.addr(), length)?;
        let piece = Piece::from_inner(inner);
        let location = Location { offset: offset as u64, length: length as u64, ..piece.location() };
        Some((piece, location))
    }

    /// Returns all idle memory to the system. Meant for quiet moments: what follows pays for it again.
    pub fn trim(&self) {
        if self.shared.is_own_process() {
            self.shared.trim();
        }
    }

    /// All that the arena may hold, in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// What the arena holds and has held; all zero in a forked child.
    pub fn statistics(&self) -> Statistics {
        if self.shared.is_own_process() { self.shared.space().statistics() } else { Statistics::default() }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Arena").field("limit", &self.shared.limit).finish_non_exhaustive()
    }
}

impl Shared {
    fn allocate(&self, length: usize, kind: Kind, beyond: bool) -> Result<Place, AllocateError> {
        if !self.is_own_process() {
            let reason = "the arena belongs to the process that this one was forked from";
            return Err(AllocateError::System(io::Error::new(io::ErrorKind::Unsupported, reason)));
        }
        let pages = length.max(1).checked_next_multiple_of(self.source.page_size());
        if pages.is_none_or(|pages| pages > self.limit) {
            return Err(AllocateError::TooLarge { length, limit: self.limit });
        }
        let answer = self.space().place(length, kind, beyond);
        match self.carry_out(answer, length) {
            Err(AllocateError::System(_)) => {
                // Perhaps it was too much only because of what is idle here, or because growth was generous.
                self.trim();
                let answer = self.space().place_alone(length, kind);
                self.carry_out(answer, length)
            }
            result => result,
        }
    }

    /// Gets a segment if one is needed, without the lock: clearing so much memory takes time.
    fn carry_out(&self, answer: Answer, length: usize) -> Result<Place, AllocateError> {
        let (size, layout, evicted) = match answer {
            Answer::Placed(place) => return Ok(place),
            Answer::Full => return Err(AllocateError::Full),
            Answer::Grow { size, layout, evicted } => (size, layout, evicted),
        };
        self.retire(evicted);
        let segment = match layout {
            Layout::Common => self.source.common_segment(size),
            Layout::Shared(_) | Layout::Whole => self.source.segment(size),
        };
        match segment {
            // A new segment was measured for this piece, so there always is a place.
            Ok(backing) => self.space().add(backing, layout, length).ok_or(AllocateError::Full),
            Err(error) => {
                self.space().not_grown(size);
                Err(AllocateError::System(error))
            }
        }
    }

    fn trim(&self) {
        let evicted = self.space().evict_until(|books| books.idle_bytes == 0);
        self.retire(evicted);
    }

    /// Ends segments, without the lock: unmapping takes time too.
    pub(super) fn retire(&self, evicted: Vec<Segment>) {
        if !evicted.is_empty() {
            self.retirements.fetch_add(1, Ordering::Release);
        }
    }

    fn let_peers_keep(&self) -> usize {
        // Not under their own lock: to drop a table may be to drop pieces.
        let tables: Vec<Arc<Table>> = self.tables().live();
        tables.iter().map(|table| table.let_keep(self)).sum()
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retirements(&self) -> u64 {
        self.retirements.load(Ordering::Acquire)
    }

    pub(super) fn is_own_process(&self) -> bool {
        self.source.is_own_process()
    }

    /// The books. Nothing that panics leaves them half changed, so a poisoned lock is as good as any.
    pub(super) fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
