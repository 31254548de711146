//! What the client tells: the requests of the measured interval, and the processor time of both sides in it.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::usage::{Spent, Usage};

pub struct Snapshot {
    pub time: Instant,
    own_cpu: f64,
    server: Option<Usage>,
}

impl Snapshot {
    pub fn take(server_pid: Option<i32>) -> Result<Self, String> {
        let server = server_pid.map(Usage::of).transpose();
        let server = server.map_err(|error| format!("cannot read the server's processor time: {error}"))?;
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own_cpu = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
        Ok(Self { time: Instant::now(), own_cpu, server })
    }
}

pub fn report(mut latencies: Vec<u64>, begin: &Snapshot, end: &Snapshot) -> String {
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
