//! Models of a lane: all interleavings of a parent and its worker.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p motet-lanes --test loom_lane`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use motet_lanes::lane::requests::Progress;
use motet_lanes::lane::{Bell, Requests, Ring, TakeBack};

/// What the worker does, until it has seen `last`.
fn work(requests: &Requests<u64, 2>, until: u64) -> Vec<u64> {
    let mut next = 0;
    let mut seen = Vec::new();
    while next < until {
        match requests.claim(&mut next) {
            Some(claimed) => {
                seen.push(requests.read(&claimed, |body| *body));
                requests.finish(claimed);
            }
            None => thread::yield_now(),
        }
    }
    seen
}

fn start_worker(requests: &Arc<Requests<u64, 2>>, until: u64) -> thread::JoinHandle<Vec<u64>> {
    let requests = Arc::clone(requests);
    thread::spawn(move || work(&requests, until))
}

fn publish(requests: &Requests<u64, 2>, position: u64) {
    while !requests.publish(position, |body| *body = position + 100) {
        thread::yield_now();
    }
}

#[test]
fn requests_arrive_once_and_in_order_through_slots_that_are_used_again() {
    loom::model(|| {
        let requests = Arc::new(Requests::<u64, 2>::default());
        let worker = start_worker(&requests, 3);
        for position in 0..3 {
            publish(&requests, position);
        }
        assert_eq!(worker.join().unwrap(), [100, 101, 102]);
    });
}

#[test]
fn what_is_taken_back_is_not_seen_and_what_is_begun_is_not_taken_back() {
    loom::model(|| {
        let requests = Arc::new(Requests::<u64, 2>::default());
        publish(&requests, 0);
        publish(&requests, 1);
        let worker = start_worker(&requests, 2);
        let taken = requests.take_back(1);
        let seen = worker.join().unwrap();
        match taken {
            TakeBack::Taken => assert_eq!(seen, [100]),
            TakeBack::Begun => assert_eq!(seen, [100, 101]),
        }
    });
}

#[test]
fn a_slot_that_was_taken_back_is_used_again_before_the_worker_comes_by() {
    loom::model(|| {
        let requests = Arc::new(Requests::<u64, 2>::default());
        publish(&requests, 0);
        publish(&requests, 1);
        let worker = start_worker(&requests, 3);
        let first = requests.take_back(0);
        publish(&requests, 2);
        let seen = worker.join().unwrap();
        match first {
            TakeBack::Taken => assert_eq!(seen, [101, 102]),
            TakeBack::Begun => assert_eq!(seen, [100, 101, 102]),
        }
    });
}

#[test]
fn replies_arrive_once_and_in_order() {
    loom::model(|| {
        let ring = Arc::new(Ring::<u64, 2>::default());
        let producer = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                for number in 0..3 {
                    while !ring.push(|entry| *entry = number) {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match ring.pop(|entry| *entry) {
                Some(number) => seen.push(number),
                None => thread::yield_now(),
            }
        }
        producer.join().unwrap();
        assert_eq!(seen, [0, 1, 2]);
    });
}

/// A worker that sleeps is modelled by a thread that parks: as with a futex, a wake-up before it is not lost.
#[test]
fn nobody_sleeps_beside_work() {
    loom::model(|| {
        let shared = Arc::new((Bell::default(), Requests::<u64, 2>::default()));
        let worker = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (bell, requests) = &*shared;
                let mut next = 0;
                loop {
                    if let Some(claimed) = requests.claim(&mut next) {
                        requests.finish(claimed);
                        return;
                    }
                    bell.lie_down();
                    if let Some(claimed) = requests.claim(&mut next) {
                        bell.get_up();
                        requests.finish(claimed);
                        return;
                    }
                    while bell.is_asleep() {
                        thread::park();
                    }
                    bell.get_up();
                }
            }
        });
        let (bell, requests) = &*shared;
        publish(requests, 0);
        if bell.ring() {
            worker.thread().unpark();
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_sleeper_is_woken_by_one_ringer_only() {
    loom::model(|| {
        let bell = Arc::new(Bell::default());
        bell.lie_down();
        let other = thread::spawn({
            let bell = Arc::clone(&bell);
            move || bell.ring()
        });
        let here = bell.ring();
        assert!(here ^ other.join().unwrap());
    });
}

/// Who dozes is told in time: before the worker has nothing to do.
#[test]
fn a_dozing_parent_is_roused_by_who_begins_the_last() {
    loom::model(|| {
        let shared = Arc::new((Bell::default(), Requests::<u64, 2>::default()));
        publish(&shared.1, 0);
        publish(&shared.1, 1);
        let worker = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (bell, requests) = &*shared;
                let (mut next, mut roused) = (0, false);
                while let Some(claimed) = requests.claim(&mut next) {
                    roused |= requests.progress(next) != Progress::Waiting && bell.rouse();
                    requests.finish(claimed);
                }
                roused
            }
        });
        let (bell, requests) = &*shared;
        bell.doze();
        let dozes = requests.progress(1) == Progress::Waiting;
        let roused = worker.join().unwrap();
        assert!(roused || !dozes);
    });
}

/// A ringer that comes late, and wakes nobody, leaves a doze as it is.
#[test]
fn replies_end_no_doze() {
    loom::model(|| {
        let bell = Arc::new(Bell::default());
        bell.lie_down();
        let other = thread::spawn({
            let bell = Arc::clone(&bell);
            move || bell.ring()
        });
        bell.get_up();
        bell.doze();
        let rang = other.join().unwrap();
        assert!(rang || bell.rouse());
    });
}
