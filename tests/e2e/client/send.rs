//! `hookgate send`: what each sender sends is admitted, and what is wrong is refused for its reason.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::KeyKind;
use hookgate_testkit::process::{Finished, run};
use hookgate_testkit::token::{Issuer, dialogflow_claims};
use serde_json::Value;
use tempfile::TempDir;

use super::nginx::Nginx;
use super::server_chain::{Leaf, Presented, ServerChain};
use super::{HOST, code, hookgate, json, text};
use crate::environment::{BINARY, SOON};

/// hookgate with one provider, whose throwaway authority it trusts.
struct Receiver {
    gateway: Gateway,
    handler: Handler,
    chain: ServerChain,
    directory: TempDir,
}

/// A directory with the throwaway authority of `preset`, if it has one.
fn directory(preset: &str, has_certificate: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    if has_certificate {
        let made = hookgate(directory.path(), &["send", "--as", preset]);
        assert_eq!(code(&made), 0, "{}", made.stderr_text());
        let root = directory.path().join("hookgate-throwaway").join(preset).join("root.pem");
        assert!(made.stdout_text().contains(&format!("trust_anchors = [\"{}\"]", root.display())), "{made:?}");
    }
    directory
}

impl Receiver {
    /// With these lines in `[[provider]]`, and these at the end; `@D@` in them is the directory.
    fn in_directory(directory: TempDir, preset: &str, lines: &str, sections: &str) -> Self {
        let chain = ServerChain::new(directory.path(), Leaf::Good, Presented::Whole).unwrap();
        let handler = Handler::start(&directory.path().join("hook.sock"), Behaviour::Json).unwrap();
        let toml = format!(
            "[listen]\naddresses = [\"127.0.0.1:@LISTEN_PORT@\"]\nio = \"@IO@\"\nworkers = 1\n\
             [[certificate]]\nchain = \"{}\"\nkey = \"{}\"\n\
             [[provider]]\nname = \"sender\"\npreset = \"{preset}\"\n{lines}\n\
             [[route]]\nhost = \"{HOST}\"\npath = \"/hook\"\nproviders = [\"sender\"]\nhandler = \"unix:{}\"\n\
             [metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n{sections}\n",
            chain.chain.display(),
            chain.key.display(),
            handler.path().display(),
        );
        let toml = toml.replace("@D@", text(directory.path()));
        let gateway = Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap();
        Self { gateway, handler, chain, directory }
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}/hook", self.gateway.port())
    }

    fn send(&self, preset: &str, more: &[&str]) -> Finished {
        let (url, root) = (self.url(), text(&self.chain.root));
        let arguments = ["send", &url, "--as", preset, "--connect", "127.0.0.1", "--root", root, "--json"];
        hookgate(self.directory.path(), &[&arguments[..], more].concat())
    }

    /// Sends, and returns the document if the answer is the expected one.
    #[track_caller]
    fn expected(&self, preset: &str, more: &[&str]) -> Value {
        let finished = self.send(preset, more);
        let document = json(&finished);
        assert!(
            code(&finished) == 0 && document["as_expected"] == true,
            "{more:?}: {document:#}\n{}",
            self.gateway.log()
        );
        document
    }

    fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }
}

const TRUSTED: &str = "trust_anchors = [\"@D@/hookgate-throwaway/pagerduty/root.pem\"]\n";

fn pagerduty(more: &str) -> Receiver {
    let directory = directory("pagerduty", true);
    fs::write(directory.path().join("pd.secret"), "a-secret-of-pagerduty\n").unwrap();
    let lines = format!("{TRUSTED}signature.secrets = [{{ file = \"@D@/pd.secret\" }}]\n{more}");
    Receiver::in_directory(directory, "pagerduty", &lines, "")
}

const SECRET: [&str; 2] = ["--secret-file", "pd.secret"];

