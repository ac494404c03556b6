//! The last step of a request to a durable route: it is stored, and hookgate answers for the handler.
//!
//! Owns where it is stored (on the servers of a fleet, or on the disk), and what each outcome means for the sender. Must not write: `fleet` and
//! `deliveries` do.

use std::sync::Arc;

use hyper::StatusCode;

use super::fleet;
use super::request::Failure;
use crate::deliveries::{DeliveryStore, Durable, NewDelivery, OrderKey, Spooled, now_ms};
use crate::metrics::{fleet as fleet_metrics, spool as metrics};
use crate::snapshot::Snapshot;
use crate::upstream::Outgoing;
use crate::upstream::headers::Forwarded;
use hookgate_core::auth::{AuthenticatedRequest, Reservation};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::RouteId;
use rustls_pki_types::UnixTime;

/// Stores `request`, and returns the answer for its sender when it survives a power failure of this host, and with a fleet the loss of it. `delivery` is what makes copies of it duplicates, if
/// there is a rule: it is taken when it is stored.
pub(super) async fn store(
    snapshot: &Snapshot,
    (route, rule): (RouteId, &Arc<Durable>),
    request: AuthenticatedRequest,
    forwarded: &Forwarded<'_>,
    delivery: Option<Reservation>,
    now: UnixTime,
) -> Result<StatusCode, Failure> {
    let Some(store) = &snapshot.deliveries else {
        // Start-up and reloads refuse durable routes without a database.
        return Err(Failure::after_body(unavailable("There is no state directory.")));
    };
    let duplicate_status = request.peer().proof_policy().duplicate_answer();
    let held = fleet::claim(snapshot, snapshot.routes.route(route), delivery.as_ref(), duplicate_status, now).await;
    let (held, to_disk) = match held {
        // The disk takes over, and knows the copies that come to this host. The servers are not waited for a second time.
        Err(fleet::NotClaimed::Unknown(_)) if snapshot.fleet.as_ref().is_some_and(|fleet| fleet.falls_back()) => {
            (None, true)
        }
        held => (held?, false),
    };
    let kept = delivery.iter().flat_map(|delivery| delivery.kept(now)).collect();
    let spooled = spool(store, snapshot, (route, rule), request, forwarded, kept, to_disk).await;
    // Whatever is not stored is released: the sender may send it again.
    let taken = || delivery.into_iter().for_each(|delivery| delivery.commit(now));
    let refusal = match spooled {
        Spooled::Stored => {
            taken();
            fleet::take(snapshot, held).await?;
            return Ok(rule.status);
        }
        Spooled::Duplicate => {
            taken();
            let refusal =
                Refusal::new(Reject::DuplicateDelivery, "A copy of this delivery was stored or taken before.");
            return Err(Failure::duplicate(refusal, duplicate_status));
        }
        Spooled::Full(bound) => Refusal::new(Reject::SpoolFull, bound),
        Spooled::Failed => unavailable("The delivery could not be stored, or not in time."),
    };
    Err(Failure::after_body(refusal))
}

async fn spool(
    store: &DeliveryStore,
    snapshot: &Snapshot,
    (route, rule): (RouteId, &Arc<Durable>),
    request: AuthenticatedRequest,
    forwarded: &Forwarded<'_>,
    kept: Vec<hookgate_core::auth::KeptDelivery>,
    to_disk: bool,
) -> Spooled {
    let key = OrderKey::of(&rule.order_by, &request.head().headers, request.body());
    let provider = Arc::clone(&snapshot.identity.provider(request.peer().provider()).name);
    let proof = request.proof();
    let delivery = NewDelivery {
        id: forwarded.request_id.to_str().unwrap_or_default().into(),
        route: Arc::clone(&snapshot.routes.route(route).name),
        provider,
        proof,
        key,
        received_ms: now_ms(),
        request: Outgoing::of_authenticated(request, *forwarded).to_parts(),
        kept,
        rule: Arc::clone(rule),
    };
    let Some(fleet) = snapshot.fleet.as_ref().filter(|fleet| fleet.has_spool()) else {
        return store.spool(delivery).await;
    };
    let message = match fleet.outbound(&delivery) {
        Ok(message) => message,
        Err(because) => return Spooled::Full(because),
    };
    // What waits on this disk comes first in the order of its key.
    let to_disk = to_disk || delivery.key.is_some() && store.waiting() > 0;
    let spooled = if to_disk { Spooled::Failed } else { fleet.store(message, rule.max_entries).await };
    match spooled {
        Spooled::Failed if to_disk || fleet.falls_back() => return fall_back(store, delivery).await,
        Spooled::Stored => metrics::accepted(&delivery.route, &delivery.provider),
        Spooled::Duplicate | Spooled::Full(_) | Spooled::Failed => {}
    }
    spooled
}

async fn fall_back(store: &DeliveryStore, delivery: NewDelivery) -> Spooled {
    let route = Arc::clone(&delivery.route);
    let spooled = store.spool(delivery).await;
    if spooled == Spooled::Stored {
        fleet_metrics::fell_back(&route);
    }
    spooled
}

fn unavailable(detail: &str) -> Refusal {
    Refusal::new(Reject::StateUnavailable, detail)
}
