//! Operations from submission to completion, and what the kernel uses meanwhile.
//!
//! Owns the buffers and descriptors of operations in flight, and completions until their tasks take them. A buffer stays here
//! until the operation completes, even if its future is dropped. Must not enter the kernel: [`super::queues`] does.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::queues::Reactor;
use crate::ring::{Completion, Resources};

/// Identifies an operation in `user_data`: the index of its record, and how many operations that record had before. An id repeats
/// after 2^32 operations on one record, and the first of them has completed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OperationId {
    index: u32,
    generation: u32,
}

impl OperationId {
    pub(super) fn to_user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_user_data(user_data: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = user_data.to_be_bytes();
        Self { generation: u32::from_be_bytes([a, b, c, d]), index: u32::from_be_bytes([e, f, g, h]) }
    }
}

struct Record {
    generation: u32,
    progress: Progress,
}

enum Progress {
    /// No operation: the next one may use the record.
    Free,
    /// Queued or with the kernel.
    InFlight { resources: Resources, waker: Option<Waker> },
    /// In flight, and its future was dropped.
    Abandoned { resources: Resources },
    /// Completed, and its future has not taken the completion yet.
    Completed(Completion),
}

/// The operations of a worker: at most one for each direction of a socket, and one accept a listener.
#[derive(Default)]
pub(super) struct Operations {
    records: Vec<Record>,
    free: Vec<u32>,
    in_flight: usize,
}

impl Operations {
    /// Adds an operation that is about to be submitted. Its resources are kept until [`Self::complete`].
    pub(super) fn insert(&mut self, resources: Resources) -> OperationId {
        let progress = Progress::InFlight { resources, waker: None };
        self.in_flight += 1;
        if let Some(index) = self.free.pop() {
            let record = &mut self.records[index as usize];
            record.progress = progress;
            return OperationId { index, generation: record.generation };
        }
        let index = u32::try_from(self.records.len())
            .expect("a process has fewer than 2^31 descriptors, and each at most two operations");
        self.records.push(Record { generation: 0, progress });
        OperationId { index, generation: 0 }
    }

    /// How many operations are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn record(&mut self, id: OperationId) -> Option<&mut Record> {
        self.records.get_mut(id.index as usize).filter(|record| record.generation == id.generation)
    }

    fn free(&mut self, id: OperationId) -> Progress {
        let Some(record) = self.record(id) else { return Progress::Free };
        let progress = std::mem::replace(&mut record.progress, Progress::Free);
        record.generation = record.generation.wrapping_add(1);
        self.free.push(id.index);
        progress
    }

    /// Completes the operation with id `user_data`. `completion` makes the completion from the operation's resources, and is
    /// called only if that operation is in flight.
    pub(super) fn complete(&mut self, user_data: u64, completion: impl FnOnce(Resources) -> Completion) -> Followup {
        let id = OperationId::from_user_data(user_data);
        let Some(record) = self.record(id) else { return Followup::Nothing };
        match std::mem::replace(&mut record.progress, Progress::Free) {
            Progress::InFlight { resources, waker } => {
                record.progress = Progress::Completed(completion(resources));
                self.in_flight -= 1;
                waker.map_or(Followup::Nothing, Followup::Wake)
            }
            Progress::Abandoned { resources } => {
                self.in_flight -= 1;
                self.free(id);
                Followup::Drop(completion(resources))
            }
            // The kernel completes a one-shot operation once, so this CQE belongs to none.
            progress @ (Progress::Completed(_) | Progress::Free) => {
                record.progress = progress;
                Followup::Nothing
            }
        }
    }

    /// Takes the completion of an operation. If the operation is in flight, stores the waker of `context` and returns the waker
    /// that it replaces, if there is one, as `Err`.
    fn take(&mut self, id: OperationId, context: &Context<'_>) -> Result<Completion, Option<Waker>> {
        let Some(record) = self.record(id) else { return Ok(already_taken()) };
        match &mut record.progress {
            Progress::InFlight { waker, .. } => match waker {
                Some(waker) if waker.will_wake(context.waker()) => Err(None),
                waker => Err(waker.replace(context.waker().clone())),
            },
            Progress::Abandoned { .. } | Progress::Free => Ok(already_taken()),
            Progress::Completed(_) => match self.free(id) {
                Progress::Completed(completion) => Ok(completion),
                Progress::InFlight { .. } | Progress::Abandoned { .. } | Progress::Free => Ok(already_taken()),
            },
        }
    }

    /// Notes that the future of an operation was dropped. Returns what the record no longer needs; the caller drops it when
    /// `Operations` is not borrowed.
    fn abandon(&mut self, id: OperationId) -> Option<Leftover> {
        let record = self.record(id)?;
        match std::mem::replace(&mut record.progress, Progress::Free) {
            Progress::InFlight { resources, waker } => {
                record.progress = Progress::Abandoned { resources };
                waker.map(Leftover::Waker)
            }
            Progress::Completed(completion) => {
                self.free(id);
                Some(Leftover::Completion(completion))
            }
            progress @ (Progress::Abandoned { .. } | Progress::Free) => {
                record.progress = progress;
                None
            }
        }
    }
}

