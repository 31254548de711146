//! The socket calls: nothing blocks, no signal is raised, ends and errors are told apart.
#![cfg(unix)]

use motet_reactor::sys::socket;
use std::io::{self, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair of sockets")
}

#[test]
fn receiving_tells_nothing_yet_from_the_end() {
    // Blocking sockets: the calls themselves must not wait.
    let (here, there) = pair();
    let mut buffer = [0; 8];
    let nothing = socket::receive(here.as_fd(), &mut buffer).expect_err("nothing was sent");
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(socket::send(there.as_fd(), b"abc").expect("sent"), 3);
    assert_eq!(socket::receive(here.as_fd(), &mut buffer).expect("received"), 3);
    assert_eq!(&buffer[..3], b"abc");
    socket::shutdown_write(&there).expect("shut down");
    assert_eq!(socket::receive(here.as_fd(), &mut buffer).expect("the end"), 0);
    assert_eq!(socket::send(here.as_fd(), b"back").expect("the other direction is open"), 4);
}

#[test]
fn pieces_go_out_in_order_until_nothing_fits() {
    let (here, there) = pair();
    let piece = [7; 1000];
    let pieces: Vec<_> = (0..100).map(|_| IoSlice::new(&piece)).collect();
    let mut sent = 0;
    let full = loop {
        match socket::send_vectored(here.as_fd(), &pieces) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    let mut received = 0;
    let mut buffer = [0; 4096];
    while let Ok(count) = socket::receive(there.as_fd(), &mut buffer) {
        assert!(buffer[..count].iter().all(|byte| *byte == 7));
        received += count;
    }
    assert_eq!(received, sent);
}

#[test]
fn a_broken_connection_is_an_error_and_no_signal() {
    let (here, there) = pair();
    drop(there);
    for result in
        [socket::send(here.as_fd(), b"x"), socket::send_vectored(here.as_fd(), &[IoSlice::new(b"x")])]
    {
        assert_eq!(result.expect_err("nobody is there").kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn an_accepted_connection_does_not_block_and_is_not_inherited() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let nobody = socket::accept(listener.as_fd()).expect_err("nobody has connected");
    assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let (accepted, peer) = socket::accept(listener.as_fd()).expect("accepted");
    let peer: std::net::SocketAddr = peer.expect("an address").try_into().expect("an internet address");
    assert_eq!(peer, client.local_addr().expect("its address"));
    let flags = rustix::fs::fcntl_getfl(&accepted).expect("its flags");
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    let flags = rustix::io::fcntl_getfd(&accepted).expect("its flags");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    socket::set_no_delay(accepted.as_fd());
    assert!(rustix::net::sockopt::tcp_nodelay(&accepted).expect("its option"));
    let (no_tcp, peer) = pair();
    socket::set_no_delay(no_tcp.as_fd());
    assert_eq!(socket::send(no_tcp.as_fd(), b"x").expect("a socket without that option is left alone"), 1);
    drop(peer);
}
