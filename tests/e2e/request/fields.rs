//! Header fields: those that hookgate adds for the handler, and those that a peer cannot forge.

use hookgate_testkit::client::Curl;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PERCOLATE;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Request;

use crate::environment::PATH;
use crate::test_gateway::TestGateway;

/// The fields that hookgate adds to a request, in lower case.
const ADDED: [&str; 8] = [
    "client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-hookgate-proof",
    "x-hookgate-provider",
    "x-hookgate-subject",
    "x-request-id",
];

/// Sends a request, expects 200, and returns what the handler saw.
fn seen(gateway: &TestGateway, curl: &Curl) -> Request {
    gateway.handler().forget();
    let outcome = curl.run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    gateway.handler().requests().remove(0)
}

/// The value of `name`, which must be the only one.
fn only<'a>(request: &'a Request, name: &'a str) -> &'a str {
    let values: Vec<_> = request.fields.all(name).collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0]
}

fn base64_of(der: &[u8]) -> String {
    format!(":{}:", data_encoding::BASE64.encode(der))
}

#[test]
fn the_handler_learns_who_sent_the_request() {
    let gateway = TestGateway::with_limits("").unwrap();
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    let request = &gateway.handler().requests()[0];
    assert_eq!(only(request, "client-cert"), base64_of(gateway.identity.der()));
    assert_eq!(only(request, "x-forwarded-for"), "127.0.0.1");
    assert_eq!(only(request, "x-forwarded-proto"), "https");
    assert_eq!(only(request, "x-forwarded-host"), HOST);
    assert_eq!(only(request, "x-hookgate-provider"), "percolate");
    assert_eq!(Some(only(request, "x-request-id")), response.field("x-request-id"));
    assert_eq!(only(request, "x-request-id").len(), 32);
    assert_eq!(only(request, "host"), HOST);
    assert_eq!(request.field("client-cert-chain"), None, "the route does not ask for the chain");
}

