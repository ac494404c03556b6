//! Good proofs: which requests they accept and refuse, the origins of secrets and keys, and the warnings.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::config::preset::Presets;
use crate::config::profile::Fields;
use crate::config::{Feed, KeyOrigin};
use hookgate_core::auth::testing::{ISSUER, NOW as ARRIVAL, Request, at, dialogflow_claims, reason};
use hookgate_core::auth::{KeySets, KeySourceId, ProofPolicy, PublishedKeys, ReplayGuard};

/// A provider of these lines, with a certificate that proves it.
fn provider(lines: &str) -> String {
    let identity = "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"x\" }]";
    format!("[[provider]]\nname = \"pagerduty\"\n{identity}\n{lines}\n")
}

fn of_preset(preset: &str, lines: &str) -> String {
    format!("[[provider]]\nname = \"pagerduty\"\npreset = \"{preset}\"\n{lines}\n")
}

/// A configuration with this provider, and these sections after it.
fn with(provider: &str, sections: &str) -> String {
    [LISTEN, CERTIFICATE, ROUTE, provider, sections].concat()
}

/// A policy, and the keys of [`ISSUER`] under every source that it names.
struct Judge {
    policy: Arc<ProofPolicy>,
    keys: KeySets,
    guard: Arc<ReplayGuard>,
}

impl Judge {
    fn new(policy: &Arc<ProofPolicy>) -> Self {
        let set = Arc::new(hookgate_core::auth::KeySet::parse(ISSUER.jwks().as_bytes()).unwrap());
        let published = |keys: KeySets, source| {
            keys.with(source, PublishedKeys { set: Arc::clone(&set), usable_until: at(u64::MAX) })
        };
        let keys = policy.key_sources().fold(KeySets::default(), published);
        Self { policy: Arc::clone(policy), keys, guard: Arc::new(ReplayGuard::new(1024)) }
    }

    /// The policy of the first provider of a configuration.
    fn of(fixture: &Fixture, text: &str) -> Self {
        Self::new(&fixture.good(text).proofs.providers[0])
    }

    /// The proofs of a request, or the reason of its refusal. An accepted delivery is taken.
    fn outcome(&self, request: &Request) -> &'static str {
        match self.policy.check(&request.view(), &self.keys, &self.guard) {
            Ok(mut proven) => {
                if let Some(reservation) = proven.take_reservation() {
                    reservation.commit(at(request.received_at));
                }
                proven.labels()
            }
            refused => reason(refused),
        }
    }

    fn check(&self, request: &Request, expected: &str) {
        assert_eq!(self.outcome(request), expected, "{:?} {:?}", request.headers, self.policy);
    }
}

fn hex_hmac(message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
}

fn pagerduty(id: &str, body: &str) -> Request {
    Request::new(&[("x-pagerduty-signature", &format!("v1={}", hex_hmac(body))), ("x-webhook-id", id)], body)
}

fn bearer(claims: &Value) -> Request {
    Request::new(&[("authorization", &format!("Bearer {}", ISSUER.token(claims)))], "{}")
}

#[test]
fn nothing_is_demanded_where_nothing_is_said() {
    let fixture = Fixture::new();
    for section in [
        provider(""),
        provider("proof = \"certificate\""),
        of_preset("percolate", ""),
        of_preset("pagerduty", "proof = \"certificate\""),
        of_preset("dialogflow-cx", "proof = \"certificate\""),
    ] {
        let config = fixture.good(&with(&section, ""));
        assert_eq!((config.proofs.providers.len(), config.proofs.key_sources.len()), (1, 0), "{section}");
        assert!(matches!(config.proofs.routes.as_slice(), [None]), "{section}");
        let judge = Judge::new(&config.proofs.providers[0]);
        // Twice: without the proof of the preset, its replay rule does not apply.
        for _ in 0..2 {
            judge.check(&Request::new(&[("x-webhook-id", "1")], "{}"), "certificate");
        }
    }
}

#[test]
fn secrets_come_from_files_credentials_and_as_they_stand() {
    let fixture = Fixture::new();
    for secret in ["file = \"webhook.secret\"", "credential = \"webhook\"", &format!("unsafe_value = \"{SECRET}\"")] {
        for secrets in [format!("[{{ {secret} }}]"), format!("[{{ unsafe_value = \"new\" }}, {{ {secret} }}]")] {
            let judge =
                Judge::of(&fixture, &with(&of_preset("pagerduty", &format!("signature.secrets = {secrets}")), ""));
            judge.check(&pagerduty("1", "{}"), "certificate, signature");
            judge.check(&Request::new(&[("x-pagerduty-signature", "v1=00")], "{}"), "signature_malformed");
        }
    }
}

