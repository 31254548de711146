//! One side of a lane is killed at each of its steps, by SIGKILL, in a process of its own: the other side finds each call in one
//! place, and nothing torn.
//!
//! This program runs itself a second time as that process. What it does it says on its output, before or after the step that it is
//! killed at, so that what it says last may be one step behind what it did.
#![cfg(target_os = "linux")]

use motet_lanes::arena::Location;
use motet_lanes::descriptors::{self, Wait};
use motet_lanes::lane::message::{Reply, Request, reply_kind, request_kind};
use motet_lanes::lane::{Claimed, ParentSide, WorkerSide};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ROLE: &str = "MOTET_TEST_ROLE";
const STEP: &str = "MOTET_TEST_STEP";
const COUNT: &str = "MOTET_TEST_COUNT";

/// The steps of a worker.
const WORKERS: [&str; 11] = [
    "claim: claimed",
    "note start: noted",
    "finish: answered",
    "finish: done",
    "push: written",
    "push: pushed",
    "pop: read",
    "pop: popped",
    "lie down: asleep",
    "ring: is to wake",
    "rouse: is to wake",
];

/// The steps of a parent.
const PARENTS: [&str; 12] = [
    "publish: has a slot",
    "publish: written",
    "publish: ready",
    "take back: taken",
    "stop: asked",
    "push: written",
    "push: pushed",
    "pop: read",
    "pop: popped",
    "doze: dozing",
    "lie down: asleep",
    "ring: is to wake",
];

/// When a step is reached for the first time, soon after, and when all slots have been used before.
const COUNTS: [usize; 3] = [1, 4, 170];

/// How many calls a lane has at once here.
const CALLS: usize = 6;
/// Longer than anything takes that goes on.
const STUCK: Duration = Duration::from_secs(60);
/// More than it takes to come to any step so often.
const ENOUGH: u64 = 2_000_000;
/// What an order says in the place of a call's number.
const ORDER: u64 = u64::MAX;

/// The second process's part. In the first process there is nothing to do.
#[test]
fn second_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Ok(step) = std::env::var(STEP) {
        let left = AtomicUsize::new(std::env::var(COUNT).unwrap().parse().unwrap());
        fail::cfg_callback(step, move || {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
        })
        .unwrap();
    }
    match role.as_str() {
        "worker" => work(io::stdin().as_fd().try_clone_to_owned().unwrap()),
        "parent" => lead(&io::stdin()),
        other => panic!("{other}?"),
    }
}

/// A second process, which does not outlive the test.
struct Second {
    child: Child,
    /// Reads what it says while it runs.
    output: Option<JoinHandle<String>>,
}

