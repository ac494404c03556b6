//! `hookgate explain`: each refusal of the daemon is explained by its id, with the line to change.

mod revised;

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use hookgate_testkit::client::Curl;
use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::documents::PAGERDUTY_SECRET;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::{ClientIdentity, LeafOptions, Sender, Subject, Variant};
use serde_json::Value;

use crate::command::hookgate;
use crate::environment::{BINARY, Environment, SOON, handler_socket, quoted};
use crate::problem::assert_problem;
use crate::proof::hmac_hex;
use crate::test_gateway::TestGateway;

/// The documented name of Percolate's certificate.
const PERCOLATE: &str = "Percolate Industries, Inc.";

/// Three providers at one host: `signed` is PagerDuty with its signature, `mine` and `ranged` are Percolate, the last from its ranges alone.
fn configuration(environment: &Environment) -> String {
    let state = environment.state_directory();
    let secret = environment.write("pagerduty.secret", PAGERDUTY_SECRET).unwrap();
    let root = |sender| quoted(environment.pki.sender(sender).root.path());
    let (pagerduty, percolate) = (root(Sender::PagerDuty), root(Sender::Percolate));
    let (chain, key) = (quoted(&environment.server.chain_path), quoted(&environment.server.key_path));
    let (secret, state, handler) = (quoted(&secret), quoted(&state), handler_socket(&environment.events));
    let route = |name: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nhost = \"{HOST}\"\npath = \"/{name}\"\nproviders = [\"{name}\"]\nhandler = {handler}\n\n"
        )
    };
    let own = |name: &str, lines: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ntrust_anchors = [{percolate}] # of {name}\n\
             identity = [{{ subject_cn = \"{PERCOLATE}\" }}] # of {name}\n{lines}\n\n"
        )
    };
    [
        format!("[listen]\naddresses = [\"127.0.0.1:{LISTEN_PORT}\"]\nio = \"{IO}\"\nworkers = 1\n\n"),
        format!("[[certificate]]\nchain = {chain}\nkey = {key}\n\n"),
        format!(
            "[[provider]]\nname = \"signed\"\npreset = \"pagerduty\"\ntrust_anchors = [{pagerduty}]\nrefusal = \"deny\"\n\
             signature = {{ secrets = [{{ file = {secret} }}] }}\n\n"
        ),
        own("mine", ""),
        own("ranged", "source_ranges = [\"192.0.2.0/24\"]"),
        route("signed"),
        route("mine"),
        route("ranged"),
        format!("[state]\ndirectory = {state}\n\n[metrics]\nlisten = \"127.0.0.1:{METRICS_PORT}\"\n"),
    ]
    .concat()
}

fn start() -> TestGateway {
    TestGateway::with_toml(configuration).unwrap()
}

/// The number of the line of the running configuration that begins so.
fn line_of(gateway: &TestGateway, start: &str) -> usize {
    let text = fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    let found = text.lines().position(|line| line.starts_with(start));
    assert!(found.is_some(), "{start} is not in {text}");
    found.unwrap() + 1
}

/// The exit code and standard output of `hookgate explain`.
fn explain(gateway: &TestGateway, arguments: &[&str]) -> (Option<i32>, String) {
    let path = gateway.daemon.configuration_path();
    let arguments = arguments.iter().map(OsStr::new);
    let all: Vec<&OsStr> =
        [OsStr::new("explain"), OsStr::new("--config"), path.as_os_str()].into_iter().chain(arguments).collect();
    let finished = hookgate(&all);
    let code = finished.status.and_then(|status| status.code());
    (code, finished.stdout_text() + &finished.stderr_text())
}

