//! The datagram transports' state machine under arbitrary calls and events, against plain books.

use motet_reactor::Endpoint;
use motet_reactor::endpoint::{Admission, Sent};
use motet_reactor::stream::Actions;
use proptest::prelude::*;

/// A datagram of this length makes the socket refuse.
const UNSENDABLE: usize = 13;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    EndRound,
    Room(usize),
    Limits { low: usize, over: usize },
    Close,
    Abort,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0..30_usize).prop_map(Step::Send),
        20 => Just(Step::EndRound),
        30 => (1..10_usize).prop_map(Step::Room),
        10 => (0..100_usize, 0..100_usize).prop_map(|(low, over)| Step::Limits { low, over }),
        1 => Just(Step::Close),
        1 => Just(Step::Abort),
    ]
}

/// An endpoint with a socket that takes `room` datagrams, and what must come of it.
#[derive(Default)]
struct World {
    endpoint: Endpoint<Vec<u8>, usize>,
    turn: u64,
    room: usize,
    numbers: usize,
    accepted: Vec<usize>,
    gone: Vec<usize>,
    paused: bool,
    lost: usize,
}

impl World {
    fn carry_out(&mut self, actions: Actions) {
        if actions.contains(Actions::PAUSE_WRITING) {
            assert!(!self.paused, "paused once");
            self.paused = true;
        }
        if actions.contains(Actions::RESUME_WRITING) {
            assert!(self.paused, "resumed when paused");
            self.paused = false;
        }
        self.lost += usize::from(actions.contains(Actions::LOSE_CONNECTION));
    }

    /// What the socket does with one datagram: takes it, has no room, or refuses it.
    fn offer(room: &mut usize, data: &[u8]) -> Sent<()> {
        match data.len() {
            UNSENDABLE => Sent::Refused(()),
            _ if *room == 0 => Sent::Blocked,
            _ => {
                *room -= 1;
                Sent::Datagrams(1)
            }
        }
    }

    fn send(&mut self, length: usize) {
        let (data, number) = (vec![0; length], self.numbers);
        match self.endpoint.admit(self.turn, true) {
            Admission::Refuse(_) => return assert!(self.endpoint.is_lost()),
            Admission::Send => match Self::offer(&mut self.room, &data) {
                Sent::Datagrams(_) | Sent::Refused(()) => self.gone.push(number),
                Sent::Blocked => {
                    self.endpoint.blocked();
                    assert!(!self.endpoint.enqueue(data, number), "it has just found no room");
                    let actions = self.endpoint.check_limits();
                    self.carry_out(actions);
                }
            },
            Admission::Enqueue => {
                if self.endpoint.enqueue(data, number) {
                    self.flush();
                } else if self.endpoint.is_blocked() {
                    let actions = self.endpoint.check_limits();
                    self.carry_out(actions);
                }
            }
        }
        self.numbers += 1;
        self.accepted.push(number);
    }

    fn flush(&mut self) {
        loop {
            let (room, gone) = (&mut self.room, &mut self.gone);
            let sent = self.endpoint.send_queued(|queue| {
                let (data, number) = queue.front().expect("nothing is offered when nothing is queued");
                let sent = Self::offer(room, data);
                if !matches!(sent, Sent::Blocked) {
                    gone.push(*number);
                }
                sent
            });
            if let Ok(actions) = sent {
                return self.carry_out(actions);
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Send(length) => self.send(*length),
            Step::EndRound => {
                self.turn += 1;
                if self.endpoint.wants_flush() {
                    self.endpoint.flush_begins();
                    self.flush();
                }
            }
            Step::Room(room) => {
                self.room += room;
                self.endpoint.unblocked();
                self.flush();
            }
            Step::Limits { low, over } => {
                let actions = self.endpoint.set_limits(*low, low + over);
                self.carry_out(actions);
            }
            Step::Close => {
                let actions = self.endpoint.close();
                self.carry_out(actions);
            }
            Step::Abort => {
                let (actions, dropped) = self.endpoint.abort();
                self.carry_out(actions);
                let left = self.accepted.len() - self.gone.len();
                assert_eq!(dropped.len(), left);
                self.accepted.truncate(self.gone.len());
            }
        }
    }

    fn check(&self) {
        assert!(self.accepted.starts_with(&self.gone), "in order");
        let queued = self.accepted.len() - self.gone.len();
        assert!(self.endpoint.queued_bytes() >= queued * 8);
        assert_eq!(self.endpoint.queued_bytes() == 0, queued == 0);
        assert_eq!(self.lost, usize::from(self.endpoint.is_lost()), "connection_lost is asked for once");
        if self.endpoint.is_lost() {
            assert_eq!(queued, 0);
        } else if self.endpoint.is_blocked() {
            let (_, high) = self.endpoint.limits();
            assert!(self.paused || self.endpoint.queued_bytes() <= high);
        }
    }
}

proptest! {
    #[test]
    fn datagrams_leave_in_order_and_the_limits_hold(steps in prop::collection::vec(step(), 0..300)) {
        let mut world = World::default();
        for step in &steps {
            world.apply(step);
            world.check();
        }
        world.apply(&Step::Room(usize::MAX / 2));
        world.apply(&Step::Close);
        world.check();
        prop_assert_eq!(world.gone, world.accepted);
        prop_assert_eq!(world.lost, 1);
    }
}

#[test]
fn reading_waits_for_its_beginning_and_for_pauses() {
    let mut endpoint = Endpoint::<Vec<u8>, ()>::default();
    endpoint.set_readable();
    assert!(!endpoint.wants_read());
    endpoint.start_reading();
    assert!(endpoint.wants_read());
    endpoint.pause_reading();
    assert!(!endpoint.wants_read() && !endpoint.is_reading());
    assert_eq!(endpoint.resume_reading(), Some(Actions::READ_LATER));
    assert_eq!(endpoint.resume_reading(), None);
    endpoint.drained();
    assert!(!endpoint.wants_read() && endpoint.is_reading());
    endpoint.set_readable();
    assert_eq!(endpoint.close(), Actions::LOSE_CONNECTION);
    assert!(!endpoint.wants_read());
    assert_eq!(endpoint.resume_reading(), None);
}

#[test]
fn the_first_of_a_round_goes_at_once_and_the_rest_is_collected_on_request() {
    let mut endpoint = Endpoint::<Vec<u8>, ()>::default();
    assert_eq!(endpoint.admit(1, false), Admission::Send);
    assert_eq!(endpoint.admit(1, false), Admission::Send);
    assert_eq!(endpoint.admit(1, true), Admission::Enqueue);
    assert_eq!(endpoint.admit(2, true), Admission::Send);
    assert_eq!(endpoint.admit(2, true), Admission::Enqueue);
    assert!(!endpoint.enqueue(Vec::new(), ()));
    assert_eq!(endpoint.admit(3, false), Admission::Enqueue, "it is behind the one that is queued");
    assert!(endpoint.wants_flush() && !endpoint.wants_flush());
}
