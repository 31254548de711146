//! The heartbeat under loom: each test runs in every order that the memory model allows.
//!
//! Mutants that these tests were seen to kill, each on its own: a flag without its callback's number (taken by
//! whichever callback comes), the end published under the wrong number, its two words stored in the other order or
//! without release, read without acquire, any of the three fences left out.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use motet_sync::Pulse;

/// The loop's thread: runs `callbacks` callbacks with a poll after each; number n ends at 100 + n. Returns the numbers
/// that were marked.
fn run(pulse: &Pulse, callbacks: u64) -> Vec<u64> {
    let mut marked = Vec::new();
    for number in 1..=callbacks {
        pulse.set_busy(number);
        pulse.beat();
        if pulse.take_flag() {
            marked.push(number);
            pulse.finish(100 + number);
        }
        pulse.set_idle();
    }
    marked
}

fn ends_of(marked: &[u64]) -> Vec<u64> {
    marked.iter().map(|number| 100 + number).collect()
}

/// Runs `callbacks` callbacks beside `watchdog` in every order and hands `check` the pulse at rest, what was marked and
/// what the watchdog returned.
///
/// The loop's side runs in the thread that loom starts with. loom tries a store earlier only where the last access
/// before it is another thread's; in `beat` that is the loop's own load, so that loom would never run a loop's side
/// that starts second ahead of the watchdog.
fn explore<T: 'static>(callbacks: u64, watchdog: fn(&Pulse) -> T, check: fn(&Pulse, Vec<u64>, T)) {
    loom::model(move || {
        let pulse = Arc::new(Pulse::new());
        let watching = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || watchdog(&pulse))
        };
        let marked = run(&pulse, callbacks);
        let answer = watching.join().unwrap();
        check(&pulse, marked, answer);
    });
}

#[test]
fn a_mark_reaches_its_callback_or_nobody() {
    explore(
        3,
        |pulse| {
            let seen = pulse.observe().sequence;
            pulse.flag(seen);
            (seen, pulse.finished(seen))
        },
        |pulse, marked, (seen, early)| {
            assert!(marked.is_empty() || marked == [seen], "{seen} was marked, {marked:?} took it");
            assert!(pulse.finished(seen).into_iter().eq(ends_of(&marked)));
            assert!(early.is_none() || early == Some(100 + seen), "an end is never torn");
        },
    );
}

#[test]
fn an_end_that_is_missing_after_the_loop_moved_on_stays_missing() {
    explore(
        2,
        |pulse| {
            let seen = pulse.observe();
            if seen.is_idle() {
                return None;
            }
            pulse.flag(seen.sequence);
            let later = pulse.observe();
            let moved_on = later.is_idle() || later.sequence != seen.sequence;
            moved_on.then(|| pulse.finished(seen.sequence))
        },
        |_, marked, answer| {
            if let Some(end) = answer {
                assert!(end.into_iter().eq(ends_of(&marked)), "{end:?}, but {marked:?} was marked");
            }
        },
    );
}

#[test]
fn a_second_mark_does_not_disturb_the_end_of_the_first() {
    loom::model(|| {
        let pulse = Arc::new(Pulse::new());
        pulse.set_busy(5);
        pulse.beat();
        pulse.flag(1);
        let watching = {
            let pulse = Arc::clone(&pulse);
            thread::spawn(move || {
                let second = pulse.observe().sequence;
                (second != 1).then(|| {
                    let end = pulse.finished(1);
                    pulse.flag(second);
                    (second, end)
                })
            })
        };
        assert!(pulse.take_flag());
        pulse.finish(101);
        let marked = [2, 3].map(|number| {
            pulse.beat();
            let marked = pulse.take_flag();
            if marked {
                pulse.finish(100 + number);
            }
            marked
        });
        let answer = watching.join().unwrap();
        assert_eq!(
            marked.contains(&true),
            answer.is_some_and(|(second, _)| pulse.finished(second).is_some())
        );
        if let Some((second, end)) = answer {
            assert_eq!(end, Some(101), "the first end was there when the second callback was");
            assert_eq!(marked, [2, 3].map(|number| pulse.finished(number).is_some()));
            assert!(pulse.finished(second).is_none_or(|end| end == 100 + second));
        }
    });
}
