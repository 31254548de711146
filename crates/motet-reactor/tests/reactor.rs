//! The reactor on real sockets and pipes.
#![cfg(all(unix, not(motet_stub)))]

use motet_reactor::sys::{Interest, Readiness};
use motet_reactor::{Reactor, Token};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a test waits for what must come; reached only where it does not.
const PATIENCE: Duration = Duration::from_secs(60);

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)
        .expect("a pair of sockets")
}

fn write(to: &OwnedFd) {
    assert_eq!(rustix::io::write(to, b"x"), Ok(1));
}

fn read_all(from: &OwnedFd) {
    let mut buffer = [0; 64];
    while matches!(rustix::io::read(from, &mut buffer), Ok(1..)) {}
}

fn reactor() -> Reactor<&'static str> {
    Reactor::new().expect("a reactor").0
}

/// Whom the last wait's events are for.
fn told(reactor: &mut Reactor<&'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| reactor.next_event().map(|(_, owner)| *owner)).collect()
}

/// Looks without waiting.
fn look(reactor: &mut Reactor<&'static str>) -> Vec<&'static str> {
    reactor.wait(Some(Duration::ZERO)).expect("a look");
    told(reactor)
}

fn readiness_of(reactor: &mut Reactor<&'static str>, token: Token) -> Readiness {
    reactor.wait(Some(PATIENCE)).expect("a wait");
    let (event, _) = reactor.next_event().expect("an event");
    assert_eq!(event.token, token);
    event.readiness
}

#[test]
fn an_edge_is_told_once() {
    let (here, there) = pair();
    let mut reactor = reactor();
    reactor.register(here.as_raw_fd(), Interest::Read, "here").expect("registered");
    assert_eq!(look(&mut reactor), [""; 0], "there is nothing to read yet");
    write(&there);
    assert_eq!(look(&mut reactor), ["here"]);
    assert_eq!(look(&mut reactor), [""; 0], "the byte is still there, and was told");
    write(&there);
    assert_eq!(look(&mut reactor), ["here"], "another byte, another edge");
}

#[test]
fn what_was_there_before_the_registration_is_told() {
    let (here, there) = pair();
    let mut reactor = reactor();
    write(&there);
    let token = reactor.register(here.as_raw_fd(), Interest::Both, "here").expect("registered");
    let expected = Readiness { readable: true, writable: true, hangup: false };
    assert_eq!(readiness_of(&mut reactor, token), expected);
}

#[test]
fn rearmed_before_each_wait_a_registration_is_level_triggered() {
    let (here, there) = pair();
    let mut reactor = reactor();
    let token = reactor.register(here.as_raw_fd(), Interest::Read, "here").expect("registered");
    write(&there);
    for _ in 0..3 {
        assert_eq!(look(&mut reactor), ["here"]);
        reactor.rearm_before_wait(token, Interest::Read);
    }
    read_all(&here);
    assert_eq!(look(&mut reactor), [""; 0], "nothing is left to read");
    write(&there);
    assert_eq!(look(&mut reactor), ["here"]);
    assert_eq!(look(&mut reactor), [""; 0], "armed for one event only");
}

#[test]
fn reregistering_asks_for_the_readiness_of_the_moment() {
    let (here, there) = pair();
    let mut reactor = reactor();
    let token = reactor.register(here.as_raw_fd(), Interest::Read, "here").expect("registered");
    write(&there);
    assert_eq!(look(&mut reactor), ["here"]);
    reactor.reregister(token, Interest::Write).expect("changed");
    let readiness = readiness_of(&mut reactor, token);
    assert_eq!(readiness, Readiness { writable: true, ..Readiness::default() });
    reactor.reregister(token, Interest::Both).expect("changed");
    assert!(readiness_of(&mut reactor, token).readable);
}

#[test]
fn the_end_of_a_stream_is_told_as_such() {
    let (here, there) = pair();
    let mut reactor = reactor();
    let token = reactor.register(here.as_raw_fd(), Interest::Read, "here").expect("registered");
    write(&there);
    shutdown(&there, Shutdown::Write).expect("shut down");
    let readiness = readiness_of(&mut reactor, token);
    assert!(readiness.readable && readiness.hangup);

    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let token = reactor.register(writer.as_raw_fd(), Interest::Write, "writer").expect("registered");
    assert!(!readiness_of(&mut reactor, token).hangup);
    drop(reader);
    assert!(readiness_of(&mut reactor, token).writable, "a write finds the error");
}

/// Puts another file under a descriptor's number, as `close` and `open` do.
fn reopen(descriptor: &mut OwnedFd, file: &OwnedFd) -> RawFd {
    let number = descriptor.as_raw_fd();
    rustix::io::dup2(file, descriptor).expect("a duplicate");
    assert_eq!(descriptor.as_raw_fd(), number);
    number
}

#[test]
fn an_event_that_was_fetched_never_reaches_who_reused_the_number() {
    let (mut here, there) = pair();
    let (stranger, _its_peer) = pair();
    let mut reactor = reactor();
    let old = reactor.register(here.as_raw_fd(), Interest::Read, "old").expect("registered");
    write(&there);
    assert_eq!(reactor.wait(Some(PATIENCE)).expect("a wait"), 1);

    // Between the wait and the fetching of its event:
    assert_eq!(reactor.deregister(old), Some("old"));
    let number = reopen(&mut here, &stranger);
    let new = reactor.register(number, Interest::Read, "new").expect("registered");

    assert_eq!(told(&mut reactor), [""; 0]);
    assert_eq!(look(&mut reactor), [""; 0], "nobody has written to the new one");
    assert_ne!(old, new);
    assert_eq!(reactor.deregister(old), None, "a late removal removes nobody");
    assert!(reactor.owner_mut(old).is_none());
    assert_eq!(reactor.owner_mut(new), Some(&mut "new"));
}

#[test]
fn a_number_that_was_reused_behind_the_reactors_back_is_noticed() {
    let (mut here, _there) = pair();
    let (stranger, its_peer) = pair();
    let mut reactor = reactor();
    let token = reactor.register(here.as_raw_fd(), Interest::Read, "old").expect("registered");
    reopen(&mut here, &stranger);
    write(&its_peer);
    assert_eq!(look(&mut reactor), [""; 0], "the stranger's data is not the old owner's");
    let error = reactor.reregister(token, Interest::Read).expect_err("the registration is gone");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    reactor.rearm_before_wait(token, Interest::Read);
    assert_eq!(look(&mut reactor), [""; 0]);
    assert_eq!(reactor.deregister(token), Some("old"));
    reactor.register(here.as_raw_fd(), Interest::Read, "new").expect("the number is free again");
    assert_eq!(look(&mut reactor), ["new"]);
}

#[test]
fn events_that_were_not_fetched_come_again_and_first() {
    let pairs = [pair(), pair(), pair(), pair()];
    let mut reactor = reactor();
    let mut tokens = Vec::new();
    for ((here, _), owner) in pairs.iter().zip(["a", "b", "c", "d"]) {
        tokens.push(reactor.register(here.as_raw_fd(), Interest::Read, owner).expect("registered"));
    }
    pairs[..3].iter().for_each(|(_, there)| write(there));
    assert_eq!(reactor.wait(Some(PATIENCE)).expect("a wait"), 3);
    let first = *reactor.next_event().expect("an event").1;

    // The dispatch was interrupted here. A wait without an end must not wait for what has happened already.
    reactor.deregister(tokens[1]);
    write(&pairs[3].1);
    assert_eq!(reactor.wait(None).expect("a wait"), 3);
    let mut all = vec![first];
    all.extend(told(&mut reactor));
    assert_eq!(all.pop(), Some("d"), "what is new comes last");
    all.sort_unstable();
    all.retain(|owner| *owner != "b");
    assert_eq!(all, ["a", "c"], "each is told once");
    assert_eq!(look(&mut reactor), [""; 0]);
}

#[test]
fn a_waker_ends_the_wait_of_now_or_the_next_one() {
    let (mut reactor, waker) = Reactor::<()>::new().expect("a reactor");
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake().expect("woken"));
        let began = Instant::now();
        assert_eq!(reactor.wait(Some(PATIENCE)).expect("a wait"), 0);
        assert!(began.elapsed() < PATIENCE, "the wake-up was not heard");
    });
    for _ in 0..3 {
        waker.wake().expect("woken");
    }
    let began = Instant::now();
    assert_eq!(reactor.wait(Some(PATIENCE)).expect("a wait"), 0, "a wake-up is no event");
    assert!(began.elapsed() < PATIENCE, "a wake-up before the wait was not heard");
    assert_eq!(reactor.wait(Some(Duration::from_millis(1))).expect("a wait"), 0);
    assert!(reactor.next_event().is_none());
}

