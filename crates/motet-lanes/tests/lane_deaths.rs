//! A worker that dies at any step of any history: each call is answered, taken back, never begun, or the one that ran.
#![cfg(all(target_os = "linux", not(loom)))]

use motet_lanes::lane::message::{reply_kind, request_kind};
use motet_lanes::lane::{Claimed, ParentSide, WorkerSide};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The parent sends a call.
    Send,
    /// The parent sends what a call needs, and the call.
    SendWithOrder,
    /// The parent reads a reply.
    Collect,
    /// The parent takes the newest call back that has not begun.
    TakeBack,
    /// The parent wants the call stopped that runs.
    Stop,
    /// The worker makes one more step: claims, notes the time, answers, is done.
    Work,
}

/// How far the worker is.
enum At {
    Nothing,
    Claimed(Claimed, Option<u64>),
    Begun(Claimed, Option<u64>),
    Answered(Claimed),
}

struct Pair {
    parent: ParentSide<u64>,
    worker: WorkerSide,
    at: At,
    sent: u64,
    /// Calls by what has happened to them.
    begun: Vec<u64>,
    said: BTreeSet<u64>,
    answered: Vec<u64>,
    taken: Vec<u64>,
}

const ORDER: u64 = u64::MAX;

impl Pair {
    fn new() -> Self {
        let parent = ParentSide::create().unwrap();
        let worker = WorkerSide::open(parent.descriptor().try_clone_to_owned().unwrap()).unwrap();
        let (begun, answered, taken) = (Vec::new(), Vec::new(), Vec::new());
        Self { parent, worker, at: At::Nothing, sent: 0, begun, said: BTreeSet::new(), answered, taken }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send => self.send(),
            Step::SendWithOrder => {
                let sent = self.parent.send_order(None, |request| {
                    request.kind = request_kind::DEFINE;
                    request.message.set_inline(&ORDER.to_le_bytes());
                });
                if sent {
                    self.send();
                }
            }
            Step::Collect => self.collect(),
            Step::TakeBack => self.taken.extend(self.parent.take_back(|_| true).map(|(call, _)| call)),
            Step::Stop => {
                let running = self.parent.running().map(|(call, _)| *call);
                assert_eq!(self.parent.ask_to_stop(|call| Some(*call) == running), running.is_some());
                if let At::Claimed(claimed, Some(_)) | At::Begun(claimed, Some(_)) = &self.at {
                    assert!(self.worker.must_stop(claimed.position()));
                    assert!(!self.worker.must_stop(claimed.position() + 1));
                }
            }
            Step::Work => self.work(),
        }
    }

    fn send(&mut self) {
        let sent = self.parent.send_call(self.sent, None, |call, request| {
            request.kind = request_kind::CALL;
            request.message.set_inline(&call.to_le_bytes());
        });
        self.sent += u64::from(sent.is_ok());
    }

    fn collect(&mut self) {
        let answered = self.parent.collect(|answered, reply| {
            let said = u64::from_le_bytes(reply.message.inline().unwrap().try_into().unwrap());
            (answered.call, said)
        });
        if let Some((call, said)) = answered {
            assert_eq!(call.unwrap_or(ORDER), said);
            self.answered.extend(call);
        }
    }

    fn work(&mut self) {
        self.at = match std::mem::replace(&mut self.at, At::Nothing) {
            At::Nothing => match self.worker.claim() {
                None => At::Nothing,
                Some(claimed) => {
                    let call = self.worker.read(&claimed, |request| {
                        u64::from_le_bytes(request.message.inline().unwrap().try_into().unwrap())
                    });
                    let call = (call != ORDER).then_some(call);
                    self.begun.extend(call);
                    At::Claimed(claimed, call)
                }
            },
            At::Claimed(claimed, call) => {
                self.worker.note_start(&claimed, 1);
                assert_eq!(self.parent.running(), call.as_ref().map(|call| (call, 1)));
                At::Begun(claimed, call)
            }
            At::Begun(claimed, call) => {
                let room = self.worker.reply(|reply| {
                    reply.kind = if call.is_some() { reply_kind::RETURNED } else { reply_kind::DONE };
                    reply.position = claimed.position();
                    reply.message.set_inline(&call.unwrap_or(ORDER).to_le_bytes());
                });
                if room.is_none() {
                    At::Begun(claimed, call)
                } else {
                    self.said.extend(call);
                    At::Answered(claimed)
                }
            }
            At::Answered(claimed) => {
                self.worker.finish(claimed);
                At::Nothing
            }
        };
    }

    /// The worker is dead. Checks what the parent finds.
    fn die(mut self) {
        while self.parent.has_replies() {
            self.collect();
        }
        let dies_preparing = matches!(self.at, At::Claimed(_, None) | At::Begun(_, None));
        let wreck = self.parent.into_wreck();
        assert!(wreck.waiting.is_sorted());
        assert_eq!(self.begun.len(), self.begun.iter().collect::<BTreeSet<_>>().len(), "begun once");
        assert_eq!(self.answered.iter().copied().collect::<BTreeSet<_>>(), self.said, "no answer is lost");
        match wreck.begun[..] {
            // The call that needs what it prepared, which is the next.
            [culprit] if dies_preparing => {
                assert!(!self.begun.contains(&culprit));
                assert!(wreck.waiting.iter().all(|other| *other > culprit));
            }
            [culprit] => assert!(self.begun.contains(&culprit) && !self.said.contains(&culprit)),
            [] => assert_eq!(self.begun.len(), self.said.len(), "what ran is told"),
            [..] => panic!("a worker begins one call at a time: {:?}", wreck.begun),
        }
        for call in wreck.waiting.iter().chain(&self.taken) {
            assert!(!self.begun.contains(call), "what runs again has not begun");
        }
        let mut all: Vec<u64> = self.answered;
        all.extend(self.taken.iter().chain(&wreck.waiting).chain(&wreck.begun));
        all.sort_unstable();
        assert_eq!(all, (0..self.sent).collect::<Vec<_>>(), "each call comes to one end");
        // Should it live after all, it begins no call any more.
        while let Some(claimed) = self.worker.claim() {
            self.worker.read(&claimed, |request| assert_eq!(request.kind, request_kind::DEFINE));
            self.worker.finish(claimed);
        }
    }
}

