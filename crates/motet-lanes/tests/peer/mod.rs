//! A peer in the same process, with its owner's table.

use std::os::fd::AsFd;

use motet_lanes::arena::{Arena, Attached, Leased, Location, Piece};

pub(crate) struct Peer {
    pub(crate) table: Leased,
    pub(crate) attached: Attached,
}

impl Peer {
    pub(crate) fn new(arena: &Arena) -> Self {
        // SAFETY: the owner is this test, which leaves lent bytes alone where it reads them in place.
        Self { table: Leased::new(arena), attached: unsafe { Attached::new() } }
    }

    pub(crate) fn lend(&mut self, piece: &Piece) -> Location {
        if let Some((segment, descriptor)) = self.table.unintroduced(piece) {
            self.attached.add(segment, descriptor.as_fd().try_clone_to_owned().unwrap()).unwrap();
            self.table.introduced(segment);
        }
        self.table.lend(piece)
    }
}
