//! Accept loops and connection slots: how a connection enters a worker.
//!
//! Owns the accept loops, the bound on connections, and which worker gets one. Must not look at a byte of what a peer sends, nor
//! know what happens to a connection next: its caller passes that as a function.

pub mod spread;
mod sync;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hookgate_core::reject::{Refusal, Reject};
use hookgate_io::timer::sleep;
use hookgate_io::{Listener, peer_address};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::task::yield_now;

use self::spread::{Handover, Inbox, Place, Siblings};
use crate::access::{Outcome, Record};
use crate::cause::Cause;
use crate::context::WorkerContext;
use crate::metrics::requests::RequestLabels;
use crate::recent::{Note, What};
use crate::strangers::{self, Eviction, Stranger};

/// Pause after an accept that failed for lack of descriptors or memory, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection's place in the count of its worker. Dropped when the connection ends.
pub struct Slot {
    context: Rc<WorkerContext>,
    _place: Place,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.context.meters.closed();
    }
}

/// A connection that was accepted.
pub struct Arrival {
    /// Its place, held until it ends.
    pub slot: Slot,
    /// Its place among strangers, held until it is admitted.
    pub stranger: Stranger,
    /// Where it comes from.
    pub address: SocketAddr,
    /// The socket.
    pub descriptor: Rc<OwnedFd>,
}

/// What a worker accepts connections with.
pub struct Acceptor {
    context: Rc<WorkerContext>,
    siblings: Siblings,
    serve: Box<dyn Fn(Arrival)>,
}

impl Acceptor {
    /// Gives every accepted connection to `serve`.
    pub fn new(context: Rc<WorkerContext>, siblings: Siblings, serve: Box<dyn Fn(Arrival)>) -> Rc<Self> {
        Rc::new(Self { context, siblings, serve })
    }

    /// Connections of this worker now.
    pub fn connections(&self) -> usize {
        self.siblings.own().connections()
    }

    /// Accepts until the listener is stopped, and its queue is empty or left to the next process that serves the socket.
    pub async fn run(self: Rc<Self>, listener: Rc<Listener>) {
        loop {
            match listener.accept().await {
                Ok(Some(descriptor)) => {
                    if self.siblings.own().connections() >= self.limit() || self.context.strangers.are_leaving() {
                        // What is ready comes first: a connection that ends makes room, and a stranger may become a sender. A connection
                        // that was evicted for the last accept closes its descriptor, and frees its memory.
                        yield_now().await;
                    }
                    self.admit(descriptor);
                }
                Ok(None) => return,
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// Takes what siblings hand over, until `closing` is notified and the connections in transit have arrived.
    pub async fn take_over(self: Rc<Self>, mut inbox: Inbox, closing: Rc<Notify>) {
        while let Some(Handover { descriptor, place }) = inbox.next(&closing).await {
            self.begin(descriptor, place);
        }
    }

    /// Gives the connection to a sibling, or serves it here, or closes it.
    fn admit(&self, descriptor: OwnedFd) {
        self.context.meters.accepted();
        let limit = self.limit();
        let descriptor = match self.siblings.hand_over(descriptor, limit) {
            Ok(()) => {
                self.context.meters.handed_over();
                return;
            }
            Err(descriptor) => descriptor,
        };
        let Some(place) = self.place(limit) else {
            self.refuse(&descriptor, limit);
            self.context.meters.closed();
            return;
        };
        self.begin(descriptor, place);
    }

    /// Counts and logs a connection for which there is no place.
    fn refuse(&self, descriptor: &OwnedFd, limit: usize) {
        self.context.meters.requests.rejected(Reject::ConnectionLimit, RequestLabels::default());
        let cause = Some(Cause::Stranger);
        let snapshot = self.context.snapshot();
        // Without an address, the peer has gone.
        let Some(address) = peer_address(descriptor) else { return };
        let detail = format!(
            "This worker has its share of max_connections ({limit}), and every connection has a request in flight."
        );
        let refusal = Refusal::new(Reject::ConnectionLimit, detail);
        snapshot.recent.note(refusal.reject, address.ip(), || {
            let note = Note::new(What::Connection, &refusal, self.context.now(), address);
            Note { generation: snapshot.generation, ..note }
        });
        if snapshot.access.want(Outcome::ConnectionRefused, cause) {
            let peer = address.to_string();
            let record = Record { refusal: Some(&refusal), cause, ..Record::new(&peer, self.context.index()) };
            record.log(Outcome::ConnectionRefused);
        }
    }

    /// The connections that this worker may have.
    fn limit(&self) -> usize {
        self.context.snapshot().limits.max_connections.div_ceil(self.context.workers())
    }

    /// A place with this worker. If it has `limit` connections, one is evicted.
    fn place(&self, limit: usize) -> Option<Place> {
        let own = self.siblings.own();
        match own.take(limit) {
            None if self.make_room(limit) => own.take(usize::MAX),
            place => place,
        }
    }

    /// Evicts the connection that is missed least: the oldest that is not admitted, or one that waits for its next request. Returns
    /// whether there was one.
    fn make_room(&self, limit: usize) -> bool {
        let stranger = || self.context.strangers.evict_oldest(Eviction::Place);
        let idle = || self.context.sweep.evict(1) == 1;
        (self.context.strangers.give_way_first(limit) && stranger()) || idle() || stranger()
    }

    fn begin(&self, descriptor: OwnedFd, place: Place) {
        let context = &self.context;
        let slot = Slot { context: Rc::clone(context), _place: place };
        // Now: an evicted connection may have lost its address when its task begins. Without one, the peer has gone.
        let Some(address) = peer_address(&descriptor) else { return };
        let descriptor = Rc::new(descriptor);
        let snapshot = context.snapshot();
        let limits = &snapshot.limits;
        context.strangers.set_share(strangers::share(limits, context.workers(), snapshot.strangers_body));
        context.strangers.set_failures_per_second(limits.max_failed_handshakes_per_source_per_s);
        // Before the next accept, which may have to evict this one.
        let stranger = context.strangers.arrived(&descriptor, address.ip(), context.sweep.coarse());
        (self.serve)(Arrival { slot, stranger, address, descriptor });
    }

    async fn failed(&self, error: &io::Error) {
        let errno = Errno::from_io_error(error);
        let (name, pause) = match errno {
            // The peer closed the connection in the queue.
            Some(Errno::CONNABORTED) => ("ECONNABORTED", false),
            Some(Errno::INTR) => ("EINTR", false),
            Some(Errno::MFILE) => ("EMFILE", true),
            Some(Errno::NFILE) => ("ENFILE", true),
            Some(Errno::NOBUFS) => ("ENOBUFS", true),
            Some(Errno::NOMEM) => ("ENOMEM", true),
            Some(_) | None => ("other", true),
        };
        self.context.meters.accept_failed(name);
        if pause {
            let cause = Cause::Gateway.label();
            tracing::error!(%error, cause, "cannot accept connections; raise LimitNOFILE or lower max_connections");
            // Its descriptor can be used by a new connection.
            self.make_room(self.limit());
            sleep(PAUSE).await;
        }
    }
}
