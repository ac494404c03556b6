//! The steps of a request: verdict, host, path, route, admission, source, body, proof, handler. Each runs only if the step before it
//! succeeded.
//!
//! Owns the order, and what is noted of it in the account. Must not decide what `route`, `auth` and `identity` decide.

use std::borrow::Cow;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use rustls_pki_types::UnixTime;

use super::answer::AnswerBody;
use super::body::{self, read_body};
use super::connection::{Connection, Standing};
use super::uncertified::Uncertified;
use super::verdicts::{check_source, missed};
use super::{durable, problem, suspicion};
use crate::admission::{self, Verdict};
use crate::snapshot::{Reception, Snapshot};
use crate::upstream::headers::{Forwarded, X_REQUEST_ID};
use crate::upstream::{HandlerBody, HandlerLimits, Outgoing};
use hookgate_core::auth::{AuthenticatedRequest, AuthorizedPeer, Candidate, Reservation, Unauthenticated};
use hookgate_core::identity::{ChainRefusal, OnFailure, PeerChain, ProviderId, Suspect, VerifiedChain};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Handler, Miss, RouteId};

/// Answers one request. Never fails: an error is an answer.
pub(super) async fn handle(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    connection.exchange.head_complete();
    let request_id = connection.open_account(request.method(), request.uri().path_and_query());
    let outcome = process(&connection, request, &request_id).await;
    let response = match outcome {
        Ok(Answer::OfHandler(response)) => accepted(&connection, response, request_id),
        Ok(Answer::Stored(status)) => empty(&connection, status, &request_id),
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
    let is_refused = connection.standing.borrow().verdict.is_err() && !connection.exchange.is_proven();
    let close = is_refused || !body_read || connection.server.context.is_draining();
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

/// Who answers a request that every check has passed.
#[expect(
    clippy::large_enum_variant,
    reason = "it is returned at once, and a box would be an allocation for each request"
)]
enum Answer {
    /// The handler.
    OfHandler(Response<HandlerBody>),
    /// hookgate, because the delivery is stored.
    Stored(StatusCode),
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
    request: Request<Incoming>,
    request_id: &HeaderValue,
) -> Result<Answer, Failure> {
    let (head, body) = request.into_parts();
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
    let Some(peer) = sender.admit(&snapshot, route_id)? else {
        let refused = sender.into_refusal(&route.providers);
        return Err(delayed_or_refused(connection, &snapshot, (refused, Some(route_id)), &head, body).await);
    };
    let (provider_id, provider) = (peer.provider(), usize::from(peer.provider().0));
    connection.note(|account| account.provider = Some(provider_id));
    let provider_name = &snapshot.identity.provider(provider_id).name;
    check_source(snapshot.sources.get(provider), connection.origin.address().ip(), provider_name)?;
    let (body, mut buffered) = read_body(connection, body, &snapshot.limits, sender.source(connection)).await?;
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
        chain: route.client_cert_chain,
    };
    let now = connection.server.context.now();
    if let Some(rule) = snapshot.durable(route_id) {
        let began = Instant::now();
        let stored = durable::store(&snapshot, (route_id, rule), request, &forwarded, delivery, now).await;
        connection.note(|account| (account.proof, account.stored) = (proof, Some(began.elapsed())));
        return stored.map(Answer::Stored);
    }
    let request = Outgoing::of_authenticated(request, forwarded);
    hand_over(connection, &snapshot, &route.handler, request, (delivery, proof)).await.map(Answer::OfHandler)
}