#[test]
fn a_refused_registration_leaves_nothing_behind() {
    let (here, _there) = pair();
    let mut reactor = reactor();
    let token = reactor.register(here.as_raw_fd(), Interest::Read, "first").expect("registered");
    let error = reactor.register(here.as_raw_fd(), Interest::Read, "again").expect_err("registered already");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    reactor.register(-1, Interest::Read, "nothing").expect_err("not a descriptor");
    assert_eq!(reactor.descriptors().len(), 1);
    assert_eq!(reactor.deregister(token), Some("first"));
    assert!(reactor.descriptors().is_empty());
    let error = reactor.reregister(token, Interest::Read).expect_err("a stale token");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn cleared_a_reactor_hears_of_nobody() {
    let pairs = [pair(), pair()];
    let mut reactor = reactor();
    for ((here, there), owner) in pairs.iter().zip(["a", "b"]) {
        let token = reactor.register(here.as_raw_fd(), Interest::Read, owner).expect("registered");
        write(there);
        reactor.rearm_before_wait(token, Interest::Read);
    }
    assert_eq!(reactor.wait(Some(PATIENCE)).expect("a wait"), 2);
    let mut owners = reactor.clear();
    owners.sort_unstable();
    assert_eq!(owners, ["a", "b"]);
    assert_eq!(told(&mut reactor), [""; 0]);
    pairs.iter().for_each(|(_, there)| write(there));
    assert_eq!(look(&mut reactor), [""; 0]);
    reactor.register(pairs[0].0.as_raw_fd(), Interest::Read, "again").expect("the registrations have ended");
}