/// What to do after a completion, when [`Operations`] is not borrowed.
pub(super) enum Followup {
    Nothing,
    Wake(Waker),
    /// The future was dropped. Dropping the completion closes a connection that was accepted.
    Drop(#[expect(dead_code, reason = "it is only dropped")] Completion),
}

/// What a dropped future leaves.
#[expect(dead_code, reason = "they are only dropped")]
enum Leftover {
    Waker(Waker),
    Completion(Completion),
}

/// The completion for a future that is polled after it was ready.
fn already_taken() -> Completion {
    debug_assert!(false, "an operation was polled after its completion");
    Completion::failed(rustix::io::Errno::CANCELED.into())
}

/// An operation in flight, or completed and not taken yet. Dropping it cancels nothing: the reactor keeps the operation's
/// resources until the kernel completes it.
pub(in crate::ring) struct Operation {
    reactor: Rc<Reactor>,
    id: OperationId,
}

impl Operation {
    pub(super) fn new(reactor: Rc<Reactor>, id: OperationId) -> Self {
        Self { reactor, id }
    }

    pub(super) fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    pub(super) fn id(&self) -> OperationId {
        self.id
    }
}

impl Future for Operation {
    type Output = Completion;

    /// Waits for the completion. Must not be polled again after that.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let taken = self.reactor.operations.borrow_mut().take(self.id, context);
        match taken {
            Ok(completion) => Poll::Ready(completion),
            Err(_replaced) => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let leftover = self.reactor.operations.borrow_mut().abandon(self.id);
        drop(leftover);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::os::fd::{IntoRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use io_uring::squeue;
    use rustix::net::SendFlags;

    use super::*;
    use crate::ring::Submission;

    fn resources(descriptor: &Rc<OwnedFd>) -> Resources {
        Submission::send(descriptor, vec![1, 2, 3], 0, SendFlags::empty()).into_parts().1
    }

    #[expect(unsafe_code, reason = "the tests stand in for the kernel")]
    fn sent(resources: Resources) -> Completion {
        // SAFETY: the operation is a send, and its result is a count that nothing depends on.
        unsafe { Completion::new(resources, 3) }
    }

    #[test]
    fn resources_stay_until_the_operation_completes() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let descriptor = Rc::new(OwnedFd::from(socket));
        let mut operations = Operations::default();
        let id = operations.insert(resources(&descriptor));
        assert!(operations.abandon(id).is_none(), "it was never polled");
        assert_eq!((Rc::strong_count(&descriptor), operations.in_flight()), (2, 1));
        assert!(matches!(operations.complete(id.to_user_data(), sent), Followup::Drop(_)));
        assert_eq!((Rc::strong_count(&descriptor), operations.in_flight()), (1, 0));
    }

    /// The buffer's address in an SQE: `addr` of `struct io_uring_sqe`, at byte 16 (io_uring_enter(2)).
    #[expect(unsafe_code, reason = "the tests stand in for the kernel")]
    fn address(entry: &squeue::Entry) -> *mut u8 {
        // SAFETY: an SQE is 64 bytes of integers.
        let bytes: [u8; 64] = unsafe { std::mem::transmute_copy(entry) };
        let address = u64::from_ne_bytes(bytes[16..24].try_into().unwrap());
        std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap())
    }

