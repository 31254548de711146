//! An arena's books: its segments, what lies where in them, and when one is asked for or returned.
//!
//! It asks nobody for memory itself: it says what it lacks ([`Answer::Grow`]) and is given it ([`Space::add`]), so that
//! the system's part is done without holding the books' lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use super::location::Location;
use super::piece::Inner;
use super::policy::{self, Kind};
use super::segment::{Layout, Place, Segment};
use super::source::Backing;
use super::statistics::Statistics;

/// What a request comes to.
pub(super) enum Answer {
    Placed(Place),
    /// A segment of this size would do. It is already counted; segments that had to go for it are handed over.
    Grow {
        size: usize,
        layout: Layout,
        evicted: Vec<Segment>,
    },
    Full,
}

pub(super) struct Space {
    page: usize,
    limit: usize,
    segments: HashMap<u32, Segment>,
    /// The segments by where they lie in this process.
    addresses: BTreeMap<usize, u32>,
    /// The segments shared by pieces of a kind, in the order of their making.
    shared: [Vec<u32>; 2],
    /// The segments without a piece: the longest idle first.
    idle: BTreeMap<u64, u32>,
    /// Those of them that are used whole, by length.
    idle_whole: BTreeSet<(usize, u32)>,
    clock: u64,
    last_segment: u32,
    last_generation: u32,
    /// Live pieces that nobody gives back by himself, see [`super::Piece::settle`].
    settled: usize,
    /// Buffers that have come back.
    pub(super) returned: u64,
    statistics: Statistics,
}

impl Space {
    pub(super) fn new(limit: usize, page: usize) -> Self {
        Self {
            page,
            limit,
            segments: HashMap::new(),
            addresses: BTreeMap::new(),
            shared: [Vec::new(), Vec::new()],
            idle: BTreeMap::new(),
            idle_whole: BTreeSet::new(),
            clock: 0,
            last_segment: 0,
            last_generation: 0,
            settled: 0,
            returned: 0,
            statistics: Statistics::default(),
        }
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.statistics
    }

    pub(super) fn has_segment(&self, segment: u32) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Finds a place, or what it takes to have one; with `beyond` also where the limit has no room for it.
    pub(super) fn place(&mut self, length: usize, kind: Kind, beyond: bool) -> Answer {
        if let Some(place) = self.place_in_held(length, kind) {
            return Answer::Placed(place);
        }
        let books = self.books();
        let available = (books.allowed() + books.idle_bytes).saturating_sub(books.held_bytes);
        let pages = length.max(1).next_multiple_of(self.page);
        if kind.shares(length) {
            let granules = length.div_ceil(kind.granule(self.page)).max(1) as u32;
            let least = kind.least_segment(granules, self.page).next_multiple_of(self.page);
            if least <= available {
                let held = self.shared[kind as usize].iter().map(|id| self.segments[id].length()).sum();
                let size = kind.next_segment(held, least, self.page).min(available / self.page * self.page);
                return self.grow(size, Layout::Shared(kind));
            }
        }
        if pages > available && !beyond {
            return Answer::Full;
        }
        let size = match kind {
            Kind::Common => pages,
            _ => {
                let own = policy::own_segment(length, self.page).unwrap_or(pages);
                own.min(available / self.page * self.page).max(pages)
            }
        };
        self.grow(size, own_layout(kind))
    }

    /// What the system may still have when it has refused more: a segment of just this length.
    pub(super) fn place_alone(&mut self, length: usize, kind: Kind) -> Answer {
        let pages = length.max(1).next_multiple_of(self.page);
        if pages <= self.books().room() { self.grow(pages, own_layout(kind)) } else { Answer::Full }
    }

