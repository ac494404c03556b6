//! From a refused webhook to the line to change, by `hookgate send --wrong` and `hookgate explain` alone: each explanation names the line of the
//! configuration that decides, and the change of that line admits the webhook.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::{Behaviour, Handler};
use serde_json::Value;
use tempfile::TempDir;

use super::server_chain::{Leaf, Presented, ServerChain};
use super::{HOST, code, hookgate, json, text};
use crate::environment::BINARY;

/// The secret of the receiver, and of the sender unless a case has another.
const SECRET: &str = "a-secret-of-pagerduty";
const OTHER_SECRET: &str = "another-secret-of-pagerduty";

const TRUST: &str = "trust_anchors = [\"@D@/hookgate-throwaway/pagerduty/root.pem\"]\n";

/// What an operator writes in place of a text of the configuration.
type Change = (&'static str, &'static str);

/// A wrong webhook.
struct Case {
    /// The word of `--wrong`; empty for a webhook that is right but for its secret.
    wrong: &'static str,
    reason: &'static str,
    /// The line that decides, by its beginning, and what is told of it; `None` if no line does.
    decides: Option<(&'static str, &'static str)>,
    /// What admits it, if the configuration can; then the same certificate is presented again if the flaw is there.
    change: Option<Change>,
}

const fn case(wrong: &'static str, reason: &'static str, line: &'static str, told: &'static str) -> Case {
    Case { wrong, reason, decides: Some((line, told)), change: None }
}

const fn sender(wrong: &'static str, reason: &'static str) -> Case {
    Case { wrong, reason, decides: None, change: None }
}

impl Case {
    const fn admitted_by(self, from: &'static str, to: &'static str) -> Self {
        Self { change: Some((from, to)), ..self }
    }
}

const PRESET: &str = "preset = ";
/// The certificates that a wrong chain has beside its end entity, as anchors.
const TRUST_SHOWN: &str = "trust_anchors = [\"@D@/shown.pem\"]\n";

const CASES: [Case; 20] = [
    // The demand itself is never named as what to change.
    case("no-certificate", "no_certificate", "providers", "providers"),
    sender("expired", "certificate_expired"),
    sender("not-yet-valid", "certificate_not_yet_valid"),
    case("foreign-issuer", "unknown_issuer", "trust_anchors", "trust_anchors").admitted_by(TRUST, TRUST_SHOWN),
    case("impostor", "bad_signature", "trust_anchors", "trust_anchors").admitted_by(TRUST, TRUST_SHOWN),
    case("self-signed", "unknown_issuer", "trust_anchors", "trust_anchors"),
    case("wrong-name", "identity_mismatch", PRESET, "preset (write identity in a [[provider.profile]] beside it)")
        .admitted_by(TRUST, "@TRUST@identity = [{ subject_cn = \"somebody-else.example\" }]\n"),
    case("name-as-part", "identity_mismatch", PRESET, "preset (write identity in a [[provider.profile]] beside it)")
        .admitted_by(TRUST, "@TRUST@identity = [{ subject_cn = \"webhooks.pagerduty.com.attacker.example\" }]\n"),
    case(
        "server-auth",
        "extended_key_usage",
        PRESET,
        "preset (write extended_key_usage in a [[provider.profile]] beside it)",
    )
    .admitted_by(TRUST, "@TRUST@extended_key_usage = \"ignore\"\n"),
    case("missing-intermediate", "unknown_issuer", "trust_anchors", "trust_anchors")
        .admitted_by("pagerduty/root.pem", "pagerduty/intermediate.pem"),
    case("too-deep", "path_too_long", PRESET, "preset (write verify_depth in a [[provider.profile]] beside it)")
        .admitted_by(TRUST, "@TRUST@verify_depth = 3\n"),
    case("no-proof", "signature_missing", "signature", "signature")
        .admitted_by("signature.secrets = [{ file = \"@D@/pd.secret\" }]\n", "proof = \"certificate\"\n"),
    case("", "signature_mismatch", "signature", "signature").admitted_by("@D@/pd.secret", "@D@/other.secret"),
    case("bad-proof", "signature_mismatch", "signature", "signature"),
    case("changed-body", "signature_mismatch", "signature", "signature"),
    case("no-delivery-id", "delivery_id_missing", PRESET, "preset (write replay beside it)")
        .admitted_by(TRUST, "@TRUST@replay = \"none\"\n"),
    case("bad-path", "no_route", "path", "path").admitted_by("\"/hook\"", "\"/hook/hookgate-no-such-path\""),
    case("bad-method", "method_not_allowed", "[[route]]", "[[route]] (write methods below it)")
        .admitted_by("path = \"/hook\"", "methods = [\"DELETE\"]\npath = \"/hook\""),
    sender("wrong-host", "misdirected"),
    case("head-too-large", "head_too_large", "[limits]", "[limits] (write max_head_bytes or max_headers below it)")
        .admitted_by("[limits]\n", "[limits]\nmax_head_bytes = 100000\n"),
];

