//! What this host has of the spool of a fleet: deliveries that it may hand over, and how many more it wants.
//!
//! Owns those that were pulled and not begun. Must not talk to a server, nor choose what is next: `fleet` and `schedule` do. Without a fleet it has
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::schedule::Schedule;
use crate::deliveries::{Change, Waiting};
use crate::fleet::{Demands, Handing, Pulled};

/// How long a delivery is held that cannot begin here. Another host may be able to.
const LATE: Duration = Duration::from_secs(2);

/// This host's share.
#[derive(Default)]
pub(super) struct Share {
    handing: Option<Handing>,
    /// By their numbers.
    held: HashMap<i64, (Instant, Pulled)>,
}

impl Share {
    pub(super) fn new(handing: Option<Handing>) -> Self {
        Self { handing, held: HashMap::new() }
    }

    /// The next one that was pulled; without a fleet, it never comes.
    pub(super) async fn pulled(&mut self) -> Option<Pulled> {
        match &mut self.handing {
            Some(handing) => handing.pulled.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps it until it begins. Returns what the schedule has to know.
    pub(super) fn take(&mut self, pulled: Pulled) -> Waiting {
        let waiting = pulled.waiting.clone();
        self.held.insert(waiting.number, (Instant::now(), pulled));
        waiting
    }

    /// The delivery of this number, of which an attempt begins; `None` if it is a row.
    pub(super) fn begin(&mut self, number: i64) -> Option<Pulled> {
        self.held.remove(&number).map(|(_, pulled)| pulled)
    }

    /// Gives back what did not begin in time, because the route is paused, its handler does not answer, or the provider is not admitted here.
    pub(super) fn give_back_late(&mut self, schedule: &mut Schedule) {
        self.held.retain(|number, (since, _)| {
            let stays = since.elapsed() < LATE;
            if !stays {
                schedule.change(Change::Gone { number: *number });
            }
            stays
        });
    }

    /// Tells how many are wanted of each route.
    pub(super) fn ask(&self, schedule: &Schedule, now_ms: u64) {
        let Some(handing) = &self.handing else { return };
        let demands: Demands = schedule.room(now_ms).map(|(route, demand)| (Arc::clone(route), demand)).collect();
        handing.demands.send_if_modified(|told| {
            let is_new = *told != demands;
            if is_new {
                *told = demands;
            }
            is_new
        });
    }

    /// Wants nothing any more, and gives back what has not begun.
    pub(super) fn end(&mut self, schedule: &mut Schedule) {
        self.handing = None;
        for number in self.held.drain().map(|(number, _)| number) {
            schedule.change(Change::Gone { number });
        }
    }
}