impl Second {
    fn start(role: &str, step: Option<(&str, usize)>, input: OwnedFd) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "second_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        if let Some((step, count)) = step {
            command.env(STEP, step).env(COUNT, count.to_string());
        }
        let mut child = command.stdin(Stdio::from(input)).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(|output| thread::spawn(|| io::read_to_string(output).unwrap()));
        Self { child, output }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has said under this word, once it has ended.
    fn said(&mut self) -> impl Fn(&str) -> Vec<u64> + use<> {
        let text = self.output.take().unwrap().join().unwrap();
        move |word| {
            // Before the first, the test harness has begun a line.
            let numbers = text.lines().filter_map(|line| line.split_once("SAID ")?.1.strip_prefix(word));
            numbers.filter_map(|number| number.trim().parse().ok()).collect()
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str, number: u64) {
    // In one piece, and none of it waits in this process.
    io::stdout().write_all(format!("SAID {word} {number}\n").as_bytes()).unwrap();
}

/// The number of a call, twice, so that a torn one shows.
fn write_request(number: u64, request: &mut Request) {
    request.kind = if number == ORDER { request_kind::DEFINE } else { request_kind::CALL };
    request.message.set_inline(&[number.to_le_bytes(), (!number).to_le_bytes()].concat());
}

fn write_reply(number: u64, position: u64, reply: &mut Reply) {
    reply.kind = if number == ORDER { reply_kind::DONE } else { reply_kind::RETURNED };
    reply.position = position;
    reply.message.set_inline(&[number.to_le_bytes(), (!number).to_le_bytes()].concat());
}

fn number(inline: Option<&[u8]>) -> u64 {
    let halves: [[u8; 8]; 2] = inline.unwrap().as_chunks().0.try_into().unwrap();
    let [number, inverse] = halves.map(u64::from_le_bytes);
    assert_eq!(number, !inverse, "torn");
    number
}

fn location(number: u64) -> Location {
    let mut bytes = [0; Location::SIZE];
    bytes.as_chunks_mut().0.iter_mut().for_each(|part| *part = number.to_le_bytes());
    Location::from_bytes(&bytes)
}

/// What one worker's life is made of.
fn answer(worker: &WorkerSide, claimed: Claimed, told: &mut impl FnMut(&str, u64)) {
    let call = worker.read(&claimed, |request| number(request.message.inline()));
    told("begun", call);
    worker.note_start(&claimed, 1);
    // Some calls take long enough to be asked to stop.
    if call % 4 == 1 {
        (0..1000).take_while(|_| !worker.must_stop(claimed.position())).for_each(|_| thread::yield_now());
    }
    while worker.reply(|reply| write_reply(call, claimed.position(), reply)).is_none() {
        thread::yield_now();
    }
    told("answered", call);
    worker.finish(claimed);
    while let Some(place) = worker.take_return() {
        let bytes = place.to_bytes();
        let parts = bytes.as_chunks::<8>().0;
        assert!(parts.iter().all(|part| part == &parts[0]), "torn");
        told("returned", u64::from_le_bytes(parts[0]));
    }
}

fn work(lane: OwnedFd) {
    let mut worker = WorkerSide::open(lane).unwrap();
    loop {
        match worker.claim_or_sleep() {
            Ok(claimed) => {
                // Nobody sleeps on the bell here.
                let _ = worker.is_running_out();
                answer(&worker, claimed, &mut say);
            }
            Err(sleep) => sleep.sleep(),
        }
    }
}

/// A parent with what became of its calls.
struct Leader {
    parent: ParentSide<u64>,
    sent: u64,
    returns: u64,
    answered: Vec<u64>,
    taken: Vec<u64>,
}

impl Leader {
    fn new() -> Self {
        let parent = ParentSide::create().unwrap();
        Self { parent, sent: 0, returns: 0, answered: Vec::new(), taken: Vec::new() }
    }

    /// Sends some calls, waits until they have come to an end or the worker has, and tells each step.
    fn round(&mut self, told: &mut impl FnMut(&str, u64), mut has_ended: impl FnMut() -> bool) {
        for _ in 0..CALLS {
            if self.sent.is_multiple_of(5)
                && !self.parent.send_order(None, |request| write_request(ORDER, request))
            {
                break;
            }
            let sent = self.parent.send_call(self.sent, None, |call, request| write_request(*call, request));
            if sent.is_err() {
                break;
            }
            told("sent", self.sent);
            self.sent += 1;
        }
        if let Some((call, _)) = self.parent.take_back(|call| call.is_multiple_of(3)) {
            told("taken", call);
            self.taken.push(call);
        }
        self.parent.wake();
        let begin = Instant::now();
        while self.parent.calls() > 0 && !has_ended() {
            assert!(begin.elapsed() < STUCK, "a worker that is not woken, or a parent that overlooks it");
            let _ = self.parent.ask_to_stop(|_| true);
            if self.parent.doze() || self.parent.lie_down() {
                (0..20).take_while(|_| !self.parent.has_replies()).for_each(|_| thread::yield_now());
                self.parent.get_up();
            }
            self.collect(told);
        }
    }

    fn collect(&mut self, told: &mut impl FnMut(&str, u64)) {
        while let Some((call, said)) =
            self.parent.collect(|answered, reply| (answered.call, number(reply.message.inline())))
        {
            assert_eq!(call.unwrap_or(ORDER), said);
            if let Some(call) = call {
                told("heard", call);
                self.answered.push(call);
            }
            self.parent.give_back([location(self.returns)]);
            self.returns += 1;
        }
    }
}

fn lead(socket: &io::Stdin) {
    let mut leader = Leader::new();
    descriptors::send(socket.as_fd(), 0, leader.parent.descriptor(), Wait::Block).unwrap();
    while leader.sent < ENOUGH {
        leader.round(&mut say, || false);
    }
}

fn unique(numbers: &[u64]) -> BTreeSet<u64> {
    let set: BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(set.len(), numbers.len(), "each once");
    set
}

fn kill_worker(step: &str, count: usize) {
    let mut leader = Leader::new();
    let lane = leader.parent.descriptor().try_clone_to_owned().unwrap();
    let mut second = Second::start("worker", Some((step, count)), lane);
    let status = loop {
        leader.round(&mut |_, _| {}, || second.ended().is_some());
        if let Some(status) = second.ended() {
            break status;
        }
        assert!(leader.sent < ENOUGH, "no worker comes to this step");
    };
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it dies of the step");
    leader.collect(&mut |_, _| {});
    let Leader { parent, sent, answered, taken, .. } = leader;
    let said = second.said();
    let begun: BTreeSet<_> = said("begun").into_iter().filter(|call| *call != ORDER).collect();
    let wreck = parent.into_wreck();
    assert!(wreck.begun.len() <= 1, "a worker begins one call at a time");
    let heard = unique(&answered);
    assert!(said("answered").iter().all(|call| *call == ORDER || heard.contains(call)), "no answer is lost");
    assert!(begun.iter().all(|call| heard.contains(call) || wreck.begun.contains(call)), "what ran is told");
    let never_begun = wreck.waiting.iter().chain(&taken);
    assert!(never_begun.clone().all(|call| !begun.contains(call)), "what runs again has not begun");
    let mut all: Vec<u64> = answered.iter().chain(never_begun).chain(&wreck.begun).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>(), "each call comes to one end");
    replace(wreck.begun.into_iter().chain(wreck.waiting).collect());
}

