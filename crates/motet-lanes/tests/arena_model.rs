//! The owner's side against a simple model, on memory from the heap: no system calls, so that miri can run it.
#![cfg(target_os = "linux")]

mod heap;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use heap::Heap;
use motet_lanes::arena::{AllocateError, Arena, Kind, Leased, Location, Piece, Unknown};
use proptest::prelude::*;
use proptest::sample::Index;

const LIMIT: usize = 3 << 20;

#[derive(Clone, Debug)]
enum Step {
    Allocate { length: usize, kind: Kind, exposed: bool },
    AllocateBeyond { length: usize, kind: Kind },
    Share(Index),
    Drop(Index),
    Write(Index),
    Find { piece: Index, begin: Index, length: Index },
    Lend { piece: Index, peer: usize, half: bool },
    Return { lent: Index, peer: usize },
    PeerDies(usize),
    LetPeersKeep,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Message), Just(Kind::Buffer)];
    let length = prop_oneof![
        0..300usize,
        Just(4096usize),
        1000..70_000usize,
        60_000..600_000usize,
        600_000..=LIMIT + 5000,
        Just(usize::MAX)
    ];
    let index = any::<Index>;
    let step = prop_oneof![
        8 => (length, kind, any::<bool>())
            .prop_map(|(length, kind, exposed)| Step::Allocate { length, kind, exposed }),
        1 => (0..70_000usize, prop_oneof![Just(Kind::Message), Just(Kind::Buffer)])
            .prop_map(|(length, kind)| Step::AllocateBeyond { length, kind }),
        2 => Just(Step::LetPeersKeep),
        1 => index().prop_map(Step::Share),
        6 => index().prop_map(Step::Drop),
        2 => index().prop_map(Step::Write),
        2 => (index(), index(), index()).prop_map(|(piece, begin, length)| Step::Find { piece, begin, length }),
        3 => (index(), 0..2usize, any::<bool>()).prop_map(|(piece, peer, half)| Step::Lend { piece, peer, half }),
        3 => (index(), 0..2usize).prop_map(|(lent, peer)| Step::Return { lent, peer }),
        1 => (0..2usize).prop_map(Step::PeerDies),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 30 } else { 120 })
}

/// A share as the model sees it.
struct Share {
    piece: Piece,
    mark: u8,
    exposed: bool,
}

struct Model {
    arena: Arena,
    heap: Heap,
    shares: Vec<Share>,
    /// The leases of each peer, in the order of lending, with the mark that the piece bears.
    lent: [Vec<(Location, Location, u8)>; 2],
    peers: [Leased; 2],
    marks: u8,
    /// Pieces that are buffers.
    buffers: HashSet<Location>,
    /// Pieces that peers keep.
    kept: HashSet<Location>,
    /// What may be held at most beside the limit.
    beyond: usize,
}

impl Model {
    fn new() -> Self {
        let heap = Heap::default();
        let arena = Arena::with_source(LIMIT, Box::new(heap.clone()));
        let peers = [Leased::new(&arena), Leased::new(&arena)];
        let (buffers, kept) = Default::default();
        let lent = [Vec::new(), Vec::new()];
        Self { arena, heap, shares: Vec::new(), lent, peers, marks: 0, buffers, kept, beyond: 0 }
    }