    fn place_in_held(&mut self, length: usize, kind: Kind) -> Option<Place> {
        if kind == Kind::Common {
            // Never one that a peer maps already.
            return None;
        }
        let generation = self.last_generation.wrapping_add(1);
        // A small piece has a segment of its own where the limit left no room for more.
        let whole = (length, 0)..=(policy::longest_reused(length.max(self.page)), u32::MAX);
        let whole = self.idle_whole.range(whole).next().map(|&(_, id)| id);
        let shared: &[u32] = if kind.shares(length) { &self.shared[kind as usize] } else { &[] };
        for &id in shared.iter().rev().chain(&whole) {
            let Some(segment) = self.segments.get_mut(&id) else { continue };
            if let Some(place) = segment.place(id, generation, length) {
                self.occupied(id, length);
                return Some(place);
            }
        }
        None
    }

    /// Notes that a piece has come to lie in a segment.
    fn occupied(&mut self, id: u32, length: usize) {
        self.last_generation = self.last_generation.wrapping_add(1);
        self.no_longer_idle(id);
        let statistics = &mut self.statistics;
        statistics.allocations += 1;
        statistics.pieces += 1;
        statistics.live_bytes += length;
        statistics.peak_live_bytes = statistics.peak_live_bytes.max(statistics.live_bytes);
    }

