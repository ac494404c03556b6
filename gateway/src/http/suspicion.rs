//! The answer to a request of a refused peer: a delay if something speaks for its claim, otherwise a refusal.
//!
//! Owns what the route of the request has to do with the refusal, which evidence is looked for, in the order of its cost, and the note of what
//! was found. Must not admit, nor decide what evidence is:
//! [`hookgate_core::suspicion`] does.

use std::rc::Rc;

use bytes::Bytes;
use hyper::http::request::Parts;

use super::body::{Source, read_body, read_unadmitted_body};
use super::connection::Connection;
use super::head::{check_coding, check_direction, requested_host};
use super::request_body::RequestBody;
use crate::snapshot::{Reception, Snapshot};
use hookgate_core::auth::RequestView;
use hookgate_core::identity::{ChainRefusal, Claim, RefusalAnswer, Suspect};
use hookgate_core::reject::Refusal;
use hookgate_core::route::RouteId;
use hookgate_core::suspicion::{Evidence, MAX_COMPARED, answered};

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
    connection.note(|account| account.claimed = found.provider);
    found
}

/// What the peer gets.
pub(super) struct Answer {
    pub(super) refusal: Refusal,
    /// The body was read to its end.
    pub(super) body_read: bool,
}

/// The answer to a request of a peer whose chain was refused. The chain claims each provider of the route whose names it has; the one for
/// which there is evidence decides. The body is read only if one of them wants refusals delayed and the request could prove itself; it
/// reaches no handler.
pub(super) async fn answer(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    refused: ChainRefusal,
    head: &Parts,
    body: RequestBody,
) -> Answer {
    let ChainRefusal { refusal, answer, suspect, .. } = refused;
    let Some(suspect) = suspect else { return Answer { refusal: answered(refusal, answer, None), body_read: false } };
    let route = routed(connection, snapshot, head);
    // A request to no route is asked for evidence too: its answer must not tell which routes there are.
    let is_of_route =
        |claim: &&Claim| route.is_none_or(|route| snapshot.routes.route(route).providers.contains(&claim.provider()));
    let claims: Vec<&Claim> = suspect.claims().iter().filter(is_of_route).collect();
    let Some(first) = claims.first().copied() else {
        return Answer { refusal: answered(refusal, answer, None), body_read: false };
    };
    let suspected: Vec<&Claim> = claims.iter().copied().filter(|claim| claim.is_suspected()).collect();
    let found = of_connection(connection, snapshot, &suspect, &suspected);
    let retries = |claim: &Claim| claim.answer() == RefusalAnswer::Retry;
    let delayed: Vec<_> = found.iter().copied().filter(|(claim, _)| retries(claim)).collect();
    let mut body_read = false;
    let mut decisive = delayed.first().or(found.first()).copied();
    // Only its proof tells which of several accounts a request is for.
    if delayed.len() != 1
        && let Some(route) = route
    {
        let candidates: Vec<&Claim> = suspected.iter().copied().filter(|claim| retries(claim)).collect();
        let proven = of_request(connection, snapshot, &candidates, route, head, body).await;
        body_read = proven.is_some();
        decisive = proven.flatten().or(decisive);
    }
    let (claim, evidence) = decisive.map_or((first, None), |(claim, evidence)| (claim, Some(evidence)));
    if let Some(evidence) = evidence {
        let provider = snapshot.identity.provider(claim.provider());
        snapshot.suspects.note(provider, &suspect, claim, evidence.kind(), connection.server.context.now());
    }
    connection.note(|account| account.claimed = Some(claim.provider()));
    Answer { refusal: answered(claim.refusal().clone(), claim.answer(), evidence), body_read }
}

/// The claims for which the chain or its address speaks.
fn of_connection<'a>(
    connection: &Connection,
    snapshot: &Snapshot,
    suspect: &Suspect,
    claims: &[&'a Claim],
) -> Vec<(&'a Claim, Evidence)> {
    let evidence = |claim: &&'a Claim| {
        let sources = snapshot.sources.get(usize::from(claim.provider().0));
        let found = Evidence::of_connection(suspect, claim, sources, connection.origin.address().ip())?;
        Some((*claim, found))
    };
    claims.iter().filter_map(evidence).collect()
}

/// The first of these claims whose proofs the request has. `None` if its body was not read to the end: no proof could hold, or the body is
/// broken or too long.
async fn of_request<'a>(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    claims: &[&'a Claim],
    route: RouteId,
    head: &Parts,
    body: RequestBody,
) -> Option<Option<(&'a Claim, Evidence)>> {
    check_coding(&head.headers, &body).ok()?;
    let (demands, routes) = (&snapshot.demands, &snapshot.routes);
    let is_possible = |claim: &&&Claim| Evidence::is_possible(claim, demands, routes, route);
    let claims: Vec<&Claim> = claims.iter().filter(is_possible).take(MAX_COMPARED).copied().collect();
    if claims.is_empty() {
        return None;
    }
    let most = routes.route(route).limits.max_body_bytes;
    // A peer that was admitted before is no stranger: its bodies count as those that are not proven.
    let (body, _buffered): (Bytes, _) = if connection.exchange.is_stranger() {
        (read_unadmitted_body(connection, body, most).await?, None)
    } else {
        let (body, buffered) = read_body(connection, body, (&snapshot.limits, most), Source::Unproven).await.ok()?;
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
    let keys = snapshot.keys.current();
    Some(
        claims
            .into_iter()
            .find_map(|claim| Some((claim, Evidence::of_request(claim, demands, routes, route, &view, &keys)?))),
    )
}
