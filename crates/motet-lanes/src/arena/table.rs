//! What is lent to each peer, where both its lane and the arena find it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::leases::Unknown;
use super::location::Location;
use super::owner::Shared;
use super::piece::Piece;

/// The pieces that one peer may be reading.
#[derive(Debug, Default)]
pub(super) struct Table {
    lent: Mutex<HashMap<Location, Loan>>,
}

/// A piece in a table, with how often it is lent there: the same array may be in two calls.
#[derive(Debug)]
struct Loan {
    piece: Piece,
    times: usize,
}

impl Loan {
    fn new(piece: Piece) -> Self {
        piece.loans().fetch_add(1, Ordering::Relaxed);
        Self { piece, times: 0 }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.piece.loans().fetch_sub(1, Ordering::Relaxed);
    }
}

impl Table {
    fn lent(&self) -> MutexGuard<'_, HashMap<Location, Loan>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, piece: &Piece, location: Location) {
        self.lent().entry(location).or_insert_with(|| Loan::new(piece.clone())).times += 1;
    }

    pub(super) fn returned(&self, location: Location) -> Result<(), Unknown> {
        let gone = match self.lent().entry(location) {
            Entry::Vacant(_) => return Err(Unknown(location)),
            Entry::Occupied(mut entry) if entry.get().times > 1 => {
                entry.get_mut().times -= 1;
                return Ok(());
            }
            Entry::Occupied(entry) => entry.remove(),
        };
        // Without the lock: it may be the last share.
        drop(gone);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.lent().len()
    }

    /// Lets the peer keep what nobody else has: how many bytes that makes free.
    pub(super) fn let_keep(&self, shared: &Shared) -> usize {
        let (mut bytes, mut given) = (0, Vec::new());
        let mut lent = self.lent();
        lent.retain(|_, loan| {
            if !loan.piece.is_peers_alone() {
                return true;
            }
            let (more, segment) = loan.piece.let_keep();
            bytes += more;
            let Some(segment) = segment else { return true };
            // Dropped without the lock, since that unmaps it.
            given.push((segment, loan.piece.clone()));
            false
        });
        drop(lent);
        let (segments, pieces): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        drop(pieces);
        shared.retire(segments);
        bytes
    }
}

/// The tables of an arena's peers.
#[derive(Default)]
pub(super) struct Tables(Vec<Weak<Table>>);

impl Tables {
    /// A table for another peer.
    pub(super) fn add(&mut self) -> Arc<Table> {
        let table = Arc::new(Table::default());
        self.0.retain(|other| other.strong_count() > 0);
        self.0.push(Arc::downgrade(&table));
        table
    }

    /// Those whose peers live.
    pub(super) fn live(&self) -> Vec<Arc<Table>> {
        self.0.iter().filter_map(Weak::upgrade).collect()
    }
}
