//! The first io_uring backend, on tokio-uring's one-shot operations.
//!
//! The only file that names tokio-uring. Obeys the crate's limits: nothing is cancelled by dropping it, so whoever drops a channel
//! shuts the socket down first ([`crate::Socket`] does); operations are cancelled by descriptor and always awaited.
//!
//! JUSTIFICATION for `unsafe`: whoever takes the kernel's answer to an operation has to vouch for whose it is.
#![expect(unsafe_code, reason = "one answer; see its SAFETY comment")]

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::driver::Driver;
use super::{COMPLETION_ENTRIES, Completion, ENTRIES, Lent, Submission};
use crate::backend::{ProbeError, check};

/// How a ring is made. Completions are run when this thread enters the kernel anyway, and only this thread submits: no interrupts to
/// itself.
fn ring() -> io_uring::Builder {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    ring
}

/// Whether this host allows it, and why not.
pub(crate) fn probe() -> Result<(), ProbeError> {
    check(ring().build(8), "6.0")
}

/// Runs `main` on a ring of its own, on this thread.
pub(crate) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = ring();
    ring.setup_cqsize(COMPLETION_ENTRIES);
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    Ok(runtime.block_on(main))
}

/// The ring of this thread's tokio-uring runtime, which finds it by itself.
pub(crate) struct TokioUring;

/// An operation under way.
pub(super) type Operation = InFlightOneshot<Lent, Complete>;

impl Driver for TokioUring {
    type Operation = Operation;

    fn submit(&self, submission: Submission) -> Self::Operation {
        let (entry, lent) = submission.into_parts();
        // tokio-uring keeps what is lent until the completion arrives, even if the future is dropped.
        UnsubmittedOneshot::new(lent, Complete, entry).submit()
    }

    fn cancel(&self, descriptor: &Rc<OwnedFd>, _operation: &Self::Operation) {
        // By the descriptor, since the crate does not say by which name it has submitted an operation.
        let builder = CancelBuilder::fd(Fd(descriptor.as_raw_fd())).all();
        let entry = opcode::AsyncCancel2::new(builder).build();
        let operation = UnsubmittedOneshot::new(Rc::clone(descriptor), Cancel, entry).submit();
        tokio::task::spawn_local(operation);
    }

    fn is_calm(&self) -> bool {
        // The crate does not say how much came.
        false
    }
}

/// Makes a completion of an operation's answer.
pub(super) struct Complete;

impl OneshotOutputTransform for Complete {
    type Output = Completion;
    type StoredData = Lent;

    fn transform_oneshot_output(self, lent: Lent, entry: cqueue::Entry) -> Completion {
        // SAFETY: tokio-uring calls this once, with the answer to the operation that it has kept this for.
        unsafe { Completion::new(lent, entry.result()) }
    }
}

struct Cancel;

impl OneshotOutputTransform for Cancel {
    type Output = ();
    type StoredData = Rc<OwnedFd>;

    fn transform_oneshot_output(self, _descriptor: Rc<OwnedFd>, _entry: cqueue::Entry) {}
}
