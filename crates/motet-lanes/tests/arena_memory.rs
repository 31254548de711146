//! Arenas in the system's memory, with the peer's side in the same process: the same pages mapped a second time.
#![cfg(target_os = "linux")]

mod peer;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;

use motet_lanes::arena::{Arena, AttachError, Attached, Kind, Location, MapError, Mapping, Piece};
use motet_lanes::descriptors::{self, Wait};
use peer::Peer;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};

const MIB: usize = 1 << 20;

fn filled(arena: &Arena, length: usize, kind: Kind, byte: u8) -> Piece {
    let mut piece = arena.allocate(length, kind).unwrap();
    piece.as_mut_slice().unwrap().fill(byte);
    piece
}

fn bytes(mapping: &Mapping) -> &[u8] {
    // SAFETY: a private mapping of this length, which nobody writes while it is borrowed here.
    unsafe { slice::from_raw_parts(mapping.pointer().as_ptr(), mapping.len()) }
}

fn fill(mapping: &mut Mapping, byte: u8) {
    // SAFETY: as above.
    unsafe { mapping.pointer().write_bytes(byte, mapping.len()) }
}

#[test]
fn what_is_written_is_read() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    for (length, kind) in
        [(0, Kind::Message), (1, Kind::Message), (100_000, Kind::Message), (5 * MIB, Kind::Message)]
    {
        let piece = filled(&arena, length, kind, 3);
        let location = peer.lend(&piece);
        let view = peer.attached.read(location).unwrap();
        assert_eq!(&*view, piece.as_slice());
        assert!(length == 0 || view.as_ptr() != piece.as_slice().as_ptr());
    }
    assert_eq!(peer.attached.len(), 2);
}

#[test]
fn a_private_mapping_is_its_own() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let piece = filled(&arena, 10_000, Kind::Buffer, 1);
    let location = peer.lend(&piece);
    let mut mapping = peer.attached.map_private(location).unwrap();
    let other = peer.attached.map_private(location).unwrap();
    fill(&mut mapping, 9);
    assert!(bytes(&mapping).iter().all(|byte| *byte == 9));
    assert!(bytes(&other).iter().all(|byte| *byte == 1));
    assert!(piece.as_slice().iter().all(|byte| *byte == 1));
    drop((mapping, other));
    peer.table.returned(location).unwrap();
    drop(piece);

    // Another piece in the same place: nothing of what was written privately shows.
    let again = filled(&arena, 10_000, Kind::Buffer, 2);
    let lent = peer.lend(&again);
    assert_eq!((lent.segment, lent.offset), (location.segment, location.offset));
    assert!(bytes(&peer.attached.map_private(lent).unwrap()).iter().all(|byte| *byte == 2));
}

#[test]
fn common_memory_is_written_by_all() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let mut piece = arena.allocate(10_000, Kind::Common).unwrap();
    assert!(piece.as_mut_slice().is_none());
    let pointer = piece.expose().as_ptr();
    peer.lend(&piece);
    let (found, half) = arena.find(pointer.wrapping_add(5000), 5000).unwrap();
    peer.table.lend_range(&found, half).unwrap();
    assert!(half.is_common() && matches!(peer.attached.read(half), Err(MapError::Invalid(_))));
    let mut mapping = peer.attached.map_array(half).unwrap();
    let other = peer.attached.map_array(piece.location()).unwrap();
    fill(&mut mapping, 9);
    // SAFETY: nobody else runs.
    let seen = unsafe { std::slice::from_raw_parts(pointer, 10_000) };
    for bytes in [seen, bytes(&other)] {
        assert!(bytes[..5000].iter().all(|byte| *byte == 0) && bytes[5000..].iter().all(|byte| *byte == 9));
    }

    // Who still maps it, has it; who wants memory of any kind, gets other.
    let before = piece.location();
    peer.table.returned(before).unwrap();
    peer.table.returned(half).unwrap();
    drop((piece, found));
    assert_eq!((arena.statistics().segments, arena.statistics().held_bytes), (0, 0));
    assert_eq!(peer.table.retired(), [before.segment]);
    let next = arena.allocate(10_000, Kind::Common).unwrap();
    assert!(
        filled(&arena, 10_000, Kind::Buffer, 2).location().segment & 0xffff
            != next.location().segment & 0xffff
    );
    assert_ne!(next.location().segment, before.segment);
    fill(&mut mapping, 7);
    let next = next.expose();
    // SAFETY: nobody else runs.
    assert!(unsafe { std::slice::from_raw_parts(next.as_ptr(), 10_000) }.iter().all(|byte| *byte == 0));
}