#[test]
fn a_webhook_of_pagerduty_is_admitted() {
    let receiver = pagerduty("");
    let document = receiver.expected("pagerduty", &SECRET);
    assert_eq!((&document["answer"]["status"], &document["handshake"]["tls_version"]), (&200.into(), &"1.2".into()));
    assert_eq!(document["server_root"]["name"], "CN=receiver root");
    let requests = receiver.handler.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    assert_eq!(request.field("x-hookgate-proof"), Some("certificate, signature"));
    assert_eq!(request.field("x-hookgate-subject"), Some("CN=webhooks.pagerduty.com"));
    assert_eq!(request.field("user-agent"), Some("PagerDuty-Webhook/V3.0"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["event"]["event_type"], "incident.triggered");
    assert_eq!(body["event"]["id"], request.field("x-webhook-id").unwrap());
    // The report for people.
    let (url, root) = (receiver.url(), text(&receiver.chain.root));
    let arguments = ["send", &url, "--as", "pagerduty", "--connect", "127.0.0.1", "--root", root];
    let out = hookgate(receiver.directory.path(), &[&arguments[..], &SECRET].concat()).stdout_text();
    for words in ["handshake  TLS 1.2, TLS_ECDHE_", "answer     200, first byte after ", "expected   a status 2xx: yes"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
}

/// What hookgate answers to each wrong webhook of PagerDuty.
const REASONS: [(&str, &str); 20] = [
    ("no-certificate", "no_certificate"),
    ("expired", "certificate_expired"),
    ("not-yet-valid", "certificate_not_yet_valid"),
    ("foreign-issuer", "unknown_issuer"),
    ("impostor", "bad_signature"),
    ("self-signed", "unknown_issuer"),
    ("wrong-name", "identity_mismatch"),
    ("name-as-part", "identity_mismatch"),
    ("server-auth", "extended_key_usage"),
    ("missing-intermediate", "unknown_issuer"),
    ("too-deep", "path_too_long"),
    ("no-proof", "signature_missing"),
    ("bad-proof", "signature_mismatch"),
    ("changed-body", "signature_mismatch"),
    ("no-delivery-id", "delivery_id_missing"),
    ("bad-path", "no_route"),
    ("bad-method", "method_not_allowed"),
    ("wrong-host", "misdirected"),
    ("too-large", "body_too_large"),
    ("head-too-large", "head_too_large"),
];

/// The ways of `--wrong list`.
fn ways() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let listed = hookgate(directory.path(), &["send", "--wrong", "list"]);
    assert_eq!(code(&listed), 0);
    let out = listed.stdout_text();
    let ways = out.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    ways.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn what_is_wrong_is_refused_for_its_reason() {
    let receiver = pagerduty("");
    let expected: HashMap<&str, &str> = REASONS.into_iter().collect();
    for way in ways() {
        // PagerDuty signs no time.
        if ["stale-timestamp", "future-timestamp"].contains(&way.as_str()) {
            let finished = receiver.send("pagerduty", &[&SECRET[..], &["--wrong", &way]].concat());
            assert!(
                code(&finished) == 1 && finished.stderr_text().contains("has no meaning for pagerduty"),
                "{finished:?}"
            );
            continue;
        }
        let before = receiver.handler.request_count();
        // A little too large: the whole body is on its way before the answer ends the connection.
        let size = ["--body-bytes", "1050000"];
        let document = receiver.expected("pagerduty", &[&SECRET[..], &["--wrong", &way], &size].concat());
        let handled = receiver.handler.request_count() - before;
        assert_eq!(handled, u64::from(way == "duplicate"), "{way}: {document:#}");
        match way.as_str() {
            "old-tls" => assert_eq!(document["failure"], "TLS alert protocol_version"),
            "plain-http" => assert_eq!(document["answer"]["words"], "This port speaks TLS: use https://."),
            "duplicate" => assert_eq!(document["answer"]["status"], 200),
            way => assert_eq!(document["answer"]["reason"], expected[way], "{way}: {document:#}"),
        }
    }
}

#[test]
fn a_refusal_by_alert_is_as_good() {
    let receiver = pagerduty("on_failure = \"abort\"");
    for (way, alert) in [
        ("no-certificate", "certificate_required"),
        ("expired", "certificate_expired"),
        ("foreign-issuer", "unknown_ca"),
        ("wrong-name", "access_denied"),
    ] {
        let document = receiver.expected("pagerduty", &["--wrong", way]);
        let failure = document["failure"].as_str().unwrap();
        // TLS 1.2 has no alert certificate_required.
        let alerts = [format!("TLS alert {alert}"), "TLS alert handshake_failure".to_owned()];
        assert!(alerts.iter().any(|alert| alert == failure), "{way}: {failure}");
    }
}

/// Behind hookgate, such an answer is one of the handler: the webhook has reached it.
#[test]
fn a_refusal_without_a_reason_of_hookgate_is_doubted() {
    let directory = tempfile::tempdir().unwrap();
    let chain = ServerChain::new(directory.path(), Leaf::Good, Presented::Whole).unwrap();
    fs::write(directory.path().join("pd.secret"), "a-secret").unwrap();
    let nginx = Nginx::start(directory.path(), &chain, "location / { return 501; }").unwrap();
    let (url, root) = (format!("https://{HOST}:{}/hook", nginx.port), text(&chain.root));
    let arguments = ["send", &url, "--as", "pagerduty", "--connect", "127.0.0.1", "--root", root];
    let finished = hookgate(directory.path(), &[&arguments[..], &SECRET, &["--wrong", "bad-method"]].concat());
    let words = ": yes; if the receiver is hookgate, its handler answered, since hookgate itself names a reason in each refusal";
    assert!(code(&finished) == 0 && finished.stdout_text().contains(words), "{}", finished.stdout_text());
}

/// A receiver that takes everything fails every way but those that nginx itself refuses.
#[test]
fn a_receiver_that_refuses_nothing_is_not_as_expected() {
    let directory = tempfile::tempdir().unwrap();
    let chain = ServerChain::new(directory.path(), Leaf::Good, Presented::Whole).unwrap();
    fs::write(directory.path().join("pd.secret"), "a-secret").unwrap();
    let nginx = Nginx::start(
        directory.path(),
        &chain,
        "client_max_body_size 0; large_client_header_buffers 4 128k;\n\
         location / { return 200; }",
    )
    .unwrap();
    let (url, root) = (format!("https://{HOST}:{}/hook", nginx.port), text(&chain.root));
    let arguments = ["send", &url, "--as", "pagerduty", "--connect", "127.0.0.1", "--root", root, "--json"];
    let by_itself = ["plain-http", "old-tls", "stale-timestamp", "future-timestamp", "duplicate"];
    for way in ways().iter().filter(|way| !by_itself.contains(&way.as_str())) {
        let finished = hookgate(directory.path(), &[&arguments[..], &SECRET, &["--wrong", way]].concat());
        let document = json(&finished);
        assert_eq!((code(&finished), &document["as_expected"]), (1, &false.into()), "{way}: {document:#}");
    }
    let finished = hookgate(directory.path(), &[&arguments[..], &SECRET, &["--wrong", "duplicate"]].concat());
    assert_eq!(code(&finished), 0, "a status 2xx is right for a duplicate");
}

#[test]
fn a_throwaway_authority_is_kept_and_its_keys_are_private() {
    let directory = directory("pagerduty", true);
    let folder = directory.path().join("hookgate-throwaway/pagerduty");
    let root = fs::read(folder.join("root.pem")).unwrap();
    let client = fs::read(folder.join("client.pem")).unwrap();
    assert_eq!(code(&hookgate(directory.path(), &["send", "--as", "pagerduty"])), 0);
    assert_eq!(fs::read(folder.join("root.pem")).unwrap(), root);
    assert_ne!(fs::read(folder.join("client.pem")).unwrap(), client, "each run has a new certificate");
    for key in ["root.key", "intermediate.key", "client.key"] {
        assert_eq!(fs::metadata(folder.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    let verify = |chain: &str| {
        let mut command = Command::new("openssl");
        command.args(["verify", "-purpose", "sslclient", "-CAfile"]).arg(folder.join("root.pem"));
        command.arg("-untrusted").arg(folder.join(chain)).arg(folder.join(chain));
        run(command, &[], SOON).unwrap()
    };
    assert!(verify("client.pem").success(), "{:?}", verify("client.pem"));
    fs::remove_file(folder.join("root.key")).unwrap();
    let finished = hookgate(directory.path(), &["send", "--as", "pagerduty"]);
    assert!(code(&finished) == 1 && finished.stderr_text().contains("has root.pem and no root.key"), "{finished:?}");
}

#[test]
fn a_certificate_of_the_users_own_replaces_the_throwaway_one() {
    let receiver = pagerduty("");
    let folder = receiver.directory.path().join("hookgate-throwaway/pagerduty");
    let (chain, key) = (receiver.directory.path().join("own.pem"), receiver.directory.path().join("own.key"));
    fs::rename(folder.join("client.pem"), &chain).unwrap();
    fs::rename(folder.join("client.key"), &key).unwrap();
    let own = ["--cert", text(&chain), "--key", text(&key)];
    receiver.expected("pagerduty", &[&own[..], &SECRET].concat());
    let document = receiver.expected("pagerduty", &[&own[..], &SECRET, &["--wrong", "missing-intermediate"]].concat());
    assert_eq!(document["answer"]["reason"], "unknown_issuer");
    let finished = receiver.send("pagerduty", &[&own[..], &["--wrong", "expired"]].concat());
    assert!(code(&finished) == 1 && finished.stderr_text().contains("leave --cert out"), "{finished:?}");
    assert!(!folder.join("client.pem").exists(), "no throwaway certificate is made");
}

#[test]
fn nothing_is_sent_to_a_receiver_that_the_sender_does_not_accept() {
    let receiver = pagerduty("");
    let url = receiver.url();
    let arguments = ["send", &url, "--as", "pagerduty", "--connect", "127.0.0.1"];
    let finished = hookgate(receiver.directory.path(), &[&arguments[..], &SECRET].concat());
    let words = "the chain ends at CN=receiver root, which is not in Mozilla's list of roots";
    assert!(code(&finished) == 1 && finished.stderr_text().contains(words), "{finished:?}");
    assert_eq!(receiver.handler.request_count(), 0);
    let finished = hookgate(receiver.directory.path(), &[&arguments[..], &SECRET, &["--insecure"]].concat());
    assert!(code(&finished) == 0 && finished.stdout_text().contains("not trusted (--insecure)"), "{finished:?}");
}

const FILE: &str = "signature.secrets = [{ file = \"@D@/the.secret\" }]\n";

#[test]
fn senders_that_sign_with_a_secret() {
    for preset in ["github", "linear", "shopify", "slack", "stripe", "zoom"] {
        signs_with(preset, FILE, "a-secret-that-both-know");
    }
    let whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for preset in ["gitlab", "standard-webhooks", "svix"] {
        signs_with(preset, FILE, whsec);
    }
}

/// A sender without a certificate, by its lines in the configuration and the file of `--secret-file`.
#[track_caller]
fn signs_with(preset: &str, lines: &str, secret: &str) {
    let directory = directory(preset, false);
    fs::write(directory.path().join("the.secret"), secret).unwrap();
    let receiver = Receiver::in_directory(directory, preset, lines, "");
    let shown = ["--secret-file", "the.secret"];
    receiver.expected(preset, &shown);
    assert_eq!(receiver.handler.request_count(), 1, "{preset}");
    for way in ["no-proof", "bad-proof", "changed-body"] {
        receiver.expected(preset, &[&shown[..], &["--wrong", way]].concat());
    }
    if ["gitlab", "slack", "standard-webhooks", "stripe", "svix", "zoom"].contains(&preset) {
        for way in ["stale-timestamp", "future-timestamp"] {
            let document = receiver.expected(preset, &[&shown[..], &["--wrong", way]].concat());
            assert_eq!(document["answer"]["reason"], "timestamp_outside_window", "{preset}");
        }
    }
    assert_eq!(receiver.handler.request_count(), 1, "{preset}");
}

#[test]
fn senders_that_sign_with_a_private_key() {
    let key = |algorithm: &[&str]| {
        let mut command = Command::new("openssl");
        command.arg("genpkey").args(algorithm);
        run(command, &[], SOON).unwrap().stdout_text()
    };
    let public = |private: &str| {
        let mut command = Command::new("openssl");
        command.args(["pkey", "-pubout"]);
        run(command, private.as_bytes(), SOON).unwrap().stdout_text()
    };
    for (preset, algorithm) in [
        ("discord", &["-algorithm", "ED25519"][..]),
        ("sendgrid", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("wise", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ] {
        let private = key(algorithm);
        let directory = directory(preset, false);
        fs::write(directory.path().join("public.pem"), public(&private)).unwrap();
        fs::write(directory.path().join("private.pem"), &private).unwrap();
        // Wise signs alone too.
        let lines = "client_certificate = \"none\"\nsignature.keys = [{ file = \"@D@/public.pem\" }]\n";
        let receiver = Receiver::in_directory(directory, preset, lines, "");
        receiver.expected(preset, &["--secret-file", "private.pem"]);
        let wrong = receiver.expected(preset, &["--secret-file", "private.pem", "--wrong", "changed-body"]);
        assert_eq!(wrong["answer"]["reason"], "signature_mismatch", "{preset}");
    }
}

#[test]
fn a_signature_over_the_url() {
    let directory = directory("square", false);
    fs::write(directory.path().join("the.secret"), "sq-key").unwrap();
    // The port of the daemon is not known before it runs, so the URL has none.
    let lines = format!("{FILE}signature.url = \"https://{HOST}/hook\"\n");
    let receiver = Receiver::in_directory(directory, "square", &lines, "");
    let (connect, root) = (format!("127.0.0.1:{}", receiver.gateway.port()), text(&receiver.chain.root));
    let url = format!("https://{HOST}/hook");
    let arguments =
        ["send", &url, "--as", "square", "--connect", &connect, "--root", root, "--secret-file", "the.secret"];
    let finished = hookgate(receiver.directory.path(), &arguments);
    assert_eq!(code(&finished), 0, "{finished:?}");
    // The event has an id, so a second one is a duplicate only if it is the same.
    let finished = hookgate(receiver.directory.path(), &[&arguments[..], &["--wrong", "duplicate"]].concat());
    assert_eq!((code(&finished), receiver.handler.request_count()), (0, 2), "{finished:?}");
}

#[test]
fn tokens_session_parameters_and_passwords() {
    let trusted = "trust_anchors = [\"@D@/hookgate-throwaway/dialogflow-cx/root.pem\"]\n";
    let google = Issuer::new("key-1", KeyKind::Rsa2048).unwrap();
    let directory = directory("dialogflow-cx", true);
    fs::write(directory.path().join("keys.json"), Issuer::key_set(&[&google]).unwrap()).unwrap();
    fs::write(directory.path().join("session.secret"), "a-secret-of-the-session").unwrap();
    let audience = format!("https://{HOST}/hook");
    let token = google.sign(&dialogflow_claims(&audience, "123456789012")).unwrap();
    fs::write(directory.path().join("token"), &token).unwrap();
    let lines = format!(
        "{trusted}token = {{ key_source = \"ours\", project_number = \"123456789012\", audiences = [\"{audience}\"] }}\n\
         session_parameter = {{ name = \"webhook_token\", secrets = [{{ file = \"@D@/session.secret\" }}] }}\n"
    );
    let sections = "[[key_source]]\nname = \"ours\"\nfile = \"@D@/keys.json\"\n";
    let receiver = Receiver::in_directory(directory, "dialogflow-cx", &lines, sections);
    let by_token = ["--secret-file", "token"];
    let by_parameter = ["--secret-file", "session.secret", "--proof", "session-parameter"];
    for (shown, proof) in [(&by_token[..], "token"), (&by_parameter, "session-parameter")] {
        receiver.handler.forget();
        receiver.expected("dialogflow-cx", shown);
        let requests = receiver.handler.requests();
        assert_eq!(requests[0].field("x-hookgate-proof"), Some(format!("certificate, {proof}").as_str()));
        receiver.expected("dialogflow-cx", &[shown, &["--wrong", "bad-proof"]].concat());
        receiver.expected("dialogflow-cx", &[shown, &["--wrong", "no-proof"]].concat());
    }
    let lines = "unsafe_static_secret_suffices = true\n\
                 basic = { users = [{ name = \"hook\", secrets = [{ file = \"@D@/the.password\" }] }] }\n";
    let directory = self::directory("alertmanager", false);
    fs::write(directory.path().join("the.password"), "s3cret-s3cret-s3cret").unwrap();
    let receiver = Receiver::in_directory(directory, "alertmanager", lines, "");
    receiver.write("login", "hook:s3cret-s3cret-s3cret");
    receiver.expected("alertmanager", &["--secret-file", "login"]);
    receiver.expected("alertmanager", &["--secret-file", "login", "--wrong", "bad-proof"]);
}

#[test]
fn many_webhooks_have_a_summary() {
    let receiver = pagerduty("");
    for more in [&["--count", "40", "--concurrency", "4"][..], &["--count", "40", "--concurrency", "4", "--keep-alive"]]
    {
        let before =
            (receiver.handler.request_count(), receiver.gateway.metric("hookgate_connections_total", &[]).unwrap());
        let document = receiver.expected("pagerduty", &[&SECRET[..], more].concat());
        let load = &document["load"];
        assert_eq!(
            (&load["count"], &load["as_expected"], &load["outcomes"]["200"]),
            (&40.into(), &40.into(), &40.into())
        );
        let at = |name: &str| load["whole_ms"][name].as_f64().unwrap();
        assert!(
            0.0 < at("p50") && at("p50") <= at("p90") && at("p90") <= at("p99") && at("p99") <= at("max"),
            "{load:#}"
        );
        assert_eq!(receiver.handler.request_count() - before.0, 40, "each is a delivery of its own");
        let connections = receiver.gateway.metric("hookgate_connections_total", &[]).unwrap() - before.1;
        assert_eq!(connections, if more.len() == 4 { 40.0 } else { 4.0 });
    }
    // What fails is counted.
    receiver.handler.set_behaviour(Behaviour::status(503, "later"));
    let finished = receiver.send("pagerduty", &[&SECRET[..], &["--count", "5"]].concat());
    let document = json(&finished);
    assert_eq!((code(&finished), &document["load"]["outcomes"]["503"]), (1, &5.into()), "{document:#}");
    let finished = receiver.send("pagerduty", &[&SECRET[..], &["--count", "5", "--wrong", "bad-proof"]].concat());
    assert_eq!(json(&finished)["load"]["outcomes"]["403 signature_mismatch"], 5);
}

#[test]
fn many_webhooks_begin_at_a_rate() {
    let receiver = pagerduty("");
    let document = receiver
        .expected("pagerduty", &[&SECRET[..], &["--count", "6", "--rate", "10", "--concurrency", "6"]].concat());
    let seconds = document["load"]["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.5, "the sixth begins after half a second: {seconds}");
}

#[test]
fn arguments_that_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let ends = |status: i32, arguments: &[&str], words: &str| {
        let finished = hookgate(directory.path(), &[&["send"], arguments].concat());
        let error = finished.stderr_text();
        assert!(code(&finished) == status && error.matches(words).count() == 1, "{words}: {error}");
    };
    let check = |arguments: &[&str], words: &str| ends(1, arguments, words);
    let url = "https://a.example/";
    ends(2, &[url], "--as is missing: write --as PRESET, one of alertmanager, ");
    ends(
        2,
        &[url, "--as", "pagerduty", "--wrong", "expird"],
        "--wrong expird is unknown; write \"list\", or one of plain-http, ",
    );
    check(&[url, "--as", "github", "--wrong", "expired"], "github has no client certificate");
    check(&["--as", "github"], "github has no client certificate, so there is nothing to prepare");
    ends(2, &[url, "--as", "pagerduty", "--proof", "token"], "--proof token: the proofs of pagerduty are signature");
    check(&[url, "--as", "pagerduty", "--secret-file", "absent"], "absent cannot be read");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("https://127.0.0.1:{port}/");
    check(&[&nobody, "--as", "github"], "there is no connection to the receiver: 127.0.0.1:");
    check(&[&nobody, "--as", "github", "--wrong", "bad-proof"], "this needs --secret-file");
    let finished = hookgate(directory.path(), &["send", url, "--as", "pagerduty", "--count", "0"]);
    assert_eq!(code(&finished), 2);
}