/// What the explanation must say of the way out, beside the line.
const ADVICE: [(&str, &str); 5] = [
    ("no-certificate", "a sender without certificates needs a route whose providers ask for none"),
    ("impostor", "hookgate trust show NUMBER says what to compare"),
    (
        "missing-intermediate",
        "the sender must present every intermediate: hookgate completes no chain from trust_anchors",
    ),
    ("server-auth", "with extended_key_usage = \"ignore\": the key beside preset = counts for every profile"),
    ("head-too-large", "(max_head_bytes is now 16384, max_headers is now 100)"),
];

/// The handler ends while its socket is there.
struct Place {
    handler: Handler,
    chain: ServerChain,
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(code(&hookgate(directory.path(), &["send", "--as", "pagerduty"])), 0);
        let chain = ServerChain::new(directory.path(), Leaf::Good, Presented::Whole).unwrap();
        let handler = Handler::start(&directory.path().join("hook.sock"), Behaviour::Json).unwrap();
        for (name, secret) in [("pd.secret", SECRET), ("other.secret", OTHER_SECRET)] {
            fs::write(directory.path().join(name), secret).unwrap();
        }
        fs::create_dir(directory.path().join("state")).unwrap();
        fs::set_permissions(directory.path().join("state"), fs::Permissions::from_mode(0o700)).unwrap();
        Self { handler, chain, directory }
    }

    /// The configuration, with one change.
    fn start(&self, change: Option<(&str, &str)>) -> Gateway {
        let toml = format!(
            "[listen]\naddresses = [\"127.0.0.1:@LISTEN_PORT@\"]\nio = \"@IO@\"\nworkers = 1\n\n\
             [[certificate]]\nchain = \"{}\"\nkey = \"{}\"\n\n\
             [[provider]]\nname = \"sender\"\npreset = \"pagerduty\"\nrefusal = \"deny\"\n{TRUST}\
             signature.secrets = [{{ file = \"@D@/pd.secret\" }}]\n\n\
             [[route]]\nhost = \"{HOST}\"\npath = \"/hook\"\nproviders = [\"sender\"]\nhandler = \"unix:{}\"\n\n\
             [limits]\n\n[state]\ndirectory = \"@D@/state\"\n\n[metrics]\nlisten = \"127.0.0.1:@METRICS_PORT@\"\n",
            self.chain.chain.display(),
            self.chain.key.display(),
            self.handler.path().display(),
        );
        let toml = match change {
            Some((from, to)) => {
                assert!(toml.contains(from), "{from} is not in {toml}");
                toml.replacen(from, &to.replace("@TRUST@", TRUST), 1)
            }
            None => toml,
        };
        let toml = toml.replace("@D@", text(self.directory.path()));
        Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap()
    }

    fn send(&self, gateway: &Gateway, more: &[&str]) -> Value {
        self.send_as("pagerduty", gateway, "/hook", more)
    }

    fn send_as(&self, sender: &str, gateway: &Gateway, path: &str, more: &[&str]) -> Value {
        let url = format!("https://{HOST}:{}{path}", gateway.port());
        let root = text(&self.chain.root);
        let arguments = ["send", &url, "--as", sender, "--connect", "127.0.0.1", "--root", root, "--json"];
        json(&hookgate(self.directory.path(), &[&arguments[..], more].concat()))
    }

    /// Keeps the certificate that was presented, and what it has beside the end entity.
    fn keep_shown(&self) {
        let folder = self.directory.path().join("hookgate-throwaway/pagerduty");
        let chain = fs::read_to_string(folder.join("client.pem")).unwrap();
        let above = chain.split_once("-----END CERTIFICATE-----\n").unwrap().1.to_owned();
        fs::write(self.directory.path().join("shown.pem"), above).unwrap();
        fs::rename(folder.join("client.pem"), self.directory.path().join("client.pem")).unwrap();
        fs::rename(folder.join("client.key"), self.directory.path().join("client.key")).unwrap();
    }
}

