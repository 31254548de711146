//! One connection of the load client: a request goes out, its answer comes back and is compared byte by byte.

use crate::driver::Progress;
use crate::script::{Answer, Script};
use crate::wire::{Received, Wire};

pub struct Connection {
    pub wire: Wire,
    idle: bool,
    place: usize,
    sent: usize,
    answer: Answer,
}

impl Connection {
    pub fn new(wire: Wire, place: usize) -> Self {
        Self { wire, idle: true, place, sent: 0, answer: Answer::default() }
    }

    /// Begins the next request and says whether some of it is unsent.
    pub fn begin(&mut self, script: &Script) -> Result<bool, String> {
        self.place = script.next(self.place);
        self.sent = 0;
        self.answer.clear();
        self.idle = false;
        self.send(script)
    }

    /// Reads what is there, writes what is left.
    pub fn turn(&mut self, script: &Script, buffer: &mut [u8]) -> Result<Progress, String> {
        let Self { wire, idle, place, answer, .. } = self;
        let received = wire.receive(buffer, |bytes| match *idle {
            true => Err("bytes came back that nothing was sent for".to_owned()),
            false => script.check(*place, answer, bytes),
        })?;
        if let Received::End = received {
            return Err("the server closed a connection before an answer was complete".to_owned());
        }
        if self.answer.complete {
            self.idle = true;
            return Ok(Progress::Answered);
        }
        let unsent = self.send(script)?;
        Ok(Progress::Waiting { unsent })
    }

    fn send(&mut self, script: &Script) -> Result<bool, String> {
        let rest = &script.request(self.place)[self.sent..];
        if rest.is_empty() {
            self.wire.flush()?;
        } else {
            self.sent += self.wire.send(rest)?;
        }
        Ok(self.sent < script.request(self.place).len() || self.wire.pending())
    }
}
