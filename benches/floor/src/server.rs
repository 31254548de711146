//! The echo server: one thread, level-triggered epoll, for each request one wait (shared by all that are ready), one
//! read, one write. What it costs is what the kernel costs.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

const BACKLOG: i32 = 4096;
const READ_SIZE: usize = 256 * 1024;

struct Peer {
    stream: TcpStream,
    /// What the socket did not take yet; while there is any, the peer is not read.
    unsent: Vec<u8>,
}

/// Peers stand at the number of their descriptor: the kernel keeps those small and dense.
struct Server {
    poller: OwnedFd,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    buffer: Vec<u8>,
}

pub fn serve(port: u16) -> Result<(), String> {
    let mut server = Server::new(port).map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    server.run().map_err(|error| format!("the echo server failed: {error}"))
}

impl Server {
    fn new(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poller, &listener, token(listener.as_raw_fd()), EventFlags::IN)?;
        println!("{}", listener.local_addr()?.port());
        Ok(Self { poller, listener, peers: Vec::new(), buffer: vec![0; READ_SIZE] })
    }

    fn run(&mut self) -> std::io::Result<()> {
        let listening = self.listener.as_raw_fd() as usize;
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.poller, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let slot = event.data.u64() as usize;
                if slot == listening {
                    self.accept()?;
                } else if self.turn(slot).is_err() {
                    self.peers[slot] = None;
                }
            }
        }
    }

    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let slot = stream.as_raw_fd() as usize;
                    epoll::add(&self.poller, &stream, token(stream.as_raw_fd()), EventFlags::IN)?;
                    if self.peers.len() <= slot {
                        self.peers.resize_with(slot + 1, || None);
                    }
                    self.peers[slot] = Some(Peer { stream, unsent: Vec::new() });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves one ready peer; an error means that it is gone.
    fn turn(&mut self, slot: usize) -> std::io::Result<()> {
        let Some(peer) = self.peers[slot].as_mut() else { return Ok(()) };
        if !peer.unsent.is_empty() {
            let count = written(peer.stream.write(&peer.unsent))?;
            peer.unsent.drain(..count);
            if peer.unsent.is_empty() {
                epoll::modify(&self.poller, &peer.stream, token(slot as i32), EventFlags::IN)?;
            }
            return Ok(());
        }
        let received = peer.stream.read(&mut self.buffer)?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let sent = written(peer.stream.write(&self.buffer[..received]))?;
        if sent < received {
            peer.unsent.extend_from_slice(&self.buffer[sent..received]);
            epoll::modify(&self.poller, &peer.stream, token(slot as i32), EventFlags::OUT)?;
        }
        Ok(())
    }
}

fn token(descriptor: i32) -> EventData {
    EventData::new_u64(descriptor as u64)
}

fn written(outcome: std::io::Result<usize>) -> std::io::Result<usize> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