/// The text of the explanation of a refusal.
fn explained(place: &Place, gateway: &Gateway, id: &str) -> String {
    let file = gateway.configuration_path();
    let finished = hookgate(place.directory.path(), &["explain", "--config", text(&file), id]);
    assert_eq!(code(&finished), 1, "{finished:?}");
    finished.stdout_text()
}

#[test]
fn each_refusal_names_the_line_whose_change_admits_it() {
    let place = Place::new();
    let gateway = place.start(None);
    let configuration = fs::read_to_string(gateway.configuration_path()).unwrap();
    let file = gateway.configuration_path().display().to_string();
    for Case { wrong, reason, decides, change } in &CASES {
        let secret = if wrong.is_empty() { "other.secret" } else { "pd.secret" };
        let mut sent = vec!["--secret-file", secret];
        if !wrong.is_empty() {
            sent.extend(["--wrong", wrong]);
        }
        let document = place.send(&gateway, &sent);
        assert_eq!(document["answer"]["reason"], *reason, "{wrong}: {document:#}");
        let id = document["answer"]["request_id"].as_str().unwrap().to_owned();
        let explanation = explained(&place, &gateway, &id);
        assert!(explanation.contains(&format!("result     refused: {reason}\n")), "{wrong}: {explanation}");
        let expected = match decides {
            Some((start, told)) => {
                let line = configuration.lines().position(|line| line.starts_with(start)).unwrap() + 1;
                format!("decided by {file}:{line}: {told}\n")
            }
            None => "decided by no line of the configuration\n".to_owned(),
        };
        assert_eq!(explanation.matches("decided by ").count(), 1, "{wrong}: {explanation}");
        assert!(explanation.ends_with(&expected), "{wrong}: {expected} is not the end of\n{explanation}");
        for (flaw, advice) in ADVICE {
            assert!(flaw != *wrong || explanation.contains(advice), "{wrong}: {advice} is not in\n{explanation}");
        }
        let Some(change) = change else { continue };
        let flawed = [
            "foreign-issuer",
            "impostor",
            "wrong-name",
            "name-as-part",
            "server-auth",
            "missing-intermediate",
            "too-deep",
        ];
        let again = if flawed.contains(wrong) {
            place.keep_shown();
            vec!["--secret-file", secret, "--cert", "client.pem", "--key", "client.key"]
        } else {
            sent
        };
        let changed = place.start(Some(*change));
        let document = place.send(&changed, &again);
        assert_eq!(document["answer"]["status"], 200, "{wrong}: {document:#}\n{}", changed.log());
    }
}