    /// All live pieces, once each, with their marks.
    fn live(&self) -> HashMap<Location, u8> {
        let held = self.shares.iter().map(|share| (share.piece.location(), share.mark));
        let lent = self.lent.iter().flatten().map(|&(_, whole, mark)| (whole, mark));
        held.chain(lent).collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Allocate { length, kind, exposed } => {
                self.allocate(length, kind, exposed, Arena::allocate);
            }
            Step::AllocateBeyond { length, kind } => {
                self.beyond += length.max(1).next_multiple_of(4096);
                let before = self.shares.len();
                self.allocate(length, kind, false, Arena::allocate_beyond);
                assert_eq!(self.shares.len(), before + 1);
            }
            Step::LetPeersKeep => self.let_peers_keep(),
            Step::PeerDies(peer) => {
                self.peers[peer] = Leased::new(&self.arena);
                self.lent[peer].clear();
            }
            Step::Return { lent, peer } => self.give_back(lent, peer),
            Step::Trim => {
                self.arena.trim();
                assert_eq!(self.arena.statistics().idle_bytes, 0);
            }
            _ if self.shares.is_empty() => {}
            Step::Share(which) => {
                let Share { piece, mark, exposed } = which.get(&self.shares);
                let other = Share { piece: piece.clone(), mark: *mark, exposed: *exposed };
                self.shares.push(other);
            }
            Step::Drop(which) => drop(self.shares.swap_remove(which.index(self.shares.len()))),
            Step::Write(which) => self.write(which.index(self.shares.len())),
            Step::Find { piece, begin, length } => self.find(piece.get(&self.shares), begin, length),
            Step::Lend { piece, peer, half } => {
                let Share { piece, mark, .. } = piece.get(&self.shares);
                let whole = piece.location();
                let part = Location { length: whole.length / 2, ..whole };
                let location = if half {
                    self.peers[peer].lend_range(piece, part).unwrap();
                    part
                } else {
                    self.peers[peer].lend(piece)
                };
                self.lent[peer].push((location, whole, *mark));
            }
        }
    }

    fn let_peers_keep(&mut self) {
        let own: HashSet<_> = self.shares.iter().map(|share| share.piece.location()).collect();
        let mut loans: HashMap<Location, HashSet<(usize, Location)>> = HashMap::new();
        for (peer, lent) in self.lent.iter().enumerate() {
            for (location, whole, _) in lent {
                if self.buffers.contains(whole) && !own.contains(whole) && !self.kept.contains(whole) {
                    loans.entry(*whole).or_default().insert((peer, *location));
                }
            }
        }
        let before: usize = self.peers.iter().map(Leased::len).sum();
        let freed = self.arena.let_peers_keep();
        assert_eq!(freed > 0, !loans.is_empty());
        let given = before - self.peers.iter().map(Leased::len).sum::<usize>();
        self.beyond += freed;
        self.kept.extend(loans.keys());
        // Which have a segment to themselves is the arena's own affair: asking for all shows it.
        for (whole, places) in loans.iter().filter(|_| given > 0) {
            let [(peer, location)] = *places.iter().collect::<Vec<_>>() else { continue };
            let times = self.lent[*peer].iter().filter(|(other, ..)| other == location).count();
            self.lent[*peer].retain(|(other, ..)| other != location);
            let results: Vec<_> = (0..times).map(|_| self.peers[*peer].returned(*location)).collect();
            assert!(results.iter().all(|result| *result == results[0]), "{whole:?}");
        }
        assert_eq!(self.arena.let_peers_keep(), 0);
    }

    fn allocate(
        &mut self,
        length: usize,
        kind: Kind,
        exposed: bool,
        allocate: impl Fn(&Arena, usize, Kind) -> Result<Piece, AllocateError>,
    ) {
        let nothing_lives = self.live().is_empty();
        match allocate(&self.arena, length, kind) {
            Ok(mut piece) => {
                assert_eq!(piece.len(), length);
                self.marks = self.marks.wrapping_add(1);
                piece.as_mut_slice().expect("the only share").fill(self.marks);
                let address = piece.as_slice().as_ptr().addr();
                assert!(address.is_multiple_of(if kind == Kind::Buffer { 4096 } else { 64 }));
                if kind == Kind::Buffer {
                    self.buffers.insert(piece.location());
                }
                if exposed {
                    assert_eq!(piece.expose().addr().get(), address);
                }
                self.shares.push(Share { piece, mark: self.marks, exposed });
            }
            Err(AllocateError::TooLarge { length: refused, limit }) => {
                assert_eq!((refused, limit), (length, LIMIT));
                assert!(length > LIMIT);
            }
            Err(AllocateError::Full) => assert!(!nothing_lives && length <= LIMIT),
            Err(AllocateError::System(error)) => panic!("{error}"),
        }
    }

    fn give_back(&mut self, lent: Index, peer: usize) {
        if self.lent[peer].is_empty() {
            let never = Location { segment: 1, generation: 77, offset: 0, length: 64 };
            assert_eq!(self.peers[peer].returned(never), Err(Unknown(never)));
            return;
        }
        let which = lent.index(self.lent[peer].len());
        let (location, ..) = self.lent[peer].swap_remove(which);
        let stale = Location { generation: location.generation.wrapping_add(1 << 31), ..location };
        assert_eq!(self.peers[peer].returned(stale), Err(Unknown(stale)));
        self.peers[peer].returned(location).unwrap();
    }

    fn write(&mut self, which: usize) {
        let Share { piece, mark, exposed } = &mut self.shares[which];
        let location = piece.location();
        if let Some(bytes) = piece.as_mut_slice() {
            bytes.fill(mark.wrapping_add(100));
            bytes.fill(*mark);
            assert!(!*exposed);
        } else {
            let exposed = *exposed;
            let shares = self.shares.iter().filter(|share| share.piece.location() == location).count();
            let leases = self.lent.iter().flatten().filter(|(_, whole, _)| *whole == location).count();
            assert!(exposed || shares + leases > 1, "the only share is refused");
        }
    }

    fn find(&self, share: &Share, begin: Index, length: Index) {
        let Share { piece, mark, exposed } = share;
        let (whole, bytes) = (piece.location(), piece.as_slice());
        if bytes.is_empty() {
            return;
        }
        let begin = begin.index(bytes.len());
        let length = 1 + length.index(bytes.len() - begin);
        let found = self.arena.find(bytes[begin..].as_ptr(), length);
        assert_eq!(found.is_some(), *exposed);
        if let Some((found, location)) = found {
            let offset = whole.offset + begin as u64;
            assert_eq!(location, Location { offset, length: length as u64, ..whole });
            assert_eq!(found.as_slice()[0], *mark);
        }
        assert!(self.arena.find(bytes[begin..].as_ptr(), bytes.len() - begin + 1).is_none());
        assert!(self.arena.find(bytes[begin..].as_ptr(), usize::MAX).is_none());
        assert!(self.arena.find(bytes.as_ptr(), 0).is_none());
    }

    fn check(&self) {
        let live = self.live();
        let statistics = self.arena.statistics();
        assert_eq!(statistics.pieces, live.len());
        assert_eq!(statistics.live_bytes as u64, live.keys().map(|location| location.length).sum::<u64>());
        assert!(statistics.held_bytes <= LIMIT + self.beyond && statistics.idle_bytes <= LIMIT / 2);
        let kept = live.keys().filter(|whole| self.kept.contains(whole));
        assert_eq!(self.arena.may_return(), live.len() > kept.clone().count());
        assert!(statistics.kept_bytes as u64 >= kept.map(|whole| whole.length).sum());
        assert_eq!(statistics.held_bytes, self.heap.held.load(Ordering::Relaxed));
        let mut places: Vec<_> = live.keys().map(|it| (it.segment, it.offset, it.length.max(1))).collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            assert!(pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1, "pieces overlap: {pair:?}");
        }
        for Share { piece, mark, .. } in &self.shares {
            let bytes = piece.as_slice();
            for byte in [bytes.first(), bytes.get(bytes.len() / 2), bytes.last()].into_iter().flatten() {
                assert_eq!(byte, mark);
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
            model.check();
        }
        let Model { arena, heap, shares, peers, .. } = model;
        drop((shares, peers));
        let statistics = arena.statistics();
        prop_assert_eq!((statistics.pieces, statistics.live_bytes), (0, 0));
        prop_assert_eq!(statistics.held_bytes, statistics.idle_bytes);
        prop_assert_eq!(statistics.kept_bytes, 0);
        // All of it is free again, in one piece too.
        let all = arena.allocate(LIMIT, Kind::Message).unwrap();
        prop_assert_eq!(arena.statistics().held_bytes, LIMIT);
        drop((arena, all));
        prop_assert_eq!(heap.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_location_survives_its_bytes(segment: u32, generation: u32, offset: u64, length: u64) {
        let location = Location { segment, generation, offset, length };
        prop_assert_eq!(Location::from_bytes(&location.to_bytes()), location);
    }
}
