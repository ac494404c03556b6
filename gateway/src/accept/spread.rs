//! How many connections each worker has.
//!
//! Owns the counts, which every worker and the control thread read without a lock. Must not accept, nor know what a connection
//! does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of one worker. On cache lines of its own (two at a time are fetched on x86), since every accept writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally(AtomicUsize);

impl Tally {
    /// How many there are now.
    pub fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more for as long as the place lives; `None` where there are `limit` already.
    pub fn take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        (before < limit).then_some(place)
    }
}

/// A connection's place in the count of a worker.
#[derive(Debug)]
pub struct Place(Arc<Tally>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All workers of the process, as one of them sees them.
#[derive(Debug)]
pub struct Siblings {
    index: usize,
    tallies: Arc<[Arc<Tally>]>,
}

impl Siblings {
    /// The views of `count` workers, in their order.
    pub fn of(count: usize) -> Vec<Self> {
        let tallies: Arc<[Arc<Tally>]> = (0..count).map(|_| Arc::default()).collect();
        (0..count).map(|index| Self { index, tallies: Arc::clone(&tallies) }).collect()
    }

    /// Which of them this worker is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are, this one included.
    pub fn count(&self) -> usize {
        self.tallies.len()
    }

    /// The connections of this worker.
    pub fn own(&self) -> &Arc<Tally> {
        &self.tallies[self.index]
    }
}
