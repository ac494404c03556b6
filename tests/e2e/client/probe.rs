//! `hookgate probe`: each wrong receiver has its finding, and a right one has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::process::Finished;
use serde_json::Value;
use tempfile::TempDir;

use super::nginx::Nginx;
use super::server_chain::{Leaf, Presented, ServerChain};
use super::{HOST, code, hookgate, json, text};
use crate::environment::BINARY;

/// The root that PagerDuty's certificates end at, whose name a right receiver sends.
fn pagerduty_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("presets/roots/DigiCert_Global_Root_G2.pem")
}

/// nginx as PagerDuty's document sets it up.
fn documented() -> String {
    format!(
        "ssl_verify_client on; ssl_client_certificate {}; ssl_verify_depth 2; ssl_protocols TLSv1.2 TLSv1.3;\n\
         location / {{ return 200 \"ok\"; }}",
        pagerduty_root().display()
    )
}

/// A receiver, and how to look at it.
struct Receiver {
    port: u16,
    chain: ServerChain,
    directory: TempDir,
    _nginx: Nginx,
}

impl Receiver {
    fn new(leaf: Leaf, presented: Presented, lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let chain = ServerChain::new(directory.path(), leaf, presented).unwrap();
        let nginx = Nginx::start(directory.path(), &chain, lines).unwrap();
        Self { port: nginx.port, chain, directory, _nginx: nginx }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.port)
    }

    /// Looks as `sender`, which trusts the receiver's root.
    fn probe(&self, sender: &str, more: &[&str]) -> Finished {
        self.probe_untrusting(sender, &[&["--root", text(&self.chain.root)], more].concat())
    }

    fn probe_untrusting(&self, sender: &str, more: &[&str]) -> Finished {
        let url = self.url("/hook");
        let arguments = ["probe", &url, "--as", sender, "--connect", "127.0.0.1", "--json"];
        hookgate(self.directory.path(), &[&arguments, more].concat())
    }
}

/// The findings that need action: id and severity.
fn findings(document: &Value) -> Vec<(&str, &str)> {
    let all = document["findings"].as_array().unwrap();
    let all = all.iter().map(|finding| (finding["id"].as_str().unwrap(), finding["severity"].as_str().unwrap()));
    all.filter(|(_, severity)| *severity != "note").collect()
}

/// The finding with this id.
fn finding<'d>(document: &'d Value, id: &str) -> &'d Value {
    let all = document["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["id"] == id);
    assert!(found.is_some(), "no {id}: {document:#}");
    found.unwrap()
}

/// PagerDuty's look at nginx with its documented set-up finds exactly these.
#[track_caller]
fn check(leaf: Leaf, presented: Presented, expected: &[(&str, &str)]) -> Value {
    let receiver = Receiver::new(leaf, presented, &documented());
    let finished = receiver.probe("pagerduty", &[]);
    let document = json(&finished);
    assert_eq!(findings(&document), expected, "{document:#}");
    let worst = expected.iter().map(|(_, severity)| if *severity == "fault" { 2 } else { 1 }).max().unwrap_or(0);
    assert_eq!(code(&finished), worst);
    document
}

