//! The load client: N connections, a warm-up, a measured interval, and the report.

use std::time::Instant;

use crate::datagrams::Datagrams;
use crate::driver::{Driver, Work, poller};
use crate::handshakes::Handshakes;
use crate::options::{Load, Talk};
use crate::ping_pong::PingPong;
use crate::report::{Snapshot, report};

/// Runs the load and returns the report: one line of JSON.
pub fn run(load: &Load) -> Result<String, String> {
    let poller = poller()?;
    match load.talk {
        Talk::Handshakes => drive(Driver::new(poller, Handshakes::new(load)?, load.connections), load),
        Talk::Datagrams { batch } => {
            let work = Datagrams::open(load, batch, &poller)?;
            drive(Driver::new(poller, work, load.connections), load)
        }
        Talk::Echo | Talk::Lines | Talk::Page(_) => {
            let work = PingPong::open(load, &poller)?;
            drive(Driver::new(poller, work, load.connections), load)
        }
    }
}

fn drive(mut driver: Driver<impl Work>, load: &Load) -> Result<String, String> {
    driver.begin_all()?;
    driver.run_until(Instant::now() + load.warm_up)?;
    driver.latencies.clear();
    let begin = Snapshot::take(load.server_pid)?;
    driver.run_until(begin.time + load.measured)?;
    let end = Snapshot::take(load.server_pid)?;
    let latencies = std::mem::take(&mut driver.latencies);
    driver.finish()?;
    if latencies.is_empty() {
        return Err(format!("no request was answered in {:?}", load.measured));
    }
    Ok(report(latencies, &begin, &end))
}
