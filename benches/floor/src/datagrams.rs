//! UDP: a batch of datagrams goes out, and each of them must come back, unchanged and in its order.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fd::OwnedFd;

use crate::driver::{Progress, Work, watch_new};
use crate::options::Load;
use crate::script::{Answer, Messages, Script};

/// More than a datagram can carry.
const READ_SIZE: usize = 64 * 1024;

pub struct Datagrams {
    script: Script,
    batch: usize,
    clients: Vec<Client>,
    buffer: Vec<u8>,
}

struct Client {
    socket: UdpSocket,
    sent: usize,
    /// The place of the next datagram's message in the script, for what goes out and for what comes back.
    sending: usize,
    awaiting: usize,
    received: usize,
}

impl Datagrams {
    pub fn open(load: &Load, batch: usize, poller: &OwnedFd) -> Result<Self, String> {
        let script = Script::Echo(Messages::any(load.size));
        let mut clients = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let socket = connect(load.port).map_err(|error| format!("cannot make a UDP socket: {error}"))?;
            watch_new(poller, number, &socket)?;
            let place = script.first(number);
            clients.push(Client { socket, sent: 0, sending: place, awaiting: place, received: 0 });
        }
        Ok(Self { script, batch, clients, buffer: vec![0; READ_SIZE] })
    }
}

fn connect(port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(("127.0.0.1", port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Work for Datagrams {
    fn socket(&self, number: usize) -> Option<BorrowedFd<'_>> {
        Some(self.clients[number].socket.as_fd())
    }

    fn begin(&mut self, number: usize, _poller: &OwnedFd) -> Result<bool, String> {
        let client = &mut self.clients[number];
        client.sent = 0;
        client.received = 0;
        client.send(&self.script, self.batch)
    }

    fn turn(&mut self, number: usize) -> Result<Progress, String> {
        let client = &mut self.clients[number];
        client.receive(&self.script, self.batch, &mut self.buffer)?;
        if client.received == self.batch {
            return Ok(Progress::Answered);
        }
        let unsent = client.send(&self.script, self.batch)?;
        Ok(Progress::Waiting { unsent })
    }
}

impl Client {
    /// Sends what is left of the batch and says whether something is still left.
    fn send(&mut self, script: &Script, batch: usize) -> Result<bool, String> {
        while self.sent < batch {
            match self.socket.send(script.request(self.sending)) {
                Ok(_) => {
                    self.sent += 1;
                    self.sending = script.next(self.sending);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(format!("sending a datagram failed: {error}")),
            }
        }
        Ok(false)
    }

    fn receive(&mut self, script: &Script, batch: usize, buffer: &mut [u8]) -> Result<(), String> {
        while self.received < batch {
            let count = match self.socket.recv(buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("receiving a datagram failed: {error}")),
            };
            let mut answer = Answer::default();
            script.check(self.awaiting, &mut answer, &buffer[..count])?;
            if !answer.complete {
                return Err(format!("a datagram came back with {count} bytes"));
            }
            self.awaiting = script.next(self.awaiting);
            self.received += 1;
        }
        Ok(())
    }
}