#[test]
fn a_receiver_as_documented_is_fine() {
    let document = check(Leaf::Good, Presented::Whole, &[]);
    assert_eq!(document["selected"]["tls_version"], "1.2");
    assert_eq!(document["tls_versions"], serde_json::json!(["1.2", "1.3"]));
    assert_eq!(document["certificates"].as_array().unwrap().len(), 2);
    assert_eq!(document["root"]["is_public"], false);
    assert_eq!(document["client_certificate"]["asked"], true);
    let names = document["client_certificate"]["authorities"].as_array().unwrap();
    assert!(names[0].as_str().unwrap().contains("CN=DigiCert Global Root G2"), "{names:?}");
    let answers = &document["answers"];
    // nginx refuses both with 400, and says which.
    assert_eq!(
        (answers["absent"]["answer"]["status"].as_u64(), answers["foreign"]["answer"]["status"].as_u64()),
        (Some(400), Some(400))
    );
    assert_eq!(answers["absent"]["handshake"]["tls_version"], "1.2");
    let suites = document["cipher_suites"].as_array().unwrap();
    assert!(suites.iter().any(|suite| suite == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{suites:?}");
}

#[test]
fn the_report_for_people_says_what_follows_and_how_to_mend_it() {
    let receiver = Receiver::new(Leaf::Good, Presented::EndEntity, &documented());
    let url = receiver.url("/hook");
    let root = text(&receiver.chain.root);
    let finished = hookgate(
        receiver.directory.path(),
        &["probe", &url, "--as", "pagerduty", "--connect", "127.0.0.1", "--root", root],
    );
    let out = finished.stdout_text();
    for words in [
        "fault chain_incomplete: the issuer of the certificate, CN=receiver intermediate",
        "then: pagerduty drops the webhook without a retry",
        "mend: Append the intermediate certificates",
        "without           status 400",
        "1 fault, 0 warnings. What pagerduty documents: https://",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(code(&finished), 2);
}

#[test]
fn a_missing_intermediate() {
    check(Leaf::Good, Presented::EndEntity, &[("chain_incomplete", "fault")]);
}

#[test]
fn a_chain_out_of_order() {
    let document = check(Leaf::Good, Presented::OutOfOrder, &[("chain_out_of_order", "fault")]);
    let detail = finding(&document, "chain_out_of_order")["detail"].as_str().unwrap();
    assert!(detail.contains("certificate 2 (CN=receiver root) did not issue the one before it"), "{detail}");
    // Dialogflow does not say that it needs the order.
    let receiver = Receiver::new(Leaf::Good, Presented::OutOfOrder, &documented());
    let document = json(&receiver.probe("dialogflow-cx", &[]));
    assert_eq!(finding(&document, "chain_out_of_order")["severity"], "warning");
}

#[test]
fn certificates_that_do_not_belong_to_the_chain() {
    let document = check(Leaf::Good, Presented::WithRoot, &[]);
    assert_eq!(finding(&document, "chain_has_root")["severity"], "note");
    check(Leaf::Good, Presented::WithStranger, &[("chain_out_of_order", "fault")]);
}

#[test]
fn an_expired_certificate_is_retried_by_pagerduty() {
    let document = check(Leaf::Expired, Presented::Whole, &[("expired", "fault")]);
    let consequence = finding(&document, "expired")["consequence"].as_str().unwrap();
    assert!(consequence.contains("sends the webhook again for up to 48 hours"), "{consequence}");
}

#[test]
fn a_certificate_outside_of_its_time() {
    check(Leaf::NotYetValid, Presented::Whole, &[("not_yet_valid", "fault")]);
    check(Leaf::ExpiresSoon, Presented::Whole, &[("expires_soon", "warning")]);
    // An expired one of which the intermediate is missing has both findings.
    check(Leaf::Expired, Presented::EndEntity, &[("expired", "fault"), ("chain_incomplete", "fault")]);
}

#[test]
fn a_certificate_for_another_name() {
    let document = check(Leaf::OtherName, Presented::Whole, &[("wrong_name", "fault")]);
    let detail = finding(&document, "wrong_name")["detail"].as_str().unwrap();
    assert!(detail.contains("not for hooks.example.com: it is for other.example.com"), "{detail}");
    check(Leaf::NoName, Presented::Whole, &[("wrong_name", "fault")]);
}

#[test]
fn a_certificate_that_is_not_for_servers() {
    check(Leaf::ForClients, Presented::Whole, &[("key_usage", "fault")]);
}

#[test]
fn a_self_signed_certificate() {
    check(Leaf::SelfSigned, Presented::EndEntity, &[("self_signed", "fault")]);
    // A sender that takes one's own authority may have been given it.
    let receiver = Receiver::new(Leaf::SelfSigned, Presented::EndEntity, &documented());
    let finished = receiver.probe("own-ca", &[]);
    assert_eq!((findings(&json(&finished)), code(&finished)), (vec![("self_signed", "warning")], 1));
    let finished = receiver.probe_untrusting("own-ca", &["--root", text(&receiver.chain.chain)]);
    assert_eq!((findings(&json(&finished)), code(&finished)), (vec![], 0));
}

#[test]
fn a_root_that_is_not_in_mozillas_list() {
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, &documented());
    let finished = receiver.probe_untrusting("pagerduty", &[]);
    assert_eq!((findings(&json(&finished)), code(&finished)), (vec![("unknown_root", "fault")], 2));
}

#[test]
fn versions_and_suites_that_the_sender_does_not_have() {
    let receiver = |lines: &str| {
        let documented = documented().replace("ssl_protocols TLSv1.2 TLSv1.3;", lines);
        Receiver::new(Leaf::Good, Presented::Whole, &documented)
    };
    let document = json(&receiver("ssl_protocols TLSv1.3;").probe("pagerduty", &[]));
    assert_eq!(findings(&document), [("tls_version", "fault")], "{document:#}");
    let detail = finding(&document, "tls_version")["detail"].as_str().unwrap();
    assert!(detail.contains("pagerduty speaks TLS 1.2, and the receiver only TLS 1.3"), "{detail}");
    // The probe has no group of this receiver, so it sees no version at all. The alert says that PagerDuty's is the fault.
    let other_group = receiver("ssl_protocols TLSv1.3; ssl_ecdh_curve X448;");
    let unseen = json(&other_group.probe("pagerduty", &[]));
    assert_eq!(findings(&unseen), [("tls_version", "fault")], "{unseen:#}");
    let detail = finding(&unseen, "tls_version")["detail"].as_str().unwrap();
    assert!(detail.contains("the receiver has no such version (alert protocol_version)"), "{detail}");
    // What is behind the handshake is seen all the same.
    assert_eq!(document["certificates"].as_array().unwrap().len(), 2);
    let only_chacha = receiver("ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305;");
    let document = json(&only_chacha.probe("pagerduty", &[]));
    assert_eq!(findings(&document), [("cipher_suite", "fault")], "{document:#}");
    assert_eq!(findings(&json(&only_chacha.probe("dialogflow-cx", &[]))), [("foreign_ca_names", "warning")]);
    // A suite that PagerDuty has and this program does not: CBC.
    let only_cbc = receiver("ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-SHA256;");
    let document = json(&only_cbc.probe("pagerduty", &[]));
    assert_eq!(document["selected"]["cipher_suite"], "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "{document:#}");
    assert_eq!(findings(&document), [("not_seen", "warning")], "{document:#}");
}

#[test]
fn client_certificates_that_are_not_asked_for_or_not_verified() {
    let look = |lines: &str| json(&Receiver::new(Leaf::Good, Presented::Whole, lines).probe("pagerduty", &[]));
    let root = pagerduty_root();
    let root = root.display();
    let document = look("location / { return 200; }");
    let expected = [("absent_certificate_accepted", "fault"), ("no_client_certificate_asked", "warning")];
    assert_eq!(findings(&document), expected, "{document:#}");
    let lax = format!("ssl_verify_client optional_no_ca; ssl_client_certificate {root}; location / {{ return 204; }}");
    let expected = [("absent_certificate_accepted", "fault"), ("foreign_certificate_accepted", "fault")];
    assert_eq!(findings(&look(&lax)), expected);
    let unnamed = "ssl_verify_client optional_no_ca; if ($ssl_client_verify != SUCCESS) { return 403; }";
    let document = look(unnamed);
    assert_eq!((findings(&document), &finding(&document, "no_ca_names")["severity"]), (vec![], &Value::from("note")));
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, unnamed);
    assert_eq!(findings(&json(&receiver.probe("docusign", &[]))), [("no_ca_names", "warning")]);
}

#[test]
fn a_certificate_of_the_users_is_shown_and_its_answer_judged() {
    let lines = "location / { return 307 /elsewhere; }";
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(code(&hookgate(directory.path(), &["send", "--as", "own-ca"])), 0, "it makes the authority");
    let file = |name: &str| directory.path().join("hookgate-throwaway/own-ca").join(name);
    let trusting = format!("ssl_verify_client on; ssl_client_certificate {};", file("root.pem").display());
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, &format!("{trusting} {lines}"));
    let (chain, key) = (file("client.pem"), file("client.key"));
    let own = ["--client-cert", text(&chain), "--client-key", text(&key)];
    let document = json(&receiver.probe("own-ca", &own));
    assert_eq!(document["answers"]["own"]["answer"]["status"], 307, "{document:#}");
    assert_eq!(findings(&document), [("redirected", "warning")]);
    // A receiver that trusts another authority.
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, &documented());
    let document = json(&receiver.probe("own-ca", &own));
    let expected = [("foreign_ca_names", "warning"), ("own_certificate_refused", "warning")];
    assert_eq!(findings(&document), expected, "{document:#}");
}

/// A preset of the user's, with a short time-out, so that the test need not wait.
#[test]
fn an_answer_after_the_senders_time_out() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("presets")).unwrap();
    let preset = "schema = 1\nversion = 2026-11-30\ntitle = \"Hasty\"\ndocumentation = \"https://hasty.example/\"\n\
                  client_certificate = \"none\"\n[sender]\ntimeout_ms = 500\n\
                  [sender.after]\nfailed = \"forgets the webhook\"\n";
    fs::write(directory.path().join("presets/hasty.toml"), preset).unwrap();
    let file = directory.path().join("ours.toml");
    fs::write(&file, "[presets]\ndirectories = [\"presets\"]\n").unwrap();
    let slow = Behaviour::Delay(Duration::from_secs(3), Behaviour::Json.boxed());
    let handler = Handler::start(&directory.path().join("slow.sock"), slow).unwrap();
    let lines = format!("location / {{ proxy_pass http://unix:{}; }}", handler.path().display());
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, &lines);
    let finished = receiver.probe("hasty", &["--config", text(&file)]);
    let document = json(&finished);
    assert_eq!((findings(&document), code(&finished)), (vec![("slow", "fault")], 2), "{document:#}");
    assert_eq!(finding(&document, "slow")["consequence"], "hasty forgets the webhook.");
}

