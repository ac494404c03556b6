//! The steps of a request: verdict, host, path, route, admission, source, body, proof, handler. Each runs only if the step before it
//! succeeded.
//!
//! Owns the order, and what is noted of it in the account. Must not decide what `route`, `auth` and `identity` decide.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body::Body;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use rustls_pki_types::UnixTime;

use super::answer::AnswerBody;
use super::body::{self, read_body};
use super::connection::{Connection, Standing};
use super::head::{check_coding, check_direction, complete_stream_head, requested_host};
use super::request_body::RequestBody;
use super::uncertified::Uncertified;
use super::verdicts::{check_source, missed};
use super::{durable, fleet, problem, suspicion};
use crate::admission::{self, Verdict};
use crate::fleet::Held;
use crate::snapshot::{Reception, Snapshot};
use crate::upstream::headers::{Forwarded, X_REQUEST_ID};
use crate::upstream::{Answered, HandlerBody, HandlerLimits, Outgoing};
use hookgate_core::auth::{AuthenticatedRequest, AuthorizedPeer, Candidate, Reservation, Unauthenticated};
use hookgate_core::identity::{ChainRefusal, OnFailure, PeerChain, ProviderId, Suspect, VerifiedChain};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Miss, Route, RouteId};

/// Answers one request. Never fails: an error is an answer.
pub(super) async fn answer(
    connection: Rc<Connection>,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, Infallible> {
    connection.exchange.head_complete();
    let request_id = connection.open_account(&request);
    let outcome = process(&connection, request, &request_id).await;
    let response = match outcome {
        Ok(Answer::OfHandler(response)) => accepted(&connection, response, request_id),
        Ok(Answer::Stored(status)) => empty(&connection, status, &request_id),
        Ok(Answer::Public { status, has_body }) => public(&connection, (status, has_body), &request_id),
        Err(failure) => refused(&connection, failure, &request_id),
    };
    connection.answered(response.status());
    Ok(response)
}

fn accepted(
    connection: &Rc<Connection>,
    response: Response<HandlerBody>,
    request_id: HeaderValue,
) -> Response<AnswerBody> {
    let mut response = response.map(|body| AnswerBody::handler(connection, body));
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    if connection.server.context.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refused(connection: &Rc<Connection>, failure: Failure, request_id: &HeaderValue) -> Response<AnswerBody> {
    let Failure { refusal, allow, body_read, duplicate_status } = failure;
    if let (Reject::DuplicateDelivery, Some(status)) = (refusal.reject, duplicate_status) {
        connection.recognized(refusal);
        return empty(connection, status, request_id);
    }
    if matches!(refusal.reject.row().status, 401 | 403) {
        connection.exchange.blame();
    }
    if !body_read {
        connection.exchange.leave_body_unread();
    }
    // A peer without an admitted certificate that has proven an earlier request keeps its connection.
    let cannot_go_on = !body_read && !connection.exchange.is_stream();
    let close = is_unproven(connection) || cannot_go_on || connection.server.context.is_draining();
    let types = connection.standing.borrow().snapshot.problem_types.clone();
    let response = problem::response(&refusal, request_id, &types, &allow, close);
    connection.refused(refusal);
    response.map(|body| AnswerBody::problem(connection, body))
}

/// The configured answer to a delivery that was taken before, or is stored: a status without a body.
fn empty(connection: &Rc<Connection>, status: StatusCode, request_id: &HeaderValue) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::problem(connection, Bytes::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(X_REQUEST_ID, request_id.clone());
    if connection.server.context.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer of a public route. The connection of a stranger ends with it, and so does one whose body would have to be read.
fn public(
    connection: &Rc<Connection>,
    (status, has_body): (StatusCode, bool),
    request_id: &HeaderValue,
) -> Response<AnswerBody> {
    if has_body {
        connection.exchange.leave_body_unread();
    } else {
        connection.exchange.request_complete();
    }
    let mut response = empty(connection, status, request_id);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if has_body && !connection.exchange.is_stream() || is_unproven(connection) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the peer has neither an admitted certificate, nor proven an earlier request.
fn is_unproven(connection: &Connection) -> bool {
    connection.standing.borrow().verdict.is_err() && !connection.exchange.is_proven()
}

/// Who answers a request that every check has passed, or that needs none.
#[expect(
    clippy::large_enum_variant,
    reason = "it is returned at once, and a box would be an allocation for each request"
)]
enum Answer {
    /// The handler.
    OfHandler(Response<HandlerBody>),
    /// hookgate, because the delivery is stored.
    Stored(StatusCode),
    /// hookgate, because the route is public. The body, if it `has_body`, was not read.
    Public { status: StatusCode, has_body: bool },
}

/// A refusal, and what the connection needs to know about it.
pub(super) struct Failure {
    refusal: Refusal,
    allow: Vec<Method>,
    /// The body was read to its end, or there was none: the connection can be kept.
    body_read: bool,
    /// The answer to a duplicate delivery.
    duplicate_status: Option<StatusCode>,
}

impl Failure {
    fn without_route(miss: Miss, host: &str, method: &Method) -> Self {
        let refusal = missed(&miss, host, method);
        let allow = if let Miss::MethodNotAllowed(allow) = miss { allow } else { Vec::new() };
        Self { allow, ..Self::from(refusal) }
    }

    /// A copy of a delivery that was taken or stored before, with the configured answer.
    pub(super) fn duplicate(refusal: Refusal, duplicate_status: Option<StatusCode>) -> Self {
        Self { duplicate_status, ..Self::after_body(refusal) }
    }

    pub(super) fn after_body(refusal: Refusal) -> Self {
        Self { body_read: true, ..Self::from(refusal) }
    }
}

/// Before the body was read.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, allow: Vec::new(), body_read: false, duplicate_status: None }
    }
}

