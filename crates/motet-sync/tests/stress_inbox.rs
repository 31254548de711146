//! The inbox under real threads: every value arrives once, in its producer's order, and the consumer never sleeps
//! for ever. Makes no system call of its own and runs under miri, with fewer values.
#![cfg(not(loom))]

use motet_sync::{Closed, Receiver, Wake, inbox};
use std::thread::{self, Thread};

const PRODUCERS: usize = 4;
const VALUES: usize = if cfg!(miri) { 50 } else { 50_000 };

type Value = (usize, Box<usize>);

/// Sleeps until something is queued, and returns whether it slept at all.
fn sleep(receiver: &Receiver<Value>) -> bool {
    if !receiver.prepare_to_sleep() {
        return false;
    }
    while receiver.is_empty() {
        thread::park();
    }
    receiver.woke();
    true
}

#[test]
fn every_value_arrives_in_order_and_wake_ups_are_few() {
    let (sender, receiver) = inbox::<Value>();
    let consumer: Thread = thread::current();
    let mut sleeps = 0;
    let wakes: usize = thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (sender, consumer) = (sender.clone(), consumer.clone());
                scope.spawn(move || {
                    let mut wakes = 0;
                    for value in 0..VALUES {
                        if sender.push((producer, Box::new(value))) == Ok(Wake::Needed) {
                            consumer.unpark();
                            wakes += 1;
                        }
                    }
                    wakes
                })
            })
            .collect();
        let mut expected = [0; PRODUCERS];
        while expected != [VALUES; PRODUCERS] {
            sleeps += usize::from(sleep(&receiver));
            for (producer, value) in receiver.drain() {
                assert_eq!(*value, expected[producer]);
                expected[producer] += 1;
            }
        }
        producers.into_iter().map(|producer| producer.join().expect("no producer panics")).sum()
    });
    assert!(receiver.is_empty());
    assert_eq!(wakes, sleeps, "each sleep was ended by one wake-up");
}

#[test]
fn closing_amid_pushes_loses_nothing() {
    for round in 0..if cfg!(miri) { 5 } else { 200 } {
        let (sender, receiver) = inbox::<Value>();
        let (kept, refused) = thread::scope(|scope| {
            let producers: Vec<_> = (0..PRODUCERS)
                .map(|producer| {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        let push = |value| sender.push((producer, Box::new(value)));
                        (0..100)
                            .filter_map(|value| push(value).err())
                            .map(|Closed((_, value))| *value)
                            .collect()
                    })
                })
                .collect();
            let mut kept = 0;
            while kept < round {
                kept += receiver.drain().len();
            }
            kept += receiver.close().len();
            let refused: Vec<Vec<usize>> =
                producers.into_iter().map(|producer| producer.join().expect("no producer panics")).collect();
            (kept, refused)
        });
        for values in &refused {
            assert!(
                values.iter().copied().eq(100 - values.len()..100),
                "refused from one moment on: {values:?}"
            );
        }
        assert_eq!(kept + refused.iter().map(Vec::len).sum::<usize>(), PRODUCERS * 100);
    }
}
