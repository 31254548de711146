//! The load client: N connections in ping-pong over one epoll, a warm-up, a measured interval, then every request
//! that is still under way is awaited, so that a lost echo is an error and not a gap in a figure.

use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::connection::{Connection, Pattern, Progress};
use crate::options::Load;
use crate::usage::{Spent, Usage};

const SILENCE_LIMIT: Duration = Duration::from_secs(5);
const WAKE_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const READ_SIZE: usize = 256 * 1024;

struct Client<'a> {
    load: &'a Load,
    poller: OwnedFd,
    connections: Vec<Connection>,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Nanoseconds of each request that was answered in the measured interval.
    latencies: Vec<u64>,
    answered: u64,
}

struct Snapshot {
    time: Instant,
    own_cpu: f64,
    server: Option<Usage>,
}

/// Runs the load and returns the report: one line of JSON.
pub fn run(load: &Load) -> Result<String, String> {
    let mut client = Client::new(load)?;
    client.begin_all()?;
    client.run_until(Instant::now() + load.warm_up)?;
    client.latencies.clear();
    let begin = Snapshot::take(load)?;
    client.run_until(begin.time + load.measured)?;
    let end = Snapshot::take(load)?;
    let latencies = std::mem::take(&mut client.latencies);
    client.finish()?;
    if latencies.is_empty() {
        return Err(format!("no request was answered in {:?}", load.measured));
    }
    Ok(report(latencies, &begin, &end))
}

impl<'a> Client<'a> {
    fn new(load: &'a Load) -> Result<Self, String> {
        let failed = |error| format!("cannot watch the connections: {error}");
        let poller = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let connection = Connection::open(load.port, number)
                .map_err(|error| format!("connection {} of {} failed: {error}", number + 1, load.connections))?;
            epoll::add(&poller, &connection.stream, EventData::new_u64(number as u64), EventFlags::IN)
                .map_err(failed)?;
            connections.push(connection);
        }
        Ok(Self {
            load,
            poller,
            connections,
            pattern: Pattern::new(load.size, load.lines),
            buffer: vec![0; READ_SIZE],
            latencies: Vec::with_capacity(1 << 20),
            answered: 0,
        })
    }

    fn begin_all(&mut self) -> Result<(), String> {
        (0..self.connections.len()).try_for_each(|number| self.begin(number, Instant::now()))
    }

    fn begin(&mut self, number: usize, now: Instant) -> Result<(), String> {
        let connection = &mut self.connections[number];
        if let Progress::Waiting { unsent: true } = connection.begin(&self.pattern, self.load.size, now)? {
            self.watch(number, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(())
    }

    fn run_until(&mut self, deadline: Instant) -> Result<(), String> {
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

    fn finish(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + SILENCE_LIMIT;
        while self.connections.iter().any(|connection| !connection.idle) {
            if Instant::now() >= deadline {
                return Err(self.silence());
            }
            self.turn(false)?;
        }
        Ok(())
    }

    fn silence(&self) -> String {
        let waiting = self.connections.iter().filter(|connection| !connection.idle).count();
        format!("{waiting} of {} connections got no echo for {SILENCE_LIMIT:?}", self.connections.len())
    }

    /// Serves all connections that are ready; with `again`, an answered one begins its next request.
    fn turn(&mut self, again: bool) -> Result<(), String> {
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        match epoll::wait(&self.poller, spare_capacity(&mut events), Some(&WAKE_EVERY)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("waiting for echoes failed: {error}")),
        }
        for event in &events {
            let (number, flags) = (event.data.u64() as usize, event.flags);
            let connection = &mut self.connections[number];
            match connection.turn(&self.pattern, self.load.size, &mut self.buffer)? {
                Progress::Answered => {
                    let now = Instant::now();
                    self.latencies.push((now - connection.started).as_nanos() as u64);
                    self.answered += 1;
                    if again {
                        self.begin(number, now)?;
                    }
                }
                Progress::Waiting { unsent: false } if flags.contains(EventFlags::OUT) => {
                    self.watch(number, EventFlags::IN)?;
                }
                Progress::Waiting { .. } => {}
            }
        }
        Ok(())
    }

    fn watch(&self, number: usize, flags: EventFlags) -> Result<(), String> {
        let stream = &self.connections[number].stream;
        epoll::modify(&self.poller, stream, EventData::new_u64(number as u64), flags)
            .map_err(|error| format!("cannot watch a connection: {error}"))
    }
}

impl Snapshot {
    fn take(load: &Load) -> Result<Self, String> {
        let server = load.server_pid.map(Usage::of).transpose();
        let server = server.map_err(|error| format!("cannot read the server's processor time: {error}"))?;
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own_cpu = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
        Ok(Self { time: Instant::now(), own_cpu, server })
    }
}

fn report(mut latencies: Vec<u64>, begin: &Snapshot, end: &Snapshot) -> String {
    latencies.sort_unstable();
    let seconds = (end.time - begin.time).as_secs_f64();
    let percentile = |share: f64| latencies[(share * (latencies.len() - 1) as f64) as usize] as f64 / 1e3;
    let mut text = format!(
        "{{\"requests\": {}, \"seconds\": {seconds:.6}, \"requests_per_second\": {:.1}, \"p50_us\": {:.1}, \
         \"p99_us\": {:.1}, \"client_busy\": {:.3}",
        latencies.len(),
        latencies.len() as f64 / seconds,
        percentile(0.5),
        percentile(0.99),
        (end.own_cpu - begin.own_cpu) / seconds,
    );
    if let (Some(before), Some(after)) = (begin.server, end.server) {
        let Spent { user, system } = after.since(before);
        text += &format!(", \"server_user_seconds\": {user:.6}, \"server_system_seconds\": {system:.6}");
    }
    text + "}"
}
