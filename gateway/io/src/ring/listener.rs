//! A listening socket on io_uring, for both drivers.
//!
//! Owns the accept in flight. Must not drop it: it may complete with a connection even while it is being cancelled.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;

use super::driver::{AnyDriver, AnyOperation, Driver as _};
use super::{Completion, Submission, clear_nonblocking};

/// How long to wait before the next accept if the socket is non-blocking and its queue is empty.
const SHARED_PAUSE: Duration = Duration::from_millis(10);

/// A listening socket.
pub(crate) struct Listener {
    driver: AnyDriver,
    descriptor: Rc<OwnedFd>,
    accept: RefCell<Option<AnyOperation>>,
    stopped: Cell<bool>,
}

impl Listener {
    pub(crate) fn new(driver: AnyDriver, descriptor: OwnedFd) -> io::Result<Self> {
        clear_nonblocking(&descriptor)?;
        Ok(Self { driver, descriptor: Rc::new(descriptor), accept: RefCell::new(None), stopped: Cell::new(false) })
    }

    /// Returns the next connection, or `None` after [`Self::stop`]. A cancelled accept completes either with a connection or with
    /// `ECANCELED`, in which case it has taken none from the queue.
    pub(crate) async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        while !self.stopped.get() || self.accept.borrow().is_some() {
            let Completion { result, accepted, .. } = poll_fn(|context| self.poll_accept(context)).await;
            match result {
                Ok(_) => return Ok(accepted),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::CANCELED) => {}
                    // Another worker that shares the socket has stopped and made it non-blocking for both. This one stops soon.
                    Some(Errno::AGAIN) => self.driver.sleep(SHARED_PAUSE).await,
                    Some(_) | None => return Err(error),
                },
            }
        }
        Ok(None)
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<Completion> {
        let mut accept = self.accept.borrow_mut();
        let operation = accept.get_or_insert_with(|| self.driver.submit(Submission::accept(&self.descriptor)));
        let completion = Pin::new(operation).poll(context);
        if completion.is_ready() {
            *accept = None;
        }
        completion
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(crate) fn stop(&self) {
        if self.stopped.replace(true) {
            return;
        }
        if let Some(accept) = &*self.accept.borrow() {
            AnyDriver::cancel(&self.descriptor, accept);
        }
    }
}
