//! Processor time of the server's process, read from outside: the server spends nothing on being measured.
//!
//! The total comes from the process's own clock (all threads, nanoseconds). The kernel splits user from system by
//! sampling at its timer tick; `/proc/<pid>/stat` gives that split in hundredths of a second, so it is taken as a
//! share of the exact total, and the harness adds several rounds up before it divides.

use std::io::{Error, ErrorKind, Result};

#[derive(Clone, Copy)]
pub struct Usage {
    total: f64,
    user_ticks: u64,
    system_ticks: u64,
}

/// Seconds used between two readings.
pub struct Spent {
    pub user: f64,
    pub system: f64,
}

impl Usage {
    pub fn of(process: i32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (user_ticks, system_ticks) = ticks(&stat).ok_or(ErrorKind::InvalidData)?;
        Ok(Self { total: clock(process)?, user_ticks, system_ticks })
    }

    pub fn since(self, earlier: Self) -> Spent {
        let total = self.total - earlier.total;
        let user = (self.user_ticks - earlier.user_ticks) as f64;
        let ticks = user + (self.system_ticks - earlier.system_ticks) as f64;
        let share = if ticks > 0.0 { user / ticks } else { 0.0 };
        Spent { user: total * share, system: total * (1.0 - share) }
    }
}

/// Fields 14 and 15; the second field, the program's name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn clock(process: i32) -> Result<f64> {
    let mut identifier: libc::clockid_t = 0;
    // SAFETY: the pointer is to a live variable of the right type.
    let refused = unsafe { libc::clock_getcpuclockid(process, &mut identifier) };
    if refused != 0 {
        return Err(Error::from_raw_os_error(refused));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above, and the identifier was just made by the C library.
    if unsafe { libc::clock_gettime(identifier, &mut time) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_program_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat), Some((250, 31)));
    }

    #[test]
    fn own_process_uses_time() {
        let process = std::process::id() as i32;
        let before = Usage::of(process).unwrap();
        let mut sum = 0u64;
        for number in 0..5_000_000u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        let spent = Usage::of(process).unwrap().since(before);
        assert!(spent.user + spent.system > 0.0);
    }
}