/// A section that is not there has no line.
#[test]
fn a_size_that_no_line_limits_is_explained_by_the_section_to_add() {
    let place = Place::new();
    let gateway = place.start(Some(("[limits]\n", "")));
    let large = ["--secret-file", "pd.secret", "--wrong", "too-large", "--body-bytes", "1050000"];
    let document = place.send(&gateway, &large);
    let id = document["answer"]["request_id"].as_str().unwrap();
    let explanation = explained(&place, &gateway, id);
    let file = gateway.configuration_path().display().to_string();
    let told = format!("decided by {file}: [limits] (there is no such section; add it, with max_body_bytes)\n");
    assert!(explanation.ends_with(&told), "{explanation}");
    let changed = place.start(Some(("[limits]\n", "[limits]\nmax_body_bytes = 2000000\n")));
    assert_eq!(place.send(&changed, &large)["answer"]["status"], 200);
}

/// A sender without a certificate shares the host. What explain says is what the daemon did, also about a request that was never sent.
#[test]
fn at_a_host_of_both_kinds_a_stranger_learns_of_no_route_and_explain_agrees() {
    let place = Place::new();
    let github = format!(
        "[[provider]]\nname = \"github\"\npreset = \"github\"\nsignature = {{ secrets = [{{ file = \"@D@/pd.secret\" }}] }}\n\n\
         [[route]]\nmethods = [\"POST\"]\npath = \"/github\"\nhost = \"{HOST}\"\nproviders = [\"github\"]\nhandler = \"unix:{}\"\n\n[limits]\n",
        place.handler.path().display()
    );
    let gateway = place.start(Some(("[limits]\n", &github)));
    let configuration = fs::read_to_string(gateway.configuration_path()).unwrap();
    let decided = |start: &str, told: &str| {
        let line = configuration.lines().position(|line| line.starts_with(start)).unwrap() + 1;
        format!("decided by {}:{line}: {told}\n", gateway.configuration_path().display())
    };
    let secret = ["--secret-file", "pd.secret"];
    assert_eq!(place.send_as("github", &gateway, "/github", &secret)["answer"]["status"], 200);
    for (wrong, hidden, line) in [
        ("bad-path", "no_route", decided("path = \"/github\"", "path")),
        ("bad-method", "method_not_allowed", decided("methods = ", "methods")),
    ] {
        let document = place.send_as("github", &gateway, "/github", &[&secret[..], &["--wrong", wrong]].concat());
        assert_eq!((&document["answer"]["reason"], &document["as_expected"]), (&"no_certificate".into(), &true.into()));
        let explanation = explained(&place, &gateway, document["answer"]["request_id"].as_str().unwrap());
        assert!(
            explanation.ends_with(&format!("result     refused: no_certificate\n{line}")),
            "{wrong}: {explanation}"
        );
        assert!(explanation.contains(&format!("the answer would be {hidden}")), "{wrong}: {explanation}");
        assert!(explanation.contains(&format!("\nroute      refused: {hidden}: ")), "{wrong}: {explanation}");
        // With a certificate, the same is told to the sender.
        let document = place.send(&gateway, &[&secret[..], &["--wrong", wrong]].concat());
        assert_eq!(document["answer"]["reason"], hidden);
    }
    // A certificate that is refused does not count where none is needed.
    let refused = place.send(&gateway, &[&secret[..], &["--wrong", "expired"]].concat());
    assert_eq!(refused["answer"]["reason"], "certificate_expired");
    place.keep_shown();
    let shown = [&secret[..], &["--cert", "client.pem", "--key", "client.key"]].concat();
    assert_eq!(place.send_as("github", &gateway, "/github", &shown)["answer"]["status"], 200);
    // What was never sent: the same decisions.
    let file = gateway.configuration_path();
    let described = |more: &[&str]| {
        let finished = hookgate(place.directory.path(), &[&["explain", "--config", text(&file)], more].concat());
        (code(&finished), finished.stdout_text())
    };
    let (status, explanation) = described(&["--path", "/hook"]);
    let line = decided("providers = ", "providers");
    assert!(status == 1 && explanation.ends_with(&format!("refused: no_certificate\n{line}")), "{explanation}");
    for more in [&["--path", "/github"][..], &["--path", "/github", "--chain", "client.pem"]] {
        let (status, explanation) = described(more);
        assert!(explanation.contains("The request must prove that github sent it."), "{explanation}");
        assert!(status == 1 && explanation.contains("result     refused: signature_missing\n"), "{explanation}");
    }
    for path in ["/nowhere", "/github/more"] {
        let (status, explanation) = described(&["--path", path]);
        assert!(status == 1 && explanation.contains("result     refused: no_certificate\n"), "{explanation}");
    }
    let (status, explanation) = described(&["--path", "/hook", "--chain", "client.pem"]);
    assert!(status == 1 && explanation.contains("result     refused: certificate_expired\n"), "{explanation}");
    let (status, explanation) = described(&["--path", "/hook", "--server-name", "other.example"]);
    let line = decided("host = ", "host");
    assert!(status == 1 && explanation.ends_with(&format!("refused: unknown_server_name\n{line}")), "{explanation}");
}