#[test]
fn a_sealed_segment_is_not_mapped_as_common() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let piece = filled(&arena, 5000, Kind::Buffer, 4);
    let said = Location { segment: piece.location().segment | 1 << 31, ..piece.location() };
    // SAFETY: nobody writes to it.
    let mut attached = unsafe { Attached::new() };
    attached.add(said.segment, piece.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
    let sealed = rustix::fs::fcntl_get_seals(piece.descriptor().unwrap()).unwrap();
    let refused = matches!(attached.map_array(said), Err(MapError::System(_)));
    assert_eq!(refused, sealed.contains(SealFlags::FUTURE_WRITE));
}

#[test]
fn a_slice_of_an_array_is_mapped_wherever_it_begins() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let mut piece = arena.allocate(20_000, Kind::Buffer).unwrap();
    for (number, byte) in piece.as_mut_slice().unwrap().iter_mut().enumerate() {
        *byte = (number % 251) as u8;
    }
    peer.lend(&piece);
    let pointer = piece.expose();
    for (begin, length) in [(0, 20_000), (1, 1), (4095, 2), (5000, 15_000), (8192, 4096)] {
        let (found, range) = arena.find(pointer.as_ptr().wrapping_add(begin), length).unwrap();
        peer.table.lend_range(&found, range).unwrap();
        let mapping = peer.attached.map_private(range).unwrap();
        assert_eq!(bytes(&mapping), &piece.as_slice()[begin..begin + length]);
        assert_eq!(mapping.pointer().addr().get() % 4096, begin % 4096);
        peer.table.returned(range).unwrap();
    }
}

#[test]
fn views_and_mappings_outlive_what_they_came_from() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let piece = filled(&arena, 5000, Kind::Buffer, 6);
    let location = peer.lend(&piece);
    let (view, mapping) =
        (peer.attached.read(location).unwrap(), peer.attached.map_private(location).unwrap());
    assert!(peer.attached.remove(location.segment) && !peer.attached.remove(location.segment));
    assert!(matches!(peer.attached.read(location), Err(MapError::Invalid(_))));
    drop((peer, piece));
    arena.trim();
    assert_eq!(arena.statistics().held_bytes, 0);
    drop(arena);
    assert!(view.iter().chain(bytes(&mapping)).all(|byte| *byte == 6));
}

#[test]
fn a_retired_segment_is_told() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let mut peer = Peer::new(&arena);
    let piece = filled(&arena, 100, Kind::Message, 6);
    let location = peer.lend(&piece);
    drop(piece);
    arena.trim();
    assert!(peer.table.retired().is_empty());
    peer.table.returned(location).unwrap();
    arena.trim();
    assert_eq!(peer.table.retired(), [location.segment]);
    // A number is not given twice.
    let next = filled(&arena, 100, Kind::Message, 6);
    assert_ne!(peer.lend(&next).segment, location.segment);
}

#[test]
fn a_peer_cannot_write_nor_shorten_nor_empty_a_segment() {
    use rustix::fs::{FallocateFlags, fallocate, ftruncate};
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let arena = Arena::new(64 * MIB, "motet-test");
    let piece = filled(&arena, 100, Kind::Message, 6);
    let descriptor = piece.descriptor().unwrap();
    let sealed = rustix::fs::fcntl_get_seals(descriptor).unwrap();
    assert!(sealed.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    for length in [0, 4096, 64 * MIB as u64] {
        assert!(ftruncate(descriptor, length).is_err());
    }
    let fresh =
        rustix::fs::memfd_create("motet-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let known = rustix::fs::fcntl_add_seals(&fresh, SealFlags::FUTURE_WRITE).is_ok();
    assert_eq!(sealed.contains(SealFlags::FUTURE_WRITE), known);
    if known {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, if it came to be, would be used by nobody.
        let mapped = unsafe { mmap(std::ptr::null_mut(), 4096, both, MapFlags::SHARED, descriptor, 0) };
        assert!(mapped.is_err());
        assert!(rustix::io::pwrite(descriptor, b"x", 0).is_err());
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert!(fallocate(descriptor, hole, 0, 4096).is_err());
    }
    assert!(piece.as_slice().iter().all(|byte| *byte == 6));
}

#[test]
fn only_segments_are_attached() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = |seals: SealFlags, allocated: bool| {
        let file = rustix::fs::memfd_create("motet-test", flags).unwrap();
        if allocated {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 8192).unwrap();
        } else {
            rustix::fs::ftruncate(&file, 8192).unwrap();
        }
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    };
    let fixed = SealFlags::SHRINK | SealFlags::GROW;
    // SAFETY: nobody writes to these files.
    let mut attached = unsafe { Attached::new() };
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let program: OwnedFd = std::fs::File::open(std::env::current_exe().unwrap()).unwrap().into();
    let wrong = [
        memory(SealFlags::GROW, true),
        memory(SealFlags::SHRINK, true),
        memory(fixed, false),
        reader,
        program,
    ];
    for file in wrong {
        assert!(matches!(attached.add(1, file), Err(AttachError::NotFixed)));
    }
    assert!(attached.is_empty());
    attached.add(1, memory(fixed, true)).unwrap();
    assert!(matches!(attached.add(1, memory(fixed, true)), Err(AttachError::Known(1))));
    let whole = Location { segment: 1, generation: 0, offset: 0, length: 8192 };
    assert_eq!(*attached.read(whole).unwrap(), [0; 8192]);
    for (offset, length, inside) in
        [(8191, 1, true), (8192, 0, true), (8191, 2, false), (8192, 1, false), (0, 8193, false)]
    {
        let location = Location { offset, length, ..whole };
        assert_eq!(
            (attached.read(location).is_ok(), attached.map_private(location).is_ok()),
            (inside, inside)
        );
    }
}

