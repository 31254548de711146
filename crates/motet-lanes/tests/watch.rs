//! The watch: a ring ends one wait, also one that begins later, and is not told twice.
#![cfg(target_os = "linux")]

use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use motet_lanes::descriptors;
use motet_lanes::sys::watch::{Watch, ring};

/// Against hanging only.
const LIMIT: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(20);

/// Whether a wait was ended by the bell.
fn woken(watch: &Watch, limit: Duration) -> bool {
    let begun = std::time::Instant::now();
    let mut ready = Vec::new();
    watch.wait(Some(limit), &mut ready).unwrap();
    assert!(ready.is_empty());
    begun.elapsed() < limit
}

#[test]
fn rings_before_a_wait_end_one() {
    let watch = Watch::new().unwrap();
    assert!(!woken(&watch, MOMENT));
    for rings in [1, 2, 5] {
        (0..rings).for_each(|_| ring(watch.bell()));
        assert!(woken(&watch, LIMIT));
        assert!(!woken(&watch, MOMENT));
    }
}

#[test]
fn every_ring_ends_a_wait_that_has_begun() {
    let watch = Watch::new().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let ringer = scope.spawn(|| {
                thread::sleep(MOMENT);
                ring(watch.bell());
            });
            assert!(woken(&watch, LIMIT));
            ringer.join().unwrap();
        }
    });
    assert!(!woken(&watch, MOMENT));
}

#[test]
fn what_is_readable_is_told_until_it_is_read() {
    let watch = Watch::new().unwrap();
    let (here, there) = descriptors::socket_pair().unwrap();
    watch.add(here.as_fd()).unwrap();
    rustix::io::write(&there, b"x").unwrap();
    ring(watch.bell());
    for _ in 0..2 {
        let mut ready = Vec::new();
        watch.wait(Some(LIMIT), &mut ready).unwrap();
        assert_eq!(ready, [here.as_raw_fd()]);
    }
    watch.remove(here.as_fd()).unwrap();
    assert!(!woken(&watch, MOMENT));
}
