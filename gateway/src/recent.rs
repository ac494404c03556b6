//! The recent refusals of this process, of requests and of handshakes, each with what an operator needs to explain it.
//!
//! Owns what is kept, and its bounds: a flood of one reason, or from one source, removes no refusal of another. A worker only leaves a note, and
//! not even that if the notes of this reason wait already; whoever asks turns notes into entries ([`Recent::all`], [`Recent::settle`]). Must not
//! decide, log or write anything. No entry has a field value, a query, a token or a body, because they may be secrets.

mod certificate;
mod kept;
mod note;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookgate_core::reject::Reject;

pub use self::certificate::{EndEntity, fingerprint_text};
use self::kept::Kept;
pub use self::note::{Note, What};

/// Most refusals that are kept of one reason.
pub const OF_REASON: usize = 16;

/// Most of those from one source, so that a source with one fault leaves places to others with the same fault.
pub const OF_SOURCE: usize = 4;

/// Of one reason, the newest refusals that keep the presented chain.
pub const CHAINS_OF_REASON: usize = 4;

/// Most bytes of all chains that are kept. A chain of a webhook sender has 2 to 5 KiB.
pub const CHAIN_BYTES: usize = 1024 * 1024;

/// Most notes of one reason that wait. The control thread settles them four times a second, so a worker makes at most some 30 in a second.
const WAITING_OF_REASON: u8 = 8;

/// Most of those from one source.
const WAITING_OF_SOURCE: usize = 3;

/// Most bytes of the chains of all notes that wait. Beyond it, a note has no chain.
const WAITING_CHAIN_BYTES: usize = 512 * 1024;

/// A refusal that is kept.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Ascending, from 1; the order in which refusals were kept.
    pub number: u64,
    /// What the worker knew.
    pub note: Note,
    /// The end entity of the chain, if there was one that can be read.
    pub end_entity: Option<EndEntity>,
}

/// The refusals of this process, which all workers and the control thread share.
#[derive(Debug, Default)]
pub struct Recent {
    /// Notes that wait, by reason. A worker reads it without a lock.
    waiting: Counts,
    notes: Mutex<Vec<Note>>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Counts([AtomicU8; Reject::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU8::new(0)))
    }
}

impl Recent {
    /// Notes a refusal for `reject` of a peer at `address`; `make` is called only if there is room for it. Takes a lock for one look, and
    /// costs an atomic load if enough refusals of this reason wait.
    pub fn note(&self, reject: Reject, address: IpAddr, make: impl FnOnce() -> Note) {
        let Some(waiting) = self.waiting.0.get(reject as usize) else { return };
        if waiting.load(Ordering::Relaxed) >= WAITING_OF_REASON {
            return;
        }
        let mut notes = lock(&self.notes);
        let same = notes.iter().filter(|other| other.reject == reject);
        let (mut of_reason, mut of_source) = (0, 0);
        for other in same {
            of_reason += 1;
            of_source += usize::from(source(other.peer.ip()) == source(address));
        }
        if of_reason >= usize::from(WAITING_OF_REASON) || of_source >= WAITING_OF_SOURCE {
            return;
        }
        let mut note = make();
        let bytes: usize = notes.iter().chain([&note]).map(Note::chain_bytes).sum();
        if bytes > WAITING_CHAIN_BYTES {
            note.chain = None;
        }
        notes.push(note);
        waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Turns the notes that wait into entries. The control thread calls it, and everything that reads the entries does.
    pub fn settle(&self) {
        let notes = {
            let mut notes = lock(&self.notes);
            let taken = std::mem::take(&mut *notes);
            self.waiting.0.iter().for_each(|waiting| waiting.store(0, Ordering::Relaxed));
            taken
        };
        if notes.is_empty() {
            return;
        }
        let mut kept = lock(&self.kept);
        notes.into_iter().for_each(|note| kept.add(note));
    }

    /// All of them, the newest first.
    pub fn all(&self) -> Vec<Arc<Refused>> {
        self.settle();
        lock(&self.kept).all()
    }

    /// The newest refusal with this request id, or of the certificate with this SHA-256 (in hexadecimal, in any case, with colons or without).
    pub fn find(&self, wanted: &str) -> Option<Arc<Refused>> {
        let wanted: String = wanted.chars().filter(|character| *character != ':').collect();
        let is_meant = |refused: &Arc<Refused>| {
            let id = refused.note.request_id.as_deref();
            id.is_some_and(|id| id.eq_ignore_ascii_case(&wanted))
                || refused.end_entity.as_ref().is_some_and(|it| it.hexadecimal().eq_ignore_ascii_case(&wanted))
        };
        self.all().into_iter().find(is_meant)
    }
}

/// Who may be one sender, or one stranger: an IPv4 address, or an IPv6 /56.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 72 << 72)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
