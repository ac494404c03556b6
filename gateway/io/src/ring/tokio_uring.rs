//! The driver on tokio-uring's runtime and one-shot operations.
//!
//! Owns how that runtime is built. The only file that names the crate tokio-uring. Must not know sockets: [`super::channel`] and
//! [`super::listener`] do.
//!
//! The crate reports neither an operation's `user_data` nor how many completions a turn brought. So operations are cancelled by
//! descriptor, and the load never counts as light.
//!
//! JUSTIFICATION for `unsafe`: a CQE's result becomes a [`Completion`].
#![expect(unsafe_code, reason = "one CQE's result; see its SAFETY comment")]

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::driver::Driver;
use super::{COMPLETION_ENTRIES, Completion, ENTRIES, Resources, Submission};
use crate::ring::probe::{ProbeError, check, patiently};

/// The first Linux version that has what the ring needs.
const MINIMUM: &str = "6.0";

/// The flags of the ring, of which `SINGLE_ISSUER` is the newest (Linux 6.0). Only this thread submits; completion work runs when
/// it enters the kernel anyway, without an interrupt.
fn ring() -> io_uring::Builder {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    ring
}

/// Checks that this host allows the driver.
pub(crate) fn probe() -> Result<(), ProbeError> {
    check(|| ring().build(8), MINIMUM)
}

/// Runs `main` to its end on this thread, on a new ring.
pub(crate) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = ring();
    ring.setup_cqsize(COMPLETION_ENTRIES);
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring);
    let runtime = patiently(MINIMUM, || tokio_uring::Runtime::new(&builder)).map_err(io::Error::other)?;
    Ok(runtime.block_on(main))
}

/// This thread's tokio-uring runtime. It holds no reference: tokio-uring finds the runtime in a thread-local.
pub(crate) struct TokioUring;

/// An operation in flight.
pub(super) type Operation = InFlightOneshot<Resources, Complete>;

impl Driver for TokioUring {
    type Operation = Operation;

    fn submit(&self, submission: Submission) -> Self::Operation {
        let (entry, resources) = submission.into_parts();
        // tokio-uring keeps `resources` until the CQE arrives, even if the future is dropped.
        UnsubmittedOneshot::new(resources, Complete, entry).submit()
    }

    fn cancel(descriptor: &Rc<OwnedFd>, _operation: &Self::Operation) {
        let builder = CancelBuilder::fd(Fd(descriptor.as_raw_fd())).all();
        let entry = opcode::AsyncCancel2::new(builder).build();
        let operation = UnsubmittedOneshot::new(Rc::clone(descriptor), Cancel, entry).submit();
        tokio::task::spawn_local(operation);
    }

    fn is_lightly_loaded(&self) -> bool {
        false
    }
}

/// Turns the CQE of an operation into a [`Completion`].
pub(super) struct Complete;

impl OneshotOutputTransform for Complete {
    type Output = Completion;
    type StoredData = Resources;

    fn transform_oneshot_output(self, resources: Resources, entry: cqueue::Entry) -> Completion {
        // SAFETY: tokio-uring calls this once, with the CQE of the operation that it stored `resources` for.
        unsafe { Completion::new(resources, entry.result()) }
    }
}

/// Ignores the CQE of a cancellation.
struct Cancel;

impl OneshotOutputTransform for Cancel {
    type Output = ();
    type StoredData = Rc<OwnedFd>;

    fn transform_oneshot_output(self, _descriptor: Rc<OwnedFd>, _entry: cqueue::Entry) {}
}
