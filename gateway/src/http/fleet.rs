//! The step between the proof of a request and its handler, if hosts share the memory of deliveries: the delivery is claimed from all of them.
//!
//! Owns what each answer of the fleet means for the sender. Must not talk to a server: `fleet` does.

use std::time::Duration;

use hyper::StatusCode;
use rustls_pki_types::UnixTime;

use super::request::Failure;
use crate::fleet::{Claim, Held};
use crate::snapshot::Snapshot;
use hookgate_core::auth::Reservation;
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::Route;

/// Beyond the `handler_timeout_ms` of the route: the wait for a place at the handler, and for the disk. After that, another host may claim the delivery.
const MARGIN: Duration = Duration::from_secs(10);

/// Why a delivery was not claimed.
pub(super) enum NotClaimed {
    /// Another host has it or had it.
    Copy(Failure),
    /// The servers do not say.
    Unknown(Failure),
}

impl From<NotClaimed> for Failure {
    fn from(not_claimed: NotClaimed) -> Self {
        match not_claimed {
            NotClaimed::Copy(failure) | NotClaimed::Unknown(failure) => failure,
        }
    }
}

/// Claims `delivery`. `None` if there is nothing to claim, or no fleet.
///
/// # Errors
///
/// [`NotClaimed`]
pub(super) async fn claim(
    snapshot: &Snapshot,
    route: &Route,
    delivery: Option<&Reservation>,
    duplicate_status: Option<StatusCode>,
    now: UnixTime,
) -> Result<Option<Held>, NotClaimed> {
    let (Some(fleet), Some(delivery)) = (&snapshot.fleet, delivery) else { return Ok(None) };
    match fleet.claim(delivery.kept(now).collect(), route.limits.handler_timeout + MARGIN).await {
        Claim::Made(held) => Ok(Some(held)),
        Claim::Admitted => Ok(None),
        Claim::Taken => {
            let detail = "A copy of this delivery was taken before, by a host of this fleet.";
            let refusal = Refusal::new(Reject::DuplicateDelivery, detail);
            Err(NotClaimed::Copy(Failure::duplicate(refusal, duplicate_status)))
        }
        Claim::InFlight => {
            let detail = "A handler of another host of this fleet has a copy of this delivery. Send it again later.";
            Err(NotClaimed::Copy(Failure::after_body(Refusal::new(Reject::DeliveryInFlight, detail))))
        }
        Claim::Unknown => {
            let detail = "The memory of deliveries that the hosts share gave no answer.";
            Err(NotClaimed::Unknown(Failure::after_body(Refusal::new(Reject::StateUnavailable, detail))))
        }
    }
}

/// Marks a claimed delivery as taken.
///
/// # Errors
///
/// The servers did not store that.
pub(super) async fn take(snapshot: &Snapshot, held: Option<Held>) -> Result<(), Failure> {
    let (Some(fleet), Some(held)) = (&snapshot.fleet, held) else { return Ok(()) };
    fleet.take(held).await.map_err(|_| {
        let detail = "The delivery was taken, and the memory that the hosts share did not store that.";
        Failure::after_body(Refusal::new(Reject::StateUnavailable, detail))
    })
}