/// Sends a request, which must be refused so. Returns its id.
fn refused(gateway: &TestGateway, identity: Option<&ClientIdentity>, path: &str, status: u16, reason: &str) -> String {
    let mut curl = gateway.curl();
    if let Some(identity) = identity {
        curl = curl.identity(identity);
    }
    let outcome = curl.post(path, b"{}").run().unwrap();
    let response = outcome.transfers.into_iter().next().unwrap().response;
    assert_problem(&response, status, reason, path);
    assert!(response.text().contains(&format!("\"type\":\"urn:hookgate:reason:{reason}\"")), "{}", response.text());
    response.field("x-request-id").unwrap().to_owned()
}

/// Sends a request that is refused, and fails unless its explanation names this reason and the line that begins with `start`.
fn check(gateway: &TestGateway, identity: &ClientIdentity, path: &str, reason: &str, (start, key): (&str, &str)) {
    let id = refused(gateway, Some(identity), path, 403, reason);
    let (code, text) = explain(gateway, &[&id]);
    let file = gateway.daemon.configuration_path();
    // The header of a table stands above its name.
    let line = line_of(gateway, start) - usize::from(key.starts_with("[["));
    let place = format!("decided by {}:{line}: {key}\n", file.display());
    assert!(text.contains(&place), "{path}: {place} is not in\n{text}");
    assert!(text.contains(&format!("result     refused: {reason}\n")), "{text}");
    assert!(text.contains(&format!("request {reason}  peer=127.0.0.1:")), "{text}");
    assert_eq!(code, Some(1), "{text}");
    let (_, json) = explain(gateway, &[&id, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["admitted"], &json["reason"]), (&Value::Bool(false), &Value::from(reason)));
    assert_eq!(json["recorded"]["request_id"], id);
    assert!(json["change"].as_array().unwrap().iter().any(|place| place["key"] == key), "{json}");
}

/// A certificate of Percolate's authority with this common name.
fn of_percolate(gateway: &TestGateway, name: &str) -> ClientIdentity {
    let options = LeafOptions { subject: Some(Subject::common_name(name)), ..LeafOptions::default() };
    gateway.environment.pki.sender(Sender::Percolate).leaf("other-name", &options).unwrap()
}

#[test]
fn each_refusal_is_explained_by_its_id_with_the_line_to_change() {
    let gateway = start();
    let identity = |sender, variant| gateway.environment.identity(sender, variant).unwrap();
    let mine_identity = ("identity = [{ subject_cn = \"Percolate Industries, Inc.\" }] # of mine", "identity");
    check(&gateway, &of_percolate(&gateway, "percolate.example"), "/mine", "identity_mismatch", mine_identity);
    let mine_anchors = (
        &*format!(
            "trust_anchors = [{}] # of mine",
            quoted(gateway.environment.pki.sender(Sender::Percolate).root.path())
        ),
        "trust_anchors",
    );
    check(&gateway, &identity(Sender::Percolate, Variant::Stranger), "/mine", "unknown_issuer", mine_anchors);
    let id =
        refused(&gateway, Some(&identity(Sender::Percolate, Variant::Expired)), "/mine", 403, "certificate_expired");
    let (code, text) = explain(&gateway, &[&id]);
    let ends = text.ends_with("result     refused: certificate_expired\ndecided by no line of the configuration\n");
    assert!(code == Some(1) && ends && text.contains("to admit it: "), "{text}");
    check(
        &gateway,
        &identity(Sender::PagerDuty, Variant::Good),
        "/mine",
        "provider_not_admitted",
        ("providers = [\"mine\"]", "providers"),
    );
    check(
        &gateway,
        &identity(Sender::PagerDuty, Variant::Good),
        "/signed",
        "signature_missing",
        ("signature = ", "signature"),
    );
    check(
        &gateway,
        &identity(Sender::Percolate, Variant::Good),
        "/ranged",
        "source_not_in_ranges",
        ("source_ranges = ", "source_ranges"),
    );
    gateway.still_admits_mine();
}

