//! A child that was forked shares the parent's poller: what it ends must stay the parent's.
#![cfg(all(unix, not(motet_stub)))]

use motet_reactor::Reactor;
use motet_reactor::sys::Interest;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs `in_child` in a forked child and waits for its end.
fn fork(in_child: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    let mut command = Command::new("true");
    // SAFETY: the closure only touches a reactor that no other thread uses at the fork; the C library's allocator works in a child.
    unsafe { command.pre_exec(in_child) };
    assert!(command.status().expect("the child has done its part").success());
}

#[test]
fn a_child_takes_no_registration_away() {
    let sockets = || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
    let (first, to_first) = sockets().expect("a pair of sockets");
    let (second, to_second) = sockets().expect("a pair of sockets");
    let (mut reactor, _waker) = Reactor::new().expect("a reactor");
    let token = reactor.register(first.as_raw_fd(), Interest::Read, "first").expect("registered");
    reactor.register(second.as_raw_fd(), Interest::Read, "second").expect("registered");

    let reactor = Arc::new(Mutex::new(reactor));
    let childs = Arc::clone(&reactor);
    fork(move || {
        let mut reactor = childs.lock().map_err(|_| io::ErrorKind::Other)?;
        let one = reactor.deregister(token) == Some("first");
        let rest = reactor.clear() == ["second"];
        if one && rest { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    });

    let mut reactor = reactor.lock().expect("nobody has panicked");
    assert_eq!(reactor.descriptors().len(), 2, "the parent's table is its own");
    for to in [&to_first, &to_second] {
        assert_eq!(rustix::io::write(to, b"x"), Ok(1));
    }
    reactor.wait(Some(Duration::ZERO)).expect("a look");
    let mut told = Vec::new();
    while let Some((_, owner)) = reactor.next_event() {
        told.push(*owner);
    }
    told.sort_unstable();
    assert_eq!(told, ["first", "second"]);
}
