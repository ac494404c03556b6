//! The pages of `docs/senders`: one for each preset, whose configuration is good and takes what the sender sends.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use ring::rand::SystemRandom;
use ring::{hmac, signature};

use super::*;
use crate::config::preset::Presets;
use crate::config::strength::Comparison;
use hookgate_core::auth::testing::{Request, reason};
use hookgate_core::auth::{KeySets, ReplayGuard};

/// The body of the vectors.
const BODY: &str = "{\"id\":\"evt_1\",\"n\":1}";
/// A body with the id that Square's have.
const SQUARE: &str = "{\"event_id\":\"evt_1\"}";
/// The time of the vectors that sign one.
const TIME: u64 = 1_700_000_000;

/// The vector of Svix's libraries.
const SVIX_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The key, the body and the signature of Wise's examples (transferwise/digital-signatures-examples, verify-webhook-signature), which are of
/// its sandbox.
pub(super) const WISE_SANDBOX_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwpb91cEYuyJNQepZAVfP
ZIlPZfNUefH+n6w9SW3fykqKu938cR7WadQv87oF2VuT+fDt7kqeRziTmPSUhqPU
ys/V2Q1rlfJuXbE+Gga37t7zwd0egQ+KyOEHQOpcTwKmtZ81ieGHynAQzsn1We3j
wt760MsCPJ7GMT141ByQM+yW1Bx+4SG3IGjXWyqOWrcXsxAvIXkpUD/jK/L958Cg
nZEgz0BSEh0QxYLITnW1lLokSx/dTianWPFEhMC9BgijempgNXHNfcVirg1lPSyg
z7KqoKUN0oHqWLr2U1A+7kqrl6O2nx3CKs1bj1hToT1+p4kcMoHXA7kA+VBLUpEs
VwIDAQAB
-----END PUBLIC KEY-----
";
const WISE_BODY: &str = r#"{"data":{"resource":{"id":49983981,"profile_id":16055450,"account_id":14124090,"type":"transfer"},"current_state":"incoming_payment_waiting","previous_state":null,"occurred_at":"2021-08-23T10:12:50Z"},"subscription_id":"90aa8e14-4ef1-4a56-861c-f3c9cde097ea","event_type":"transfers#state-change","schema_version":"2.0.0","sent_at":"2021-08-23T10:12:50Z"}"#;
const WISE_SIGNATURE: &str = "wKcKCYXAzxNgiu7xmoDm943NUni7Rz33QN8JkEA9dWSGebgndonabgSj18Y4C08OrwVmueGsED2s00M7DtJVcYKOS1i3G4TMVx+mgM3aL9djMBkQtiYNBFUd6wrPI7ZUNHv/TrlKSjTMc+6JFvUvJ7owY3z85e3I4jLRLJowMFvO8kvCJ60+1pY9wDwZvtZ//WS93LrwGjk9Dvwzpmu0w+P4J75tETT5qC3Uv0y5G2yO8SEoO3yNP/tg/BOli02niHb53vEOUWUb9bly6thnfMoXoiV/osoGxgF20R58RlvkAmezyyl1Sv542TfS2DpiwVnmjjjkCyXeSUcKookYLQ==";

/// The public key of the Ed25519 seed 00 01 … 1f, in hexadecimal.
pub(super) const DISCORD_KEY: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";

/// A new key on P-256: its public key as base64 of DER, and its private key.
pub(super) fn p256() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (BASE64.encode(&rcgen::PublicKeyData::subject_public_key_info(&key)), key)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/senders")
}

/// The configurations of a page, with files of this host's test directory: the first is whole, and each other one is a `[[provider]]`, in
/// place of that of the first.
fn configurations(fixture: &Fixture, name: &str) -> Vec<String> {
    let page = fs::read_to_string(directory().join(format!("{name}.md"))).unwrap();
    let mut blocks = page.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let first = blocks.next().unwrap_or_else(|| panic!("no configuration: {name}"));
    let (before, rest) = first.split_once("[[provider]]").unwrap();
    let (_, routes) = rest.split_once("[[route]]").unwrap();
    let other = |provider: &str| {
        let line = provider.lines().find(|line| line.starts_with("name = ")).unwrap();
        let routes = routes.replace(&format!("[\"{name}\"]"), &format!("[{}]", &line["name = ".len()..]));
        format!("{before}{provider}\n[[route]]{routes}")
    };
    let all: Vec<String> = std::iter::once(first.to_owned()).chain(blocks.map(other)).collect();
    let local = |text: String| text.replace("/etc/letsencrypt/live/hooks.example.com/", "");
    all.into_iter().map(local).inspect(|text| write_files(fixture, text)).collect()
}