/// Of two routes on one host, with one wrong word: the line with that word is named, and never the demand of a provider.
#[test]
fn one_wrong_word_in_a_route_is_named_itself() {
    let place = Place::new();
    let whole = |first: [&str; 2], second: [&str; 2]| {
        let handler = place.handler.path().display();
        let route = |path: &str, [host, provider]: [&str; 2]| {
            format!(
                "[[route]]\npath = \"{path}\"\nhost = \"{host}\"\nproviders = [\"{provider}\"]\nhandler = \"unix:{handler}\"\n\n"
            )
        };
        let github = "[[provider]]\nname = \"github\"\npreset = \"github\"\nsignature = { secrets = [{ file = \"@D@/pd.secret\" }] }\n\n";
        [github, &route("/pagerduty", first), &route("/github", second), "[limits]\n"].concat()
    };
    let typed = format!("x{HOST}");
    // The first `host` or `providers` of the file is that of the route /hook.
    let cases = [
        ([HOST, "sender"], [typed.as_str(), "github"], "github", "/github", "no_certificate", "host", 2),
        ([HOST, "sender"], [typed.as_str(), "github"], "pagerduty", "/github", "no_route", "host", 2),
        ([typed.as_str(), "sender"], [HOST, "github"], "pagerduty", "/pagerduty", "no_route", "host", 1),
        ([HOST, "github"], [HOST, "sender"], "github", "/github", "no_certificate", "providers", 2),
        ([HOST, "github"], [HOST, "sender"], "pagerduty", "/pagerduty", "signature_missing", "providers", 1),
    ];
    for (first, second, sender, path, reason, key, nth) in cases {
        let gateway = place.start(Some(("[limits]\n", &whole(first, second))));
        let document = place.send_as(sender, &gateway, path, &["--secret-file", "pd.secret"]);
        assert_eq!(document["answer"]["reason"], reason, "{sender} {path}: {document:#}");
        let explanation = explained(&place, &gateway, document["answer"]["request_id"].as_str().unwrap());
        let configuration = fs::read_to_string(gateway.configuration_path()).unwrap();
        let mut lines = configuration.lines().enumerate().filter(|(_, line)| line.starts_with(&format!("{key} = ")));
        let (line, _) = lines.nth(nth).unwrap();
        let expected = format!("decided by {}:{}: {key}\n", gateway.configuration_path().display(), line + 1);
        assert!(explanation.ends_with(&expected), "{sender} {path}: {expected} is not the end of\n{explanation}");
        assert!(!explanation.contains("client_certificate"), "{explanation}");
    }
}