/// Another worker carries out what the dead one has left.
fn replace(calls: Vec<u64>) {
    let mut parent = ParentSide::create().unwrap();
    let lane = parent.descriptor().try_clone_to_owned().unwrap();
    let mut second = Second::start("worker", None, lane);
    for call in &calls {
        parent.send_call(*call, None, |call, request| write_request(*call, request)).unwrap();
    }
    parent.wake();
    let mut answered = Vec::new();
    let begin = Instant::now();
    while parent.calls() > 0 {
        assert!(second.ended().is_none());
        assert!(begin.elapsed() < STUCK, "a worker that is not woken");
        answered.extend(parent.collect(|answered, _| answered.call).flatten());
        thread::yield_now();
    }
    assert_eq!(answered, calls);
}

fn kill_parent(step: &str, count: usize) {
    let (here, there) = descriptors::socket_pair().unwrap();
    let mut second = Second::start("parent", Some((step, count)), there);
    let (_, lane) = descriptors::receive(here.as_fd(), Wait::Block).unwrap().unwrap();
    let mut worker = WorkerSide::open(lane).unwrap();
    let (mut begun, mut returned) = (Vec::new(), Vec::new());
    let mut told = |word: &str, number: u64| match word {
        "begun" if number != ORDER => begun.push(number),
        "returned" => returned.push(number),
        _ => {}
    };
    let begin = Instant::now();
    let status = loop {
        assert!(begin.elapsed() < STUCK, "a parent that does not come to this step");
        // Once more after the end, for all that has been published.
        let ended = second.ended();
        while let Ok(claimed) = worker.claim_or_sleep() {
            answer(&worker, claimed, &mut told);
        }
        if let Some(status) = ended {
            break status;
        }
        thread::yield_now();
    };
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it dies of the step");
    let said = second.said();
    let (sent, taken) = (unique(&said("sent")), unique(&said("taken")));
    assert!(begun.is_sorted());
    let begun = unique(&begun);
    let unsaid: Vec<_> = begun.difference(&sent).copied().collect();
    assert!(unsaid.is_empty() || unsaid == [sent.len() as u64], "only what was sent is begun");
    assert!(begun.is_disjoint(&taken), "what was taken back is not begun");
    let missing = sent.difference(&begun).filter(|call| !taken.contains(call)).count();
    assert!(missing <= 1, "what was published and not taken back is there");
    assert!(said("heard").iter().all(|call| begun.contains(call)));
    assert_eq!(returned, (0..returned.len() as u64).collect::<Vec<_>>(), "all that came back, in its order");
}

fn at_each(steps: &[&str], kill: impl Fn(&str, usize)) {
    for step in steps {
        for count in COUNTS {
            println!("{step}, {count}");
            kill(step, count);
        }
    }
}

#[test]
fn workers_die_at_each_step() {
    at_each(&WORKERS, kill_worker);
}

#[test]
fn parents_die_at_each_step() {
    at_each(&PARENTS, kill_parent);
}

#[test]
fn each_step_of_the_sources_is_somebodys() {
    let sources = [
        include_str!("../src/lane/bell.rs"),
        include_str!("../src/lane/parent.rs"),
        include_str!("../src/lane/requests.rs"),
        include_str!("../src/lane/ring.rs"),
        include_str!("../src/lane/worker.rs"),
    ];
    let found: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split("step!(\"").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(found, WORKERS.into_iter().chain(PARENTS).collect());
}