    /// Under Miri (`cargo xtask miri`), a freed or moved buffer is an error here.
    #[test]
    #[expect(unsafe_code, reason = "the test stands in for the kernel")]
    fn the_kernel_may_write_until_the_operation_completes() {
        const LATE: &[u8] = b"written late";
        for is_dropped in [true, false] {
            let (socket, _peer) = UnixStream::pair().unwrap();
            let descriptor = Rc::new(OwnedFd::from(socket));
            let mut operations = Operations::default();
            let (received, received_resources) = Submission::receive(&descriptor, Vec::new(), 64).into_parts();
            let sending = Submission::send(&descriptor, LATE.to_vec(), 8, SendFlags::empty());
            let (sent_entry, sent_resources) = sending.into_parts();
            let ids = [operations.insert(received_resources), operations.insert(sent_resources)];
            // The table grows, so its records move.
            let others: Vec<_> = (0..100).map(|_| operations.insert(resources(&descriptor))).collect();
            if is_dropped {
                ids.iter().for_each(|id| drop(operations.abandon(*id)));
            }
            // SAFETY: the SQE lent 64 bytes, and the operation has not completed.
            unsafe { address(&received).copy_from_nonoverlapping(LATE.as_ptr(), LATE.len()) };
            // SAFETY: the SQE lent the four bytes from the offset on, and the operation has not completed.
            let seen = unsafe { std::slice::from_raw_parts(address(&sent_entry), 4) };
            assert_eq!(seen, b"late");
            let mut buffer = Vec::new();
            let length = i32::try_from(LATE.len()).unwrap();
            drop(operations.complete(ids[0].to_user_data(), |resources| {
                // SAFETY: the bytes were written above, and the result is used once.
                let completion = unsafe { Completion::new(resources, length) };
                buffer.clone_from(&completion.buffer);
                completion
            }));
            assert_eq!(buffer, LATE);
            for id in others.iter().chain(&ids[1..]) {
                drop(operations.complete(id.to_user_data(), sent));
            }
            assert_eq!(operations.in_flight(), 0);
        }
    }

    #[test]
    fn a_record_is_reused_with_another_id() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let descriptor = Rc::new(OwnedFd::from(socket));
        let context = Context::from_waker(Waker::noop());
        let mut operations = Operations::default();
        let first = operations.insert(resources(&descriptor));
        assert!(operations.take(first, &context).is_err(), "in flight");
        assert!(matches!(operations.complete(first.to_user_data(), sent), Followup::Wake(_)));
        assert_eq!(operations.take(first, &context).ok().unwrap().buffer, [1, 2, 3]);
        let second = operations.insert(resources(&descriptor));
        assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
        assert_eq!(OperationId::from_user_data(second.to_user_data()), second);
        // A late CQE of the first does not touch the second.
        assert!(matches!(operations.complete(first.to_user_data(), sent), Followup::Nothing));
        assert!(operations.abandon(first).is_none());
        assert_eq!(operations.in_flight(), 1);
    }

    #[test]
    fn a_connection_accepted_for_a_dropped_future_is_closed() {
        let (listener, _) = UnixStream::pair().unwrap();
        let (accepted, peer) = UnixStream::pair().unwrap();
        // read(2): Miri knows no recv(2).
        let mut peer = std::fs::File::from(OwnedFd::from(peer));
        let mut operations = Operations::default();
        let id = operations.insert(Submission::accept(&Rc::new(listener.into())).into_parts().1);
        operations.abandon(id);
        let number = accepted.into_raw_fd();
        #[expect(unsafe_code, reason = "the test stands in for the kernel")]
        // SAFETY: `into_raw_fd` has given up the descriptor, as accept4(2) would.
        let completion = |resources| unsafe { Completion::new(resources, number) };
        drop(operations.complete(id.to_user_data(), completion));
        assert_eq!(std::io::Read::read(&mut peer, &mut [0; 1]).unwrap(), 0, "the peer sees the end of the stream");
    }
}