#[test]
fn a_request_without_a_signature_that_succeeds() {
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, "location / { return 200; }");
    assert_eq!(findings(&json(&receiver.probe("github", &[]))), [("unproven_request_accepted", "fault")]);
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, "location / { return 502; }");
    assert_eq!(findings(&json(&receiver.probe("github", &[]))), [("server_error", "warning")]);
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, "location = /other { return 200; }");
    assert_eq!(findings(&json(&receiver.probe("github", &[]))), [("not_found", "warning")]);
}

#[test]
fn nothing_listens_or_it_is_not_tls() {
    let directory = tempfile::tempdir().unwrap();
    let look = |url: &str| hookgate(directory.path(), &["probe", url, "--as", "pagerduty", "--json"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let finished = look(&format!("https://127.0.0.1:{free}/"));
    let document = json(&finished);
    assert_eq!((findings(&document), code(&finished)), (vec![("no_connection", "fault")], 2));
    let consequence = finding(&document, "no_connection")["consequence"].as_str().unwrap();
    assert!(consequence.contains("sends the webhook again for up to 48 hours"), "{consequence}");
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in plain.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut &stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let finished = look(&format!("https://127.0.0.1:{port}/"));
    assert_eq!((findings(&json(&finished)), code(&finished)), (vec![("not_tls", "fault")], 2));
}

/// PagerDuty and GitHub at one host of hookgate. The probe's word about GitHub must depend on the path.
#[test]
fn a_certificate_that_the_sender_does_not_have_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("github.secret"), "a-secret-of-github-and-long-enough").unwrap();
    let github = format!(
        "[[provider]]\nname = \"github\"\npreset = \"github\"\nsignature.secrets = [{{ file = \"{}\" }}]\n\
         [[route]]\nhost = \"{HOST}\"\npath = \"/github\"\nproviders = [\"github\"]\nhandler = \"unix:{}\"\n",
        at.join("github.secret").display(),
        at.join("github.sock").display(),
    );
    let (gateway, chain) = gateway_beside(at, Leaf::Good, Presented::Whole, &github);
    let look = |path: &str| {
        let url = format!("https://{HOST}:{}{path}", gateway.port());
        let root = text(&chain.root);
        let arguments = ["probe", &url, "--as", "github", "--connect", "127.0.0.1", "--json", "--root", root];
        let finished = hookgate(at, &arguments);
        (code(&finished), json(&finished))
    };
    let (code, document) = look("/github/");
    assert_eq!((code, findings(&document)), (2, vec![("certificate_demanded", "fault")]), "{document:#}");
    let detail = finding(&document, "certificate_demanded")["detail"].as_str().unwrap();
    assert_eq!(detail, "without a certificate: status 403, no_certificate");
    let (code, document) = look("/github");
    assert_eq!((code, findings(&document)), (0, vec![]), "{document:#}");
    assert_eq!(document["answers"]["absent"]["answer"]["reason"], "signature_missing", "{document:#}");
    // nginx that demands a certificate of everybody.
    let receiver = Receiver::new(Leaf::Good, Presented::Whole, &documented());
    let document = json(&receiver.probe("github", &[]));
    assert_eq!(findings(&document), [("certificate_demanded", "fault")], "{document:#}");
}