#[test]
fn the_subject_is_formatted_by_rfc_4514() {
    let gateway = TestGateway::with_limits("").unwrap();
    let request = seen(&gateway, &gateway.admitted_curl().post(PATH, b"{}"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in"]).arg(&gateway.identity.certificate_path);
    let printed = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
    assert_eq!(only(&request, "x-hookgate-subject"), printed.trim().strip_prefix("subject=").unwrap());
}

#[test]
fn a_route_can_ask_for_the_chain() {
    let gateway = TestGateway::with_toml(|environment| environment.toml("", "client_cert_chain = true")).unwrap();
    let request = seen(&gateway, &gateway.admitted_curl().post(PATH, b"{}"));
    let issuers: Vec<_> = gateway.identity.chain[1..].iter().map(|der| base64_of(der)).collect();
    assert!(!issuers.is_empty());
    assert_eq!(only(&request, "client-cert-chain"), issuers.join(", "));
    let request = seen(&gateway, &gateway.admitted_curl().post("/percolate", b"{}"));
    assert_eq!(request.field("client-cert-chain"), None, "another route does not ask for the chain");
}

#[test]
fn a_route_can_do_without_the_client_certificate() {
    let gateway = TestGateway::with_toml(|environment| environment.toml("", "client_cert = false")).unwrap();
    let forged = gateway.admitted_curl().post(PATH, b"{}").field("Client-Cert", ":Zm9yZ2Vk:");
    let request = seen(&gateway, &forged);
    for absent in ["client-cert", "client-cert-chain"] {
        assert_eq!(request.field(absent), None);
    }
    assert!(request.field("x-hookgate-subject").is_some() && request.field("x-hookgate-provider").is_some());
}

#[test]
fn a_peer_can_forge_no_field_of_hookgate() {
    let gateway = TestGateway::with_limits("").unwrap();
    let forged = [
        "Client-Cert",
        "client_cert",
        "CLIENT-CERT-CHAIN",
        "Client_Cert_Chain",
        "Client-Cert_Chain",
        "Forwarded",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Hookgate-Provider",
        "x_hookgate_provider",
        "X-Hookgate_Subject",
        "X-HOOKGATE-ANYTHING",
        "X.Hookgate.Provider",
        "X~Hookgate!Subject",
        "x-hookgate.proof",
        "Client.Cert",
        "Content_Length",
        "Transfer.Encoding",
        "Proxy",
        "X-Original-URL",
        "X_Rewrite_URL",
        "X-HTTP-Method-Override",
        "X-Real-IP",
        "X_Real_Ip",
        "X-Request-Id",
        "X_Request_Id",
    ];
    let curl = forged.iter().fold(gateway.admitted_curl().post(PATH, b"{}"), |curl, name| curl.field(name, "forged"));
    let request = seen(&gateway, &curl);
    let still_forged: Vec<_> = request.fields.0.iter().filter(|(_, value)| value.contains("forged")).collect();
    assert!(still_forged.is_empty(), "{still_forged:?}");
    for name in ADDED {
        only(&request, name);
    }
}

#[test]
fn hop_by_hop_fields_are_not_forwarded() {
    // With hyphens, so that base64 cannot contain it.
    const MARK: &str = "hop-by-hop";
    let gateway = TestGateway::with_limits("").unwrap();
    let curl = gateway.admitted_curl().post(PATH, b"{}");
    let curl = curl.field("Connection", "keep-alive, X-Named, Host, Content-Length").field("X-Named", MARK);
    let hop_by_hop = ["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer", "Upgrade"];
    let curl = hop_by_hop.iter().fold(curl, |curl, name| curl.field(name, MARK));
    let request = seen(&gateway, &curl.field("Authorization", "Bearer end"));
    let left: Vec<_> = request.fields.0.iter().filter(|(_, value)| value.contains(MARK)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(only(&request, "content-length"), "2");
    assert_eq!(only(&request, "authorization"), "Bearer end");
}

#[test]
fn fields_and_body_of_a_document_arrive_unchanged() {
    let gateway = TestGateway::with_limits("").unwrap();
    let curl = gateway.admitted_curl().document(&PERCOLATE);
    let request = seen(&gateway, &curl);
    for (name, value) in PERCOLATE.fields {
        assert_eq!(only(&request, name), *value);
    }
    assert_eq!(request.text(), PERCOLATE.body);
    let mut rest: Vec<_> = request.fields.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    rest.retain(|name| !PERCOLATE.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name)));
    rest.sort_unstable();
    let mut expected: Vec<String> =
        ADDED.iter().chain(&["content-length", "host"]).map(|name| (*name).into()).collect();
    expected.sort_unstable();
    assert_eq!(rest, expected);
}

#[test]
fn a_chunked_body_reaches_the_handler_with_its_length_and_without_trailers() {
    let gateway = TestGateway::with_limits("").unwrap();
    let head =
        format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    let response =
        gateway.exchange(head + "3\r\n{\"a\r\n5;ext=1\r\n\": 1}\r\n0\r\nX-Request-Id: forged\r\n\r\n").unwrap();
    assert_eq!(response.status, 200);
    let request = &gateway.handler().requests()[0];
    assert_eq!((request.text().as_str(), only(request, "content-length")), ("{\"a\": 1}", "8"));
    assert_ne!(only(request, "x-request-id"), "forged");
}

#[test]
fn the_fields_of_a_response_arrive_and_its_hop_by_hop_fields_do_not() {
    let gateway = TestGateway::with_limits("").unwrap();
    let fields = [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Mine", "yes"),
        ("X-Request-Id", "the handler's own"),
        ("Keep-Alive", "timeout=5"),
        ("Connection", "X-Hop"),
        ("X-Hop", "hop"),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    gateway.handler().set_behaviour(Behaviour::Fixed { status: 201, fields, body: b"made".to_vec() });
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (201, "made"));
    assert_eq!((response.field("content-type"), response.field("x-mine")), (Some("text/plain"), Some("yes")));
    assert_eq!(response.fields.all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!((response.field("keep-alive"), response.field("x-hop")), (None, None));
    let asked = gateway.handler().requests()[0].field("x-request-id").unwrap().to_owned();
    assert_eq!(response.fields.all("x-request-id").collect::<Vec<_>>(), [asked]);
}
