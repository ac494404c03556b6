//! The end of a turn of a worker's loop.
//!
//! Owns the wait for it, the same on every backend. Must not know what is done in a turn.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use rustix::event::{EventfdFlags, eventfd};

use crate::backend::Backend;
use crate::epoll::Readable;
use crate::ring::reactor;

/// Waits for the ends of turns. In a turn, a worker runs the tasks that are ready, submits their operations, and looks at what has
/// completed meanwhile.
pub struct TurnEnd(Kind);

enum Kind {
    /// The reactor counts turns.
    Reactor,
    /// tokio wakes a task that yields after it has looked at epoll.
    Yield,
    /// tokio-uring submits only when tokio waits, and tokio waits only if no task has yielded: so wait for a descriptor that is
    /// readable at once.
    Event(Readable),
}

impl TurnEnd {
    /// Call it inside [`crate::block_on`] of the same `backend`.
    ///
    /// # Errors
    ///
    /// eventfd(2) or epoll_ctl(2) fails.
    pub fn new(backend: Backend) -> io::Result<Self> {
        Ok(Self(match backend {
            Backend::Reactor => Kind::Reactor,
            Backend::Epoll => Kind::Yield,
            Backend::TokioUring => {
                let event: OwnedFd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                Kind::Event(Readable::new(Rc::new(event))?)
            }
        }))
    }

    /// Ready in the next turn, after everything that completed until then was delivered to its task.
    pub async fn wait(&mut self) {
        match &mut self.0 {
            Kind::Reactor => {
                let mut asked = false;
                poll_fn(|context| {
                    if std::mem::replace(&mut asked, true) {
                        return Poll::Ready(());
                    }
                    reactor::wake_next_turn(context.waker());
                    Poll::Pending
                })
                .await;
            }
            Kind::Yield => tokio::task::yield_now().await,
            Kind::Event(event) => {
                // It fails only if the counter is at 2^64 - 2 (eventfd(2)), and then it is readable.
                let _ = rustix::io::write(event.descriptor(), &1_u64.to_ne_bytes());
                event.wait().await;
                let _ = rustix::io::read(event.descriptor(), &mut [0_u8; 8]);
            }
        }
    }
}