/// What a refusal without a request id has as a handle: its reason, which names the line of this configuration.
#[test]
fn the_reason_of_a_version_of_tls_names_the_policy_that_excludes_it() {
    let place = Place::new();
    for (tls, expected) in [
        ("[limits]\n", "TLS 1.2 and 1.3; no line excludes a version that hookgate has\n"),
        ("[tls]\npolicy = \"modern\"\n\n[limits]\n", ": policy\n"),
    ] {
        let gateway = place.start(Some(("[limits]\n", tls)));
        let file = gateway.configuration_path();
        let finished = hookgate(place.directory.path(), &["explain", "--config", text(&file), "tls_version"]);
        let told = finished.stdout_text();
        assert!(code(&finished) == 0 && told.ends_with(expected) && !told.contains('`'), "{told}");
        let configuration = fs::read_to_string(&file).unwrap();
        if let Some(line) = configuration.lines().position(|line| line.starts_with("policy = ")) {
            assert!(
                told.contains(&format!("TLS 1.3 only, decided by {}:{}: policy", file.display(), line + 1)),
                "{told}"
            );
        }
    }
}

/// The window of a timestamp is a key within the signature.
#[test]
fn a_stale_timestamp_names_the_tolerance() {
    let place = Place::new();
    let stamped = "proof = { signature = { form = \"hmac\", header = \"x-a\", timestamp_header = \"x-time\", \
                   message = \"{timestamp}.{body}\", secrets = [{ file = \"@D@/pd.secret\" }] } }\n";
    let whole = format!("client_certificate = \"none\"\n{stamped}");
    let gateway = place.start(None);
    let configuration = fs::read_to_string(gateway.configuration_path()).unwrap();
    let provider = format!(
        "[[provider]]\nname = \"stamped\"\n{whole}\n[[route]]\npath = \"/stamped\"\nhost = \"{HOST}\"\nproviders = [\"stamped\"]\n\
         handler = \"unix:{}\"\n\n[limits]\n",
        place.handler.path().display()
    );
    let changed = configuration.replacen("[limits]\n", &provider.replace("@D@", text(place.directory.path())), 1);
    let file = place.directory.path().join("changed.toml");
    fs::write(&file, changed).unwrap();
    let signature = format!("x-a: {}", "0".repeat(64));
    let request =
        ["--path", "/stamped", "--server-name", HOST, "--header", "x-time: 1000", "--header", signature.as_str()];
    let finished = hookgate(place.directory.path(), &[&["explain", "--config", text(&file)], &request[..]].concat());
    let told = finished.stdout_text();
    assert!(told.contains("refused: timestamp_outside_window\n"), "{finished:?}");
    assert!(told.ends_with(": proof (tolerance_s in it)\n"), "{told}");
}

/// Of a request that is refused after its proof, explain says no more than that.
#[test]
fn a_refusal_after_the_proof_does_not_say_that_the_handler_was_asked() {
    let place = Place::new();
    let gateway = place.start(Some(("hook.sock\"", "no.sock\"")));
    let document = place.send(&gateway, &["--secret-file", "pd.secret"]);
    assert_eq!(document["answer"]["reason"], "handler_unavailable", "{document:#}");
    let told = explained(&place, &gateway, document["answer"]["request_id"].as_str().unwrap());
    assert!(
        told.contains("auth       passes: The request proved itself to the daemon; what refused it came after that.\n"),
        "{told}"
    );
}

/// Beside its issuer, an intermediate is no anchor: to add it there changes nothing, and explain says so.
#[test]
fn an_intermediate_beside_its_root_is_explained_as_no_anchor() {
    let place = Place::new();
    let both = "trust_anchors = [\"@D@/hookgate-throwaway/pagerduty/root.pem\", \"@D@/hookgate-throwaway/pagerduty/intermediate.pem\"]\n";
    let gateway = place.start(Some((TRUST, both)));
    let document = place.send(&gateway, &["--secret-file", "pd.secret", "--wrong", "missing-intermediate"]);
    assert_eq!(document["answer"]["reason"], "unknown_issuer", "{document:#}");
    let told = explained(&place, &gateway, document["answer"]["request_id"].as_str().unwrap());
    assert!(told.contains("an intermediate beside its issuer there is no anchor"), "{told}");
}
