//! The account of a request: what is known of it until the kernel has its answer, or until it is certain that the peer does not get it.
//!
//! Owns that each request is counted once and has one event at most, and whose snapshot its ids belong to. A connection has one account at
//! a time, in place, so a request allocates nothing for it. Must not decide what is refused, nor what an event says: [`crate::access`] does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, StatusCode, Version};

use super::connection::{Connection, Standing};
use crate::access::{Outcome, Record};
use crate::cause::Cause;
use crate::metrics::requests::RequestLabels;
use crate::recent::{Note, What};
use hookgate_core::identity::{ProviderId, VerifiedChain};
use hookgate_core::reject::{Refusal, Reject};
use hookgate_core::route::{Handlers, Route, RouteId};

/// The status in metrics and log for a peer that went away before its answer, as in nginx.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What is known of the request that a connection serves. Ids belong to the snapshot of the connection's [`Standing`], which changes only
/// when the next request begins.
pub(super) struct Account {
    request_id: HeaderValue,
    /// When the head was complete.
    began: Instant,
    method: Method,
    version: Version,
    /// The target with its query, of which the log has the path alone.
    target: Option<PathAndQuery>,
    /// The route that was found.
    pub(super) route: Option<RouteId>,
    /// The provider that the peer was admitted as.
    pub(super) provider: Option<ProviderId>,
    /// Of a refused certificate: the provider of the route that it claims or whose name it nearly has. It sent nothing that counts as a request
    /// of that provider.
    pub(super) claimed: Option<ProviderId>,
    /// What the request proved; empty before.
    pub(super) proof: &'static str,
    /// Bytes of its body that were read.
    pub(super) bytes_in: u64,
    /// Bytes of the body of its answer that hyper has taken.
    pub(super) bytes_out: u64,
    /// When it was handed over to the handler.
    pub(super) handed_over: Option<Instant>,
    /// The time from there to the head of the handler's answer.
    pub(super) handler: Option<Duration>,
    /// Of several handlers, which one answered: its index in the list of the route.
    pub(super) entry: usize,
    /// The time until it was stored, or not: of a durable route.
    pub(super) stored: Option<Duration>,
    /// Why it was refused; of a duplicate, that it is one.
    refusal: Option<Refusal>,
    /// It is a duplicate, to which the configured answer is given.
    is_duplicate: bool,
    /// The status of the answer, and the time from `began` to its head.
    answered: Option<(u16, Duration)>,
}

impl Account {
    fn new<B>(request_id: HeaderValue, request: &Request<B>) -> Self {
        Self {
            request_id,
            began: Instant::now(),
            method: request.method().clone(),
            version: request.version(),
            target: request.uri().path_and_query().cloned(),
            route: None,
            provider: None,
            claimed: None,
            proof: "",
            bytes_in: 0,
            bytes_out: 0,
            handed_over: None,
            handler: None,
            entry: 0,
            stored: None,
            refusal: None,
            is_duplicate: false,
            answered: None,
        }
    }

    /// The provider that it is about, whether it was admitted as that or not.
    fn concerned(&self) -> Option<ProviderId> {
        self.provider.or(self.claimed)
    }

    /// The status of the answer, or of none.
    fn status(&self) -> u16 {
        self.answered.map_or(CLIENT_CLOSED_REQUEST, |(status, _)| status)
    }

    /// The time to the hand-over, and from there to the answer or failure.
    fn times(&self) -> (Option<Duration>, Option<Duration>) {
        let to_handler = self.handed_over.map(|then| then.saturating_duration_since(self.began));
        let failed_after = || Some(self.answered?.1.saturating_sub(to_handler?));
        (to_handler, self.handler.or_else(failed_after))
    }
}

impl Connection {
    /// Begins the account of a request, whose head is complete. Returns its id.
    pub(super) fn open_account<B>(&self, request: &Request<B>) -> HeaderValue {
        // A peer may send its next request before the kernel had the last answer.
        self.close_account(Outcome::Answered);
        let request_id = self.server.context.request_id();
        self.has_served.set(true);
        let account = Account::new(request_id.clone(), request);
        self.account.replace(Some(account));
        request_id
    }

    /// Notes something in the account, if there is one.
    pub(super) fn note(&self, change: impl FnOnce(&mut Account)) {
        if let Some(account) = &mut *self.account.borrow_mut() {
            change(account);
        }
    }

    /// The head of the answer is known: counts the request.
    pub(super) fn answered(&self, status: StatusCode) {
        self.note(|account| self.count(account, status.as_u16()));
    }

    /// The request is refused: counts that, and keeps the reason for the log.
    pub(super) fn refused(&self, refusal: Refusal) {
        self.note(|account| {
            self.count_refusal(&refusal, Some(account));
            self.note_refused_request(&refusal, account);
            account.refusal = Some(refusal);
        });
    }

