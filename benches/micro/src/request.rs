//! Cases of a request: its route, its signature, its fields for the handler, and the response to a refused peer.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookgate::access::{Outcome, Record, Tls};
use hookgate::config::LogFormat;
use hookgate::control::log::with_dropped_events;
use hookgate::http::problem;
use hookgate::upstream::headers::{self, Forwarded};
use hookgate_core::auth::{
    AuthenticatedRequest, AuthorizedPeer, BodySignature, Candidate, Clause, Demands, KeySets, Proof, ProofPolicy,
    ReplayGuard, RequestView, Secret,
};
use hookgate_core::identity::ProviderId;
use hookgate_core::reject::{Refusal, Reject, TypeBase};
use hookgate_core::route::{ClientCert, Handler, Handlers, HostPattern, PathPattern, Route, RouteId, RouteTable};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use ring::hmac;

use crate::Repeat;
use crate::chain::{NOW, verified};

const HOST: &str = "hooks.example.com";
const SECRET: &[u8] = b"an open secret of 32 bytes, fine";
const ADDRESS: HeaderValue = HeaderValue::from_static("192.0.2.7");
const PROVIDER: HeaderValue = HeaderValue::from_static("sender");
const REQUEST_ID: HeaderValue = HeaderValue::from_static("0123456789abcdef0123456789abcdef");

/// The head of a webhook of a sender behind a proxy. Two fields are hop-by-hop, and two may not be set by a sender.
const FIELDS: [(&str, &str); 12] = [
    ("host", HOST),
    ("user-agent", "Sender-Webhook/V3.0"),
    ("accept", "*/*"),
    ("content-type", "application/json"),
    ("content-length", "2048"),
    ("connection", "keep-alive"),
    ("keep-alive", "timeout=5"),
    ("x-webhook-id", "d9d4d5a8-4d3f-4a57-a9f4-0f8a2e0f7c1b"),
    ("x-webhook-subscription", "PZK4LXX"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-request-id", "theirs"),
];

fn fields() -> HeaderMap {
    FIELDS.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Twelve routes, half of them with a host.
fn routes() -> RouteTable {
    let route = |index: usize, host: Option<&str>, path: PathPattern| {
        let handler = Handlers::new(Handler::unix("/run/app.sock"), []);
        let route = Route::new(format!("route-{index}"), path, vec![ProviderId(0)], handler);
        Route { host: host.map_or(HostPattern::Every, HostPattern::new), ..route }
    };
    let exact = (0..6).map(|index| route(index, Some(HOST), PathPattern::Exact(format!("/hooks/{index}").into())));
    let prefix = (6..12).map(|index| route(index, None, PathPattern::Prefix(format!("/team/{index}/").into())));
    RouteTable::new(exact.chain(prefix).collect())
}

/// Logs an answered request, up to the queue of the thread that writes.
pub(crate) fn log_answered(repeat: &mut dyn Repeat) {
    let request_id = REQUEST_ID;
    let record = Record {
        status: Some(200),
        provider: Some("pagerduty"),
        profile: Some("default"),
        subject: Some("CN=webhooks.pagerduty.com,O=PagerDuty\\, Inc.,L=San Francisco,ST=California,C=US"),
        proof: "certificate, signature",
        route: Some("pagerduty"),
        method: Some("POST"),
        path: Some("/pagerduty"),
        server_name: Some(HOST),
        request_id: request_id.to_str().ok(),
        tls: Some(Tls { version: "1.3", suite: "TLS_AES_128_GCM_SHA256", resumed: false }),
        bytes_in: Some(1024),
        bytes_out: Some(2),
        to_handler: Some(Duration::from_micros(61)),
        handler: Some(Duration::from_micros(1234)),
        duration: Some(Duration::from_micros(1377)),
        ..Record::new("192.0.2.7:51544", 0)
    };
    let repeated = with_dropped_events(LogFormat::Text, || {
        repeat.repeat(&mut || (), &mut || black_box(&record).log(Outcome::Answered));
    });
    repeated.expect("the system has a thread");
}

/// Finds the last route of a host.
pub(crate) fn route_found(repeat: &mut dyn Repeat) {
    let routes = routes();
    repeat.repeat(&mut || (), &mut || {
        let found = routes.find(black_box(HOST), black_box("/hooks/5"), &Method::POST);
        assert_eq!(found, Ok(RouteId(5)));
    });
}

/// Checks an HMAC-SHA-256 over a body of 2 KiB, made with the first of two secrets.
pub(crate) fn signature_2k(repeat: &mut dyn Repeat) {
    let body = [b'x'; 2048];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &body);
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut headers = fields();
    let value = HeaderValue::try_from(format!("v1={digits}")).expect("hexadecimal digits are a header value");
    headers.insert("x-pagerduty-signature", value);
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec()).expect("the secrets of the case are long enough");
    let rule = BodySignature::pagerduty(&[secret(SECRET), secret(b"the one before, of as many bytes")]);
    let rule = rule.expect("two secrets make a rule");
    let policy = ProofPolicy::all(vec![Clause::One(Proof::Signature(rule))]).expect("one clause makes a policy");
    let (keys, guard) = (KeySets::empty(0), Arc::new(ReplayGuard::new(16)));
    let view =
        RequestView { method: &Method::POST, path: "/hooks/5", headers: &headers, body: &body, received_at: NOW };
    repeat.repeat(&mut || (), &mut || assert!(policy.check(black_box(&view), &keys, &guard).is_ok()));
}

