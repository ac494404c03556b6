//! The admin side: `/metrics`, `/healthz`, `/readyz`, `/status` and `/status.json`, for programs and people of this host.
//!
//! Owns the paths and the headers of their answers. [`super::endpoint`] owns the connections, [`facts`] the data, [`page`] the HTML. It has
//! no authentication: only a loopback address or a Unix socket reaches it. Must not change anything: every path only tells.
//!
//! A page asks the control loop for the facts ([`Question`]), so that no lock is held and nothing is collected that nobody reads. `/healthz`
//! and `/readyz` do not wait for the loop.

pub(super) mod collect;
pub(super) mod facts;
pub(super) mod history;
pub(super) mod observer;
mod page;
pub(super) mod phase;
mod plot;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::{mpsc, oneshot};

use self::facts::Facts;
use self::phase::{Health, Phase};
use super::endpoint::{Answer, Paced, Pages, answer, method_refused, plain};
use super::exposition::{self, Exposition};

/// Least time between two collections of facts with their pages, so that a flood of requests costs the control thread at most four a second.
const COLLECT_INTERVAL: Duration = Duration::from_millis(250);

/// Questions that wait for the control loop. One at a time is asked, so more would not help.
const QUESTIONS: usize = 1;

/// A question for the facts of the moment.
pub(super) type Question = oneshot::Sender<Arc<Facts>>;

/// Who may be named as the host of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// Any: no browser reaches a Unix socket.
    Any,
    /// This host, by a loopback address or `localhost`. A page of a foreign name that resolves to this host (DNS rebinding) is another origin's.
    Loopback,
}

/// The facts of one moment, as they are served.
#[derive(Clone)]
struct Status {
    page: Bytes,
    json: Bytes,
}

/// The pages.
pub(super) struct AdminPages {
    hosts: Hosts,
    exposition: Arc<Exposition>,
    health: Arc<Health>,
    questions: mpsc::Sender<Question>,
    status: Paced<Option<Status>>,
    policy: HeaderValue,
}

impl AdminPages {
    /// The pages, and the questions that the control loop has to answer.
    pub(super) fn new(
        hosts: Hosts,
        exposition: Arc<Exposition>,
        health: Arc<Health>,
    ) -> (Self, mpsc::Receiver<Question>) {
        let (questions, inbox) = mpsc::channel(QUESTIONS);
        let policy = HeaderValue::from_str(&page::content_security_policy())
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        (Self { hosts, exposition, health, questions, status: Paced::new(COLLECT_INTERVAL), policy }, inbox)
    }

    async fn respond(&self, request: &Parts) -> Answer {
        if self.hosts == Hosts::Loopback && !is_of_this_host(request) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "use a loopback address or localhost as the host\n");
        }
        let path = request.uri.path();
        if !PATHS.contains(&path) {
            let text = "here are /status, /status.json, /metrics, /healthz and /readyz\n";
            return plain(StatusCode::NOT_FOUND, text);
        }
        if let Some(refused) = method_refused(&request.method) {
            return refused;
        }
        match path {
            exposition::PATH => self.exposition.page().await,
            "/healthz" => self.healthz(),
            "/readyz" => self.readyz(),
            "/" => {
                let mut answer = plain(StatusCode::TEMPORARY_REDIRECT, "see /status\n");
                answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/status"));
                answer
            }
            path => self.status(path == "/status.json").await,
        }
    }

    fn healthz(&self) -> Answer {
        match self.health.is_live() {
            true => plain(StatusCode::OK, "live\n"),
            false => plain(StatusCode::SERVICE_UNAVAILABLE, "a worker shows no life; the log says which\n"),
        }
    }

    fn readyz(&self) -> Answer {
        match self.health.phase() {
            Phase::Serving => plain(StatusCode::OK, "ready\n"),
            Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Phase::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }

    async fn status(&self, as_json: bool) -> Answer {
        let status = match self.health.phase() {
            Phase::Starting => None,
            Phase::Serving | Phase::Draining => self.status.current(|| self.ask()).await,
        };
        match status {
            None => plain(StatusCode::SERVICE_UNAVAILABLE, "starting, or ending\n"),
            Some(Status { json, .. }) if as_json => answer(StatusCode::OK, "application/json", json),
            Some(Status { page, .. }) => answer(StatusCode::OK, "text/html; charset=utf-8", page),
        }
    }

    /// The status, of facts from the control loop; `None` if it has ended.
    async fn ask(&self) -> Option<Status> {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.ok()?;
        let facts: Arc<Facts> = answer.await.ok()?;
        // Plain data always serializes.
        let json = serde_json::to_vec(&*facts).unwrap_or_default().into();
        Some(Status { page: page::page(&facts).into_string().into(), json })
    }
}

/// Every path.
const PATHS: [&str; 6] = ["/", "/status", "/status.json", exposition::PATH, "/healthz", "/readyz"];

impl Pages for AdminPages {
    async fn answer(&self, request: Parts) -> Answer {
        let mut answer = self.respond(&request).await;
        protect(answer.headers_mut(), &self.policy);
        answer
    }
}

/// Nothing of an answer is stored, framed, sniffed, or loads or runs anything.
fn protect(headers: &mut HeaderMap, policy: &HeaderValue) {
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    let fixed = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether a request names this host: its one Host field, and its target if that has a host.
fn is_of_this_host(request: &Parts) -> bool {
    let mut fields = request.headers.get_all(HOST).iter();
    let field = fields.next().and_then(|field| field.to_str().ok());
    let is_one = fields.next().is_none();
    let target = request.uri.authority().is_none_or(|authority| is_loopback(authority.as_str()));
    is_one && target && field.is_some_and(is_loopback)
}

/// Whether `host`, with an optional port, is `localhost` or a loopback address as it is written in a URL.
fn is_loopback(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !bare.ends_with(':') => bare,
        _ => host,
    };
    if bare.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address: Option<IpAddr> = match bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')) {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        None => bare.parse().ok().filter(IpAddr::is_ipv4),
    };
    address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