#[test]
fn no_secret_shows_in_the_configuration() {
    let fixture = Fixture::new();
    let secrets = format!("[{{ unsafe_value = \"{SECRET}\" }}, {{ file = \"webhook.secret\" }}]");
    let session = format!("{{ session_parameter = {{ pointer = \"/a\", secrets = {secrets} }} }}");
    let signature = format!("{{ signature = {{ form = \"pagerduty\", secrets = {secrets} }} }}");
    let text = with(&provider(&format!("proof = {{ any = [{session}, {signature}] }}")), "");
    let shown = format!("{:?} {:?}", fixture.good(&text), fixture.warnings_at(&text, NOW));
    assert!(!shown.contains(SECRET), "{shown}");
    let raw: crate::config::proof::RawClause = toml::from_str(&format!("signature.secrets = {secrets}")).unwrap();
    assert!(!format!("{raw:?}").contains(SECRET), "{raw:?}");
}

#[test]
fn the_preset_of_pagerduty_takes_signed_deliveries_once() {
    let fixture = Fixture::new();
    let lines = "signature.secrets = [{ file = \"webhook.secret\" }]";
    let judge = Judge::of(&fixture, &with(&of_preset("pagerduty", lines), ""));
    judge.check(&pagerduty("1", "{}"), "certificate, signature");
    judge.check(&pagerduty("1", "{}"), "duplicate_delivery");
    judge.check(&pagerduty("2", "{}"), "certificate, signature");
    let two_days = pagerduty("1", "{}").at(ARRIVAL + 172_800);
    judge.check(&two_days, "duplicate_delivery");
    judge.guard.advance(Duration::from_secs(200_000));
    let later = pagerduty("1", "{}").at(ARRIVAL + 172_801);
    judge.check(&later, "certificate, signature");
    let mut tampered = pagerduty("3", "{}");
    tampered.body.push(b' ');
    judge.check(&tampered, "signature_mismatch");
    judge.check(&Request::new(&[("x-webhook-id", "4")], "{}"), "signature_missing");

    let judge = Judge::of(&fixture, &with(&of_preset("pagerduty", &format!("{lines}\nreplay = \"none\"")), ""));
    judge.check(&pagerduty("1", "{}"), "certificate, signature");
    judge.check(&pagerduty("1", "{}"), "certificate, signature");
}

const TOKEN: &str = "token = { project_number = \"4711\", audiences = [\"https://hooks.example/dialogflow\"] }";

