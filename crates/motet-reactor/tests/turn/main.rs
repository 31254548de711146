//! The turn under arbitrary programs, with a clock that the test moves; what is checked at each step is in `world.rs`.

#[path = "../cases/mod.rs"]
mod cases;
mod world;

use motet_reactor::clock::{Clock, ManualClock};
use motet_reactor::turn::{COUNT_CAP, Step, TIME_CAP, Turn, Wait};
use motet_sync::inbox::inbox;
use proptest::prelude::*;
use world::{Effect, Ended, World};

fn effect(stops: u32) -> impl Strategy<Value = Effect> {
    prop_oneof![
        30 => Just(Effect::Push),
        15 => Just(Effect::Send),
        10 => (0..300_000_u64).prop_map(Effect::Schedule),
        3 => (0..50_u64).prop_map(Effect::Schedule),
        10 => any::<prop::sample::Index>().prop_map(Effect::Cancel),
        5 => Just(Effect::RequestFlush),
        20 => (0..60_000_u64).prop_map(Effect::Spend),
        stops => Just(Effect::Stop),
    ]
}

fn script(stops: u32) -> impl Strategy<Value = Vec<Vec<Effect>>> {
    prop::collection::vec(prop::collection::vec(effect(stops), 0..5), 0..400)
}

proptest! {
    #![proptest_config(cases::config(150))]

    #[test]
    fn every_job_runs_once_in_its_round(script in script(0), at_first in 0..5_usize) {
        let mut world = World::new(script);
        (0..at_first).for_each(|_| world.push());
        prop_assert_eq!(world.run(), Ended::Idle);
        prop_assert_eq!(world.outstanding(), 0);
        world.check_statistics();
        let statistics = &world.turn.statistics;
        let gone_by = world.clock.now() - 1_000;
        prop_assert_eq!(statistics.busy_nanoseconds + statistics.idle_nanoseconds, gone_by, "no time is lost");
        prop_assert!(statistics.turns >= statistics.polls);
    }

    #[test]
    fn a_stop_ends_the_run_after_the_round_and_loses_nothing(script in script(4), at_first in 0..5_usize) {
        let mut world = World::new(script);
        (0..at_first).for_each(|_| world.push());
        while world.run() == Ended::Stopped {
            world.check_statistics();
            prop_assert_eq!(world.turn.timers_len(), world.live_timers());
        }
        world.check_statistics();
        prop_assert_eq!(world.outstanding(), 0);
    }

    #[test]
    fn a_chain_meets_the_caps_whatever_the_size_of_its_rounds(
        width in 1..40_usize,
        costs in prop::collection::vec(0..100_000_u64, 1..20),
        first_round in 1..12_usize,
    ) {
        // Rounds of one size, begun out of step with the looks at the clock.
        let script = (0..600).map(|number| {
            let pushes = match number {
                0 => first_round,
                _ if number == first_round => width,
                _ if number < first_round => 0,
                _ => 1,
            };
            let spend = Effect::Spend(costs[number % costs.len()]);
            std::iter::repeat_n(Effect::Push, pushes).chain([spend]).collect()
        });
        let mut world = World::new(script.collect());
        prop_assert_eq!(world.run(), Ended::Idle);
        prop_assert!(world.runs > 0);
        world.check_statistics();
    }
}

/// A turn, its clock and the sender of its inbox, after the first poll.
fn started() -> (Turn<u32>, ManualClock, motet_sync::Sender<u32>) {
    let (sender, receiver) = inbox();
    let (mut turn, clock) = (Turn::new(receiver), ManualClock::new(0));
    turn.begin(&clock);
    assert!(matches!(turn.next(true, &clock), Step::Poll(Wait::Never)));
    turn.polled(clock.now());
    (turn, clock, sender)
}

#[test]
fn a_slow_chain_is_interrupted_by_the_clock_and_a_fast_one_by_the_count() {
    for (cost, at_most) in [(TIME_CAP / 4, 8), (0, COUNT_CAP)] {
        // Rounds of two after a first one of one: no round ends at a multiple of eight.
        let (mut turn, clock, _sender) = started();
        turn.push(0);
        let mut callbacks = 0;
        loop {
            match turn.next(false, &clock) {
                Step::Run(number) => {
                    clock.advance(cost);
                    callbacks += 1;
                    assert!(callbacks < 2 * COUNT_CAP, "no cap ends the chain");
                    (0..=u32::from(number == 0)).for_each(|_| turn.push(1));
                }
                Step::Poll(wait) => {
                    assert_eq!(wait, Wait::Never);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!((at_most..at_most + 2).contains(&callbacks), "{callbacks} callbacks of {cost} ns");
    }
}

#[test]
fn a_wait_that_was_given_up_leaves_the_inbox_awake() {
    let (mut turn, clock, sender) = started();
    assert_eq!(turn.next(false, &clock), Step::Poll(Wait::Forever));
    // The driver failed before it could tell of the wait's end, and runs again.
    turn.begin(&clock);
    assert_eq!(turn.next(false, &clock), Step::Poll(Wait::Forever), "it sleeps again, and does not spin");
    assert_eq!(sender.push(1), Ok(motet_sync::Wake::Needed));
}

#[test]
fn a_closed_turn_gives_everything_back_and_takes_nothing_more() {
    let (mut turn, _clock, sender) = started();
    turn.push(1);
    turn.schedule(5, 2);
    let cancelled = turn.schedule(6, 3);
    turn.cancel(cancelled);
    assert_eq!(sender.push(4), Ok(motet_sync::Wake::No));
    assert_eq!(turn.waiting().copied().collect::<Vec<_>>(), [1, 2]);
    let mut left = turn.close();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 4]);
    assert_eq!((turn.ready_len(), turn.timers_len()), (0, 0));
    assert_eq!(sender.push(5), Err(motet_sync::Closed(5)));
}

#[test]
fn waits_become_timeouts() {
    let second = std::time::Duration::from_secs(1);
    assert_eq!(Wait::Never.timeout(), Some(std::time::Duration::ZERO));
    assert_eq!(Wait::AtMost(second).timeout(), Some(second));
    assert_eq!(Wait::Forever.timeout(), None);
}
