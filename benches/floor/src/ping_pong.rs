//! Requests over connections that stay open.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fd::OwnedFd;

use crate::connection::Connection;
use crate::driver::{Progress, Work, watch_new};
use crate::options::{Load, Talk};
use crate::page::Page;
use crate::script::{Messages, Script};
use crate::tls;
use crate::wire::{READ_SIZE, Wire};

pub struct PingPong {
    script: Script,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl PingPong {
    pub fn open(load: &Load, poller: &OwnedFd) -> Result<Self, String> {
        let script = match &load.talk {
            Talk::Page(body) => Script::Page(Page::new(body)),
            Talk::Lines => Script::Echo(Messages::lines(load.size)),
            Talk::Echo | Talk::Datagrams { .. } | Talk::Handshakes => Script::Echo(Messages::any(load.size)),
        };
        let configuration = load.tls.then(tls::configuration).transpose()?;
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let wire = Wire::open(load.port, configuration.as_ref())
                .map_err(|error| format!("connection {} of {} failed: {error}", number + 1, load.connections))?;
            watch_new(poller, number, wire.stream())?;
            connections.push(Connection::new(wire, script.first(number)));
        }
        Ok(Self { script, connections, buffer: vec![0; READ_SIZE] })
    }
}

impl Work for PingPong {
    fn socket(&self, number: usize) -> Option<BorrowedFd<'_>> {
        Some(self.connections[number].wire.stream().as_fd())
    }

    fn begin(&mut self, number: usize, _poller: &OwnedFd) -> Result<bool, String> {
        self.connections[number].begin(&self.script)
    }

    fn turn(&mut self, number: usize) -> Result<Progress, String> {
        self.connections[number].turn(&self.script, &mut self.buffer)
    }
}
