//! The loop of the load client: all connections over one epoll, requests for a time, and then the answers to those
//! that are still under way, so that a lost answer is an error and not a gap in a figure.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::Timespec;

const SILENCE_LIMIT: Duration = Duration::from_secs(5);
const WAKE_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What one connection does, again and again.
pub trait Work {
    /// The socket of a connection, if it has one now.
    fn socket(&self, number: usize) -> Option<BorrowedFd<'_>>;

    /// Begins the next request of a connection and says whether some of it is unsent; if that takes a new socket,
    /// the poller gets to know it.
    fn begin(&mut self, number: usize, poller: &OwnedFd) -> Result<bool, String>;

    /// Goes on with a connection whose socket is ready.
    fn turn(&mut self, number: usize) -> Result<Progress, String>;
}

pub enum Progress {
    Answered,
    /// The rest of the answer is awaited; `unsent` says whether the socket must also be watched for writing.
    Waiting {
        unsent: bool,
    },
}

pub struct Driver<W> {
    poller: OwnedFd,
    work: W,
    connections: Vec<Connection>,
    /// Nanoseconds of each request that was answered since this was last taken.
    pub latencies: Vec<u64>,
    answered: u64,
}

#[derive(Clone, Copy, Default)]
struct Connection {
    /// When its request began; none is under way without.
    started: Option<Instant>,
    /// Whether the poller watches it for writing.
    writing: bool,
}

pub fn poller() -> Result<OwnedFd, String> {
    epoll::create(CreateFlags::CLOEXEC).map_err(unwatched)
}

pub fn watch_new(poller: &OwnedFd, number: usize, socket: impl AsFd) -> Result<(), String> {
    epoll::add(poller, socket, EventData::new_u64(number as u64), EventFlags::IN).map_err(unwatched)
}

impl<W: Work> Driver<W> {
    pub fn new(poller: OwnedFd, work: W, connections: usize) -> Self {
        let latencies = Vec::with_capacity(1 << 20);
        Self { poller, work, connections: vec![Connection::default(); connections], latencies, answered: 0 }
    }

    pub fn begin_all(&mut self) -> Result<(), String> {
        (0..self.connections.len()).try_for_each(|number| self.begin(number, Instant::now()))
    }

    fn begin(&mut self, number: usize, now: Instant) -> Result<(), String> {
        self.connections[number].started = Some(now);
        let unsent = self.work.begin(number, &self.poller)?;
        self.watch(number, unsent)
    }

    pub fn run_until(&mut self, deadline: Instant) -> Result<(), String> {
        let (mut seen, mut moved) = (self.answered, Instant::now());
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            if self.answered > seen {
                (seen, moved) = (self.answered, now);
            } else if now - moved > SILENCE_LIMIT {
                return Err(self.silence());
            }
            self.turn(true)?;
        }
    }

    pub fn finish(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + SILENCE_LIMIT;
        while self.under_way() > 0 {
            if Instant::now() >= deadline {
                return Err(self.silence());
            }
            self.turn(false)?;
        }
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.connections.iter().filter(|connection| connection.started.is_some()).count()
    }

    fn silence(&self) -> String {
        let waiting = self.under_way();
        format!("{waiting} of {} connections got no answer for {SILENCE_LIMIT:?}", self.connections.len())
    }

    /// Serves all connections that are ready; with `again`, an answered one begins its next request.
    fn turn(&mut self, again: bool) -> Result<(), String> {
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        match epoll::wait(&self.poller, spare_capacity(&mut events), Some(&WAKE_EVERY)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("waiting for answers failed: {error}")),
        }
        for event in &events {
            let number = event.data.u64() as usize;
            match self.work.turn(number)? {
                Progress::Answered => {
                    let now = Instant::now();
                    self.watch(number, false)?;
                    if let Some(started) = self.connections[number].started.take() {
                        self.latencies.push((now - started).as_nanos() as u64);
                    }
                    self.answered += 1;
                    if again {
                        self.begin(number, now)?;
                    }
                }
                Progress::Waiting { unsent } => self.watch(number, unsent)?,
            }
        }
        Ok(())
    }

    /// Has the poller watch a connection for writing too, or no longer.
    fn watch(&mut self, number: usize, writing: bool) -> Result<(), String> {
        if self.connections[number].writing == writing {
            return Ok(());
        }
        self.connections[number].writing = writing;
        let flags = if writing { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let Some(socket) = self.work.socket(number) else { return Ok(()) };
        epoll::modify(&self.poller, socket, EventData::new_u64(number as u64), flags).map_err(unwatched)
    }
}

fn unwatched(error: Errno) -> String {
    format!("cannot watch the connections: {error}")
}
