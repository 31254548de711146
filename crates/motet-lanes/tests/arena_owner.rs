//! The owner's side, case by case, on memory from the heap: no system calls, so that miri can run it.
#![cfg(target_os = "linux")]

mod heap;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Barrier, mpsc};
use std::thread;

use heap::Heap;
use motet_lanes::arena::{
    AllocateError, Arena, Attached, Kind, Leased, Location, Mapping, Piece, Unknown, View,
};

const MIB: usize = 1 << 20;

fn arena(limit: usize) -> (Arena, Heap) {
    let heap = Heap::default();
    (Arena::with_source(limit, Box::new(heap.clone())), heap)
}

#[test]
fn all_of_it_goes_to_other_threads() {
    fn sent<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    shared::<Arena>();
    shared::<Piece>();
    shared::<Attached>();
    shared::<View>();
    sent::<Leased>();
    sent::<Mapping>();
}

#[test]
fn little_use_holds_little() {
    let (arena, _) = arena(64 * MIB);
    assert_eq!(arena.statistics(), Default::default());
    let pieces: Vec<_> = (0..100).map(|_| arena.allocate(1000, Kind::Message).unwrap()).collect();
    assert_eq!(arena.statistics().held_bytes, MIB / 4);
    let buffer = arena.allocate(5000, Kind::Buffer).unwrap();
    let statistics = arena.statistics();
    assert_eq!((statistics.held_bytes, statistics.segments), (MIB + MIB / 4, 2));
    assert_eq!((statistics.live_bytes, statistics.pieces), (105_000, 101));
    drop((pieces, buffer));
    let statistics = arena.statistics();
    assert_eq!((statistics.live_bytes, statistics.peak_live_bytes), (0, 105_000));
    assert_eq!((statistics.allocations, statistics.growths), (101, 2));
}

#[test]
fn many_pieces_are_in_few_segments() {
    let (arena, _) = arena(256 * MIB);
    let pieces: Vec<_> = (0..400).map(|_| arena.allocate(MIB / 8, Kind::Buffer).unwrap()).collect();
    let statistics = arena.statistics();
    assert!(statistics.segments <= 8, "{statistics:?}");
    assert!(statistics.held_bytes <= 2 * statistics.live_bytes + MIB, "{statistics:?}");
    drop(pieces);
}

#[test]
fn a_large_piece_is_reused_for_the_next_of_about_its_length() {
    let (arena, heap) = arena(256 * MIB);
    let first = arena.allocate(41 * MIB, Kind::Buffer).unwrap();
    let place = first.location();
    drop(first);
    for length in [41 * MIB, 39 * MIB, 41 * MIB + MIB / 2] {
        let next = arena.allocate(length, Kind::Buffer).unwrap();
        let at = next.location();
        assert_eq!((at.segment, at.offset), (place.segment, 0));
        assert_ne!(at.generation, place.generation);
    }
    assert_eq!(arena.statistics().growths, 1);
    for _ in 0..3 {
        let two = [(); 2].map(|()| arena.allocate(40 * MIB, Kind::Buffer).unwrap());
        assert_ne!(two[0].location().segment, two[1].location().segment);
    }
    assert_eq!(arena.statistics().growths, 2);
    // One of quite another length is not: it would take so much more than it needs.
    let other = arena.allocate(20 * MIB, Kind::Buffer).unwrap();
    assert_ne!(other.location().segment, place.segment);
    arena.trim();
    assert_eq!(heap.held.load(Ordering::Relaxed), 20 * MIB);
}

#[test]
fn idle_memory_beyond_half_of_the_limit_is_returned_oldest_first() {
    let (arena, heap) = arena(100 * MIB);
    let pieces: Vec<_> = (0..5).map(|_| arena.allocate(18 * MIB, Kind::Buffer).unwrap()).collect();
    let segments: Vec<u32> = pieces.iter().map(|piece| piece.location().segment).collect();
    assert_eq!(heap.held.load(Ordering::Relaxed), 90 * MIB);
    assert!(matches!(arena.allocate(18 * MIB, Kind::Buffer), Err(AllocateError::Full)));
    let mut peer = Leased::new(&arena);
    segments.iter().for_each(|segment| peer.introduced(*segment));
    drop(pieces);
    assert_eq!(heap.held.load(Ordering::Relaxed), 36 * MIB);
    let mut retired = peer.retired();
    retired.sort_unstable();
    assert_eq!(retired, segments[..3]);
    assert!(peer.retired().is_empty());
}

#[test]
fn idle_memory_makes_room_for_what_it_does_not_fit() {
    let (arena, heap) = arena(64 * MIB);
    drop(arena.allocate(30 * MIB, Kind::Buffer).unwrap());
    let other = arena.allocate(60 * MIB, Kind::Buffer).unwrap();
    assert_eq!(heap.held.load(Ordering::Relaxed), 60 * MIB);
    assert!(arena.statistics().peak_held_bytes <= 64 * MIB);
    drop(other);
}

#[test]
fn a_refusal_of_the_system_is_met_with_less() {
    let (arena, heap) = arena(64 * MIB);
    heap.capacity.store(8192, Ordering::Relaxed);
    // The usual first segment is refused, the least one is not.
    let piece = arena.allocate(8000, Kind::Buffer).unwrap();
    assert_eq!(arena.statistics().held_bytes, 8192);
    let refused = arena.allocate(9000, Kind::Buffer).unwrap_err();
    assert!(matches!(&refused, AllocateError::System(error) if error.kind() == io::ErrorKind::OutOfMemory));
    assert_eq!(arena.statistics().held_bytes, 8192);
    drop(piece);
    heap.capacity.store(40 * MIB, Ordering::Relaxed);
    drop(arena.allocate(30 * MIB, Kind::Buffer).unwrap());
    // The arena may have more, but the system has it only if what is idle returns.
    drop(arena.allocate(18 * MIB, Kind::Buffer).unwrap());
    assert_eq!(heap.held.load(Ordering::Relaxed), 18 * MIB);
}