/// It did prove itself, although the daemon has not kept how.
#[test]
fn a_request_whose_handler_is_absent_is_explained_by_the_handler() {
    let gateway = TestGateway::with_toml(|environment| {
        configuration(environment)
            .replace(&handler_socket(&environment.events), "\"unix:/run/hookgate-no-such-handler.sock\"")
    });
    let gateway = gateway.unwrap();
    let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let signature = format!("v1={}", hmac_hex(PAGERDUTY_SECRET, b"{}"));
    let curl = gateway.curl().identity(&identity).post("/signed", b"{}");
    let curl = curl.field("X-PagerDuty-Signature", &signature).field("X-Webhook-Id", "1");
    let outcome = curl.run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "/signed");
    let (code, text) = explain(&gateway, &[response.field("x-request-id").unwrap()]);
    // Below it stand the providers and the handler.
    let line = line_of(&gateway, "path = \"/signed\"") + 2;
    let place = format!("decided by {}:{line}: handler\n", gateway.daemon.configuration_path().display());
    assert!(code == Some(1) && text.ends_with(&place), "{place}: {text}");
    assert!(text.contains("\nauth       passes: The request proved itself to the daemon"), "{text}");
    assert!(text.contains("\nupstream   refused: handler_unavailable: "), "{text}");
}

/// The host of a request that no route has is at fault, and not its path.
#[test]
fn a_refused_server_name_is_explained_by_the_host() {
    let gateway = start();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let curl = Curl::new("other.example.com", gateway.daemon.port()).argument("--insecure").identity(&identity);
    let outcome = curl.post("/mine", b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 421, "unknown_server_name", "/mine");
    let (code, text) = explain(&gateway, &[response.field("x-request-id").unwrap()]);
    // Of the route that the request is most like.
    let line = line_of(&gateway, "path = \"/mine\"") - 1;
    let place = format!("decided by {}:{line}: host\n", gateway.daemon.configuration_path().display());
    let expected = format!("result     refused: unknown_server_name\n{place}");
    assert!(code == Some(1) && text.ends_with(&expected) && !text.contains("no_route"), "{expected}: {text}");
}

impl TestGateway {
    /// Fails unless a request with the right certificate reaches the handler.
    fn still_admits_mine(&self) {
        let identity = self.environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let outcome = self.curl().identity(&identity).post("/mine", b"{}").run().unwrap();
        assert_eq!(outcome.status(), Some(200), "{outcome:?}; the log:\n{}", self.daemon.log());
    }
}

/// Its issuer is trusted by `mine`, and its name is PagerDuty's.
#[test]
fn a_refusal_says_what_the_providers_of_the_route_miss() {
    let gateway = start();
    let identity = of_percolate(&gateway, "webhooks.pagerduty.com");
    let counted = |reason: &str, route: &str, provider: &str| {
        let labels = [("reason", reason), ("route", route), ("provider", provider)];
        gateway.daemon.metric("hookgate_rejections_total", &labels).unwrap()
    };
    let id = refused(&gateway, Some(&identity), "/mine", 403, "identity_mismatch");
    assert_eq!(counted("identity_mismatch", "mine", "mine"), 1.0);
    // It is a refusal about that provider, and not a request of it.
    let requests = |provider: &str| {
        let labels = [("route", "mine"), ("provider", provider)];
        let bytes = gateway.daemon.metric("hookgate_response_body_bytes_total", &labels).unwrap();
        (gateway.daemon.metric("hookgate_requests_total", &labels).unwrap(), bytes > 0.0)
    };
    gateway.daemon.wait_metric("hookgate_response_body_bytes_total", &[("route", "mine")], 1.0, SOON).unwrap();
    assert_eq!((requests(""), requests("mine")), ((1.0, true), (0.0, false)));
    gateway.daemon.wait_log("provider=mine", SOON).unwrap();
    let (_, text) = explain(&gateway, &[&id]);
    assert!(text.contains("provider \"mine\" expects subject CN \"Percolate Industries, Inc.\""), "{text}");
    assert!(text.contains("mine (of this route): identity_mismatch: "), "{text}");
    assert!(text.contains("signed: unknown_issuer: "), "{text}");
    assert!(text.contains("add { subject_cn = \"webhooks.pagerduty.com\" } to identity"), "{text}");
    // Where PagerDuty is admitted, its issuer is at fault, and where there is no route, nothing is told of one.
    refused(&gateway, Some(&identity), "/signed", 403, "unknown_issuer");
    assert_eq!(counted("unknown_issuer", "signed", "signed"), 1.0);
    refused(&gateway, Some(&identity), "/nowhere", 403, "unknown_issuer");
    // A stranger with this name cannot tell the one from the other.
    let stranger = gateway.environment.identity(Sender::PagerDuty, Variant::Stranger).unwrap();
    for path in ["/mine", "/signed", "/nowhere"] {
        refused(&gateway, Some(&stranger), path, 403, "unknown_issuer");
    }
}

