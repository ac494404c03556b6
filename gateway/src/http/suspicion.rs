//! The answer to a request of a refused peer: a delay if something speaks for its claim, otherwise a refusal.
//!
//! Owns what the route of the request has to do with the refusal, which evidence is looked for, in the order of its cost, and the note of what
//! was found. Must not admit, nor decide what evidence is:
//! [`hookgate_core::suspicion`] does.

use std::rc::Rc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::http::request::Parts;

use super::body::{Source, read_body, read_unadmitted_body};
use super::connection::Connection;
use super::request::{check_coding, check_direction, requested_host};
use crate::snapshot::{Reception, Snapshot};
use hookgate_core::auth::RequestView;
use hookgate_core::identity::{ChainRefusal, RefusalAnswer, Suspect};
use hookgate_core::reject::Refusal;
use hookgate_core::route::RouteId;
use hookgate_core::suspicion::{Evidence, answered};

/// The route of a request, if host and path are well-formed and there is one.
pub(super) fn routed(connection: &Connection, snapshot: &Snapshot, head: &Parts) -> Option<RouteId> {
    let host = requested_host(head, connection.server_name.as_deref()).ok()?;
    check_direction(connection.server_name.as_deref(), &host).ok()?;
    snapshot.routes.find(&host, head.uri.path(), &head.method).ok()
}

/// The refusal of a chain as the providers of the route see it. The handshake judged it for every provider of the server name, so it may be
/// about one that this route does not admit.
pub(super) fn refused_by_route(
    connection: &Connection,
    snapshot: &Snapshot,
    refused: ChainRefusal,
    route: RouteId,
) -> ChainRefusal {
    connection.note(|account| account.route = Some(route));
    let providers = &snapshot.routes.route(route).providers;
    let is_narrower = match snapshot.reception(connection.server_name.as_deref()) {
        Reception::Site(site) => site.scope.providers.len() > providers.len(),
        Reception::TurnAway => false,
    };
    let now = connection.server.context.now();
    let found = is_narrower.then(|| snapshot.identity.refusal_at_route(&refused, providers, now)).flatten();
    let Some(found) = found else { return refused };
    connection.note(|account| account.provider = found.provider);
    found
}

/// What the peer gets.
pub(super) struct Answer {
    pub(super) refusal: Refusal,
    /// The body was read to its end.
    pub(super) body_read: bool,
}

/// The answer to a request of a peer whose chain was refused. Its body is read only if its provider wants refusals delayed and the request
/// could prove itself; it reaches no handler.
pub(super) async fn answer(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    refused: ChainRefusal,
    head: &Parts,
    body: Incoming,
) -> Answer {
    let ChainRefusal { refusal, answer, suspect, .. } = refused;
    let Some(suspect) = suspect else { return Answer { refusal: answered(refusal, answer, None), body_read: false } };
    let sources = snapshot.sources.get(usize::from(suspect.provider().0));
    let mut evidence = Evidence::of_connection(&suspect, sources, connection.address.ip());
    let mut body_read = false;
    if evidence.is_none() && answer == RefusalAnswer::Retry {
        let found = of_request(connection, snapshot, &suspect, head, body).await;
        body_read = found.is_some();
        evidence = found.flatten();
    }
    if let Some(evidence) = evidence {
        let provider = snapshot.identity.provider(suspect.provider());
        snapshot.suspects.note(provider, &suspect, evidence.kind(), connection.server.context.now());
    }
    Answer { refusal: answered(refusal, answer, evidence), body_read }
}

/// The evidence of the request itself. `None` if its body was not read to the end: no proof could hold, or the body is broken or too long.
async fn of_request(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    suspect: &Suspect,
    head: &Parts,
    body: Incoming,
) -> Option<Option<Evidence>> {
    check_coding(&head.headers, &body).ok()?;
    let (demands, routes) = (&snapshot.demands, &snapshot.routes);
    let route = routed(connection, snapshot, head)?;
    if !Evidence::is_possible(suspect, demands, routes, route) {
        return None;
    }
    // A peer that was admitted before is no stranger: its bodies count as those that are not proven.
    let (body, _buffered): (Bytes, _) = if connection.exchange.is_stranger() {
        (read_unadmitted_body(connection, body, &snapshot.limits).await?, None)
    } else {
        let (body, buffered) = read_body(connection, body, &snapshot.limits, Source::Unproven).await.ok()?;
        (body, Some(buffered))
    };
    connection.exchange.request_complete();
    let view = RequestView {
        method: &head.method,
        path: head.uri.path_and_query().map_or("/", |target| target.as_str()),
        headers: &head.headers,
        body: &body,
        received_at: connection.server.context.now(),
    };
    Some(Evidence::of_request(suspect, demands, routes, route, &view, &snapshot.keys.current()))
}