/// The certificate is right, and the probe has no signature: that is as it should be.
#[test]
fn a_request_that_lacks_its_proof_alone_is_a_note() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    assert_eq!(code(&hookgate(at, &["send", "--as", "own-ca"])), 0, "it makes the authority");
    let file = |name: &str| at.join("hookgate-throwaway/own-ca").join(name);
    fs::write(at.join("ours.secret"), "a-secret-of-ours-and-long-enough").unwrap();
    let ours = format!(
        "[[provider]]\nname = \"ours\"\npreset = \"own-ca\"\ntrust_anchors = [\"{}\"]\n\
         identity = [{{ subject_cn = \"hookgate throwaway sender\" }}]\n\
         [provider.proof.signature]\nform = \"hmac\"\nheader = \"x-signature\"\nmessage = \"{{body}}\"\n\
         secrets = [{{ file = \"{}\" }}]\n\
         [[route]]\nhost = \"{HOST}\"\npath = \"/signed\"\nproviders = [\"ours\"]\nhandler = \"unix:{}\"\n",
        file("root.pem").display(),
        at.join("ours.secret").display(),
        at.join("ours.sock").display(),
    );
    let (gateway, chain) = gateway_beside(at, Leaf::Good, Presented::Whole, &ours);
    let look = |path: &str| {
        let url = format!("https://{HOST}:{}/{path}", gateway.port());
        let (root, cert, key) = (&chain.root, file("client.pem"), file("client.key"));
        let arguments = ["probe", &url, "--as", "own-ca", "--connect", "127.0.0.1", "--json", "--root", text(root)];
        let finished =
            hookgate(at, &[&arguments[..], &["--client-cert", text(&cert), "--client-key", text(&key)]].concat());
        (code(&finished), json(&finished))
    };
    let (code, document) = look("signed");
    assert_eq!(document["answers"]["own"]["answer"]["reason"], "signature_missing", "{document:#}");
    assert_eq!((code, findings(&document)), (0, vec![]), "{document:#}");
    assert_eq!(finding(&document, "own_request_unproven")["severity"], "note");
    // Another refusal of the same certificate stays a warning.
    let (code, document) = look("hook");
    assert_eq!((code, findings(&document)), (1, vec![("own_certificate_refused", "warning")]), "{document:#}");
}

