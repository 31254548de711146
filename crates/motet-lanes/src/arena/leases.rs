//! What a peer holds of this process's arena.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::location::Location;
use super::owner::{Arena, Shared};
use super::piece::Piece;
use super::table::Table;

/// A location that is not lent: it was given back already, or has never been lent to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub Location);

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not lent to this peer: {:?}", self.0)
    }
}

impl std::error::Error for Unknown {}

/// The pieces that one peer may be reading, and the segments that it knows.
///
/// Kept by the owner in its private memory, one for each peer. While a location is in the table its piece has a share here,
/// so the bytes are neither given out again nor written by safe code. Drop the table when the peer is *known to be
/// dead* (its process has been waited for, or its pidfd says so), and everything returns; a peer that was merely slow would
/// read what comes later.
pub struct Leased {
    shared: Arc<Shared>,
    lent: Arc<Table>,
    /// The segments whose descriptor the peer has.
    introduced: HashSet<u32>,
    /// How far segments had retired when this was last asked.
    retirements: u64,
}

impl Leased {
    /// The table of a peer that knows nothing yet.
    pub fn new(arena: &Arena) -> Self {
        let shared = arena.shared.clone();
        let (retirements, lent) = (shared.retirements(), shared.tables().add());
        Self { shared, lent, introduced: HashSet::new(), retirements }
    }

    /// Lends a whole piece. Each call needs a [`Self::returned`] of its own.
    ///
    /// # Panics
    /// If the piece is of another arena.
    pub fn lend(&mut self, piece: &Piece) -> Location {
        assert!(piece.is_of(&self.shared), "a piece of another arena");
        let location = piece.location();
        self.lent.enter(piece, location);
        location
    }

    /// Lends a range of a piece, as [`Arena::find`] gives it.
    ///
    /// # Errors
    /// If the range is not in this piece, or the piece is of another arena.
    pub fn lend_range(&mut self, piece: &Piece, range: Location) -> Result<(), Unknown> {
        if !piece.is_of(&self.shared) || !piece.location().contains(&range) {
            return Err(Unknown(range));
        }
        self.lent.enter(piece, range);
        Ok(())
    }

    /// The peer is done with a location, exactly as it was lent: it has neither a view nor a mapping of it any more.
    ///
    /// # Errors
    /// If the location is not lent, for example because the word comes late and the place holds another piece by now.
    /// Or the peer was [allowed to keep](super::Arena::let_peers_keep) it. Nothing has changed then.
    pub fn returned(&mut self, location: Location) -> Result<(), Unknown> {
        self.lent.returned(location)
    }

    /// The piece's segment and its descriptor, if the peer must be sent it before it can use the piece.
    pub fn unintroduced<'piece>(&self, piece: &'piece Piece) -> Option<(u32, BorrowedFd<'piece>)> {
        let segment = piece.location().segment;
        if self.introduced.contains(&segment) { None } else { Some((segment, piece.descriptor()?)) }
    }

    /// A segment's descriptor has been sent.
    pub fn introduced(&mut self, segment: u32) {
        self.introduced.insert(segment);
    }

    /// The segments that the peer knows and that have ceased to exist since this was last asked: to be told to the peer,
    /// which otherwise keeps their memory alive ([`super::Attached::remove`]). Costs next to nothing if there are none.
    pub fn retired(&mut self) -> Vec<u32> {
        let retirements = self.shared.retirements();
        if retirements == self.retirements || !self.shared.is_own_process() {
            return Vec::new();
        }
        self.retirements = retirements;
        let space = self.shared.space();
        self.introduced.extract_if(|segment| !space.has_segment(*segment)).collect()
    }

    /// How many different locations are lent.
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether nothing is lent.
    pub fn is_empty(&self) -> bool {
        self.lent.len() == 0
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leased").field("lent", &self.lent).finish_non_exhaustive()
    }
}
