//! What asks the system: the dynamic linker.

pub(crate) mod library;
