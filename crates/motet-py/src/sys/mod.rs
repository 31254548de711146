//! The system calls that the binding itself needs: signals to one thread, and threads that take none.

pub mod parker;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A name of the calling thread for [`signal_thread`]: the kernel's number.
#[cfg(target_os = "linux")]
pub fn current_thread() -> usize {
    rustix::thread::gettid().as_raw_nonzero().get() as usize
}

/// A name of the calling thread for [`signal_thread`].
#[cfg(not(target_os = "linux"))]
pub fn current_thread() -> usize {
    thread_token()
}

/// A number, never 0, of this thread's own among the threads that live now.
///
/// The address of the C library's block for the thread: a thread-local variable of a shared object would cost a call of the
/// dynamic linker, for every callback several times.
#[inline]
pub fn thread_token() -> usize {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// Sends a signal to one thread of this process; a thread that is gone is an error, not another thread's signal.
///
/// # Safety
/// The thread is alive. (On Linux that is not needed: the kernel knows its numbers.)
///
/// # Errors
/// The system's: no such thread.
#[cfg(target_os = "linux")]
pub unsafe fn signal_thread(thread: usize, signal: i32) -> io::Result<()> {
    // SAFETY: tgkill takes three numbers and touches no memory; the kernel checks that the thread is this process's.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to one thread of this process.
///
/// # Safety
/// The thread is alive: the C library may look into its block.
///
/// # Errors
/// The system's: no such thread.
#[cfg(not(target_os = "linux"))]
pub unsafe fn signal_thread(thread: usize, signal: i32) -> io::Result<()> {
    // SAFETY: the caller promises that the thread lives, whose own name this is (`current_thread`).
    let result = unsafe { libc::pthread_kill(thread as libc::pthread_t, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Signals that programs hardly use, the best ones first: the real-time ones from the top.
#[cfg(target_os = "linux")]
pub fn spare_signals() -> impl Iterator<Item = i32> {
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev()
}

/// Signals that programs hardly use, the best ones first.
#[cfg(not(target_os = "linux"))]
pub fn spare_signals() -> impl Iterator<Item = i32> {
    [libc::SIGEMT, libc::SIGINFO, libc::SIGUSR2].into_iter()
}

/// Whether nobody handles a signal: neither Python's `signal` module nor code in C.
pub fn signal_is_free(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action of one signal and changes none; the structure is written where the call succeeds.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_DFL
    }
}

/// Puts a handler into the place of a signal's handler, with the same flags, and leaves the address of that one in `former`.
///
/// # Safety
/// `handler` is fit for a signal, and of the kind that the former is (without `SA_SIGINFO`).
#[cfg(all(Py_3_13, not(Py_3_14)))]
pub unsafe fn put_handler_before(
    signal: i32,
    handler: extern "C" fn(libc::c_int),
    former: &std::sync::atomic::AtomicUsize,
) {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the action and sets it again with the other handler, on the caller's word.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        let action = action.assume_init_mut();
        former.store(action.sa_sigaction, std::sync::atomic::Ordering::Release);
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(signal, action, std::ptr::null_mut());
    }
}

/// Runs `spawn` with all signals blocked, so that a thread made in it never takes one that is meant for the program.
pub fn with_signals_blocked<R>(spawn: impl FnOnce() -> R) -> R {
    // SAFETY: both sets are initialised by the calls that fill them; the mask of this thread is restored below.
    let old = unsafe {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    };
    let result = spawn();
    // SAFETY: the mask that was in force before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, std::ptr::null_mut()) };
    result
}

/// A pipe whose ends do not block and are not inherited.
///
/// # Errors
/// The system's: no more descriptors.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    for end in [&read, &write] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok((read, write))
}

/// Reads what is there, waiting at most so long for it; 0 when nothing came.
///
/// # Errors
/// The system's.
pub fn read_within(descriptor: impl AsFd, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    let mut wanted = [PollFd::new(&descriptor, PollFlags::IN)];
    if poll(&mut wanted, Some(&limit))? == 0 {
        return Ok(0);
    }
    Ok(rustix::io::read(&descriptor, buffer)?)
}