#[test]
fn the_recent_refusals_are_listed_and_found_by_fingerprint() {
    let gateway = start();
    let (code, text) = explain(&gateway, &[]);
    assert_eq!((code, text.as_str()), (Some(0), "no refusal is kept\n"));
    let identity = of_percolate(&gateway, "percolate.example");
    let id = refused(&gateway, Some(&identity), "/mine", 403, "identity_mismatch");
    let none = refused(&gateway, None, "/mine", 403, "no_certificate");
    let (code, text) = explain(&gateway, &[]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 2), "{text}");
    assert!(lines[0].contains("request no_certificate  peer=127.0.0.1:") && lines[0].contains(&none), "{text}");
    assert!(lines[1].contains("route=mine  method=POST  path=/mine") && lines[1].contains(&id), "{text}");
    let fingerprint = lines[1].split("sha256=").nth(1).unwrap().split(' ').next().unwrap();
    let (code, by_fingerprint) = explain(&gateway, &[fingerprint]);
    assert!(code == Some(1) && by_fingerprint.contains(&id), "{by_fingerprint}");
    let (code, text) = explain(&gateway, &[&none]);
    assert!(code == Some(1) && text.contains("result     refused: no_certificate"), "{text}");
    let (code, text) = explain(&gateway, &["00000000000000000000000000000000"]);
    assert!(code == Some(2) && text.contains("keeps no refusal with this id"), "{text}");
    let (code, text) = explain(&gateway, &["nonsense"]);
    assert!(code == Some(2) && text.contains("neither a request id"), "{text}");
}

#[test]
fn a_refused_handshake_is_kept_with_its_chain() {
    let environment = Environment::new().unwrap();
    let text = configuration(&environment).replace("refusal = \"deny\"", "on_failure = \"abort\"");
    let text = text.replace("identity = [", "on_failure = \"abort\"\nidentity = [");
    let gateway = TestGateway::in_environment(environment, |_| text).unwrap();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Stranger).unwrap();
    let outcome = gateway.curl().argument("--verbose").identity(&identity).post("/mine", b"{}").run().unwrap();
    assert!(outcome.alert().is_some(), "{outcome:?}");
    let (_, text) = explain(&gateway, &["--json"]);
    let records: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&records[0]["what"], &records[0]["reason"]),
        (&Value::from("handshake"), &Value::from("unknown_issuer"))
    );
    let (code, text) = explain(&gateway, &[records[0]["fingerprint"].as_str().unwrap()]);
    assert!(
        code == Some(1) && text.contains("result     refused: unknown_issuer") && text.contains("\nchain      1 "),
        "{text}"
    );
}

/// A configuration file, without a daemon.
fn file(environment: &Environment) -> PathBuf {
    let text =
        configuration(environment).replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    environment.write("explained.toml", text).unwrap()
}