#[test]
fn a_lent_piece_is_not_written_and_stays() {
    let (arena, _) = arena(MIB);
    let mut piece = arena.allocate(100, Kind::Message).unwrap();
    let mut peer = Leased::new(&arena);
    piece.as_mut_slice().unwrap().fill(7);
    let location = peer.lend(&piece);
    assert_eq!(peer.lend(&piece), location);
    assert!(piece.as_mut_slice().is_none());
    drop(piece);
    peer.returned(location).unwrap();
    assert_eq!((arena.statistics().pieces, peer.len()), (1, 1));
    peer.returned(location).unwrap();
    assert_eq!((arena.statistics().pieces, peer.is_empty()), (0, true));
    assert_eq!(peer.returned(location), Err(Unknown(location)));

    // The same place again: the word that comes late has no effect.
    let again = arena.allocate(100, Kind::Message).unwrap();
    let lent = peer.lend(&again);
    assert_eq!(
        (lent.segment, lent.offset, lent.length),
        (location.segment, location.offset, location.length)
    );
    assert_eq!(peer.returned(location), Err(Unknown(location)));
    drop((again, peer));
    assert_eq!(arena.statistics().pieces, 0);
}

#[test]
fn a_range_is_lent_only_of_its_own_piece() {
    let (arena, _) = arena(MIB);
    let (first, second) =
        (arena.allocate(64, Kind::Message).unwrap(), arena.allocate(64, Kind::Message).unwrap());
    let mut peer = Leased::new(&arena);
    let whole = first.location();
    for wrong in [
        second.location(),
        Location { length: 65, ..whole },
        Location { offset: whole.offset + 1, ..whole },
        Location { offset: u64::MAX, ..whole },
        Location { generation: whole.generation + 1, ..whole },
        Location { segment: whole.segment + 1, ..whole },
    ] {
        assert_eq!(peer.lend_range(&first, wrong), Err(Unknown(wrong)));
    }
    let part = Location { offset: whole.offset + 8, length: 56, ..whole };
    peer.lend_range(&first, part).unwrap();
    assert_eq!(peer.returned(whole), Err(Unknown(whole)));
    peer.returned(part).unwrap();
    let elsewhere = self::arena(MIB).0;
    assert!(Leased::new(&elsewhere).lend_range(&first, part).is_err());
}

#[test]
fn pieces_outlive_their_arena() {
    let (arena, heap) = arena(MIB);
    let mut piece = arena.allocate(10, Kind::Message).unwrap();
    drop(arena);
    piece.as_mut_slice().unwrap().fill(1);
    assert_eq!(piece.as_slice(), [1; 10]);
    drop(piece);
    assert_eq!(heap.held.load(Ordering::Relaxed), 0);
}

#[test]
fn a_forked_child_has_no_say() {
    let (arena, heap) = arena(MIB);
    let mut piece = arena.allocate(10, Kind::Message).unwrap();
    let address = arena.allocate(10, Kind::Buffer).unwrap();
    let pointer = address.expose();
    heap.forked.store(true, Ordering::Relaxed);
    let refused = arena.allocate(10, Kind::Message).unwrap_err();
    assert!(matches!(&refused, AllocateError::System(error) if error.kind() == io::ErrorKind::Unsupported));
    assert!(piece.as_mut_slice().is_none());
    assert!(arena.find(pointer.as_ptr(), 1).is_none());
    drop(piece);
    heap.forked.store(false, Ordering::Relaxed);
    // The parent's books are untouched by the child's copies of them.
    assert_eq!(arena.statistics().pieces, 2);
}

#[test]
fn threads_share_an_arena() {
    let rounds = if cfg!(miri) { 15 } else { 2000 };
    let (arena, heap) = arena(4 * MIB);
    let (sender, receiver) = mpsc::channel();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for number in 1..=2u8 {
            let (arena, start, sender) = (&arena, &start, sender.clone());
            scope.spawn(move || {
                start.wait();
                let mut peer = Leased::new(arena);
                for round in 0..rounds {
                    let kind = if round % 5 == 0 { Kind::Buffer } else { Kind::Message };
                    let length = 1 + round * 97 % 30_000;
                    let Ok(mut piece) = arena.allocate(length, kind) else { continue };
                    piece.as_mut_slice().unwrap().fill(number);
                    let location = peer.lend(&piece);
                    if round % 3 == 0 {
                        piece.expose();
                    }
                    sender.send((piece, number)).unwrap();
                    peer.returned(location).unwrap();
                }
            });
        }
        drop(sender);
        start.wait();
        for (piece, number) in receiver {
            let bytes = piece.as_slice();
            assert!(bytes[0] == number && bytes[bytes.len() - 1] == number);
            if let Some((found, location)) = arena.find(bytes.as_ptr(), bytes.len()) {
                assert_eq!(location, found.location());
            }
        }
    });
    let statistics = arena.statistics();
    assert_eq!((statistics.pieces, statistics.live_bytes), (0, 0));
    arena.trim();
    assert_eq!(heap.held.load(Ordering::Relaxed), 0);
}