proptest! {
    #[test]
    fn any_location_is_read_or_refused(
        segment in 0..3u32,
        generation: u32,
        offset in prop_oneof![0..300_000u64, any::<u64>()],
        length in prop_oneof![0..300_000u64, any::<u64>()],
    ) {
        let arena = Arena::new(MIB, "motet-test");
        let mut peer = Peer::new(&arena);
        let piece = filled(&arena, MIB / 8, Kind::Message, 1);
        let known = peer.lend(&piece);
        let size = arena.statistics().held_bytes as u64;
        let location = Location { segment, generation, offset, length };
        let inside = segment == known.segment && offset.checked_add(length).is_some_and(|end| end <= size);
        let view = peer.attached.read(location);
        let mapping = peer.attached.map_private(location);
        prop_assert_eq!((view.is_ok(), mapping.is_ok()), (inside, inside));
        if let (Ok(view), Ok(mapping)) = (view, mapping) {
            prop_assert_eq!(view.len() as u64, length);
            prop_assert_eq!(&*view, bytes(&mapping));
        }
    }
}

#[test]
fn descriptors_travel() {
    let arena = Arena::new(64 * MIB, "motet-test");
    let piece = filled(&arena, 3000, Kind::Message, 8);
    let (here, there) = descriptors::socket_pair().unwrap();
    let nothing = descriptors::receive(there.as_fd(), Wait::Never).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    let location = piece.location();
    descriptors::send(here.as_fd(), location.segment, piece.descriptor().unwrap(), Wait::Block).unwrap();
    descriptors::send(here.as_fd(), 77, piece.descriptor().unwrap(), Wait::Never).unwrap();
    // SAFETY: the piece is not written any more.
    let mut attached = unsafe { Attached::new() };
    for number in [location.segment, 77] {
        let (segment, descriptor) = descriptors::receive(there.as_fd(), Wait::Block).unwrap().unwrap();
        assert_eq!(segment, number);
        assert!(rustix::io::fcntl_getfd(&descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        attached.add(segment, descriptor).unwrap();
    }
    assert_eq!(&*attached.read(location).unwrap(), piece.as_slice());
    assert_eq!(&*attached.read(Location { segment: 77, ..location }).unwrap(), piece.as_slice());
    drop(here);
    assert!(descriptors::receive(there.as_fd(), Wait::Block).unwrap().is_none());
    let gone = descriptors::send(there.as_fd(), 1, piece.descriptor().unwrap(), Wait::Block).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn what_was_sent_arrives_though_its_sender_has_gone_and_left_something_unread() {
    let (here, there) = descriptors::socket_pair().unwrap();
    descriptors::send(here.as_fd(), 1, here.as_fd(), Wait::Block).unwrap();
    descriptors::send(there.as_fd(), 2, here.as_fd(), Wait::Block).unwrap();
    descriptors::send(there.as_fd(), 3, here.as_fd(), Wait::Block).unwrap();
    drop(there);
    for number in [2, 3] {
        let (segment, _) = descriptors::receive(here.as_fd(), Wait::Never).unwrap().unwrap();
        assert_eq!(segment, number);
    }
    assert!(descriptors::receive(here.as_fd(), Wait::Never).unwrap().is_none());
}

#[test]
fn other_datagrams_are_refused() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let (here, there) = descriptors::socket_pair().unwrap();
    let descriptors = [here.as_fd(); 3];
    for (bytes, count) in [(&b"abcd"[..], 0), (b"abcde", 1), (b"abc", 1), (b"abcd", 2), (b"abcd", 3)] {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if count > 0 {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors[..count])));
        }
        sendmsg(&here, &[io::IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
        let error = descriptors::receive(there.as_fd(), Wait::Block).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?} with {count}");
    }
    // A full socket is said to be full.
    let descriptor = here.as_fd();
    let error = (0..1_000_000)
        .find_map(|number| descriptors::send(here.as_fd(), number, descriptor, Wait::Never).err());
    assert!(error.is_some());
}
