//! Waits under real threads, of which many give up: nothing is lost, done twice or waited for without end. Makes no system
//! call of its own and runs under miri, with fewer items.
#![cfg(not(loom))]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use motet_sync::{Capacity, Channel, Lock, Selectable, Semaphore, block_on, block_on_until, select};

const THREADS: usize = 3;
const ITEMS: usize = if cfg!(miri) { 30 } else { 20_000 };

/// So soon that it often comes while something is given.
fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_micros(5))
}

/// What `consume` got of what this many producers put, each `ITEMS` numbers of its own, into either of two channels.
fn pass_on(room: usize, consume: impl Fn(&[Channel<usize>; 2]) -> Option<usize> + Sync) {
    let channels = [0; 2].map(|_| Channel::<usize>::new(Capacity::Bounded(room)));
    let mut got: Vec<usize> = thread::scope(|scope| {
        let producers: Vec<_> = (0..THREADS)
            .map(|number| {
                let channels = &channels;
                scope.spawn(move || {
                    for item in number * ITEMS..(number + 1) * ITEMS {
                        let mut put = channels[item % 2].put(item);
                        // Given up now and then, and done all the same or not at all.
                        while block_on_until(&mut put, soon()).is_none() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let consumers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (channels, consume) = (&channels, &consume);
                scope.spawn(move || std::iter::from_fn(|| consume(channels)).collect::<Vec<_>>())
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        assert!(channels.iter().all(|channel| channel.close(None)));
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
    });
    got.sort_unstable();
    assert!(got.into_iter().eq(0..THREADS * ITEMS));
}

/// The first item of either channel; nothing once both are closed and empty.
fn choose(channels: &[Channel<usize>; 2]) -> Option<usize> {
    let [mut one, mut other] = [channels[0].get(), channels[1].get()];
    let place = {
        let mut both: [&mut (dyn Selectable + Send); 2] = [&mut one, &mut other];
        block_on(select(&mut both))
    };
    let (chosen, left) = if place == 0 { (one.take(), &channels[1]) } else { (other.take(), &channels[0]) };
    chosen.ok().or_else(|| block_on(left.get()).ok())
}

/// The same by waits that are dropped soon: what one was given goes to another.
fn take_turns(channels: &[Channel<usize>; 2]) -> Option<usize> {
    let mut closed = [false; 2];
    while closed != [true; 2] {
        for (channel, closed) in channels.iter().zip(&mut closed) {
            match block_on_until(channel.get(), soon()) {
                Some(Ok(item)) => return Some(item),
                Some(Err(_)) => *closed = true,
                None => {}
            }
        }
    }
    None
}

#[test]
fn selects_get_every_item_once() {
    pass_on(0, choose);
    pass_on(2, choose);
}

#[test]
fn gets_that_give_up_lose_nothing() {
    pass_on(0, take_turns);
    pass_on(2, take_turns);
}

#[test]
fn locks_and_permits_are_held_by_as_many_as_may() {
    let (lock, semaphore) = (Lock::new(), Semaphore::new(2));
    let (in_lock, in_semaphore) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let enter = |inside: &AtomicUsize, most: usize| {
        assert!(inside.fetch_add(1, Ordering::Relaxed) < most);
        inside.fetch_sub(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for number in 0..ITEMS {
                    let deadline = if number % 3 == 0 { soon() } else { None };
                    if let Some(_held) = block_on_until(lock.acquire(), deadline) {
                        enter(&in_lock, 1);
                    }
                    if let Some(_permits) = block_on_until(semaphore.acquire(1 + number % 2), deadline) {
                        enter(&in_semaphore, 2);
                    }
                }
            });
        }
    });
    assert_eq!((lock.owner(), semaphore.left()), (None, 2));
}
