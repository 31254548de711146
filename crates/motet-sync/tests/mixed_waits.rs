//! Waits of all kinds at once, wakers that call back, and what must be left when all is over.

#![cfg(not(loom))]

mod polling;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use motet_sync::*;
use polling::Polled;

type Dyn<'a> = &'a mut (dyn Selectable + Send);

struct Cell(Box<dyn Fn() + Send + Sync>);
impl Wake for Cell {
    fn wake(self: Arc<Self>) {
        (self.0)()
    }
}
impl Drop for Cell {
    fn drop(&mut self) {
        (self.0)()
    }
}

#[test]
fn wakers_call_back_when_woken_replaced_and_dropped() {
    let (channel, lock, semaphore) =
        (Channel::<u32>::new(Capacity::Bounded(1)), Lock::new(), Semaphore::new(1));
    let calls = Arc::new(AtomicUsize::new(0));
    let waker = || {
        let (c, l, s, n) = (channel.clone(), lock.clone(), semaphore.clone(), calls.clone());
        Waker::from(Arc::new(Cell(Box::new(move || {
            n.fetch_add(1, SeqCst);
            let _ = (c.statistics(), l.owner(), s.left(), c.try_get(), l.try_acquire(), s.try_acquire(1));
        }))))
    };
    let held = lock.try_acquire().unwrap();
    let one = semaphore.try_acquire(1).unwrap();
    for round in 0..3 {
        let (mut g, mut l, mut s) = (channel.get(), lock.acquire(), semaphore.acquire(1));
        let mut all: [Dyn; 3] = [&mut g, &mut l, &mut s];
        let mut choice = select(&mut all);
        for _ in 0..3 {
            let w = waker();
            assert!(Pin::new(&mut choice).poll(&mut Context::from_waker(&w)).is_pending());
        }
        if round > 0 {
            channel.try_put(5).unwrap();
        }
        if round > 1 {
            assert!(Pin::new(&mut choice).poll(&mut Context::from_waker(&waker())).is_ready());
        }
        drop(choice);
        drop((g, l, s));
        let _ = channel.try_get();
    }
    drop((held, one));
    channel.close(None);
    assert!(calls.load(SeqCst) > 9);
}

#[test]
fn selects_with_everything_on_both_channels_conserve_items() {
    let channels = [0usize, 1].map(|room| Channel::<usize>::new(Capacity::Bounded(room)));
    let until = Instant::now() + Duration::from_millis(1500);
    let (put, got): (Vec<usize>, Vec<usize>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let channels = &channels;
                scope.spawn(move || {
                    let (mut put, mut got) = (vec![], vec![]);
                    let mut item = number * 100_000_000;
                    let mut round = number;
                    while Instant::now() < until {
                        round += 1;
                        let (x, y) = (&channels[round % 2], &channels[(round / 3) % 2]);
                        let (mut a, mut b, mut c, mut d) = (x.put(item), x.get(), y.put(item + 1), y.get());
                        {
                            let mut all: [Dyn; 4] = [&mut a, &mut b, &mut c, &mut d];
                            if round % 2 == 0 {
                                all.reverse();
                            }
                            let soon = Instant::now() + Duration::from_micros(round as u64 % 20);
                            let _ = block_on_until(select(&mut all), Some(soon));
                        }
                        // What has happened, if anything: exactly one at most. try_now would do it anew, so look at once.
                        // (After a timeout an operation may have been granted as well.)
                        let mut happened = 0;
                        for (op, brought) in [(&mut a, item), (&mut c, item + 1)] {
                            if let Ok(result) = catch_take(|| op.take()) {
                                result.unwrap();
                                put.push(brought);
                                happened += 1;
                            }
                        }
                        for op in [&mut b, &mut d] {
                            if let Ok(result) = catch_take(|| op.take()) {
                                got.push(result.unwrap());
                                happened += 1;
                            }
                        }
                        assert!(happened <= 1, "{happened}");
                        item += 2;
                    }
                    (put, got)
                })
            })
            .collect();
        let mut all = (vec![], vec![]);
        for t in threads {
            let (p, g) = t.join().unwrap();
            all.0.extend(p);
            all.1.extend(g);
        }
        all
    });
    let mut got = got;
    while let Ok(item) = channels[0].try_get() {
        got.push(item)
    }
    while let Ok(item) = channels[1].try_get() {
        got.push(item)
    }
    let (mut put, mut got) = (put, got);
    put.sort_unstable();
    got.sort_unstable();
    assert!(put.len() > 100, "{}", put.len());
    eprintln!("passed {}", put.len());
    assert_eq!(put, got);
    for c in &channels {
        let s = c.statistics();
        assert_eq!((s.put - s.got, s.waiting_to_get, s.waiting_to_put), (0, 0, 0));
    }
}
/// `take` panics when there is nothing; quietly.
fn catch_take<R>(f: impl FnOnce() -> R) -> Result<R, ()> {
    std::panic::set_hook(Box::new(|_| {}));
    catch_unwind(AssertUnwindSafe(f)).map_err(drop)
}

#[test]
fn same_lock_twice_and_zero_permits() {
    let lock = Lock::new();
    let held = lock.try_acquire().unwrap();
    let (mut a, mut b) = (lock.acquire(), lock.acquire());
    {
        let mut all: [Dyn; 2] = [&mut a, &mut b];
        let mut choice = Polled::new(select(&mut all));
        assert!(choice.poll().is_none());
        drop(held);
        assert_eq!(choice.poll(), Some(0));
    }
    assert_eq!(lock.inspect().waiters.len(), 0);
    drop(a.take());
    assert!(b.attempt());
    let semaphore = Semaphore::new(0);
    assert!(semaphore.try_acquire(0).is_some());
    let mut one = Polled::new(semaphore.acquire(1));
    let mut none = Polled::new(semaphore.acquire(0));
    assert!(one.poll().is_none() && none.poll().is_none());
    drop(one);
    assert!(none.was_woken() && none.poll().is_some());
}