/// What `sender` finds at hookgate with PagerDuty's preset as it is and these lines added, and the exit code.
fn seen_by(sender: &str, leaf: Leaf, presented: Presented, lines: &str) -> (i32, Value) {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, chain) = gateway_beside(directory.path(), leaf, presented, lines);
    let url = format!("https://{HOST}:{}/hook", gateway.port());
    let arguments = ["probe", &url, "--as", sender, "--connect", "127.0.0.1", "--json", "--root", text(&chain.root)];
    let finished = hookgate(directory.path(), &arguments);
    (code(&finished), json(&finished))
}

/// hookgate as the receiver, with PagerDuty's preset and these providers and routes beside it.
fn gateway_beside(directory: &Path, leaf: Leaf, presented: Presented, others: &str) -> (Gateway, ServerChain) {
    let chain = ServerChain::new(directory, leaf, presented).unwrap();
    fs::write(directory.join("pagerduty.secret"), "a-secret-of-pagerduty").unwrap();
    let toml = format!(
        "[listen]\naddresses = [\"127.0.0.1:@LISTEN_PORT@\"]\nio = \"@IO@\"\nworkers = 1\n\
         [[certificate]]\nchain = \"{}\"\nkey = \"{}\"\n\
         [[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\n\
         signature.secrets = [{{ file = \"{}\" }}]\n\
         [[route]]\nhost = \"{HOST}\"\npath = \"/hook\"\nproviders = [\"pagerduty\"]\nhandler = \"unix:{}\"\n\
         {others}[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n",
        chain.chain.display(),
        chain.key.display(),
        directory.join("pagerduty.secret").display(),
        directory.join("hook.sock").display(),
    );
    (Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap(), chain)
}