/// Writes the files that a configuration names, unless they exist.
fn write_files(fixture: &Fixture, text: &str) {
    for file in text.split('"').filter(|file| !fixture.path(file).exists()) {
        let content = match file {
            "discord.key" => DISCORD_KEY.to_owned(),
            "sendgrid.key" => p256().0,
            "wise-production.pem" | "fireblocks-legacy-key.pem" => WISE_SANDBOX_KEY.to_owned(),
            _ if file.ends_with(".secret") => SECRET.to_owned(),
            _ if file.ends_with(".whsec") => SVIX_SECRET.to_owned(),
            _ if file.ends_with(".pem") => fs::read_to_string(fixture.path("ca.pem")).unwrap(),
            _ => continue,
        };
        fixture.write(file, &content);
    }
}

#[test]
fn every_preset_has_a_page_with_a_good_configuration() {
    let presets = Presets::compiled_in();
    let pages = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<String> = pages.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, presets.names().map(str::to_owned).collect());
    for name in presets.names() {
        let fixture = Fixture::new();
        for text in configurations(&fixture, name) {
            assert!(text.contains(&format!("preset = \"{name}\"\n")), "{name}");
            let text = fixture.knowing_the_root(&text);
            let load = || fixture.good(&text).strength;
            assert_eq!(load().compare(&load()), Comparison::NotWeaker, "{name}");
        }
        let page = fs::read_to_string(directory().join(format!("{name}.md"))).unwrap();
        for heading in ["What it sends", "What you add", "On the sender's side", "What a refusal does there"] {
            assert!(page.contains(&format!("\n## {heading}\n")), "{name}: {heading}");
        }
    }
}

/// What a sender sends, by its documentation: the secret, its fields, the body and the time.
struct Sent<'a> {
    secret: (&'a str, &'a str),
    fields: &'a [(&'a str, &'a str)],
    body: &'a str,
    time: u64,
}

/// The configuration of the page takes the request, and refuses it with another body and without its fields.
#[track_caller]
fn check(name: &str, sent: &Sent<'_>) {
    let fixture = Fixture::new();
    let (file, secret) = sent.secret;
    fixture.write(file, secret);
    let config = fixture.good(&configurations(&fixture, name)[0]);
    let judge = |fields: &[(&str, &str)], body: &str| {
        let request = Request::new(fields, body).at(sent.time);
        let guard = Arc::new(ReplayGuard::new(8));
        reason(config.proofs.providers[0].check(&request.view(), &KeySets::default(), &guard))
    };
    assert_eq!(judge(sent.fields, sent.body), "ok", "{name}");
    assert_eq!(judge(sent.fields, &format!("{} ", sent.body)), "signature_mismatch", "{name}");
    assert_eq!(judge(&[], sent.body), "signature_missing", "{name}");
}

