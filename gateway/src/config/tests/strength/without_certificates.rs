//! That no part of a file with senders without certificates is weaker than the whole without being refused: each kind of proof, in a
//! provider that nothing else proves.

use std::collections::BTreeSet;

use super::admission::Admission;
use super::variants::{STANDARD, ed25519_key};
use super::*;
use hookgate_core::auth::testing::ISSUER;

/// Providers of every kind of proof, each with its route. Each begins with its header.
pub(super) const SENDERS: [&str; 12] = [
    "[[key_source]]\nname = \"login\"\nurl = \"https://login.example/keys\"\nca_file = \"ca.pem\"\nmax_stale_s = 60\n",
    "[[provider]]\nname = \"url\"\nclient_certificate = \"none\"\n\
     [provider.proof.signature]\nform = \"hmac\"\nheader = \"x-url\"\nurl = \"https://a.example/url\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\nmessage = \"{url}\\n{body}\"\n\
     [[route]]\nhost = \"a.example\"\npath = \"/url\"\nproviders = [\"url\"]\nhandler = \"unix:/run/url.sock\"\n",
    "[[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\nclient_certificate = \"none\"\n\
     signature.secrets = [{ unsafe_value = \"a secret of the sender\" }]\nreplay = { id_header = \"x-id\" }\n\
     [[route]]\nhost = \"a.example\"\npath = \"/pagerduty\"\nproviders = [\"pagerduty\"]\nhandler = \"unix:/run/p.sock\"\n",
    "[[provider]]\nname = \"standard\"\npreset = \"standard-webhooks\"\n\
     signature = { secrets = [{ file = \"standard.secret\" }], tolerance_s = 60 }\n\
     [[route]]\nhost = \"a.example\"\npath = \"/standard\"\nproviders = [\"standard\"]\nhandler = \"unix:/run/s.sock\"\n",
    "[[provider]]\nname = \"ed25519\"\nclient_certificate = \"none\"\n\
     [provider.proof.signature]\nform = \"public-key\"\nheader = \"x-ed\"\nkeys = [{ file = \"ed25519.key\" }]\n\
     algorithm = \"ed25519\"\ntimestamp_header = \"x-ed-time\"\nmessage = \"{timestamp:10}{body}\"\ntolerance_s = 60\n\
     [provider.replay]\nby_signature = true\nwindow_s = 172800\n\
     [[route]]\nhost = \"a.example\"\npath = \"/ed25519\"\nproviders = [\"ed25519\"]\nhandler = \"unix:/run/e.sock\"\n",
    "[[provider]]\nname = \"rsa\"\nclient_certificate = \"none\"\n\
     [[provider.proof.all]]\n[provider.proof.all.signature]\nform = \"public-key\"\nheader = \"x-rsa\"\nencoding = \"base64\"\n\
     keys = [{ file = \"rsa.pem\" }]\nalgorithm = \"rsa-pkcs1-sha512\"\n\
     [[route]]\nhost = \"a.example\"\npath = \"/rsa\"\nproviders = [\"rsa\"]\nhandler = \"unix:/run/r.sock\"\n",
    "[[provider]]\nname = \"p256\"\nclient_certificate = \"none\"\n\
     [provider.proof.signature]\nform = \"public-key\"\nheader = \"x-ec\"\nencoding = \"base64\"\n\
     key_source = \"login\"\nalgorithm = \"ecdsa-p256-sha256-fixed\"\n\
     [[route]]\nhost = \"a.example\"\npath = \"/p256\"\nproviders = [\"p256\"]\nhandler = \"unix:/run/ec.sock\"\n",
    "[[provider]]\nname = \"jws\"\nclient_certificate = \"none\"\n\
     proof = { signature = { form = \"detached-jws\", header = \"x-jws\", keys = [{ file = \"issuer.json\" }] } }\n\
     [[route]]\nhost = \"a.example\"\npath = \"/jws\"\nproviders = [\"jws\"]\nhandler = \"unix:/run/j.sock\"\n",
    "[[provider]]\nname = \"token\"\nclient_certificate = \"none\"\n\
     [provider.proof.token]\nissuers = [\"https://login.example\"]\naudiences = [\"hook\"]\nkey_source = \"login\"\nleeway_s = 5\n\
     emails = [\"a@login.example\"]\nsubjects = [\"a\"]\n\
     [[route]]\nhost = \"a.example\"\npath = \"/token\"\nproviders = [\"token\"]\nhandler = \"unix:/run/t.sock\"\n",
    "[[provider]]\nname = \"session\"\nclient_certificate = \"none\"\nunsafe_static_secret_suffices = true\n\
     [provider.proof]\nany = [\n\
     { session_parameter = { pointer = \"/mac\", session_pointer = \"/session\", hmac_secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n\
     { session_parameter = { pointer = \"/jwt\", session_pointer = \"/session\", token = { issuers = [\"https://login.example\"], audiences = [\"hook\"], key_source = \"login\" } } },\n\
     { session_parameter = { pointer = \"/key\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n\
     ]\n\
     [[route]]\nhost = \"a.example\"\npath = \"/session\"\nproviders = [\"session\"]\nhandler = \"unix:/run/se.sock\"\n",
    "[[provider]]\nname = \"static\"\nclient_certificate = \"none\"\nunsafe_static_secret_suffices = true\n\
     proof = { basic = { users = [{ name = \"hook\", secrets = [{ unsafe_value = \"a secret of the sender\" }] }] } }\n\
     source_ranges_check = \"refuse\"\nsource_ranges = [\"198.51.100.0/24\"]\n\
     [[route]]\nhost = \"a.example\"\npath = \"/static\"\nproviders = [\"static\"]\nhandler = \"unix:/run/st.sock\"\n\
     methods = [\"PUT\"]\n\
     [route.proof]\nall = [\n\
     { secret = { header = \"x-secret\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n\
     { signature = { form = \"hmac\", header = \"x-a\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n\
     ]\n\
     [route.replay]\nid_header = \"x-id\"\n\
     [[route]]\nhost = \"a.example\"\npath = \"/basic\"\nproviders = [\"static\"]\nhandler = \"unix:/run/b.sock\"\n",
    "[[provider]]\nname = \"certified\"\npreset = \"github\"\nclient_certificate = \"required\"\ntrust_anchors = [\"ca.pem\"]\n\
     identity = [{ subject_cn = \"sender\", san_dns = \"sender.example\" }]\nverify_depth = 1\n\
     signature.secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route]]\nhost = \"a.example\"\npath = \"/certified\"\nproviders = [\"certified\"]\nhandler = \"unix:/run/c.sock\"\n\
     [[route.proof.all]]\n[route.proof.all.secret]\nheader = \"x-secret\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-a\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route]]\nhost = \"a.example\"\npath = \"/url/*\"\nproviders = [\"certified\"]\nhandler = \"unix:/run/c.sock\"\n\
     proof = \"certificate\"\n",
];

