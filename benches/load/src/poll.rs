//! epoll, edge-triggered: a source is registered once and never touched again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Events taken from the kernel at once.
const BATCH: usize = 256;

/// An epoll instance and the events that it reported last.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// One event: which source, and what it is ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// As given to [`Poll::add`].
    pub(crate) token: u64,
    /// Reading will not block; an error or a hang-up counts too, since reading tells which.
    pub(crate) readable: bool,
    /// Writing will not block.
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

    /// Registers a listener: level-triggered, so that one accept an event is enough.
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

    /// How many events the last [`Poll::wait`] brought.
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
