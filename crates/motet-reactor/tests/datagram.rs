//! The datagram calls: whole datagrams with their addresses, in batches; nothing blocks.
#![cfg(unix)]

use motet_reactor::sys::datagram::{self, Address, MAXIMUM_RECEIVED};
use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

const ROOM: usize = 1000;

type Datagrams = Vec<(Vec<u8>, Address)>;

/// All that is there, in batches.
fn receive(socket: impl AsFd) -> io::Result<Datagrams> {
    let mut memory = vec![MaybeUninit::uninit(); ROOM * (MAXIMUM_RECEIVED + 5)];
    let mut received = Vec::new();
    loop {
        let before = received.len();
        let batch = datagram::receive_batch(socket.as_fd(), &mut memory, ROOM, |data, address| {
            received.push((data.to_vec(), address));
        });
        match batch {
            Ok(drained) => {
                assert!((1..=MAXIMUM_RECEIVED).contains(&(received.len() - before)));
                if drained {
                    return Ok(received);
                }
            }
            Err(error) if received.is_empty() || error.kind() != io::ErrorKind::WouldBlock => {
                return Err(error);
            }
            Err(_) => return Ok(received),
        }
    }
}

fn internet(socket: &UdpSocket) -> Address {
    Address::Internet(socket.local_addr().expect("its address"))
}

#[test]
fn datagrams_come_in_batches_with_their_senders() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(here) = UdpSocket::bind(host) else { continue };
        let there = UdpSocket::bind(host).expect("another port");
        let nothing = receive(&here).expect_err("nothing was sent");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let data: Vec<Vec<u8>> = (0..20_u8).map(|number| vec![number; usize::from(number)]).collect();
        let to = internet(&here);
        let mut sent = 0;
        while sent < data.len() {
            let rest = data[sent..].iter().map(|data| (&data[..], &to));
            sent += datagram::send_batch(there.as_fd(), rest).expect("sent");
        }
        let expected: Vec<_> = data.into_iter().map(|data| (data, internet(&there))).collect();
        assert_eq!(receive(&here).expect("received"), expected);
    }
}

#[test]
fn unix_addresses_are_paths_abstract_names_or_nothing() {
    let folder = std::env::temp_dir().join(format!("motet-datagram-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let here = UnixDatagram::bind(&path).expect("a socket");
    let to = Address::Unix(path.as_os_str().as_encoded_bytes().into());
    let nameless = UnixDatagram::unbound().expect("a socket");
    datagram::send(nameless.as_fd(), b"nameless", Some(&to)).expect("sent");
    let named = UnixDatagram::bind(folder.join("named")).expect("a socket");
    datagram::send(named.as_fd(), b"named", Some(&to)).expect("sent");
    let received = receive(&here).expect("received");
    let name = Address::Unix(folder.join("named").as_os_str().as_encoded_bytes().into());
    assert_eq!(received, [(b"nameless".to_vec(), Address::Unnamed), (b"named".to_vec(), name)]);
    std::fs::remove_dir_all(&folder).expect("removed");
    let refused = datagram::send(named.as_fd(), b"x", Some(&to)).expect_err("nobody is there");
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_go_out_and_come_in() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("motet-datagram-{}", std::process::id());
    let bound = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let here = UnixDatagram::bind_addr(&bound).expect("a socket");
    let address = Address::Unix(format!("\0{name}").into_bytes().into());
    datagram::send(here.as_fd(), b"to myself", Some(&address)).expect("sent");
    assert_eq!(receive(&here).expect("received"), [(b"to myself".to_vec(), address)]);
}

#[test]
fn the_room_in_an_address_is_known() {
    let most = size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path);
    assert!(datagram::unix_address_fits(&vec![b'x'; most - 1]));
    assert!(!datagram::unix_address_fits(&vec![b'x'; most]));
    assert!(datagram::unix_address_fits(&vec![0; most]));
    assert!(!datagram::unix_address_fits(&vec![0; most + 1]));
}

#[test]
fn a_connected_socket_needs_no_address_and_tells_of_refusals() {
    let (here, there) = UnixDatagram::pair().expect("a pair");
    datagram::send(here.as_fd(), b"", None).expect("sent");
    datagram::send(here.as_fd(), &[7; 2 * ROOM], None).expect("sent");
    let received = receive(&there).expect("received");
    let cut = vec![(Vec::new(), Address::Unnamed), (vec![7; ROOM], Address::Unnamed)];
    assert_eq!(received, cut);
    drop(there);
    let refused = datagram::send(here.as_fd(), b"x", None).expect_err("nobody is there");
    assert!(matches!(refused.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset));
}

#[test]
fn a_batch_stops_before_the_one_that_does_not_go() {
    let here = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = internet(&here);
    let too_long = vec![0; 100_000];
    let batch: [&[u8]; 4] = [b"one", b"two", &too_long, b"three"];
    let sent = datagram::send_batch(here.as_fd(), batch.iter().map(|data| (*data, &to))).expect("sent");
    assert_eq!(sent, 2);
    let error = datagram::send_batch(here.as_fd(), batch[2..].iter().map(|data| (*data, &to)));
    assert_eq!(error.expect_err("too long").raw_os_error(), Some(libc::EMSGSIZE));
    let received = receive(&here).expect("received");
    assert_eq!(received, [(b"one".to_vec(), to.clone()), (b"two".to_vec(), to)]);
}