/// A fixture with the keys that [`SENDERS`] name.
pub(super) fn fixture_of_senders() -> Fixture {
    let fixture = fixture();
    fixture.write("standard.secret", &format!("whsec_{STANDARD}"));
    fixture.write("ed25519.key", &ed25519_key());
    fixture.write("issuer.json", &ISSUER.jwks());
    let body = data_encoding::BASE64.encode(&ISSUER.rsa_spki());
    fixture.write("rsa.pem", &format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"));
    fixture
}

/// The text of the senders, the one with this index first.
pub(super) fn senders(first: usize) -> String {
    let sections = SENDERS.iter().cycle().skip(first).take(SENDERS.len()).copied();
    LISTEN_WITH_PORT.to_owned() + SECTIONS[0] + &sections.collect::<String>()
}

/// What of the file `senders` is lost if `from` is `to`.
#[track_caller]
fn check_sender(fixture: &Fixture, from: &str, to: &str, expected: &[&str]) {
    let old = senders(0);
    assert!(old.contains(from), "{from}");
    let lost = losses(fixture, &old, &old.replacen(from, to, 1));
    assert_eq!(lost, expected, "{from:?} → {to:?}");
}

#[test]
fn every_kind_of_proof_is_shown_by_the_request_of_its_sender_alone() {
    let fixture = fixture_of_senders();
    let config = fixture.good(&senders(0));
    let admitted = Admission::of(&config, &config).lines();
    let of = |place: &str| -> BTreeSet<&str> {
        let place = format!("{place} by none with ");
        admitted.iter().filter_map(|line| line.strip_prefix(&place)?.strip_suffix(" and no id")).collect()
    };
    let check = |place: &str, expected: &[&str]| assert_eq!(of(place), expected.iter().copied().collect(), "{place}");
    check("POST a.example/url of url", &["a signature over URL and body"]);
    check("POST a.example/standard of standard", &["a signature of Standard Webhooks"]);
    check("POST a.example/ed25519 of ed25519", &["Ed25519 with the time"]);
    check("POST a.example/rsa of rsa", &["RSA and SHA-512"]);
    check("POST a.example/p256 of p256", &["P-256"]);
    check("POST a.example/jws of jws", &["a detached JWS", "a detached JWS over the plain body"]);
    check("POST a.example/token of token", &["a token"]);
    let session = ["the HMAC of a session", "the parameter of a session", "the token of a session"];
    check("POST a.example/session of session", &session);
    check("POST a.example/basic of static", &["a password"]);
    check("POST a.example/pagerduty of pagerduty", &[]);
    let with_id = |line: &str| admitted.iter().any(|admitted| admitted == line);
    assert!(with_id("POST a.example/pagerduty of pagerduty by none with PagerDuty's signature"));
    assert!(with_id("PUT a.example/static of static by none with a secret and x-a"));
    assert!(with_id("POST a.example/certified of certified by certificate with a secret and x-a"));
    assert!(!admitted.iter().any(|line| line.contains("of certified by none")), "{admitted:#?}");
}

#[test]
fn a_demand_on_a_sender_without_a_certificate_is_not_dropped() {
    let fixture = fixture_of_senders();
    for (from, to, expected) in [
        (
            "url = \"https://a.example/url\"\n\
             secrets = [{ unsafe_value = \"a secret of the sender\" }]\nmessage = \"{url}\\n{body}\"\n",
            "secrets = [{ unsafe_value = \"a secret of the sender\" }]\n",
            "provider url: signature in x-url: {url} in message is no longer demanded",
        ),
        ("rsa-pkcs1-sha512", "rsa-pkcs1-sha256", "provider rsa: signature in x-rsa: bits of the hash 512 → 256"),
        (
            "replay = { id_header = \"x-id\" }\n",
            "replay = { id_header = \"x-id\", window_s = 600 }\n",
            "provider pagerduty: replay: window_s 86400 → 600",
        ),
        ("emails = [\"a@login.example\"]\n", "", "provider token: token: emails is no longer demanded"),
        (
            "tolerance_s = 60 }",
            "tolerance_s = 61 }",
            "provider standard: signature in webhook-signature: tolerance_s 60 → 61",
        ),
        (
            "{ secret = { header = \"x-secret\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n",
            "",
            "route \"a.example/static\": secret in x-secret is no longer demanded",
        ),
    ] {
        check_sender(&fixture, from, to, &[expected]);
    }
    // The preset demands none, so it is enough that the lines of the operator are gone.
    let certified = SENDERS[11];
    let bare = certified.replace(
        "client_certificate = \"required\"\ntrust_anchors = [\"ca.pem\"]\n\
         identity = [{ subject_cn = \"sender\", san_dns = \"sender.example\" }]\nverify_depth = 1\n",
        "",
    );
    let bare = bare.replace("proof = \"certificate\"\n", "");
    assert_eq!(
        losses(&fixture, &senders(0), &senders(0).replace(certified, &bare)),
        ["provider certified: client_certificate required → none"]
    );
}

#[test]
fn a_file_of_senders_that_is_cut_at_any_byte_is_not_weaker_or_is_refused() {
    let fixture = fixture_of_senders();
    let mut count = Count::default();
    for first in 0..SENDERS.len() {
        let text = senders(first);
        let whole = fixture.good(&text);
        // Every byte of the last section, and every line of the others.
        let last = text.len() - SENDERS[(first + SENDERS.len() - 1) % SENDERS.len()].len();
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).filter(|end| *end < last);
        for part in beginnings(&fixture, &text, lines.chain(last..text.len())) {
            count.add(judge(&whole, &whole.strength, &part));
        }
    }
    assert!(count.refused > 30 && count.accepted > 30, "{count:?}");
}