    /// The request is a duplicate, which is answered as configured: no rejection.
    pub(super) fn recognized(&self, refusal: Refusal) {
        self.note(|account| {
            let standing = self.standing.borrow();
            self.server.context.meters.requests.duplicate(labels(&standing, account.route, account.provider));
            account.refusal = Some(refusal);
            account.is_duplicate = true;
        });
    }

    /// The answer breaks off, for `refusal`: counts that, and ends the account. Without an account it is that of a peer without a request.
    pub(super) fn cut(&self, refusal: Refusal) {
        if self.account.borrow().is_none() {
            return self.refused_without_request(&refusal, None);
        }
        self.refused(refusal);
        self.close_account(Outcome::Cut);
    }

    /// Ends the account, if there is one: the request is logged as `outcome`, or as refused if it was.
    pub(super) fn close_account(&self, outcome: Outcome) {
        let Some(mut account) = self.account.take() else { return };
        if account.answered.is_none() {
            self.count(&mut account, CLIENT_CLOSED_REQUEST);
        }
        let standing = self.standing.borrow();
        let (status, bytes) = (account.status(), (account.bytes_in, account.bytes_out));
        self.server.context.meters.requests.moved(labels(&standing, account.route, account.provider), status, bytes);
        let is_refused = account.refusal.is_some() && !account.is_duplicate;
        let outcome = if is_refused && outcome != Outcome::Cut { Outcome::Refused } else { outcome };
        self.log(&standing, &account, outcome);
    }

    /// Counts and logs a refusal of a peer whose bytes are no request, or that gave way before one. `request_id` is that of the answer.
    pub(super) fn refused_without_request(&self, refusal: &Refusal, request_id: Option<&HeaderValue>) {
        self.has_served.set(true);
        self.count_refusal(refusal, None);
        let standing = self.standing.borrow();
        let cause = self.cause(&standing, Some(refusal));
        let status = request_id.map(|_| refusal.status());
        self.note_refusal(&standing, refusal, |note| {
            let id = request_id.and_then(|id| id.to_str().ok());
            Note { status, request_id: id.map(Box::from), ..note }
        });
        let record = Record { refusal: Some(refusal), status, cause, ..self.record(&standing) };
        let record = Record { request_id: request_id.and_then(|id| id.to_str().ok()), ..record };
        if standing.snapshot.access.want(Outcome::Refused, cause) {
            record.log(Outcome::Refused);
        }
    }

    /// The connection ends. If its certificate was refused and no request came to be answered, only the log can tell.
    pub(super) fn log_if_silent(&self) {
        let standing = self.standing.borrow();
        let Some(refused) = standing.verdict.as_ref().err().filter(|_| !self.has_served.get()) else { return };
        let is_absent = refused.refusal.reject == Reject::NoCertificate;
        let outcome = if is_absent { Outcome::HandshakeEnded } else { Outcome::HandshakeRefused };
        let cause = Some(Cause::Stranger);
        if !is_absent {
            self.note_refusal(&standing, &refused.refusal, |note| Note { what: What::Handshake, ..note });
        }
        if standing.snapshot.access.want(outcome, cause) {
            Record { refusal: Some(&refused.refusal), cause, ..self.record(&standing) }.log(outcome);
        }
    }

    fn count(&self, account: &mut Account, status: u16) {
        let elapsed = account.began.elapsed();
        account.answered = Some((status, elapsed));
        let standing = self.standing.borrow();
        let labels = labels(&standing, account.route, account.provider);
        let meters = &self.server.context.meters.requests;
        meters.answered(labels, status, elapsed, account.handler);
        if let (None, Some(duration), Some(id)) = (labels.handler, account.handler, account.route)
            && let route = standing.snapshot.routes.route(id)
            && let Some(entry) = route.handlers().and_then(|handlers| handlers.entries().get(account.entry))
        {
            meters.answered_by(entry.handler.label(), &route.name, duration);
        }
    }

    fn count_refusal(&self, refusal: &Refusal, account: Option<&Account>) {
        let standing = self.standing.borrow();
        let (route, provider) = account.map_or((None, None), |account| (account.route, account.concerned()));
        let provider = provider.or_else(|| standing.provider());
        self.server.context.meters.requests.rejected(refusal.reject, labels(&standing, route, provider));
    }

    /// Notes the refusal of a request for whoever asks why.
    fn note_refused_request(&self, refusal: &Refusal, account: &Account) {
        let standing = self.standing.borrow();
        self.note_refusal(&standing, refusal, |note| {
            let snapshot = &standing.snapshot;
            let path = account.target.as_ref().filter(|_| snapshot.access.path).map(PathAndQuery::path);
            let note = note.of_request(account.request_id.to_str().ok(), account.method.as_str(), path);
            let route = account.route.map(|id| Arc::clone(&snapshot.routes.route(id).name));
            let note = Note { status: Some(refusal.status()), route, ..note };
            match account.concerned() {
                Some(id) => note.of_providers([Arc::clone(&snapshot.identity.provider(id).name)]),
                None => note,
            }
        });
    }