async fn process(
    connection: &Rc<Connection>,
    request: Request<RequestBody>,
    request_id: &HeaderValue,
) -> Result<Answer, Failure> {
    let (mut head, body) = request.into_parts();
    if connection.exchange.is_stream() {
        complete_stream_head(&mut head, &connection.standing.borrow().snapshot.limits)?;
    }
    let Standing { snapshot, verdict } = connection.current_standing();
    let sender = match Sender::new(connection, &snapshot, verdict) {
        Ok(sender) => sender,
        Err(refused) => {
            // Nothing but the answer depends on the route.
            let route = suspicion::routed(connection, &snapshot, &head);
            return Err(delayed_or_refused(connection, &snapshot, (refused, route), &head, body).await);
        }
    };
    let host = requested_host(&head, connection.server_name.as_deref())?;
    check_direction(connection.server_name.as_deref(), &host)?;
    check_coding(&head.headers, &body)?;
    let route_id = snapshot
        .routes
        .find(&host, head.uri.path(), &head.method)
        .map_err(|miss| sender.hidden().unwrap_or_else(|| Failure::without_route(miss, &host, &head.method)))?;
    let route = snapshot.routes.route(route_id);
    connection.note(|account| account.route = Some(route_id));
    if let Some(status) = route.public_status() {
        return Ok(Answer::Public { status, has_body: !body.is_end_stream() });
    }
    let Some(peer) = sender.admit(&snapshot, route_id)? else {
        let refused = sender.into_refusal(&route.providers);
        return Err(delayed_or_refused(connection, &snapshot, (refused, Some(route_id)), &head, body).await);
    };
    let (provider_id, provider) = (peer.provider(), usize::from(peer.provider().0));
    connection.note(|account| account.provider = Some(provider_id));
    let provider_name = &snapshot.identity.provider(provider_id).name;
    check_source(snapshot.sources.get(provider), connection.origin.address().ip(), provider_name)?;
    let bounds = (&snapshot.limits, route.limits.max_body_bytes);
    let (body, mut buffered) = read_body(connection, body, bounds, sender.source(connection)).await?;
    connection.exchange.request_complete();
    let duplicate_status = peer.proof_policy().duplicate_answer();
    let mut request = authenticate(connection, &snapshot, Candidate::new(peer, head, body))
        .await
        .map_err(|refusal| Failure::duplicate(refusal, duplicate_status))?;
    if matches!(sender, Sender::Unknown(_)) {
        connection.exchange.admit().map_err(Failure::after_body)?;
        buffered.proven(request.body()).map_err(Failure::after_body)?;
    }
    let (delivery, proof) = (request.take_reservation(), request.proof());
    let forwarded = Forwarded {
        address: &connection.address_field,
        request_id,
        provider: &snapshot.provider_fields[provider],
        client_cert: route.client_cert,
        strip_prefix: route.strip_prefix.as_ref(),
    };
    let now = connection.server.context.now();
    if let Some(rule) = snapshot.durable(route_id) {
        let began = Instant::now();
        connection.is_begun.set(true);
        let stored = durable::store(&snapshot, (route_id, rule), request, &forwarded, delivery, now).await;
        connection.note(|account| (account.proof, account.stored) = (proof, Some(began.elapsed())));
        return stored.map(Answer::Stored);
    }
    let request = Outgoing::of_authenticated(request, forwarded).noting(&connection.is_begun);
    let held = fleet::claim(&snapshot, route, delivery.as_ref(), duplicate_status, now).await?;
    hand_over(connection, &snapshot, route, request, (delivery, held, proof)).await.map(Answer::OfHandler)
}

