//! What peers keep: it stops counting against the limit, and stays as it was.
#![cfg(target_os = "linux")]

mod heap;
mod peer;

use std::slice;

use motet_lanes::arena::{AllocateError, Arena, Kind, Leased, Location, Mapping, Piece, Unknown};
use peer::Peer;

const MIB: usize = 1 << 20;

fn map(peer: &mut Peer, piece: &Piece) -> (Location, Mapping) {
    let location = peer.lend(piece);
    (location, peer.attached.map_private(location).unwrap())
}

fn filled(arena: &Arena, length: usize, byte: u8) -> Result<Piece, AllocateError> {
    let mut piece = arena.allocate(length, Kind::Buffer)?;
    piece.as_mut_slice().unwrap().fill(byte);
    Ok(piece)
}

fn is_filled(mapping: &Mapping, byte: u8) -> bool {
    // SAFETY: a private mapping of this length, which nobody writes.
    let bytes = unsafe { slice::from_raw_parts(mapping.pointer().as_ptr(), mapping.len()) };
    bytes.iter().all(|other| *other == byte)
}

/// Fills the arena again and again with what the peer keeps.
fn keep(arena: &Arena, peer: &mut Peer, length: usize, count: u8) -> Vec<(Location, Mapping)> {
    let mut kept = Vec::new();
    for byte in 0..count {
        let piece = filled(arena, length, byte).or_else(|error| {
            assert!(matches!(error, AllocateError::Full));
            assert!(arena.may_return() && arena.let_peers_keep() > 0);
            assert!(!arena.may_return());
            filled(arena, length, byte)
        });
        kept.push(map(peer, &piece.unwrap()));
    }
    kept
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn small_pieces_that_are_kept_stay_and_come_back() {
    let arena = Arena::new(4 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let kept = keep(&arena, &mut peer, MIB / 2, 40);
    assert!(kept.iter().zip(0..).all(|((_, mapping), byte)| is_filled(mapping, byte)));
    let statistics = arena.statistics();
    assert!(statistics.kept_bytes >= 16 * MIB && statistics.held_bytes <= 4 * MIB + statistics.kept_bytes);
    for (location, mapping) in kept {
        drop(mapping);
        // Where the limit left no room for more, a piece had a segment to itself, which was given away.
        let result = peer.table.returned(location);
        assert!(result == Ok(()) || result == Err(Unknown(location)));
    }
    let statistics = arena.statistics();
    assert_eq!((statistics.pieces, statistics.kept_bytes), (0, 0));
    assert!(statistics.held_bytes <= 4 * MIB, "{statistics:?}");
}

#[test]
#[cfg_attr(miri, ignore = "maps files")]
fn a_large_piece_that_is_kept_is_the_peers_for_good() {
    let arena = Arena::new(50 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let kept = keep(&arena, &mut peer, 20 * MIB, 6);
    arena.let_peers_keep();
    let statistics = arena.statistics();
    assert_eq!((statistics.held_bytes, statistics.segments, statistics.pieces), (0, 0, 0));
    assert_eq!(statistics.given_bytes, 120 * MIB as u64);
    // The peer is told, and closes the descriptors.
    let mut retired = peer.table.retired();
    retired.sort_unstable();
    assert_eq!(retired, kept.iter().map(|(location, _)| location.segment).collect::<Vec<_>>());
    assert!(retired.into_iter().all(|segment| peer.attached.remove(segment)));
    let other = filled(&arena, 20 * MIB, 99).unwrap();
    for ((location, mapping), byte) in kept.into_iter().zip(0..) {
        assert!(is_filled(&mapping, byte));
        drop(mapping);
        assert_eq!(peer.table.returned(location), Err(Unknown(location)));
    }
    assert!(other.as_slice().iter().all(|byte| *byte == 99));
}

#[test]
fn only_what_peers_alone_have_is_kept() {
    let arena = Arena::with_source(2 * MIB, Box::<heap::Heap>::default());
    let mut tables = [Leased::new(&arena), Leased::new(&arena)];
    let [own, lent, both] = [(); 3].map(|()| arena.allocate(1000, Kind::Buffer).unwrap());
    let message = arena.allocate(1000, Kind::Message).unwrap();
    let place = tables[0].lend(&lent);
    for table in &mut tables {
        table.lend(&both);
    }
    tables[0].lend(&message);
    tables[0].lend(&own);
    assert_eq!(arena.let_peers_keep(), 0);
    drop((lent, both, message));
    assert_eq!(arena.let_peers_keep(), 2 * 4096);
    assert_eq!(arena.let_peers_keep(), 0);
    assert_eq!(arena.statistics().kept_bytes, 2 * 4096);
    // The message and the own piece.
    assert!(arena.may_return());
    let returned = arena.returned();
    tables[0].returned(place).unwrap();
    assert_eq!((arena.statistics().kept_bytes, arena.returned()), (4096, returned + 1));
    drop(tables);
    assert_eq!(arena.statistics().kept_bytes, 0);
    assert!(arena.may_return());
    own.settle();
    own.settle();
    own.unsettle();
    assert!(!arena.may_return());
    own.unsettle();
    assert!(arena.may_return());
    own.settle();
    drop(own);
    assert!(!arena.may_return());
    let _other = arena.allocate(1000, Kind::Buffer).unwrap();
    assert!(arena.may_return());
}

#[test]
fn a_full_arena_has_room_for_what_must_be() {
    let arena = Arena::with_source(MIB, Box::<heap::Heap>::default());
    let all = arena.allocate(MIB, Kind::Buffer).unwrap();
    assert!(matches!(arena.allocate(5000, Kind::Message), Err(AllocateError::Full)));
    let message = arena.allocate_beyond(5000, Kind::Message).unwrap();
    assert_eq!(arena.statistics().held_bytes, MIB + 8192);
    assert!(matches!(arena.allocate_beyond(2 * MIB, Kind::Message), Err(AllocateError::TooLarge { .. })));
    drop(message);
    assert_eq!(arena.statistics().held_bytes, MIB);
    drop(all);
}
