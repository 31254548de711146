//! What bodies of all kinds use to reach each other and to wait for one another in motet: no I/O, no Python, no system call.
//!
//! * [`channel`]: items from hand to hand; [`select()`] waits for the first of several things.
//! * [`lock`], [`semaphore`], [`event`], [`condition`], [`barrier`].
//! * [`inspect`]: who holds, who waits, and since when.
//! * [`inbox`](mod@inbox): values for one consumer from any thread, with at most one wake-up per burst.
//! * [`pulse`]: the heartbeat that a loop's thread publishes and a watchdog thread reads.
//!
//! # Waits
//!
//! A wait is an [`Operation`]: a future, which whoever polls it is woken for by a [`Waker`](std::task::Waker). So a thread
//! ([`block_on`]), a task or a green thread can wait for the same thing, each with the waker of its kind. All are fair: who
//! came first goes first, because what is waited for is handed over and never up for grabs. All can be dropped at any time,
//! and lose nothing: what a wait was given and has not returned goes to the next.
//!
//! ```
//! use motet_sync::{Capacity, Channel, block_on};
//! use std::thread;
//!
//! let channel = Channel::<String>::new(Capacity::Bounded(8));
//! let words = thread::spawn({
//!     let channel = channel.clone();
//!     move || {
//!         let mut words = Vec::new();
//!         while let Ok(word) = block_on(channel.get()) {
//!             words.push(word);
//!         }
//!         words
//!     }
//! });
//! for word in ["several", "voices"] {
//!     block_on(channel.put(word.to_owned())).unwrap();
//! }
//! channel.close(None);
//! assert_eq!(words.join().unwrap(), ["several", "voices"]);
//! ```
//!
//! The state of each primitive is under a lock of its own that is held for some dozens of instructions, in which nobody else's code
//! runs: no waker is called, and nothing that users own is dropped. No two such locks are ever held at the same time.

pub mod barrier;
mod blocking;
pub mod channel;
pub mod condition;
pub mod event;
pub mod inbox;
pub mod inspect;
pub mod lock;
mod operation;
mod primitive;
pub mod pulse;
mod select;
pub mod semaphore;
mod ticket;
mod waiters;

pub use barrier::Barrier;
pub use blocking::{block_on, block_on_until};
pub use channel::{Capacity, Channel, Overflow};
pub use condition::Condition;
pub use event::Event;
pub use inbox::{Closed, Drain, Receiver, Sender, Wake, inbox};
pub use inspect::{Inspect, Party};
pub use lock::Lock;
pub use operation::{Kind, Operation, Selectable, Selective};
pub use pulse::{Observation, Pulse};
pub use select::{Select, Selection, select};
pub use semaphore::Semaphore;
