//! Memory that two processes see: what is larger than a slot of a lane travels in it.
//!
//! Each process is the *sole allocator* of its own arena. Its peers see the arena's segments and are told places in
//! them; they never allocate, free or write there. Hence these rules, which hold each other up:
//!
//! * **Who may touch what.** The owner writes a piece until it lends it. From then on nobody writes it: the owner's safe
//!   interface refuses ([`Piece::as_mut_slice`] needs the only share, and a lease is a share), and the peers cannot
//!   (the segments are sealed against new writable mappings, where the kernel knows that seal).
//! * **The exception** is common memory ([`Kind::Common`]): owner and peers write it by address, and who writes what when
//!   is settled by the program above. No Rust reference is ever made to it: [`Piece::as_slice`] and [`Attached::read`]
//!   refuse. It has segments of its own, which are not used again, so a peer that goes on writing harms nobody else.
//! * **When bytes may be overwritten.** Once the last share of a piece is gone, in this process and in the tables of all
//!   peers ([`Leased`]). A peer says that it is done with a place after it has let go of it; until then the place is
//!   not given out again. What it keeps must be a copy.
//! * **Why who keeps what he was given holds up nobody.** What a peer alone has a share of can be left to it
//!   ([`Arena::let_peers_keep`]): no byte moves, it just counts no longer as the owner's.
//! * **Why a dead peer can hurt nobody.** It holds no lock, for none lives in shared memory, and no count: who holds
//!   what stands in the owner's private memory. Dropping the peer's [`Leased`] gives everything back. A late word from it
//!   names a generation that is no longer lent, and is refused.
//! * **Why a dead owner can hurt nobody.** The segments live as long as somebody maps them, at their full length: they
//!   are sealed against growing and shrinking, and all their pages exist from the start. Memory that cannot be had is
//!   an error of [`Arena::allocate`], never a signal at some later access. Nothing has a name, so nothing is left over.
//!   (A control group that runs out of memory may still have a process killed: an arena's limit is to be well below
//!   its limit.)
//!
//! Owner: [`Arena`], [`Piece`], [`Leased`]. Peer: [`Attached`], [`View`], [`Mapping`]. Between them: [`Location`], and a
//! segment's descriptor, once for each peer ([`crate::descriptors`]).

mod attached;
mod leases;
mod location;
mod owner;
mod piece;
mod policy;
mod segment;
mod source;
mod space;
mod statistics;
mod table;

pub use attached::{AttachError, Attached, InvalidLocation, MapError, Mapping, View};
pub use leases::{Leased, Unknown};
pub use location::Location;
pub use owner::{AllocateError, Arena};
pub use piece::Piece;
pub use policy::Kind;
pub use source::{Backing, Source};
pub use statistics::Statistics;
