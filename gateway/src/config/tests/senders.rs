//! The pages of `docs/senders`: one for each preset, whose configuration is good and takes what the sender sends.

use std::collections::BTreeSet;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::hmac;

use super::*;
use crate::config::preset::Presets;
use crate::config::strength::Comparison;
use hookgate_core::auth::testing::{Request, reason};
use hookgate_core::auth::{KeySets, ReplayGuard};

/// The body of the vectors.
const BODY: &str = "{\"id\":\"evt_1\",\"n\":1}";
/// The time of the vectors that sign one.
const TIME: u64 = 1_700_000_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/senders")
}

/// The configuration of a page, with files of this host's test directory.
fn configuration(fixture: &Fixture, name: &str) -> String {
    let page = fs::read_to_string(directory().join(format!("{name}.md"))).unwrap();
    let block = page.split("```toml\n").nth(1).unwrap_or_else(|| panic!("no configuration: {name}"));
    let text = block.split("```").next().unwrap().replace("/etc/letsencrypt/live/hooks.example.com/", "");
    for file in text.split('"') {
        let path = fixture.path(file);
        if file.ends_with(".secret") && !path.exists() {
            fixture.write(file, SECRET);
        } else if file.ends_with(".pem") && !path.exists() {
            fs::copy(fixture.path("ca.pem"), path).unwrap();
        }
    }
    text
}

#[test]
fn every_preset_has_a_page_with_a_good_configuration() {
    let presets = Presets::compiled_in();
    let pages = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<String> = pages.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, presets.names().map(str::to_owned).collect());
    for name in presets.names() {
        let fixture = Fixture::new();
        let text = configuration(&fixture, name);
        assert!(text.contains(&format!("preset = \"{name}\"\n")), "{name}");
        let load = || fixture.good(&text).strength;
        assert_eq!(load().compare(&load()), Comparison::NotWeaker, "{name}");
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
    let config = fixture.good(&configuration(&fixture, name));
    let judge = |fields: &[(&str, &str)], body: &str| {
        let request = Request::new(fields, body).at(sent.time);
        let guard = Arc::new(ReplayGuard::new(8));
        reason(config.proofs.providers[0].check(&request.view(), &KeySets::default(), &guard))
    };
    assert_eq!(judge(sent.fields, sent.body), "ok", "{name}");
    assert_eq!(judge(sent.fields, &sent.body.replacen('1', "2", 1)), "signature_mismatch", "{name}");
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
}