#[test]
fn hookgate_as_documented_is_fine_and_a_missing_intermediate_is_seen() {
    let look = |leaf, presented| seen_by("pagerduty", leaf, presented, "");
    let (code, document) = look(Leaf::Good, Presented::Whole);
    assert_eq!((code, findings(&document)), (0, vec![]), "{document:#}");
    assert_eq!(document["answers"]["absent"]["answer"]["reason"], "no_certificate");
    assert_eq!(document["answers"]["foreign"]["answer"]["reason"], "unknown_issuer");
    let (code, document) = look(Leaf::Good, Presented::EndEntity);
    assert_eq!((code, findings(&document)), (2, vec![("chain_incomplete", "fault")]), "{document:#}");
    let (code, document) = look(Leaf::Good, Presented::OutOfOrder);
    assert_eq!((code, findings(&document)), (2, vec![("chain_out_of_order", "fault")]), "{document:#}");
}

/// What `[tls]` of hookgate has of PagerDuty's version and suites.
#[test]
fn a_policy_without_the_senders_version_is_a_fault() {
    let look = |lines: &str| seen_by("pagerduty", Leaf::Good, Presented::Whole, &format!("[tls]\n{lines}\n"));
    for (policy, versions) in [("intermediate", vec!["1.2", "1.3"]), ("pagerduty", vec!["1.2"])] {
        let (code, document) = look(&format!("policy = \"{policy}\""));
        assert_eq!((code, findings(&document)), (0, vec![]), "{policy}: {document:#}");
        assert_eq!(document["tls_versions"], serde_json::json!(versions), "{document:#}");
        assert_eq!(document["selected"]["tls_version"], "1.2", "{document:#}");
    }
    let (code, document) = look("policy = \"modern\"");
    assert_eq!((code, findings(&document)), (2, vec![("tls_version", "fault")]), "{document:#}");
    let detail = finding(&document, "tls_version")["detail"].as_str().unwrap();
    assert_eq!(detail, "pagerduty speaks TLS 1.2, and the receiver only TLS 1.3 (alert protocol_version)");
}

/// The hybrid group is one of the probe's, so that it sees what a receiver with this group alone speaks.
#[cfg(feature = "aws-lc")]
#[test]
fn a_receiver_that_takes_the_hybrid_group_alone_is_seen() {
    let lines = "[tls]\nkey_exchange = [\"X25519MLKEM768\"]\n";
    let (_, document) = seen_by("own-ca", Leaf::Good, Presented::Whole, lines);
    assert_eq!(document["tls_versions"], serde_json::json!(["1.3"]), "{document:#}");
    assert_eq!(document["selected"]["tls_version"], "1.3", "{document:#}");
    assert_eq!(document["certificates"].as_array().unwrap().len(), 2);
    let (code, document) = seen_by("pagerduty", Leaf::Good, Presented::Whole, lines);
    assert_eq!((code, findings(&document)), (2, vec![("key_exchange", "fault")]), "{document:#}");
    let mend = finding(&document, "key_exchange")["mend"].as_str().unwrap();
    assert!(mend.contains("hookgate: key_exchange in [tls]"), "{mend}");
}

#[test]
fn arguments_that_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let ends = |status: i32, arguments: &[&str], words: &str| {
        let finished = hookgate(directory.path(), &[&["probe"], arguments].concat());
        let error = finished.stderr_text();
        assert!(code(&finished) == status && error.contains(words), "{words}: {error}");
    };
    let check = |arguments: &[&str], words: &str| ends(3, arguments, words);
    ends(2, &["https://a.example/"], "--as is missing: write --as PRESET, one of alertmanager, ");
    check(&["https://a.example/", "--as", "pagerdty"], "there is no preset \"pagerdty\"; the presets are ");
    check(&["http://a.example/", "--as", "pagerduty"], "is not an https URL");
    check(&["https://a.example/", "--as", "pagerduty", "--profile", "x"], "its profiles are digicert-global-root-ca, ");
    check(&["https://a.example/", "--as", "pagerduty", "--root", "absent.pem"], "--root: absent.pem cannot be read");
}
