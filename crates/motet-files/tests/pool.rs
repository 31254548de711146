//! The pool: all work is done, also beside work that blocks.

use motet_files::{Pool, Work};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

enum Job {
    Say(usize, Sender<usize>),
    Meet(Arc<Barrier>),
    Wait(Receiver<()>),
}

impl Work for Job {
    type Result = Option<(usize, Sender<usize>)>;

    fn run(self) -> Self::Result {
        match self {
            Self::Say(number, listener) => return Some((number, listener)),
            Self::Meet(barrier) => {
                barrier.wait();
            }
            Self::Wait(gate) => gate.recv().unwrap(),
        }
        None
    }

    fn tell(results: Vec<Self::Result>) {
        for (number, listener) in results.into_iter().flatten() {
            listener.send(number).unwrap();
        }
    }
}

fn spawn(body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().spawn(body).map(drop)
}

fn hear(count: usize, listener: &Receiver<usize>) -> Vec<usize> {
    let mut heard: Vec<usize> = (0..count).map(|_| listener.recv_timeout(LIMIT).unwrap()).collect();
    heard.sort_unstable();
    heard
}

#[test]
fn all_work_is_done() {
    let pool = Pool::new(spawn);
    let (speaker, listener) = channel();
    for batch in 0..100 {
        pool.submit((0..100).map(|number| Job::Say(batch * 100 + number, speaker.clone())));
    }
    assert_eq!(hear(10_000, &listener), (0..10_000).collect::<Vec<_>>());
}

#[test]
fn work_that_blocks_does_not_keep_the_rest_waiting() {
    let pool = Pool::new(spawn);
    let (speaker, listener) = channel();
    let (gates, waits): (Vec<_>, Vec<_>) = (0..40).map(|_| channel()).unzip();
    let mut waits = waits.into_iter().map(Job::Wait);
    // The first result comes while more work waits and every thread is blocked.
    pool.submit([Job::Say(6, speaker.clone())].into_iter().chain(waits.by_ref().take(20)));
    assert_eq!(hear(1, &listener), [6]);
    pool.submit(waits.chain([Job::Say(7, speaker)]));
    assert_eq!(hear(1, &listener), [7]);
    gates.into_iter().for_each(|gate| gate.send(()).unwrap());
}

#[test]
fn work_that_waits_for_other_work_is_done_beside_it() {
    let pool = Pool::new(spawn);
    let barrier = Arc::new(Barrier::new(33));
    pool.submit((0..32).map(|_| Job::Meet(Arc::clone(&barrier))));
    barrier.wait();
}

#[test]
fn without_threads_work_is_done_at_once() {
    let pool = Pool::new(|_| Err(io::ErrorKind::WouldBlock.into()));
    let (speaker, listener) = channel();
    pool.submit((0..3).map(|number| Job::Say(number, speaker.clone())));
    assert_eq!(listener.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
}