#[test]
fn a_chain_is_explained_without_a_daemon() {
    let environment = Environment::new().unwrap();
    let config = file(&environment);
    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        let mut all = vec![OsStr::new("explain"), OsStr::new("--config"), config.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        let finished = hookgate(&all);
        let text = finished.stdout_text() + &finished.stderr_text();
        assert_eq!(finished.status.and_then(|status| status.code()), Some(code), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {word} is not in\n{text}");
        }
    };
    let pem = |sender, variant| environment.identity(sender, variant).unwrap().chain_path.display().to_string();
    let good = pem(Sender::Percolate, Variant::Good);
    check(&["--chain", &good], 0, &["identity   passes: The certificate proves mine, ranged.", "result     admitted"]);
    check(&["--chain", &good, "--path", "/mine"], 0, &["admission  passes: As mine.", "auth       passes: "]);
    check(&["--chain", &good, "--path", "/mine", "--method", "GET"], 1, &["method_not_allowed: ", "decided by "]);
    check(&["--chain", &good, "--path", "/nowhere"], 1, &["route      refused: no_route: "]);
    check(&["--chain", &good, "--path", "/ranged", "--from", "192.0.2.7"], 0, &["As ranged, from 192.0.2.7."]);
    check(
        &["--chain", &good, "--path", "/ranged", "--from", "198.51.100.7"],
        1,
        &["source_not_in_ranges: ", ": source_ranges\n"],
    );
    check(&["--chain", &good, "--server-name", "other.example"], 1, &["unknown_server_name: ", ": host\n"]);
    check(&["--path", "/mine"], 1, &["no_certificate: "]);
    let pagerduty = pem(Sender::PagerDuty, Variant::Good);
    check(&["--chain", &pagerduty, "--path", "/signed"], 1, &["signature_missing: ", ": signature\n"]);
    let body = environment.write("body.json", "{}").unwrap();
    let signature = format!("X-PagerDuty-Signature: v1={}", hmac_hex(PAGERDUTY_SECRET, b"{}"));
    let body = body.display().to_string();
    check(
        &[
            "--chain",
            &pagerduty,
            "--path",
            "/signed",
            "--header",
            "X-Webhook-Id: 1",
            "--header",
            &signature,
            "--body",
            &body,
        ],
        0,
        &["The request proves itself."],
    );
    check(
        &["--chain", &pagerduty, "--path", "/signed", "--header", "X-PagerDuty-Signature: v1=00", "--body", &body],
        1,
        &["signature_"],
    );
    // What is wrong with the question.
    check(&["--chain", "/nowhere.pem"], 2, &["cannot read /nowhere.pem"]);
    check(&["--chain", &body], 2, &["holds no certificate in PEM form"]);
    check(&["--chain", &good, "--path", "mine"], 2, &["with its first slash"]);
    check(&["--chain", &good, "--path", "/mine", "--header", "nonsense"], 2, &["NAME: VALUE"]);
    check(&["5f2c0000000000000000000000000000"], 2, &["no daemon answers at ", "control.sock"]);
    check(&["identity_mismatch"], 0, &["The certificate matches no identity rule", "- The operator: correct identity"]);
    environment.write("explained.toml", "[listen").unwrap();
    check(&["--chain", &good], 2, &["explained.toml:1"]);
}

#[test]
fn a_correction_can_be_tried_before_the_reload() {
    let environment = Environment::new().unwrap();
    let text = configuration(&environment);
    let daemon = Gateway::start(&text, &GatewayOptions::new(BINARY)).unwrap();
    let gateway = TestGateway::new(daemon, environment, Sender::Percolate).unwrap();
    let id = refused(&gateway, Some(&of_percolate(&gateway, "new.example")), "/mine", 403, "identity_mismatch");
    let file = gateway.daemon.configuration_path();
    let running = fs::read_to_string(&file).unwrap();
    fs::write(&file, running.replacen(PERCOLATE, "new.example", 1)).unwrap();
    let (code, text) = explain(&gateway, &[&id]);
    assert!(code == Some(0) && text.contains("result     admitted by this configuration"), "{text}");
    assert!(text.contains("request identity_mismatch  peer="), "what was refused is told all the same: {text}");
}