    /// Notes a refusal, with what is known of the connection and what `add` adds.
    fn note_refusal(&self, standing: &Standing, refusal: &Refusal, add: impl FnOnce(Note) -> Note) {
        let snapshot = &standing.snapshot;
        let address = self.origin.address();
        snapshot.recent.note(refusal.reject, address.ip(), || {
            let ids = match &standing.verdict {
                Ok(chain) => chain.matches().iter().map(|found| found.provider).collect(),
                Err(refused) => Vec::from_iter(refused.provider),
            };
            let chain = match &standing.verdict {
                Ok(chain) => Some(chain.shared().clone()),
                Err(refused) => refused.presented.clone(),
            };
            let note = Note::new(What::Request, refusal, self.server.context.now(), address);
            let note = Note { generation: snapshot.generation, proxy: self.origin.proxy(), chain, ..note };
            let names = ids.into_iter().map(|id| Arc::clone(&snapshot.identity.provider(id).name));
            add(note.at_server_name(self.server_name.as_deref()).of_providers(names))
        });
    }

    /// Who causes an event. `None` of an answered request.
    fn cause(&self, standing: &Standing, refusal: Option<&Refusal>) -> Option<Cause> {
        let is_proven = standing.verdict.is_ok() || self.exchange.is_proven();
        Some(match refusal {
            Some(refusal) => Cause::of(refusal.reject, is_proven),
            None if is_proven => Cause::Sender,
            None => Cause::Stranger,
        })
    }

    fn log(&self, standing: &Standing, account: &Account, outcome: Outcome) {
        let rules = &standing.snapshot.access;
        let is_answered = outcome == Outcome::Answered;
        // Strangers, whom a public route answers, must not hide what senders got.
        let is_of_sender = is_answered && (standing.verdict.is_ok() || self.exchange.is_proven());
        let cause = if is_of_sender { None } else { self.cause(standing, account.refusal.as_ref()) };
        if !rules.want(outcome, cause) || is_of_sender && !self.server.context.is_sampled(rules.sample) {
            return;
        }
        let (to_handler, handler) = account.times();
        let snapshot = &standing.snapshot;
        Record {
            refusal: account.refusal.as_ref(),
            status: Some(account.status()),
            provider: account
                .concerned()
                .or_else(|| standing.provider())
                .map(|id| &*snapshot.identity.provider(id).name),
            profile: profile(standing, account.concerned()),
            proof: account.proof,
            route: account.route.map(|id| &*snapshot.routes.route(id).name),
            method: Some(account.method.as_str()),
            http_version: http_version(account.version),
            path: account.target.as_ref().filter(|_| rules.path).map(PathAndQuery::path),
            request_id: account.request_id.to_str().ok(),
            bytes_in: Some(account.bytes_in),
            bytes_out: Some(account.bytes_out),
            to_handler,
            handler,
            stored: account.stored,
            duration: Some(account.began.elapsed()),
            sample: if is_of_sender { rules.sample } else { 1 },
            cause,
            ..self.record(standing)
        }
        .log(outcome);
    }

    /// What is the same for every event of the connection.
    fn record<'a>(&'a self, standing: &'a Standing) -> Record<'a> {
        let provider = standing.provider().map(|id| &*standing.snapshot.identity.provider(id).name);
        let peer = self.peer.get_or_init(|| self.origin.address().to_string().into());
        let proxy = self.origin.proxy().map(|proxy| &**self.proxy.get_or_init(|| proxy.to_string().into()));
        Record {
            proxy,
            provider,
            subject: standing.verdict.as_ref().ok().map(|chain| chain.subject()),
            server_name: self.server_name.as_deref(),
            tls: Some(self.tls),
            ..Record::new(peer, self.server.context.index())
        }
    }
}

/// The profile by which the chain of the connection proves `provider`, or else the only provider that it proves.
fn profile(standing: &Standing, provider: Option<ProviderId>) -> Option<&str> {
    let chain: &Arc<VerifiedChain> = standing.verdict.as_ref().ok()?;
    let found = chain.matched(provider.or_else(|| standing.provider())?)?;
    let profiles = &standing.snapshot.identity.provider(found.provider).profiles;
    Some(&profiles.get(usize::from(found.profile))?.name)
}

/// As the log has it.
fn http_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// The labels of metrics about a request.
fn labels(standing: &Standing, route: Option<RouteId>, provider: Option<ProviderId>) -> RequestLabels<'_> {
    let route = route.map(|id| standing.snapshot.routes.route(id));
    let only = route.and_then(Route::handlers).and_then(Handlers::only);
    let provider = provider.map(|id| &standing.snapshot.identity.provider(id).name);
    RequestLabels { route: route.map(|route| &route.name), handler: only.map(|entry| entry.handler.label()), provider }
}