/// Forwards a request with this proof to the handler of a direct route, and takes its delivery if the handler did.
async fn hand_over(
    connection: &Connection,
    snapshot: &Snapshot,
    handler: &Handler,
    request: Outgoing<'_>,
    (delivery, proof): (Option<Reservation>, &'static str),
) -> Result<Response<HandlerBody>, Failure> {
    if delivery.is_some() && snapshot.deliveries.as_ref().is_some_and(|store| store.refuses()) {
        return Err(Failure::after_body(not_kept("The last write of the deliveries that were taken failed.")));
    }
    let limits = HandlerLimits::share(&snapshot.limits, connection.server.context.workers());
    let (handed_over, mut answered) = (Instant::now(), None);
    connection.note(|account| (account.proof, account.handed_over) = (proof, Some(handed_over)));
    let response = connection.server.upstream.forward(&request, handler, limits, &mut answered).await;
    connection.note(|account| account.handler = answered.map(|then| then.saturating_duration_since(handed_over)));
    let response = response.map_err(Failure::after_body)?;
    if let Some(delivery) = delivery
        && !response.status().is_server_error()
    {
        keep(snapshot, delivery, connection.server.context.now()).await?;
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
    body: Incoming,
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
    fn current_standing(&self) -> Standing {
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

/// The host that the request is for, in lower case, without port and trailing dot; empty if an HTTP/1.0 request names none. Usually it
/// equals the `server_name` of the connection, and then nothing is parsed.
///
/// # Errors
///
/// `malformed_request`: there is no one host, or it is not well-formed.
pub fn requested_host<'a>(head: &Parts, server_name: Option<&'a str>) -> Result<Cow<'a, str>, Refusal> {
    let Parts { uri, headers, version, .. } = head;
    let malformed = |detail: &str| Refusal::new(Reject::MalformedRequest, detail);
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(malformed("The request has more than one Host field (RFC 9112, section 3.2)."));
    }
    if field.is_none() && *version == Version::HTTP_11 {
        return Err(malformed("The request has no Host field (RFC 9112, section 3.2)."));
    }
    let parsed;
    let authority = match (uri.authority(), field) {
        (Some(authority), _) => authority,
        (None, None) => return Ok(Cow::Borrowed("")),
        (None, Some(field)) if field.is_empty() => return Ok(Cow::Borrowed("")),
        (None, Some(field)) => {
            if let Some(name) = server_name.filter(|name| field == name && !name.ends_with('.')) {
                return Ok(Cow::Borrowed(name));
            }
            parsed = Authority::try_from(field.as_bytes()).map_err(|_| {
                malformed("The Host field is not a host with an optional port (RFC 9110, section 7.2).")
            })?;
            &parsed
        }
    };
    if authority.as_str().contains('@') {
        return Err(malformed("The host must not carry user information (RFC 9110, section 4.2.4)."));
    }
    let host = authority.host();
    // RFC 3986, section 3.2.3: a colon and digits, possibly none. The parser accepts more: a handler could take another part of
    // `[::1]8443` or `host:a` for the host. 65535 is the largest port of TCP.
    let is_port = |rest: &str| {
        let port = rest.strip_prefix(':');
        port.is_some_and(|port| {
            port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        })
    };
    if !authority.as_str().strip_prefix(host).is_some_and(|rest| rest.is_empty() || is_port(rest)) {
        return Err(malformed(
            "The host is followed by something else than a port up to 65535 (RFC 9110, section 7.2).",
        ));
    }
    Ok(Cow::Owned(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()))
}

/// A connection is verified for one server name; a request for another host needs another connection (RFC 9110, 15.5.20).
///
/// # Errors
///
/// `misdirected`.
pub fn check_direction(server_name: Option<&str>, host: &str) -> Result<(), Refusal> {
    match server_name {
        Some(server_name) if server_name != host => Err(Refusal::new(
            Reject::Misdirected,
            format!(
                "This connection is for the server name \"{server_name}\", not for the host of the request; open a connection for each host, \
                 with it as the server name."
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// hyper undoes `chunked`, and ignores what comes before it; a handler would take a body that is still coded for the body itself.
///
/// # Errors
///
/// `transfer_coding_unknown`, or `malformed_request` if `chunked` is applied twice.
pub(super) fn check_coding(headers: &HeaderMap, body: &Incoming) -> Result<(), Refusal> {
    if body.size_hint().exact().is_some() {
        return Ok(());
    }
    let fields = headers.get_all(TRANSFER_ENCODING).iter();
    let codings = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let (chunked, other): (Vec<&[u8]>, Vec<&[u8]>) =
        codings.filter(|coding| !coding.is_empty()).partition(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    match (chunked.len(), other.len()) {
        (1, 0) => Ok(()),
        (_, 0) => {
            let detail = "The body has the transfer coding \"chunked\" more than once (RFC 9112, section 6.1).";
            Err(Refusal::new(Reject::MalformedRequest, detail))
        }
        _ => {
            let detail =
                "The body has a transfer coding other than \"chunked\"; send it without, or as a Content-Encoding.";
            Err(Refusal::new(Reject::TransferCodingUnknown, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    #[test]
    fn the_host_is_the_one_of_the_target_or_of_the_one_host_field() {
        let check = |uri: &str, hosts: &[&str], version: Version, expected: Result<&str, ()>| {
            let mut request = Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let head = request.body(()).unwrap().into_parts().0;
            // The name of the connection, which some of the hosts are, changes nothing.
            for server_name in [None, Some("hooks.example.com"), Some("hooks.example.com.")] {
                let found = requested_host(&head, server_name).map_err(|_| ());
                assert_eq!(found.as_deref(), expected.as_ref().copied(), "{uri} {hosts:?} {server_name:?}");
            }
        };
        check("/", &["Hooks.Example.com"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com:8443"], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["hooks.example.com."], Version::HTTP_11, Ok("hooks.example.com"));
        check("/", &["[::1]:443"], Version::HTTP_11, Ok("[::1]"));
        check("https://a.example/", &["b.example"], Version::HTTP_11, Ok("a.example"));
        check("/", &[""], Version::HTTP_11, Ok(""));
        check("/", &[], Version::HTTP_10, Ok(""));
        check("/", &[], Version::HTTP_11, Err(()));
        check("/", &["a", "a"], Version::HTTP_11, Err(()));
        check("/", &["user@a"], Version::HTTP_11, Err(()));
        check("/", &["a b"], Version::HTTP_11, Err(()));
        check("/", &["a/b"], Version::HTTP_11, Err(()));
        check("/", &["a:"], Version::HTTP_11, Ok("a"));
        check("/", &["a:65535"], Version::HTTP_11, Ok("a"));
        check("/", &["[::1]:0443"], Version::HTTP_11, Ok("[::1]"));
        for port in [":abc", ":65536", ":99999", ":+443", ":-1", ":443:443", ":4 4"] {
            check("/", &[&format!("a{port}")], Version::HTTP_11, Err(()));
            check("/", &[&format!("[::1]{port}")], Version::HTTP_11, Err(()));
        }
        check("/", &["[::1]8443"], Version::HTTP_11, Err(()));
        check("/", &["[::1]a.example"], Version::HTTP_11, Err(()));
        check("https://[::1]a.example/", &["b"], Version::HTTP_11, Err(()));
    }

    #[test]
    fn a_host_other_than_the_server_name_is_misdirected() {
        assert!(check_direction(Some("a.example"), "a.example").is_ok());
        assert!(check_direction(None, "a.example").is_ok());
        assert_eq!(check_direction(Some("a.example"), "b.example").unwrap_err().reject, Reject::Misdirected);
        assert_eq!(check_direction(Some("a.example"), "").unwrap_err().reject, Reject::Misdirected);
    }
}