#[test]
fn the_presets_of_dialogflow_take_a_token_of_the_project() {
    let fixture = Fixture::new();
    for preset in ["dialogflow-cx", "dialogflow-es"] {
        let config = fixture.good(&with(&of_preset(preset, TOKEN), ""));
        let [google] = config.proofs.key_sources.as_slice() else { panic!("{:?}", config.proofs) };
        let KeyOrigin::Url(Feed { url, limits: _, roots: None }) = &google.origin else { panic!("{google:?}") };
        assert_eq!(
            (google.name.as_ref(), url.to_string().as_str()),
            ("google", "https://www.googleapis.com/oauth2/v3/certs")
        );
        let judge = Judge::new(&config.proofs.providers[0]);
        judge.check(&bearer(&dialogflow_claims()), "certificate, token");
        for (claim, value, expected) in [
            ("email", "service-4712@gcp-sa-dialogflow.iam.gserviceaccount.com", "token_wrong_email"),
            ("aud", "https://hooks.example/", "token_wrong_audience"),
            ("iss", "https://accounts.example.com", "token_wrong_issuer"),
        ] {
            let mut claims = dialogflow_claims();
            claims[claim] = json!(value);
            judge.check(&bearer(&claims), expected);
        }
        // Without a configured session parameter, only the token is a proof.
        judge.check(&Request::new(&[], r#"{"sessionInfo":{"parameters":{"x":""}}}"#), "token_missing");
    }
}

#[test]
fn the_presets_of_dialogflow_find_the_session_parameter_in_their_bodies() {
    let cx = |value: &str| json!({ "sessionInfo": { "session": "s", "parameters": { "a/b": value } } });
    let context = |value: &str| json!({ "session": "s", "queryResult": { "outputContexts": [{}, { "parameters": { "a/b": value } }] } });
    let payload =
        |value: &str| json!({ "session": "s", "originalDetectIntentRequest": { "payload": { "a/b": value } } });
    let fixture = Fixture::new();
    let tag = hex_hmac("s");
    for (preset, body) in
        [("dialogflow-cx", &cx as &dyn Fn(&str) -> Value), ("dialogflow-es", &context), ("dialogflow-es", &payload)]
    {
        for (demand, right) in [("secrets", SECRET), ("hmac_secrets", tag.as_str())] {
            let lines =
                format!("session_parameter = {{ name = \"a/b\", {demand} = [{{ file = \"webhook.secret\" }}] }}");
            let judge = Judge::of(&fixture, &with(&of_preset(preset, &lines), ""));
            judge.check(&Request::new(&[], body(right).to_string()), "certificate, session-parameter");
            judge.check(&Request::new(&[], body("wrong").to_string()), "session_parameter_mismatch");
            judge.check(
                &Request::new(&[], "{\"session\":\"s\",\"sessionInfo\":{\"session\":\"s\"}}"),
                "session_parameter_missing",
            );
        }
    }
}

#[test]
fn a_token_in_a_session_is_bound_to_it() {
    let token = "token = { issuers = [\"https://login.example\"], audiences = [\"webhook\"], key_source = \"login\" }";
    let lines = format!("session_parameter = {{ name = \"x\", {token} }}");
    let source = "[[key_source]]\nname = \"login\"\nurl = \"https://login.example/keys\"\n";
    let judge = Judge::of(&Fixture::new(), &with(&of_preset("dialogflow-cx", &lines), source));
    let claims = json!({ "iss": "https://login.example", "aud": "webhook", "sub": "s", "exp": ARRIVAL + 60 });
    let body =
        |session: &str| json!({ "sessionInfo": { "session": session, "parameters": { "x": ISSUER.token(&claims) } } });
    judge.check(&Request::new(&[], body("s").to_string()), "certificate, session-parameter");
    judge.check(&Request::new(&[], body("t").to_string()), "session_parameter_mismatch");
}

#[test]
fn alternatives_that_are_completed_are_alternatives() {
    let lines = format!("{TOKEN}\nsession_parameter = {{ name = \"x\", secrets = [{{ file = \"webhook.secret\" }}] }}");
    let judge = Judge::of(&Fixture::new(), &with(&of_preset("dialogflow-cx", &lines), ""));
    judge.check(&bearer(&dialogflow_claims()), "certificate, token");
    let body = json!({ "sessionInfo": { "parameters": { "x": SECRET } } }).to_string();
    judge.check(&Request::new(&[], body), "certificate, session-parameter");
    judge.check(&Request::new(&[], "{}"), "token_missing");
}

#[test]
fn proofs_combine() {
    let signature = "{ signature = { form = \"pagerduty\", secrets = [{ file = \"webhook.secret\" }] } }";
    let session = "{ session_parameter = { pointer = \"/x\", secrets = [{ unsafe_value = \"y\" }] } }";
    let fixture = Fixture::new();
    let judge = |proof: String| Judge::of(&fixture, &with(&provider(&format!("proof = {proof}")), ""));
    let (signed, told, both) =
        (pagerduty("1", "{}"), Request::new(&[], r#"{"x":"y"}"#), pagerduty("1", r#"{"x":"y"}"#));
    let all = judge(format!("{{ all = [{signature}, {session}] }}"));
    all.check(&both, "certificate, session-parameter, signature");
    all.check(&signed, "session_parameter_missing");
    all.check(&told, "signature_missing");
    let any = judge(format!("{{ any = [{signature}, {session}] }}"));
    any.check(&signed, "certificate, signature");
    any.check(&told, "certificate, session-parameter");
    any.check(&Request::new(&[], "{}"), "signature_missing");
    let nested = judge(format!("{{ all = [{{ any = [{session}, {session}] }}, {signature}] }}"));
    nested.check(&both, "certificate, session-parameter, signature");
    nested.check(&signed, "session_parameter_missing");
    judge(signature.to_owned()).check(&signed, "certificate, signature");
}

#[test]
fn a_route_replaces_what_its_providers_demand() {
    let lines = "proof.signature = { form = \"pagerduty\", secrets = [{ file = \"webhook.secret\" }] }\n\
                 replay = { by_signature = true, window_s = 60, duplicate_status = 409 }\n";
    let other = ROUTE.replace("/pagerduty\"\np", "/other\"\np");
    let config = Fixture::new().good(&[LISTEN, CERTIFICATE, PROVIDER, ROUTE, &other, lines].concat());
    let [None, Some(policy)] = config.proofs.routes.as_slice() else { panic!("{:?}", config.proofs) };
    assert_eq!(policy.duplicate_answer().map(|status| status.as_u16()), Some(409));
    let judge = Judge::new(policy);
    judge.check(&pagerduty("1", "{}"), "certificate, signature");
    judge.check(&pagerduty("2", "{}"), "duplicate_delivery");
    Judge::new(&config.proofs.providers[0]).check(&Request::new(&[], "{}"), "certificate");
}

#[test]
fn deliveries_of_two_providers_are_two() {
    let lines = "proof.signature = { form = \"pagerduty\", secrets = [{ file = \"webhook.secret\" }] }\nreplay.by_signature = true";
    let two = provider(lines) + &provider(lines).replace("name = \"pagerduty\"", "name = \"other\"");
    let config = Fixture::new().good(&with(&two, ""));
    let [one, mut other] = [0, 1].map(|index| Judge::new(&config.proofs.providers[index]));
    other.guard = Arc::clone(&one.guard);
    one.check(&pagerduty("1", "{}"), "certificate, signature");
    one.check(&pagerduty("1", "{}"), "duplicate_delivery");
    other.check(&pagerduty("1", "{}"), "certificate, signature");
}

#[test]
fn keys_come_from_where_the_file_says() {
    let sources = "[[key_source]]\nname = \"unused\"\nfile = \"keys.json\"\n\
                   [[key_source]]\nname = \"google\"\nurl = \"https://mirror.example:8443/certs\"\nca_file = \"ca.pem\"\n\
                   timeout_ms = 500\nmax_bytes = 4096\nmax_stale_s = 0\n";
    let fixture = Fixture::new();
    let text = with(&of_preset("dialogflow-cx", TOKEN), sources);
    let config = fixture.good(&text);
    let names: Vec<&str> = config.proofs.key_sources.iter().map(|source| source.name.as_ref()).collect();
    assert_eq!(names, ["unused", "google"], "what the file calls google replaces the built-in source");
    let sources: Vec<KeySourceId> = config.proofs.providers[0].key_sources().collect();
    assert_eq!(sources, [KeySourceId(1)]);
    let [unused, google] = config.proofs.key_sources.as_slice() else { panic!("{:?}", config.proofs) };
    let KeyOrigin::File(keys) = &unused.origin else { panic!("{unused:?}") };
    assert_eq!(keys.usable_keys(), 1);
    let KeyOrigin::Url(Feed { url, limits, roots: Some(roots) }) = &google.origin else { panic!("{google:?}") };
    assert_eq!((url.port(), roots.len()), (8443, 1));
    let told = (limits.timeout, limits.max_bytes, limits.max_stale);
    assert_eq!(told, (Duration::from_millis(500), 4096, Duration::ZERO));
    let warnings = fixture.warnings_at(&text, NOW);
    let expected = ["no token or signature uses the key source \"unused\"", "skipped key 1: its \"kty\" is \"oct\""];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    assert!(expected.iter().all(|words| warnings.iter().any(|warning| warning.contains(words))), "{warnings:#?}");
}

/// A reload keeps the keys of a source that is the same.
#[test]
fn sources_are_the_same_if_everything_about_them_is() {
    let fixture = Fixture::new();
    let feed = |lines: &str| {
        let mut config = fixture.good(&(minimal() + "[[key_source]]\nname = \"a\"\n" + lines));
        match config.proofs.key_sources.remove(0).origin {
            KeyOrigin::Url(feed) => feed,
            KeyOrigin::File(keys) => panic!("{keys:?}"),
        }
    };
    let url = "url = \"https://a.example/keys\"\n";
    for (one, other, same) in [
        (url, url, true),
        (url, "url = \"https://a.example/key\"\n", false),
        (url, "url = \"https://a.example/keys\"\nca_file = \"ca.pem\"\n", false),
        (
            "url = \"https://a.example/keys\"\nca_file = \"ca.pem\"\n",
            "url = \"https://a.example/keys\"\nca_file = \"intermediate.pem\"\n",
            false,
        ),
    ] {
        let (one, other) = (feed(one), feed(other));
        assert_eq!((one == other, one.is_same_document(&other)), (same, same), "{one:?} {other:?}");
    }
    // Another bound of a fetch or of use: the keys are the same, and the fetch is another.
    for bound in ["timeout_ms = 5", "max_bytes = 5000", "max_stale_s = 5"] {
        let (one, other) = (feed(url), feed(&format!("{url}{bound}\n")));
        assert_eq!((one == other, one.is_same_document(&other)), (false, true), "{bound}");
    }
}

#[test]
fn readable_secrets_and_tokens_of_any_subject_are_warned_of() {
    let fixture = Fixture::new();
    let check = |lines: &str, expected: &[(&str, &str)]| {
        let warnings = fixture.warnings_at(&with(&provider(lines), ""), NOW);
        assert_eq!(warnings.len(), expected.len(), "{lines}\n{warnings:#?}");
        for (warning, (key, words)) in warnings.iter().zip(expected) {
            assert!(
                warning.starts_with(&format!("14: provider[0].proof.{key}: ")) && warning.contains(words),
                "{warnings:#?}"
            );
        }
    };
    let signature = |secret: &str| format!("proof.signature = {{ form = \"pagerduty\", secrets = [{{ {secret} }}] }}");
    check(&signature("file = \"webhook.secret\""), &[]);
    let inline = [("signature.secrets[0].unsafe_value", "everyone who can read this file can read the secret")];
    check(&signature("unsafe_value = \"0123456789abcdef\""), &inline);
    let whole = |words| [inline[0], ("signature.secrets[0]", words)];
    check(&signature("unsafe_value = \"x\""), &whole("the secret is short (1 of at least 14 bytes)"));
    check(&signature("unsafe_value = \"0123456789abcdef \""), &whole("begins or ends with a space"));
    let token = "issuers = [\"i\"], audiences = [\"a\"], key_source = \"google\"";
    check(&format!("proof.token = {{ {token}, subjects = [\"s\"] }}"), &[]);
    let anybody = [("token.unsafe_any_subject", "every token of the issuer for this audience passes")];
    check(&format!("proof.token = {{ {token}, unsafe_any_subject = true }}"), &anybody);
    fs::set_permissions(fixture.path("webhook.secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(fixture.path("credentials/webhook"), fs::Permissions::from_mode(0o444)).unwrap();
    let readable = [("signature.secrets[0].file", "webhook.secret is readable by every user of this host; chmod 0600")];
    check(&signature("file = \"webhook.secret\""), &readable);
    check(&signature("credential = \"webhook\""), &[]);
    // A value that completes two proofs of a preset has one warning.
    let session = "session_parameter = { name = \"x\", secrets = [{ file = \"webhook.secret\" }] }";
    let warnings = fixture.warnings_at(&with(&of_preset("dialogflow-es", session), ""), NOW);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

/// The proofs of presets lack only the operator's part.
#[test]
fn every_preset_can_be_completed() {
    let fixture = Fixture::new();
    fixture.write("ed25519.key", senders::DISCORD_KEY);
    fixture.write("p256.key", &senders::p256().0);
    fixture.write("rsa.pem", senders::WISE_SANDBOX_KEY);
    let secrets = "secrets = [{ file = \"webhook.secret\" }]";
    for preset in Presets::compiled_in().usable() {
        let kinds = [
            TOKEN.to_owned(),
            format!("session_parameter = {{ name = \"x\", {secrets} }}"),
            format!("signature = {{ {secrets} }}"),
            "signature.secrets = [{ unsafe_value = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\" }]".to_owned(),
            "token = { emails = [\"a@a.example\"], audiences = [\"https://a/\"] }".to_owned(),
            format!("signature = {{ url = \"https://a/\", {secrets} }}"),
            "signature.keys = [{ file = \"ed25519.key\" }]".to_owned(),
            "signature.keys = [{ file = \"p256.key\" }]".to_owned(),
            "signature.keys = [{ file = \"rsa.pem\" }]".to_owned(),
            "signature.key_source = \"google\"".to_owned(),
            format!("basic.users = [{{ name = \"a\", {secrets} }}]\nunsafe_static_secret_suffices = true"),
        ];
        let lacks = |lacks: fn(&Fields) -> bool| {
            preset.has_certificate() && preset.drafts().iter().any(|draft| lacks(&draft.fields))
        };
        let anchors =
            if lacks(|fields| fields.trust_anchors.is_none()) { "trust_anchors = [\"ca.pem\"]\n" } else { "" };
        let identity =
            if lacks(|fields| fields.identity.is_none()) { "identity = [{ subject_cn = \"a\" }]\n" } else { "" };
        let complete = |lines: &String| {
            let lines = [anchors, identity, lines].concat();
            fixture.parse(&fixture.knowing_the_root(&with(&of_preset(preset.name(), &lines), ""))).is_ok()
        };
        let alone = complete(&String::new());
        assert_eq!(alone, preset.proofs().proof.is_none(), "{}", preset.name());
        assert!(alone || kinds.iter().any(complete), "{}", preset.name());
    }
}
