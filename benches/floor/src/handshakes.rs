//! Connect, shake hands, close; and again. One is done once the server has closed too, so that it has then done
//! all its work for the connection.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt::set_socket_linger;
use rustls::client::ClientConfig;

use crate::driver::{Progress, Work, watch_new};
use crate::options::Load;
use crate::tls::{self, Tls};
use crate::wire::{Received, connect, set_nonblocking};

/// Enough for what a server says in a handshake; more would only be memory to clear for each connection.
const READ_SIZE: usize = 8 * 1024;

pub struct Handshakes {
    port: u16,
    configuration: Arc<ClientConfig>,
    connections: Vec<Option<Handshake>>,
}

struct Handshake {
    tls: Tls,
    said_goodbye: bool,
}

impl Handshakes {
    pub fn new(load: &Load) -> Result<Self, String> {
        let connections = (0..load.connections).map(|_| None).collect();
        Ok(Self { port: load.port, configuration: tls::configuration()?, connections })
    }

    fn open(&self) -> Result<Handshake, String> {
        let stream = connect(self.port).map_err(|error| format!("a connection failed: {error}"))?;
        set_nonblocking(&stream)?;
        // A reset at the end leaves no port behind in TIME_WAIT: thousands a second would use all of them up.
        set_socket_linger(&stream, Some(Duration::ZERO))
            .map_err(|error| format!("cannot set up a connection: {error}"))?;
        Ok(Handshake { tls: Tls::begin(stream, &self.configuration, READ_SIZE)?, said_goodbye: false })
    }
}

impl Work for Handshakes {
    fn socket(&self, number: usize) -> Option<BorrowedFd<'_>> {
        self.connections[number].as_ref().map(|connection| connection.tls.stream.as_fd())
    }

    fn begin(&mut self, number: usize, poller: &OwnedFd) -> Result<bool, String> {
        let opened = self.open()?;
        let opened = self.connections[number].insert(opened);
        watch_new(poller, number, &opened.tls.stream)?;
        Ok(opened.tls.pending())
    }

    fn turn(&mut self, number: usize) -> Result<Progress, String> {
        let connection = self.connections[number].as_mut().expect("only what was begun has events");
        let tls = &mut connection.tls;
        let received = tls.receive(|_| Err("the server spoke first".to_owned()))?;
        if tls.established && !connection.said_goodbye {
            connection.said_goodbye = true;
            tls.close()?;
        }
        match received {
            Received::End if tls.peer_closed => {
                self.connections[number] = None;
                Ok(Progress::Answered)
            }
            Received::End => Err("the server closed a connection without saying so in TLS".to_owned()),
            Received::Something | Received::Nothing => {
                tls.flush()?;
                Ok(Progress::Waiting { unsent: tls.pending() })
            }
        }
    }
}
