//! epoll, edge-triggered: a source is registered once.
//!
//! Owns the epoll instance. Must not own the sources.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Most events of one wait.
const BATCH: usize = 256;

/// An epoll instance and the events of the last wait.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// One event: a source, and what it is ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// As given to [`Poll::add`].
    pub(crate) token: u64,
    /// A read does not block. Also set for errors and hang-ups, which a read reports.
    pub(crate) readable: bool,
    /// A write does not block.
    pub(crate) writable: bool,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(BATCH) })
    }

    /// Registers `source` for both directions, edge-triggered. Closing it unregisters it.
    pub(crate) fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Registers a listener, level-triggered, so that one accept per event suffices.
    pub(crate) fn add_listener(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for events, at most `limit`.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of events of the last [`Poll::wait`].
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The event at `index`.
    pub(crate) fn event(&self, index: usize) -> Ready {
        let Event { flags, data } = self.events[index];
        let broken = EventFlags::ERR | EventFlags::HUP;
        Ready {
            token: data.u64(),
            readable: flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken),
            writable: flags.intersects(EventFlags::OUT | broken),
        }
    }
}