    fn no_longer_idle(&mut self, id: u32) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        if let Some(since) = segment.idle_since.take() {
            self.idle.remove(&since);
            self.idle_whole.remove(&(segment.length(), id));
            self.statistics.idle_bytes -= segment.length();
        }
    }

    fn grow(&mut self, size: usize, layout: Layout) -> Answer {
        let evicted = self.evict_until(|books| size <= books.room());
        self.statistics.held_bytes += size;
        Answer::Grow { size, layout, evicted }
    }

    /// Undoes the counting of a growth that has failed.
    pub(super) fn not_grown(&mut self, size: usize) {
        self.statistics.held_bytes -= size;
    }

    /// Takes in the segment that [`Answer::Grow`] asked for, and puts the piece there that it was asked for.
    pub(super) fn add(&mut self, backing: Arc<dyn Backing>, layout: Layout, length: usize) -> Option<Place> {
        self.last_segment += 1;
        let id = self.last_segment | if layout == Layout::Common { Location::COMMON } else { 0 };
        self.addresses.insert(backing.pointer().addr().get(), id);
        let mut segment = Segment::new(backing, layout, self.page);
        let place = segment.place(id, self.last_generation.wrapping_add(1), length);
        self.segments.insert(id, segment);
        if let Layout::Shared(kind) = layout {
            self.shared[kind as usize].push(id);
        }
        self.statistics.growths += 1;
        self.statistics.segments += 1;
        self.statistics.peak_held_bytes = self.statistics.peak_held_bytes.max(self.statistics.held_bytes);
        self.occupied(id, length);
        place
    }

    /// Takes a place back, of which peers kept so many bytes. What is no longer worth keeping is handed over.
    pub(super) fn give_back(&mut self, place: &Place, length: usize, kept: usize) -> Vec<Segment> {
        let id = place.segment;
        let Some(segment) = self.segments.get_mut(&id) else { return Vec::new() };
        segment.give_back(place);
        self.statistics.kept_bytes -= kept;
        self.statistics.pieces -= 1;
        self.statistics.live_bytes -= length;
        if segment.pieces > 0 {
            return Vec::new();
        }
        self.clock += 1;
        segment.idle_since = Some(self.clock);
        self.idle.insert(self.clock, id);
        if segment.layout == Layout::Whole {
            self.idle_whole.insert((segment.length(), id));
        }
        self.statistics.idle_bytes += segment.length();
        if segment.layout == Layout::Common {
            return self.evict(id).into_iter().collect();
        }
        let most = policy::idle_limit(self.limit);
        self.evict_until(|books| books.idle_bytes <= most && books.held_bytes <= books.allowed())
    }

    /// Lets a peer keep a piece: how much of the limit that makes free. A piece with a segment to itself is the peer's for
    /// good if `wholly`, and the segment, which the books forget, is handed over.
    pub(super) fn let_keep(
        &mut self,
        place: &Place,
        length: usize,
        wholly: bool,
    ) -> (usize, Option<Segment>) {
        let id = place.segment;
        let Some(segment) = self.segments.get(&id) else { return (0, None) };
        let bytes = match segment.layout {
            Layout::Shared(kind) => length.max(1).next_multiple_of(kind.granule(self.page)),
            Layout::Whole | Layout::Common => segment.length(),
        };
        if !matches!(segment.layout, Layout::Shared(_)) && wholly {
            self.statistics.pieces -= 1;
            self.statistics.live_bytes -= length;
            self.statistics.given_bytes += bytes as u64;
            return (bytes, self.forget(id));
        }
        self.statistics.kept_bytes += bytes;
        (bytes, None)
    }

    /// Notes that so many pieces more, or fewer, do not come back by themselves.
    pub(super) fn settle(&mut self, more: bool) {
        self.settled = if more { self.settled + 1 } else { self.settled - 1 };
    }

    /// Whether there are pieces that somebody may give back.
    pub(super) fn may_return(&self) -> bool {
        self.statistics.pieces > self.settled
    }

    fn forget(&mut self, id: u32) -> Option<Segment> {
        let segment = self.segments.remove(&id)?;
        self.addresses.remove(&segment.backing.pointer().addr().get());
        if let Layout::Shared(kind) = segment.layout {
            self.shared[kind as usize].retain(|other| *other != id);
        }
        self.statistics.held_bytes -= segment.length();
        self.statistics.segments -= 1;
        Some(segment)
    }

    /// Hands over the segments without a piece, the longest idle first, until it is enough or there are no more.
    pub(super) fn evict_until(&mut self, enough: impl Fn(&Books) -> bool) -> Vec<Segment> {
        let mut evicted = Vec::new();
        while !enough(&self.books())
            && let Some((_, &id)) = self.idle.first_key_value()
        {
            let Some(segment) = self.evict(id) else { break };
            evicted.push(segment);
        }
        evicted
    }

    fn evict(&mut self, id: u32) -> Option<Segment> {
        self.no_longer_idle(id);
        self.forget(id)
    }

    fn books(&self) -> Books {
        let Statistics { held_bytes, idle_bytes, kept_bytes, .. } = self.statistics;
        Books { held_bytes, idle_bytes, kept_bytes, limit: self.limit }
    }

    /// Lets [`Self::find`] know a piece.
    pub(super) fn expose(&mut self, place: &Place, length: usize, piece: Weak<Inner>) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.exposed.insert(place.offset, (length, piece));
        }
    }

    /// The exposed piece in which all of `length` bytes from an address on lie, and how far into its segment they begin.
    pub(super) fn find(&self, address: usize, length: usize) -> Option<(Arc<Inner>, usize)> {
        let (base, id) = self.addresses.range(..=address).next_back()?;
        let offset = address - base;
        let (start, (room, piece)) = self.segments.get(id)?.exposed.range(..=offset).next_back()?;
        let fits = (offset - start).checked_add(length)? <= *room;
        // Only what is returned may be upgraded: dropping it here could be dropping the last share, under the lock.
        if length > 0 && fits { Some((piece.upgrade()?, offset)) } else { None }
    }
}

/// How a segment is used that is asked for on behalf of one piece.
fn own_layout(kind: Kind) -> Layout {
    if kind == Kind::Common { Layout::Common } else { Layout::Whole }
}

/// What growing and evicting depend on.
pub(super) struct Books {
    held_bytes: usize,
    pub(super) idle_bytes: usize,
    kept_bytes: usize,
    limit: usize,
}

impl Books {
    /// What may be held: what peers keep does not count.
    fn allowed(&self) -> usize {
        self.limit.saturating_add(self.kept_bytes)
    }

    /// What may be taken from the system beside what is held.
    fn room(&self) -> usize {
        self.allowed().saturating_sub(self.held_bytes)
    }
}
