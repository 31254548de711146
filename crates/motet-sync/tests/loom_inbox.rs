//! The inbox under loom: each test runs in every order that the memory model allows.
//!
//! Mutants that these tests were seen to kill, each on its own. In `push`: release or acquire left out, a plain store
//! for the swap, the wake-up owed never, always or also when the inbox was empty, `PARKED` kept as the link, `CLOSED`
//! looked for only before the first swap. In `prepare_to_sleep`: a load and a store for the swap, no release. In
//! `woke`: a plain store. In `drain`: a load and a store for the swap, a swap without a look, no acquire, no reversal.
//! In `close`: no acquire, the list dropped or leaked. No `close` when the receiver is dropped; a `Drain` that does
//! not free the rest. (`woke` doing nothing is killed in `inbox.rs`.)
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use motet_sync::{Closed, Receiver, Sender, Wake, inbox};

/// A value that loom follows: reading it without having synchronised with its writer fails the test.
struct Tracked(UnsafeCell<usize>);

impl Tracked {
    fn new(number: usize) -> Self {
        Self(UnsafeCell::new(number))
    }

    fn number(&self) -> usize {
        // SAFETY: the inbox handed this thread the value alone; loom checks that claim.
        self.0.with(|inner| unsafe { *inner })
    }
}

/// Every order with at most this many involuntary switches of threads; those beyond take hours and find no more.
fn bounded(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}

fn push(sender: &Sender<Tracked>, number: usize) -> Wake {
    sender.push(Tracked::new(number)).unwrap_or_else(|_| panic!("the inbox was closed"))
}

fn numbers(values: impl Iterator<Item = Tracked>) -> Vec<usize> {
    values.map(|value| value.number()).collect()
}

/// Receives `count` values and sleeps whenever there is none. loom reports a wake-up that is lost as a deadlock.
fn receive(receiver: &Receiver<Tracked>, count: usize, sleeps: &mut usize) -> Vec<usize> {
    let mut received = Vec::new();
    loop {
        received.extend(numbers(receiver.drain()));
        if received.len() == count {
            return received;
        }
        if receiver.prepare_to_sleep() {
            *sleeps += 1;
            thread::park();
            receiver.woke();
        }
    }
}

/// Producers that push these values each and wake the consumer, this thread, when they have to.
fn no_wake_up_is_lost_from(producers: &[&'static [usize]]) {
    let (sender, receiver) = inbox();
    let consumer = thread::current();
    let handles: Vec<_> = producers
        .iter()
        .map(|values| {
            let (sender, consumer, values) = (sender.clone(), consumer.clone(), *values);
            thread::spawn(move || {
                let mut wakes = 0;
                for value in values {
                    if push(&sender, *value) == Wake::Needed {
                        wakes += 1;
                        consumer.unpark();
                    }
                }
                wakes
            })
        })
        .collect();
    let mut sleeps = 0;
    let received = receive(&receiver, producers.iter().map(|values| values.len()).sum(), &mut sleeps);
    for values in producers {
        let arrived: Vec<_> = received.iter().copied().filter(|value| values.contains(value)).collect();
        assert_eq!(arrived, *values, "each value once, in its producer's order");
    }
    let wakes: usize = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert_eq!(wakes, sleeps, "each sleep is ended by one wake-up");
}

#[test]
fn no_wake_up_is_lost_from_one_producer() {
    loom::model(|| no_wake_up_is_lost_from(&[&[1, 2]]));
}

#[test]
fn no_wake_up_is_lost_from_two_producers() {
    bounded(3, || no_wake_up_is_lost_from(&[&[1, 2], &[3]]));
}

#[test]
fn a_burst_at_a_sleeper_wakes_it_once() {
    loom::model(|| {
        let (sender, receiver) = inbox();
        assert!(receiver.prepare_to_sleep());
        let producer = {
            let sender = sender.clone();
            thread::spawn(move || push(&sender, 1))
        };
        let here = push(&sender, 2);
        let there = producer.join().unwrap();
        assert!((here == Wake::Needed) != (there == Wake::Needed), "exactly one of {here:?} and {there:?}");
        receiver.woke();
        assert_eq!(receiver.drain().len(), 2);
    });
}

#[test]
fn a_sleep_given_up_costs_at_most_one_wake_up() {
    loom::model(|| {
        let (sender, receiver) = inbox();
        let producer = thread::spawn(move || [push(&sender, 1), push(&sender, 2)]);
        let prepared = receiver.prepare_to_sleep();
        receiver.woke();
        let early = numbers(receiver.drain());
        let wakes = producer.join().unwrap().into_iter().filter(|wake| *wake == Wake::Needed).count();
        assert!(wakes <= usize::from(prepared));
        let all: Vec<_> = early.into_iter().chain(numbers(receiver.drain())).collect();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn the_waker_sees_what_the_sleeper_wrote_before() {
    loom::model(|| {
        let (sender, receiver) = inbox();
        let how_to_wake = Arc::new(UnsafeCell::new(0));
        let producer = {
            let how_to_wake = Arc::clone(&how_to_wake);
            thread::spawn(move || {
                if push(&sender, 1) == Wake::Needed {
                    // SAFETY: the consumer wrote before it parked and does not write again; loom checks that claim.
                    assert_eq!(how_to_wake.with(|inner| unsafe { *inner }), 7);
                }
            })
        };
        // SAFETY: the producer reads only once it has seen the consumer parked; loom checks that claim.
        how_to_wake.with_mut(|inner| unsafe { *inner = 7 });
        let _ = receiver.prepare_to_sleep();
        producer.join().unwrap();
        assert_eq!(numbers(receiver.drain()), [1]);
    });
}

#[test]
fn closing_loses_nothing() {
    bounded(4, || {
        let (sender, receiver) = inbox();
        let producers = [&[1, 2][..], &[3]].map(|values| {
            let sender = sender.clone();
            let refuse = move |number: &usize| {
                sender.push(Tracked::new(*number)).map_err(|Closed(value)| value.number())
            };
            thread::spawn(move || values.iter().map(refuse).filter_map(Result::err).collect::<Vec<_>>())
        });
        let mut all = numbers(receiver.close());
        assert_eq!(receiver.drain().len(), 0, "a closed inbox stays empty");
        for (producer, last) in producers.into_iter().zip([2, 3]) {
            let refused = producer.join().unwrap();
            assert!(
                refused.last().is_none_or(|value| *value == last),
                "once refused, always refused: {refused:?}"
            );
            all.extend(refused);
        }
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn dropping_the_receiver_frees_what_is_queued() {
    loom::model(|| {
        let (sender, receiver) = inbox();
        // loom reports an `Arc` that is alive at the end.
        let producer = thread::spawn(move || sender.push(Arc::new(())).is_err());
        drop(receiver);
        let _ = producer.join().unwrap();
    });
}
