//! Target `head`: the head of a request, as the parser of hyper leaves it.
//!
//! Input: the bytes of an HTTP/1.1 head. The requested host, the route and the fields for the handler are judged.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hookgate::http::{check_direction, requested_host};
use hookgate::upstream::headers::{self, Forwarded};
use hookgate_core::auth::{AuthorizedPeer, Candidate, Demands, KeySets, ProofPolicy, ReplayGuard};
use hookgate_core::identity::ProviderId;
use hookgate_core::route::{
    ClientCert, Handler, Handlers, HostPattern, Miss, PathPattern, Route, RouteId, RouteTable, reading,
};
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

use crate::policy::{NOW, verified};

const SITE: &str = "hooks.example.com";
const OURS: HeaderValue = HeaderValue::from_static("set-by-the-gateway");

/// Names that a handler must never get from a peer, as an interface like CGI sees them. Those that end with `-` are prefixes.
const RESERVED: [&str; 13] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "proxy",
    "x-forwarded-",
    "x-hookgate-",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

/// The fields of a connection (RFC 9110, section 7.6.1), and those of the framing.
const CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let route = |name: &str, host: Option<&str>, path: PathPattern| Route {
        host: host.map_or(HostPattern::Every, HostPattern::new),
        methods: vec![Method::POST, Method::GET],
        client_cert: ClientCert::Chain,
        ..Route::new(name, path, vec![ProviderId(0)], Handlers::new(Handler::unix("/run/app.sock"), []))
    };
    let routes = [
        route("exact", Some(SITE), PathPattern::Exact("/hook".into())),
        route("team", Some(SITE), PathPattern::Prefix("/team/".into())),
        route("admin", Some(SITE), PathPattern::Prefix("/team/admin/".into())),
        route("every", None, PathPattern::Prefix("/open/".into())),
    ];
    RouteTable::new(routes.into())
});

static PEER: LazyLock<AuthorizedPeer> = LazyLock::new(|| {
    let demands = Demands::new(vec![Arc::new(ProofPolicy::certificate_alone())], Vec::new());
    let peer = AuthorizedPeer::admit(&verified(), &ROUTES, RouteId(0), &demands, |_| "sender".into());
    peer.unwrap_or_else(|refusal| panic!("the peer is refused: {refusal}"))
});

/// Judges the head. The host that was judged is the host that the handler sees; no field of the peer looks like one of the gateway's.
pub fn judge(input: &[u8]) {
    let Some(head) = parse(input) else { return };
    let Ok(host) = requested_host(&head, None) else { return };
    let host = host.into_owned();
    assert!(!host.contains(['@', '/']) && !host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
    assert_eq!(
        requested_host(&head, Some(SITE)).ok().as_deref(),
        Some(host.as_str()),
        "the server name changes the host"
    );
    assert_eq!(check_direction(Some(SITE), &host).is_ok(), host == SITE);
    path(&host, &head);
    let body = Bytes::from_static(b"{}");
    let received = head.headers.clone();
    let (method, target) = (head.method.clone(), head.uri.path_and_query().map(ToString::to_string));
    let candidate = Candidate::new(PEER.clone(), head, body);
    let Ok(request) = candidate.authenticate(&KeySets::empty(0), &Arc::new(ReplayGuard::new(1)), NOW) else {
        panic!("the certificate alone should suffice")
    };
    let forwarded = Forwarded {
        address: &OURS,
        request_id: &OURS,
        provider: &OURS,
        client_cert: ClientCert::Chain,
        strip_prefix: None,
    };
    let outgoing = headers::outgoing(&request, &forwarded);
    assert_eq!((outgoing.method(), outgoing.version()), (&method, Version::HTTP_11));
    assert_eq!(outgoing.uri().to_string(), target.unwrap_or_else(|| "/".to_owned()));
    fields(outgoing.headers(), &received, &host);
}

/// A head as hyper makes it.
fn parse(input: &[u8]) -> Option<Parts> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Request::new(&mut fields);
    parsed.parse(input).ok().filter(httparse::Status::is_complete)?;
    let version = if parsed.version? == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let request = Request::builder().method(parsed.method?).uri(Uri::try_from(parsed.path?).ok()?).version(version);
    let mut head = request.body(()).ok()?.into_parts().0;
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        head.headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(head)
}

/// A path below a prefix leads to one route, as sent and as read.
fn path(host: &str, head: &Parts) {
    let path = head.uri.path();
    let reading = reading::of(path);
    if let Ok(reading) = &reading {
        assert!(
            !reading.split('/').any(|segment| segment == "." || segment == ".."),
            "{path:?} is read as {reading:?}"
        );
    }
    match ROUTES.find(host, path, &head.method) {
        Ok(id) => match &ROUTES.route(id).path {
            PathPattern::Exact(exact) => assert_eq!(path, &**exact),
            PathPattern::Prefix(prefix) => {
                assert!(path.starts_with(&**prefix), "{path:?}");
                let reading = reading.unwrap_or_else(|fault| panic!("{path:?} was routed: {fault}"));
                // A reading with a percent sign of its own cannot be sent as it is.
                if reading::of(&reading).as_ref() == Ok(&reading) {
                    assert_eq!(ROUTES.find(host, &reading, &head.method), Ok(id), "{path:?} is read as {reading:?}");
                }
            }
        },
        Err(Miss::MethodNotAllowed(methods)) => assert!(!methods.contains(&head.method)),
        Err(Miss::NoRoute | Miss::Path(_)) => {}
    }
}

fn fields(sent: &HeaderMap, received: &HeaderMap, host: &str) {
    let hosts: Vec<_> = sent.get_all(HOST).iter().collect();
    assert!(hosts.len() <= 1 && sent.get(HOST) == sent.get("x-forwarded-host"), "{hosts:?}");
    let sent_host = hosts.first().map(|host| String::from_utf8_lossy(host.as_bytes()).to_ascii_lowercase());
    assert_eq!(
        without_port(sent_host.as_deref().unwrap_or_default()),
        host,
        "judged another host than the handler sees"
    );
    let mut folded: Vec<String> = Vec::new();
    for name in sent.keys() {
        let seen: String =
            name.as_str().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        assert!(!CONNECTION.contains(&seen.as_str()), "{name} was forwarded");
        let is_ours =
            RESERVED.iter().any(|reserved| *reserved == seen || reserved.ends_with('-') && seen.starts_with(reserved));
        let values: Vec<_> = sent.get_all(name).iter().collect();
        if is_ours || name == CONTENT_LENGTH || name == HOST {
            assert!(values.len() == 1 && seen == name.as_str(), "{name}: {values:?}");
        } else {
            assert!(values.iter().eq(received.get_all(name).iter().collect::<Vec<_>>().iter()), "{name} was changed");
        }
        folded.push(seen);
    }
    for name in ["x-forwarded-for", "x-request-id", "x-hookgate-provider"] {
        assert_eq!(sent.get(name), Some(&OURS), "{name}");
    }
    let count = folded.len();
    folded.sort_unstable();
    folded.dedup();
    assert_eq!(folded.len(), count, "two fields look the same to a handler: {sent:?}");
}

/// The host of a Host field, without port and trailing dot.
fn without_port(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}
