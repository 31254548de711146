//! A lane between a thread that is the parent and a thread that is the worker, over memory mapped twice.
#![cfg(all(target_os = "linux", not(loom)))]

use motet_lanes::arena::Location;
use motet_lanes::lane::message::request_kind;
use motet_lanes::lane::requests::Progress;
use motet_lanes::lane::{Lane, ParentSide, REPLIES, REQUESTS, TakeBack, WorkerSide};
use motet_lanes::sys::futex;
use motet_lanes::sys::region::Region;
use std::fs::File;
use std::thread;

/// The lane as its parent sees it, and as its worker does.
fn both_sides() -> (Region<Lane>, Region<Lane>) {
    let parent = Region::<Lane>::create(c"lane").unwrap();
    let descriptor = parent.descriptor().try_clone_to_owned().unwrap();
    let worker = Region::open(descriptor).unwrap();
    (parent, worker)
}

fn publish(lane: &Lane, position: u64) -> bool {
    lane.requests.publish(position, |request| {
        request.kind = request_kind::CALL;
        request.function = 7;
        request.message.set_inline(&position.to_le_bytes());
    })
}

#[test]
fn calls_go_and_results_come() {
    const CALLS: u64 = 20_000;
    let (parent, worker) = both_sides();
    let worker = thread::spawn(move || {
        let mut next = 0;
        while next < CALLS {
            let mut found = worker.requests.claim(&mut next);
            if found.is_none() {
                worker.worker_bell.lie_down();
                found = worker.requests.claim(&mut next);
                if found.is_none() {
                    futex::sleep(&worker.worker_bell);
                }
                worker.worker_bell.get_up();
            }
            let Some(claimed) = found else { continue };
            let number = worker.requests.read(&claimed, |request| {
                assert_eq!(request.function, 7);
                u64::from_le_bytes(request.message.inline().unwrap().try_into().unwrap())
            });
            while !worker.replies.push(|reply| {
                reply.position = claimed.position();
                reply.message.set_inline(&(number * 2).to_le_bytes());
            }) {
                thread::yield_now();
            }
            worker.requests.finish(claimed);
        }
    });
    let (mut sent, mut received) = (0, 0);
    while received < CALLS {
        while sent < CALLS && publish(&parent, sent) {
            sent += 1;
            if parent.worker_bell.ring() {
                futex::wake(&parent.worker_bell);
            }
        }
        let reply = parent.replies.pop(|reply| {
            (reply.position, u64::from_le_bytes(reply.message.inline().unwrap().try_into().unwrap()))
        });
        if let Some(reply) = reply {
            assert_eq!(reply, (received, received * 2));
            received += 1;
        }
    }
    worker.join().unwrap();
}

#[test]
fn progress_of_a_request() {
    let (parent, worker) = both_sides();
    assert!(publish(&parent, 0));
    assert!(publish(&parent, 1));
    assert_eq!(parent.requests.progress(0), Progress::Waiting);
    let mut next = 0;
    let claimed = worker.requests.claim(&mut next).unwrap();
    assert_eq!(parent.requests.progress(0), Progress::Running { since_nanos: 0 });
    worker.requests.note_start(&claimed, 5);
    assert_eq!(parent.requests.progress(0), Progress::Running { since_nanos: 5 });
    assert_eq!(parent.requests.take_back(0), TakeBack::Begun);
    assert_eq!(parent.requests.take_back(1), TakeBack::Taken);
    assert_eq!(parent.requests.progress(1), Progress::Over);
    worker.requests.finish(claimed);
    assert_eq!(parent.requests.progress(0), Progress::Over);
    assert_eq!(worker.requests.claim(&mut next), None);
    assert_eq!(next, 2);
}

#[test]
fn a_dozing_parent_is_roused_when_work_runs_out_and_not_by_replies() {
    let mut parent = ParentSide::<u64>::create().unwrap();
    let mut worker = WorkerSide::open(parent.descriptor().try_clone_to_owned().unwrap()).unwrap();
    assert!(!parent.doze(), "the worker has nothing to do");
    for call in 0..3 {
        parent.send_call(call, None, |_, _| {}).unwrap();
    }
    assert!(parent.doze());
    for call in 0..3 {
        let claimed = worker.claim().unwrap();
        assert_eq!(worker.is_running_out(), call == 2);
        assert_eq!(worker.reply(|reply| reply.position = call), Some(false));
        worker.finish(claimed);
    }
    assert!(!worker.rouse(), "it is awake");
    assert!(!parent.lie_down(), "there are replies");
    while parent.collect(|_, _| {}).is_some() {}
    assert!(!parent.doze());
    assert!(parent.lie_down());
    assert!(!worker.rouse(), "who sleeps is woken by replies");
}

#[test]
fn a_full_lane_takes_no_more_until_there_is_room() {
    let (parent, worker) = both_sides();
    for position in 0..REQUESTS as u64 {
        assert!(publish(&parent, position));
    }
    assert!(!publish(&parent, REQUESTS as u64));
    let mut next = 0;
    let claimed = worker.requests.claim(&mut next).unwrap();
    assert!(!publish(&parent, REQUESTS as u64), "it is read still");
    worker.requests.finish(claimed);
    assert!(publish(&parent, REQUESTS as u64));
    for _ in 0..REPLIES {
        assert!(worker.replies.push(|_| {}));
    }
    assert!(!worker.replies.push(|_| {}));
    assert_eq!(parent.replies.pop(|_| {}), Some(()));
    assert!(worker.replies.push(|_| {}));
}

#[test]
fn returns_arrive() {
    let (parent, worker) = both_sides();
    assert!(worker.returns.is_empty());
    let given = Location { segment: 1, generation: 2, offset: 3, length: 4 };
    assert!(parent.returns.push(|entry| *entry = given));
    assert!(!worker.returns.is_empty());
    assert_eq!(worker.returns.pop(|entry| *entry), Some(given));
    assert_eq!(worker.returns.pop(|entry| *entry), None);
}

#[test]
fn what_is_no_lane_is_refused() {
    let file = File::open("/dev/null").unwrap();
    assert!(Region::<Lane>::open(file.into()).is_err());
    let small = Region::<Small>::create(c"small").unwrap();
    assert!(Region::<Lane>::open(small.descriptor().try_clone_to_owned().unwrap()).is_err());
}

#[repr(C)]
struct Small([u8; 16]);

// SAFETY: bytes that nobody changes.
unsafe impl motet_lanes::sys::region::Shared for Small {}
