//! Wake-ups of a worker that waits in the kernel, by other threads.
//!
//! Owns the eventfd(2) and the flags of what to poll. Must not poll anything. Also compiled by `tests/models`, against the atomics of a
//! model checker, so it names nothing of this crate but `sync`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::atomic::{AtomicBool, Ordering};

/// Brings the worker back from the kernel when another thread wakes one of its tasks. One a worker.
pub(super) struct WakeEvent {
    /// The worker waits in the kernel or is about to, so a thread that wakes a task must write to the eventfd.
    armed: AtomicBool,
    pub(super) eventfd: OwnedFd,
}

impl WakeEvent {
    pub(super) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { armed: AtomicBool::new(false), eventfd })
    }

    /// Before the worker looks at its flags for the last time, and waits.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// After the wait, before any task is woken here. A thread that still reads `true` writes to the eventfd once without need.
    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    fn signal(&self) {
        // It fails only if the counter is at 2^64 - 2 (eventfd(2)), and then the worker is awake already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    pub(super) fn clear(&self) {
        // It fails if the counter is 0, which is as good.
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
    }
}

/// The waker of `main` or of the tasks: whether to poll it.
pub(super) struct WakeFlag {
    set: AtomicBool,
    event: Arc<WakeEvent>,
}

impl WakeFlag {
    /// Starts set, because everything is polled once.
    pub(super) fn new(event: &Arc<WakeEvent>) -> Arc<Self> {
        Arc::new(Self { set: AtomicBool::new(true), event: Arc::clone(event) })
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    pub(super) fn take(&self) -> bool {
        // If the relaxed load misses a wake-up, `is_set` sees it before the worker waits.
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::AcqRel)
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// No wake-up is lost: the waking thread stores `set` and then reads `armed`, the worker stores `armed` and then reads `set`,
    /// all sequentially consistent, so at least one of them sees the other's store. A worker that wakes its own task finds
    /// `armed` false.
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.set.swap(true, Ordering::SeqCst) && self.event.armed.swap(false, Ordering::SeqCst) {
            self.event.signal();
        }
    }
}
