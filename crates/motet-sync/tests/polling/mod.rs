//! A future that is polled by hand, and whether it was woken since.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) struct Polled<F> {
    future: F,
    flag: Arc<Flag>,
}

impl<F: Future + Unpin> Polled<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, flag: Arc::default() }
    }

    /// What it gives, if it has come to its end.
    pub(crate) fn poll(&mut self) -> Option<F::Output> {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.flag));
        match Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    pub(crate) fn was_woken(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }
}
