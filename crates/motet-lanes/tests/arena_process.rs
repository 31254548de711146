//! Arenas between two processes: this program runs itself a second time, with one end of a socket as its input.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use motet_lanes::arena::{Arena, Attached, Kind, Leased, Location, Piece};
use motet_lanes::descriptors::{self, Wait};

const ROLE: &str = "MOTET_TEST_ROLE";
const LOCATIONS: &str = "MOTET_TEST_LOCATIONS";
const LENGTH: usize = 20 << 20;

fn encode(location: Location) -> String {
    location.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Location {
    let mut bytes = [0; Location::SIZE];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    Location::from_bytes(&bytes)
}

fn start(role: &str, locations: &[Location]) -> (Child, OwnedFd) {
    let (here, there) = descriptors::socket_pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "second_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(LOCATIONS, locations.iter().map(|location| encode(*location)).collect::<Vec<_>>().join(","))
        .stdin(Stdio::from(there))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    (child, here)
}

/// What the second process says: the next line with its mark.
fn hear(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, said)) = line.split_once("SAID ") {
            return said.trim().to_owned();
        }
        line.clear();
    }
    panic!("the second process said nothing more");
}

fn say(what: &str) {
    println!("SAID {what}");
    std::io::stdout().flush().unwrap();
}

fn pattern(number: usize) -> u8 {
    (number % 253) as u8
}

fn patterned(arena: &Arena, length: usize, kind: Kind) -> Piece {
    let mut piece = arena.allocate(length, kind).unwrap();
    for (number, byte) in piece.as_mut_slice().unwrap().iter_mut().enumerate() {
        *byte = pattern(number);
    }
    piece
}

fn is_patterned(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(number, byte)| *byte == pattern(number))
}

/// The second process's part. In the first process there is nothing to do.
#[test]
fn second_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("peer") => peer(),
        Ok("owner") => owner(),
        _ => {}
    }
}

fn peer() {
    let socket = std::io::stdin();
    let locations: Vec<_> = std::env::var(LOCATIONS).unwrap().split(',').map(decode).collect();
    // SAFETY: the first process leaves lent bytes alone.
    let mut attached = unsafe { Attached::new() };
    for _ in 0..2 {
        let (segment, descriptor) = descriptors::receive(socket.as_fd(), Wait::Block).unwrap().unwrap();
        attached.add(segment, descriptor).unwrap();
    }
    assert!(is_patterned(&attached.read(locations[0]).unwrap()));
    let mapping = attached.map_private(locations[1]).unwrap();
    // SAFETY: the mapping is private, and this is its only use.
    let bytes = unsafe { std::slice::from_raw_parts_mut(mapping.pointer().as_ptr(), mapping.len()) };
    assert!(bytes.len() == LENGTH && is_patterned(bytes));
    bytes.fill(255);
    say("done");
    // Until it is killed.
    let _ = descriptors::receive(socket.as_fd(), Wait::Block);
}

fn owner() {
    let socket = std::io::stdin();
    let arena = Arena::new(4 * LENGTH, "motet-test");
    let piece = patterned(&arena, LENGTH, Kind::Buffer);
    let location = piece.location();
    descriptors::send(socket.as_fd(), location.segment, piece.descriptor().unwrap(), Wait::Block).unwrap();
    say(&encode(location));
    let _ = descriptors::receive(socket.as_fd(), Wait::Block);
}

#[test]
fn a_killed_peer_costs_nothing() {
    let arena = Arena::new(4 * LENGTH, "motet-test");
    let mut table = Leased::new(&arena);
    let pieces = [patterned(&arena, 3000, Kind::Message), patterned(&arena, LENGTH, Kind::Buffer)];
    let locations = pieces.each_ref().map(|piece| table.lend(piece));
    let (mut child, socket) = start("peer", &locations);
    for piece in &pieces {
        let (segment, descriptor) = table.unintroduced(piece).unwrap();
        descriptors::send(socket.as_fd(), segment, descriptor, Wait::Block).unwrap();
        table.introduced(segment);
        assert!(table.unintroduced(piece).is_none());
    }
    let mut output = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(hear(&mut output), "done");
    // The peer has written to all of its own mapping.
    assert!(pieces.iter().all(|piece| is_patterned(piece.as_slice())));
    drop(pieces);
    assert_eq!(arena.statistics().pieces, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(table);
    assert_eq!(arena.statistics().pieces, 0);
    arena.trim();
    assert_eq!(arena.statistics().held_bytes, 0);
}

#[test]
fn what_a_dead_owner_lent_stays_readable() {
    let (mut child, socket) = start("owner", &[]);
    let (segment, descriptor) = descriptors::receive(socket.as_fd(), Wait::Block).unwrap().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let location = decode(&hear(&mut output));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(descriptors::receive(socket.as_fd(), Wait::Block).unwrap().is_none());
    // SAFETY: the owner is dead.
    let mut attached = unsafe { Attached::new() };
    attached.add(segment, descriptor).unwrap();
    assert!(is_patterned(&attached.read(location).unwrap()));
    assert_eq!(attached.map_private(location).unwrap().len(), LENGTH);
}