/// Forwards a request with this proof to the handler of a direct route, and takes its delivery if the handler did.
async fn hand_over(
    connection: &Connection,
    snapshot: &Snapshot,
    route: &Route,
    request: Outgoing<'_>,
    (delivery, held, proof): (Option<Reservation>, Option<Held>, &'static str),
) -> Result<Response<HandlerBody>, Failure> {
    if delivery.is_some() && snapshot.deliveries.as_ref().is_some_and(|store| store.refuses()) {
        return Err(Failure::after_body(not_kept("The last write of the deliveries that were taken failed.")));
    }
    let limits = HandlerLimits::share(&snapshot.limits, &route.limits, connection.server.context.workers());
    let (handed_over, mut answered) = (Instant::now(), None);
    connection.note(|account| (account.proof, account.handed_over) = (proof, Some(handed_over)));
    let response = connection.server.upstream.forward(&request, route, limits, &mut answered).await;
    if let Some(Answered { at, entry }) = answered {
        let took = at.saturating_duration_since(handed_over);
        connection.note(|account| (account.handler, account.entry) = (Some(took), entry));
    }
    let response = response.map_err(Failure::after_body)?;
    if let Some(delivery) = delivery
        && !response.status().is_server_error()
    {
        keep(snapshot, delivery, connection.server.context.now()).await?;
        fleet::take(snapshot, held).await?;
    }
    Ok(response)
}

/// Marks a delivery as taken, and waits until a restart does not forget it. Copies are duplicates from the start: if it cannot be kept, the
/// sender's next attempt does not reach the handler a second time.
async fn keep(snapshot: &Snapshot, delivery: Reservation, now: UnixTime) -> Result<(), Failure> {
    let Some(store) = &snapshot.deliveries else {
        delivery.commit(now);
        return Ok(());
    };
    let kept = delivery.kept(now).collect();
    delivery.commit(now);
    let kept = store.keep(kept).await;
    kept.map_err(|_| {
        Failure::after_body(not_kept("The handler took the delivery, and it could not be written to the disk."))
    })
}

fn not_kept(detail: &str) -> Refusal {
    Refusal::new(Reject::StateUnavailable, detail)
}

/// The refusal of a certificate that a request to this route needs: delayed, if there is evidence that the sender is who it claims to be.
async fn delayed_or_refused(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    (refused, route): (ChainRefusal, Option<RouteId>),
    head: &Parts,
    body: RequestBody,
) -> Failure {
    let refused = match route {
        Some(route) => suspicion::refused_by_route(connection, snapshot, refused, route),
        None => refused,
    };
    let suspicion::Answer { refusal, body_read } = suspicion::answer(connection, snapshot, refused, head, body).await;
    Failure { body_read, ..Failure::from(refusal) }
}

/// What the connection of a request tells of who sent it.
enum Sender {
    /// Its certificate proves some provider.
    Certified(Arc<VerifiedChain>),
    /// Nothing, and some route of the server name takes requests without a certificate.
    Unknown(Uncertified),
}

impl Sender {
    /// # Errors
    ///
    /// The refusal of the certificate, if every route of the server name needs one.
    fn new(connection: &Connection, snapshot: &Snapshot, verdict: Verdict) -> Result<Self, ChainRefusal> {
        match verdict {
            Ok(chain) => Ok(Self::Certified(chain)),
            Err(refused) => {
                let asked = snapshot.certificate_request(connection.server_name.as_deref());
                Uncertified::new(refused, asked).map(Self::Unknown)
            }
        }
    }

    /// As [`Uncertified::hidden`]. A sender with a certificate may learn what is wrong with its path and method.
    fn hidden(&self) -> Option<Failure> {
        match self {
            Self::Unknown(sender) => sender.hidden().map(Failure::from),
            Self::Certified(_) => None,
        }
    }

    /// As the provider of the route that the certificate proves; otherwise as the one that demands none. `None` if the route needs a
    /// certificate and there is none that was admitted, or one that only claims a provider of the route.
    fn admit(&self, snapshot: &Snapshot, route: RouteId) -> Result<Option<AuthorizedPeer>, Refusal> {
        let (routes, demands) = (&snapshot.routes, &snapshot.demands);
        match self {
            Self::Certified(chain) => {
                let name = |id| Arc::clone(&snapshot.identity.provider(id).name);
                match AuthorizedPeer::admit(chain, routes, route, demands, name) {
                    Err(_) if chain.refusal_as(&routes.route(route).providers).is_some() => Ok(None),
                    admitted => admitted.map(Some),
                }
            }
            Self::Unknown(_) => AuthorizedPeer::without_certificate(routes, route, demands),
        }
    }

    /// The refusal of the certificate at a route of these providers. Only for a sender that [`Sender::admit`] did not admit.
    fn into_refusal(self, providers: &[ProviderId]) -> ChainRefusal {
        match self {
            Self::Unknown(sender) => sender.into_refusal(),
            Self::Certified(chain) => chain.refusal_as(providers).unwrap_or_else(|| unreachable!("`admit` found it")),
        }
    }

    /// What the body of its request counts against.
    fn source(&self, connection: &Connection) -> body::Source {
        match self {
            Self::Certified(_) => body::Source::Certified,
            Self::Unknown(_) if connection.exchange.is_stranger() => body::Source::Stranger,
            Self::Unknown(_) => body::Source::Unproven,
        }
    }
}

/// Checks the request's own proof; a second time if a token names a key that newer keys may have.
async fn authenticate(
    connection: &Connection,
    snapshot: &Snapshot,
    candidate: Candidate,
) -> Result<AuthenticatedRequest, Refusal> {
    let now = connection.server.context.now();
    let judged = snapshot.keys.current();
    let Unauthenticated { candidate, unproven } = match candidate.authenticate(&judged, &snapshot.replay, now) {
        Ok(request) => return Ok(request),
        Err(unauthenticated) => *unauthenticated,
    };
    let Some(source) = unproven.wants_keys else { return Err(unproven.refusal) };
    let judged = Arc::clone(&judged);
    if !snapshot.keys.refreshed(source, &judged).await {
        return Err(unproven.refusal);
    }
    let keys = snapshot.keys.current();
    candidate.authenticate(&keys, &snapshot.replay, now).map_err(|again| again.unproven.refusal)
}

impl Connection {
    /// The snapshot and verdict for a request that begins now. The verdict is renewed when it has run out and after a reload; the refusal
    /// of a certificate is final, also under another snapshot, by which a request without one is judged.
    pub(super) fn current_standing(&self) -> Standing {
        let mut standing = self.standing.borrow_mut();
        let snapshot = self.server.context.snapshot();
        let Standing { snapshot: judged_by, verdict } = &mut *standing;
        let chain = match verdict {
            Ok(chain) => chain,
            Err(refusal) => {
                if snapshot.generation != judged_by.generation {
                    // The ids in it are indices into the providers of the other snapshot.
                    *refusal = match refusal.suspect.take().and_then(|suspect| self.refused_again(&snapshot, &suspect))
                    {
                        Some(again) => again,
                        None => ChainRefusal::unidentified(refusal.refusal.clone(), refusal.on_failure),
                    };
                }
                *judged_by = snapshot;
                return standing.clone();
            }
        };
        let now = self.server.context.now();
        if snapshot.generation == judged_by.generation && now < chain.valid_until() {
            // The verdict stays, and the rest of the snapshot may be newer: ranges and revocation lists come without a new generation.
            *judged_by = snapshot;
            return standing.clone();
        }
        let chain = Arc::clone(chain);
        standing.verdict = self.verify_again(&snapshot, &chain);
        standing.snapshot = snapshot;
        standing.clone()
    }

    /// The refusal of a refused chain by `snapshot`; `None` if that would admit it, which takes a new handshake.
    fn refused_again(&self, snapshot: &Snapshot, suspect: &Suspect) -> Option<ChainRefusal> {
        let Reception::Site(site) = snapshot.reception(self.server_name.as_deref()) else { return None };
        let now = self.server.context.now();
        Some(snapshot.identity.refusal_of_presented(&site.scope, suspect.certificates(), now)?.refusal)
    }

    fn verify_again(&self, snapshot: &Snapshot, chain: &VerifiedChain) -> Verdict {
        let Reception::Site(site) = snapshot.reception(self.server_name.as_deref()) else {
            let refusal = Refusal::new(Reject::UnknownServerName, "No route has this server name any more.");
            return Err(ChainRefusal::unidentified(refusal, OnFailure::Respond));
        };
        admission::judge(&self.server.context, snapshot, &site.scope, PeerChain::of_verified(chain))
    }
}