#[test]
fn the_configurations_take_what_the_senders_send() {
    let pagerduty = "v1=1eeb18f4dd69d38f5218540edc21ff606ecf978540525925fe8ba3e11c138455,\
                     v1=f80520a61a9d07e53a8b45536cabab36ebeda0156958f579453d6db663a65747";
    for secret in ["pd-old-secret", "pd-new-secret"] {
        let fields = &[("x-pagerduty-signature", pagerduty), ("x-webhook-id", "1")];
        check("pagerduty", &Sent { secret: ("pagerduty.secret", secret), fields, body: BODY, time: TIME });
    }
    let meta = "sha256=eabafb77676b0d77b864091e56aa8a225f8031a381544b9df52d7d59e66256c6";
    let fields = &[("x-hub-signature-256", meta)];
    check("meta", &Sent { secret: ("meta-app.secret", "meta-app-secret"), fields, body: BODY, time: TIME });
    for number in 1..=4 {
        let field = format!("x-docusign-signature-{number}");
        let fields = &[(field.as_str(), "rnVKZeG+Jj4f6n3RTPOZEWi5LLj1LkNJhoRsDmd/CN4=")];
        check("docusign", &Sent { secret: ("docusign.secret", "ds-connect-key"), fields, body: BODY, time: TIME });
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = |message: &str| HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref());
    let slack = format!("v0={}", tag(&format!("v0:{TIME}:{BODY}")));
    let fields = &[("x-slack-request-timestamp", "1700000000"), ("x-slack-signature", slack.as_str())];
    check("slack-mtls", &Sent { secret: ("slack.secret", SECRET), fields, body: BODY, time: TIME + 300 });
    check("slack", &Sent { secret: ("slack.secret", SECRET), fields, body: BODY, time: TIME - 300 });
    // GitHub's documentation, "Validating webhook deliveries".
    let github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let fields = &[("x-hub-signature-256", github)];
    let secret = ("github.secret", "It's a Secret to Everybody");
    check("github", &Sent { secret, fields, body: "Hello, World!", time: TIME });
    let secret = ("gitlab.whsec", "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=");
    let fields = &[
        ("webhook-id", "4ae0f2c1-0000-4000-8000-000000000001"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", "v1,OcrJIDzB9dd0KWLgCqQAsXL4VaPHOjG+IGiatrLWRgs="),
    ];
    check("gitlab", &Sent { secret, fields, body: BODY, time: TIME });
    let stripe = "t=1700000000,v1=180efed470f69ea63d2145336828f968c61b2264f977a79fa77b058fec58b7b1,v0=00";
    let fields = &[("stripe-signature", stripe)];
    check("stripe", &Sent { secret: ("stripe.secret", "whsec_test"), fields, body: BODY, time: TIME });
    let fields =
        &[("x-shopify-hmac-sha256", "4Gcvz0rF5U1HgwBOJx+1+9DcLaQ2UynlMme1JqWUJJk="), ("x-shopify-webhook-id", "1")];
    check("shopify", &Sent { secret: ("shopify.secret", "shpss_test"), fields, body: BODY, time: TIME });
    let zoom = "v0=2e8d320bf5beef9d8f2753873cdcdf5391f20c602ca53fb90459cfe5af5ab23b";
    let fields = &[("x-zm-request-timestamp", "1700000000"), ("x-zm-signature", zoom)];
    check("zoom", &Sent { secret: ("zoom.secret", "zoom-secret"), fields, body: BODY, time: TIME });
    // Ed25519, of the seed 00 01 … 1f.
    let fields = &[
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1700000000"),
        (
            "webhook-signature",
            "v1a,nSeghqihs/8jsQrrK5wuR38wkHTihsPRBSwxVdX+gJKfWn0aXADfnW0hAIOHEYxF/N3RqFUiYl6xzYv7Pl4rCw==",
        ),
    ];
    let secret = ("sender.whsec", "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
    check("standard-webhooks", &Sent { secret, fields, body: BODY, time: TIME });
    let fields = &[
        ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("svix-timestamp", "1614265330"),
        ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    for name in ["svix", "svix-mtls"] {
        let body = r#"{"test": 2432232314}"#;
        check(name, &Sent { secret: ("svix.whsec", SVIX_SECRET), fields, body, time: 1_614_265_330 });
    }
    let fields = &[("linear-signature", "e5c3c91f7d857a6ea59a49bcada37a51ab68e6df9fa668a2e13c99f8c01f6242")];
    check("linear", &Sent { secret: ("linear.secret", "lin_wh_test"), fields, body: BODY, time: TIME });
}

#[test]
fn the_configurations_take_what_the_senders_sign_with_a_url_or_a_public_key() {
    let square = {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"sq-key");
        let url = "https://hooks.example.com/square";
        BASE64.encode(hmac::sign(&key, format!("{url}{SQUARE}").as_bytes()).as_ref())
    };
    let fields = &[("x-square-hmacsha256-signature", square.as_str())];
    check("square", &Sent { secret: ("square.secret", "sq-key"), fields, body: SQUARE, time: TIME });
    let discord = "b1644a24336e5db810885385cd6327111eb612abeaf117726232e4fb91a00525\
                   2c477a5a073b65092b8580c32e70ebbd9b19e40fd7b2fc2c02e257eb8a989c0b";
    let fields = &[("x-signature-ed25519", discord), ("x-signature-timestamp", "1700000000")];
    check("discord", &Sent { secret: ("discord.key", DISCORD_KEY), fields, body: BODY, time: TIME });
    let fields = &[("x-signature-sha256", WISE_SIGNATURE)];
    let secret = ("wise-production.pem", WISE_SANDBOX_KEY);
    check("wise", &Sent { secret, fields, body: WISE_BODY, time: TIME });
    let (public, private) = p256();
    let (random, algorithm) = (SystemRandom::new(), &signature::ECDSA_P256_SHA256_ASN1_SIGNING);
    let private = signature::EcdsaKeyPair::from_pkcs8(algorithm, &private.serialize_der(), &random).unwrap();
    let body = format!("{BODY}\r\n");
    let signed = BASE64.encode(private.sign(&random, format!("{TIME}{body}").as_bytes()).unwrap().as_ref());
    let fields = &[
        ("x-twilio-email-event-webhook-signature", signed.as_str()),
        ("x-twilio-email-event-webhook-timestamp", "1700000000"),
    ];
    check("sendgrid", &Sent { secret: ("sendgrid.key", &public), fields, body: &body, time: TIME });
}