#[test]
fn barrier_granted_and_dropped_then_reused() {
    let barrier = Barrier::new(2);
    let mut a = Polled::new(barrier.wait());
    assert!(a.poll().is_none());
    assert_eq!(block_on(barrier.wait()), Ok(1));
    drop(a);
    let mut b = Polled::new(barrier.wait());
    assert!(b.poll().is_none());
    assert_eq!(barrier.waiting(), 1);
    assert_eq!(block_on(barrier.wait()), Ok(1));
    assert_eq!(b.poll(), Some(Ok(0)));
}

#[test]
fn unpolled_condition_wait_leaves_the_lock_released() {
    let (lock, condition) = (Lock::new(), Condition::new());
    drop(condition.wait(lock.try_acquire().unwrap()));
    assert_eq!(lock.owner(), None);
    let mut waiting = Box::pin(condition.wait(lock.try_acquire().unwrap()));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(lock.owner(), None);
    drop(Box::pin(waiting));
}
struct Rng(u64);
impl Rng {
    fn next(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

#[test]
fn counters_and_items_with_every_overflow_drain_and_give_back() {
    for seed in 1..3000u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let overflow =
            [Overflow::Wait, Overflow::Fail, Overflow::DropNewest, Overflow::DropOldest][rng.next(4)];
        let room = rng.next(4);
        let channel = Channel::<Arc<u32>>::with_overflow(Capacity::Bounded(room), overflow);
        let (mut live, mut gets, mut puts) = (vec![], vec![], vec![]);
        for n in 0..60u32 {
            match rng.next(9) {
                0 | 1 => {
                    let mut get = Polled::new(channel.get());
                    if get.poll().is_none() {
                        gets.push(get)
                    }
                }
                2 | 3 => {
                    let item = Arc::new(n);
                    live.push(Arc::downgrade(&item));
                    let mut put = Polled::new(channel.put(item));
                    if put.poll().is_none() {
                        puts.push(put)
                    }
                }
                4 if !gets.is_empty() => {
                    let at = rng.next(gets.len());
                    drop(gets.swap_remove(at))
                }
                5 if !puts.is_empty() => {
                    let at = rng.next(puts.len());
                    drop(puts.swap_remove(at))
                }
                6 if !gets.is_empty() => {
                    let at = rng.next(gets.len());
                    if gets[at].poll().is_some() {
                        drop(gets.swap_remove(at))
                    }
                }
                7 if rng.next(4) == 0 => {
                    let before = channel.len();
                    assert_eq!(channel.drain().len(), before)
                }
                8 if rng.next(20) == 0 => {
                    channel.close(None);
                }
                _ => {}
            }
            let s = channel.statistics();
            assert_eq!(
                s.put - s.got - s.dropped,
                s.length as u64,
                "{overflow:?} {room} seed {seed} step {n}: {s:?}"
            );
            assert!(s.waiting_to_get == 0 || (s.length == 0 && s.waiting_to_put == 0), "{s:?}");
            assert!(s.waiting_to_put == 0 || s.length >= room, "{s:?}");
        }
        gets.clear();
        puts.clear();
        let left = channel.len();
        let alive = live.iter().filter(|weak| weak.upgrade().is_some()).count();
        assert_eq!(left, alive, "items kept where nobody can get them");
    }
}

#[test]
fn selects_of_permits_locks_and_events_leave_nothing_behind() {
    let (semaphore, lock, event) = (Semaphore::new(3), Lock::reentrant(), Event::new());
    let until = Instant::now() + Duration::from_millis(1500);
    let (inside, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..4u64 {
            let (semaphore, lock, event, inside, done) = (&semaphore, &lock, &event, &inside, &done);
            scope.spawn(move || {
                let mut rng = Rng(number + 77);
                while Instant::now() < until {
                    let (mut a, mut b) = (semaphore.acquire(rng.next(4)), lock.acquire());
                    let (mut c, mut d) = (event.wait(), semaphore.acquire(rng.next(3)));
                    let place = {
                        let mut all: [Dyn; 4] = [&mut a, &mut b, &mut c, &mut d];
                        let (start, len) = (rng.next(2), 2 + rng.next(2));
                        let end = (start + len).min(4);
                        let soon = Instant::now() + Duration::from_micros(rng.next(30) as u64);
                        block_on_until(select(&mut all[start..end]), Some(soon)).map(|place| place + start)
                    };
                    match place {
                        Some(1) => {
                            let held = b.take();
                            assert_eq!(inside.fetch_add(1, SeqCst), 0);
                            let again = lock.try_acquire().unwrap();
                            inside.fetch_sub(1, SeqCst);
                            drop((held, again));
                        }
                        Some(_) => {
                            done.fetch_add(1, SeqCst);
                        }
                        None => {}
                    }
                    match rng.next(8) {
                        0 => drop(event.set()),
                        1..3 => drop(event.clear()),
                        _ => {}
                    }
                }
            });
        }
    });
    assert_eq!((semaphore.left(), lock.owner()), (3, None));
    assert!(
        semaphore.inspect().waiters.is_empty()
            && lock.inspect().waiters.is_empty()
            && event.inspect().waiters.is_empty()
    );
    assert!(done.load(SeqCst) > 100);
}