impl Pair {
    /// The lane is taken apart before the worker's last answers were read. Checks what the parent finds.
    fn part_unheard(self) {
        let wreck = self.parent.into_wreck();
        let unheard = self.begun.iter().copied().filter(|call| !self.answered.contains(call));
        // Besides, the call that needs what is being prepared, if the worker is at that.
        let mut begun = wreck.begun.clone();
        begun.retain(|call| self.begun.contains(call));
        assert!(wreck.begun.len() - begun.len() <= usize::from(!matches!(self.at, At::Nothing)));
        assert_eq!(begun, unheard.collect::<Vec<_>>(), "what has begun never waits to begin again");
        let mut all: Vec<u64> = self.answered;
        all.extend(self.taken.iter().chain(&wreck.waiting).chain(&wreck.begun));
        all.sort_unstable();
        assert_eq!(all, (0..self.sent).collect::<Vec<_>>(), "each call comes to one end");
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Send),
        1 => Just(Step::SendWithOrder),
        3 => Just(Step::Collect),
        2 => Just(Step::TakeBack),
        1 => Just(Step::Stop),
        9 => Just(Step::Work),
    ];
    prop::collection::vec(step, 0..600)
}

proptest! {
    #[test]
    fn any_history(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
        pair.die();
    }

    #[test]
    fn any_history_whose_end_is_not_heard(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
        pair.part_unheard();
    }
}

/// All points of one history in which everything happens, one after the other.
#[test]
fn every_step_of_a_call() {
    for last in 0..14 {
        let mut pair = Pair::new();
        for _ in 0..2 {
            pair.step(Step::SendWithOrder);
        }
        for _ in 0..last {
            pair.step(Step::Work);
        }
        pair.die();
    }
}
