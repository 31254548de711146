//! Files for event loops, without Python: what blocks is done elsewhere, and its end is told.
//!
//! * [`request`]: what can be asked for, and how it is carried out in one go.
//! * [`pool`]: threads that carry out requests.
//! * [`ring`]: io_uring, for what moves little between an open file and memory.
//! * [`backend`]: which of the two a process uses.
//!
//! Who waits is none of this crate's business: a request is handed in with whatever its owner wants back.

pub mod backend;
pub mod file;
pub mod memory;
pub mod pool;
pub mod request;
pub mod ring;
mod sys;

pub use backend::Backend;
pub use file::File;
pub use memory::Memory;
pub use pool::{Pool, Work};
pub use request::{Outcome, Request, Value};
pub use ring::Ring;
