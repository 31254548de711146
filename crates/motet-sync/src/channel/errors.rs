//! Why an item was not put, or not got.

use std::fmt;

use crate::primitive::Arc;

/// The channel was closed; perhaps with an error, which all see.
pub struct Closed<E> {
    /// Why.
    pub error: Option<Arc<E>>,
}

/// Why an item was not put; it comes back.
pub enum PutError<T, E> {
    /// There is no room.
    Full(T),
    /// The channel is closed.
    Closed(T, Closed<E>),
}

/// Why nothing was got.
pub enum TryGetError<E> {
    /// There is nothing now.
    Empty,
    /// The channel is closed, and nothing is left in it.
    Closed(Closed<E>),
}

impl<E> Clone for Closed<E> {
    fn clone(&self) -> Self {
        Self { error: self.error.clone() }
    }
}

impl<T, E> PutError<T, E> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item, _) => item,
        }
    }
}

impl<E> fmt::Debug for Closed<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.error.is_some() { "Closed(an error)" } else { "Closed" })
    }
}

impl<E> fmt::Display for Closed<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the channel is closed")
    }
}

impl<T, E> fmt::Debug for PutError<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if matches!(self, Self::Full(_)) { "Full(..)" } else { "Closed(..)" })
    }
}

impl<T, E> fmt::Display for PutError<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full(_) => "the channel is full",
            Self::Closed(..) => "the channel is closed",
        })
    }
}

impl<E> fmt::Debug for TryGetError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if matches!(self, Self::Empty) { "Empty" } else { "Closed" })
    }
}

impl<E> fmt::Display for TryGetError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "the channel is empty",
            Self::Closed(_) => "the channel is closed",
        })
    }
}

impl<E> std::error::Error for Closed<E> {}
impl<T, E> std::error::Error for PutError<T, E> {}
impl<E> std::error::Error for TryGetError<E> {}