/// Removes and adds fields for the handler. The request is made before.
pub(crate) fn headers_for_handler(repeat: &mut dyn Repeat) {
    let demands = Demands::new(vec![Arc::new(ProofPolicy::certificate_alone())], Vec::new());
    let peer = AuthorizedPeer::admit(&verified(), &routes(), RouteId(5), &demands, |_| "sender".into());
    let peer = peer.unwrap_or_else(|refusal| panic!("the peer is refused: {refusal}"));
    let forwarded = Forwarded {
        address: &ADDRESS,
        request_id: &REQUEST_ID,
        provider: &PROVIDER,
        client_cert: ClientCert::EndEntity,
        strip_prefix: None,
    };
    let requests = RefCell::new(Vec::new());
    repeat.repeat(&mut || requests.borrow_mut().push(authenticated(&peer)), &mut || {
        let request = requests.borrow_mut().pop().expect("each repetition was prepared");
        let outgoing = headers::outgoing(black_box(&request), &forwarded);
        assert!(outgoing.headers().contains_key(headers::X_HOOKGATE_SUBJECT));
    });
}

fn authenticated(peer: &AuthorizedPeer) -> AuthenticatedRequest {
    let mut request = Request::post("/hooks/5?source=bench").body(()).expect("the target of the case is valid");
    *request.headers_mut() = fields();
    let candidate = Candidate::new(peer.clone(), request.into_parts().0, Bytes::from_static(&[b'x'; 2048]));
    let authenticated = candidate.authenticate(&KeySets::empty(0), &Arc::new(ReplayGuard::new(16)), NOW);
    authenticated.unwrap_or_else(|_| panic!("the certificate alone should suffice"))
}

/// Makes the response to a peer with an expired certificate.
pub(crate) fn problem_response(repeat: &mut dyn Repeat) {
    let detail = "The certificate with subject \"CN=webhooks.sender.example\" expired at 2030-01-01T00:00:00Z.";
    let refusal = Refusal::new(Reject::CertificateExpired, detail);
    let types = TypeBase::default();
    repeat.repeat(&mut || (), &mut || {
        let response = problem::response(black_box(&refusal), &REQUEST_ID, &types, &[], true);
        assert_eq!(response.status(), 403);
    });
}
