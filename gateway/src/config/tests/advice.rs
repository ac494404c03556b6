//! The warnings about what is correct, but probably not meant.

use super::*;
use crate::config::preset::Presets;

const SIGNED: &str =
    "[[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\nsignature.secrets = [{ file = \"webhook.secret\" }]\n";
const OWN: &str =
    "[[provider]]\nname = \"pagerduty\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"x\" }]\n";

fn with(provider: &str) -> String {
    [LISTEN, CERTIFICATE, provider, ROUTE].concat()
}

/// Expects exactly these warnings, each at its place and with these words.
#[track_caller]
fn check(fixture: &Fixture, text: &str, expected: &[(&str, &str)]) {
    let warnings = fixture.warnings_at(text, NOW);
    assert_eq!(warnings.len(), expected.len(), "{text}\n{warnings:#?}");
    for (warning, (place, words)) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(place) && warning.contains(words), "expected {place}: {words}\n{warnings:#?}");
    }
}

#[test]
fn what_is_meant_is_not_warned_of() {
    check(&Fixture::new(), &with(SIGNED), &[]);
    check(&Fixture::new(), &with(OWN), &[]);
}

#[test]
fn a_chain_without_the_issuer_of_its_end_entity_is_told() {
    let fixture = Fixture::new();
    let chain = fs::read_to_string(fixture.path("fullchain.pem")).unwrap();
    let (leaf, rest) = chain.split_at(chain.find("-----END CERTIFICATE-----\n").unwrap() + 26);
    let text = |name: &str| with(SIGNED).replace("fullchain.pem", name);
    fixture.write("leaf.pem", leaf);
    let words = "leaf.pem lacks the certificate of CN=Test Intermediate, which issued the server certificate and is no public root";
    check(&fixture, &text("leaf.pem"), &[("4: certificate[0].chain: ", words)]);
    let root = fs::read_to_string(fixture.path("ca.pem")).unwrap();
    fixture.write("no-issuer.pem", &[leaf, &root].concat());
    check(&fixture, &text("no-issuer.pem"), &[("4: certificate[0].chain: ", "append that certificate to the file")]);
    fixture.write("whole.pem", &[leaf, rest].concat());
    check(&fixture, &text("whole.pem"), &[]);
}

/// A root that senders have is left out of chains.
#[test]
fn an_issuer_that_is_a_public_root_may_be_absent() {
    let fixture = Fixture::new();
    let mut params = authority("ISRG Root X1");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::OrganizationName, "Internet Security Research Group");
    params.distinguished_name.push(DnType::CommonName, "ISRG Root X1");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    fixture.write("direct.pem", &end_entity(&["hooks.example.com"]).signed_by(&key, &issuer).unwrap().pem());
    fixture.write("direct.key", &key.serialize_pem());
    let text = with(SIGNED).replace("fullchain.pem", "direct.pem").replace("privkey.pem", "direct.key");
    check(&fixture, &text, &[]);
}

/// 1.3.6.1.5.5.7.48.2 with http://ca.example/i.crt (RFC 5280, section 4.2.2.1).
#[test]
fn the_url_of_an_absent_issuer_is_told() {
    let fixture = Fixture::new();
    let issuer = CertifiedIssuer::self_signed(authority("Elsewhere"), KeyPair::generate().unwrap()).unwrap();
    let url = b"http://ca.example/i.crt";
    let mut access =
        vec![0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x02, 0x86, u8::try_from(url.len()).unwrap()];
    access.extend_from_slice(url);
    let length = u8::try_from(access.len()).unwrap();
    let content = [&[0x30, length + 2, 0x30, length], access.as_slice()].concat();
    let mut params = end_entity(&["hooks.example.com"]);
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)];
    let key = KeyPair::generate().unwrap();
    fixture.write("aia.pem", &params.signed_by(&key, &issuer).unwrap().pem());
    fixture.write("aia.key", &key.serialize_pem());
    let text = with(SIGNED).replace("fullchain.pem", "aia.pem").replace("privkey.pem", "aia.key");
    check(&fixture, &text, &[("4: certificate[0].chain: ", "(its authority publishes it at http://ca.example/i.crt)")]);
}

#[test]
fn a_path_that_ends_with_a_slash_is_told() {
    let fixture = Fixture::new();
    let path = |path: &str| with(SIGNED).replace("path = \"/pagerduty\"", &format!("path = \"{path}\""));
    let words = "only the path /pagerduty/ matches, with its last slash, and not /pagerduty; write the path as the sender has it, or \
                 /pagerduty/* for every path below";
    check(&fixture, &path("/pagerduty/"), &[("11: route[0].path: ", words)]);
    for good in ["/", "/pagerduty/*", "/a/b"] {
        check(&fixture, &path(good), &[]);
    }
    let both =
        [&path("/pagerduty/"), &ROUTE.replace("[[route]]", "[[route]]\nname = \"other\"")].map(String::as_str).concat();
    check(&fixture, &both, &[]);
}

#[test]
fn an_asterisk_in_a_common_name_is_told() {
    let fixture = Fixture::new();
    let named = |name: &str| with(&OWN.replace("\"x\"", &format!("\"{name}\"")));
    let place = "9: provider[0].identity[0].subject_cn: ";
    check(&fixture, &named("*.example.com"), &[(place, "the * is compared literally")]);
    check(&fixture, &named("*.example.com"), &[(place, "or san_dns = \"*.example.com\" for")]);
    // Google's certificate has it.
    check(&fixture, &named("*.dialogflow.com"), &[]);
    let table =
        OWN.replace("trust_anchors", "[[provider.profile]]\nname = \"a\"\ntrust_anchors").replace("\"x\"", "\"*\"");
    check(&fixture, &with(&table), &[("11: provider[0].profile[0].identity[0].subject_cn: ", "literally")]);
    let dns = OWN.replace("subject_cn = \"x\"", "san_dns = \"*.example.com\"");
    check(&fixture, &with(&dns), &[]);
}

#[test]
fn a_mistyped_name_of_a_preset_is_told() {
    let fixture = Fixture::new();
    let named = |condition: &str| with(&format!("{SIGNED}identity = [{{ {condition} }}]\n"));
    let place = "10: provider[0].identity[0].subject_cn: ";
    let words = "did you mean \"webhooks.pagerduty.com\"? This key replaces the names of the preset";
    for wrong in ["webhooks.pagerduty.con", "webhook.pagerduty.com", "webhosok.pagerduty.com"] {
        check(&fixture, &named(&format!("subject_cn = \"{wrong}\"")), &[(place, words)]);
    }
    for meant in ["webhooks.pagerduty.com", "webhooks.eu.pagerduty.com", "webhooks.example.com"] {
        check(&fixture, &named(&format!("subject_cn = \"{meant}\"")), &[]);
    }
}

#[test]
fn a_certificate_that_many_share_is_told_if_it_suffices() {
    let fixture = Fixture::new();
    let provider = SIGNED.replace("signature.secrets = [{ file = \"webhook.secret\" }]", "proof = \"certificate\"");
    let words = "that of the preset \"pagerduty\" is shared by all accounts of PagerDuty";
    check(&fixture, &with(&provider), &[("9: provider[0].proof: ", words)]);
    let route = with(SIGNED) + "proof = \"certificate\"\n";
    check(&fixture, &route, &[("14: route[0].proof: ", words)]);
    // A route's own proof replaces that of the provider, and the challenge of a new address has none.
    let own = with(&provider)
        + "proof = { signature = { form = \"pagerduty\", secrets = [{ file = \"webhook.secret\" }] } }\n";
    check(&fixture, &own, &[]);
    check(&fixture, &(with(SIGNED) + "proof = \"certificate\"\nmethods = [\"GET\"]\n"), &[]);
    // A preset without a proof.
    let lines = "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";
    let cloudflare = format!("[[provider]]\nname = \"pagerduty\"\npreset = \"cloudflare-origin-pull\"\n{lines}");
    let found = fixture.warnings_at(&fixture.knowing_the_root(&with(&cloudflare)), NOW);
    assert!(
        found.iter().any(|it| it.starts_with("8: provider[0].preset: ") && it.contains("all Cloudflare")),
        "{found:#?}"
    );
    for name in ["percolate", "own-ca"] {
        let text = format!("[[provider]]\nname = \"pagerduty\"\npreset = \"{name}\"\nproof = \"certificate\"\n{lines}");
        check(&fixture, &with(&text), &[]);
    }
}

/// What a preset says of its certificate concerns one that exists.
#[test]
fn only_senders_with_a_certificate_share_one() {
    let sharing: Vec<String> = Presets::compiled_in()
        .usable()
        .filter(|preset| preset.certificate_shared_by().is_some())
        .inspect(|preset| assert!(preset.has_certificate(), "{}", preset.name()))
        .map(|preset| preset.name().to_owned())
        .collect();
    let expected = ["cloudflare-origin-pull", "dialogflow-cx", "dialogflow-es", "meta", "pagerduty", "slack-mtls"];
    assert_eq!(sharing, expected);
}

#[test]
fn lists_that_no_path_can_verify_are_told() {
    let fixture = Fixture::new();
    let place = "10: provider[0].crls: ";
    let text = |anchors: &str, crl: &str, more: &str| {
        let own = OWN.replace("[\"ca.pem\"]", anchors);
        with(&format!("{own}crls = [\"{crl}\"]\nverify_depth = 1\n{more}"))
    };
    let root = CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap()).unwrap();
    fixture.write("root.pem", &root.pem());
    fixture.write("root.crl", &list_of(&root).pem().unwrap());
    check(&fixture, &text("[\"root.pem\"]", "root.crl", ""), &[]);
    // Of two authorities of one name, as during a rollover, either may have signed it.
    check(&fixture, &text("[\"ca.pem\", \"root.pem\"]", "root.crl", ""), &[]);
    let foreign = "profile default: the revocation list of CN=Test Root is not signed by the key of the trust anchor";
    let urls = "crl_urls = [\"http://crl.example.com/ca.crl\"]\n";
    for more in ["", urls] {
        check(&fixture, &text("[\"ca.pem\"]", "root.crl", more), &[(place, foreign)]);
    }
    // One bit of the signature, which ends the list.
    let mut damaged = list_of(&root).der().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(fixture.path("damaged.crl"), damaged).unwrap();
    check(&fixture, &text("[\"root.pem\"]", "damaged.crl", ""), &[(place, foreign)]);
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA1 (RFC 3279, section 2.2.3), in both places.
    let (sha256, sha1) = (b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x01");
    let mut old = list_of(&root).der().to_vec();
    let places: Vec<usize> = (0..old.len() - sha256.len()).filter(|&at| old[at..].starts_with(sha256)).collect();
    assert_eq!(places.len(), 2);
    places.into_iter().for_each(|at| old[at..at + sha1.len()].copy_from_slice(sha1));
    fs::write(fixture.path("sha1.crl"), old).unwrap();
    let algorithm =
        "profile default: the revocation list of CN=Test Root is signed by an algorithm that is not accepted";
    check(&fixture, &text("[\"root.pem\"]", "sha1.crl", ""), &[(place, algorithm)]);
}

#[test]
fn lists_that_leave_a_chain_uncovered_are_told() {
    let fixture = Fixture::new();
    // The root of the fixture is gone with its key, so this one takes its place.
    let root = CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap()).unwrap();
    fixture.write("root.crl", &list_of(&root).pem().unwrap());
    fixture.write("root.pem", &root.pem());
    let issuing =
        CertifiedIssuer::signed_by(authority("Test Intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
    fixture.write("issuing.crl", &list_of(&issuing).pem().unwrap());
    fixture.write("root-bundle.pem", &[issuing.pem(), root.pem()].concat());
    let lines = |anchors: &str, lists: &str, more: &str| {
        let own = OWN.replace("[\"ca.pem\"]", anchors);
        with(&format!("{own}crls = {lists}\n{more}"))
    };
    let place = "10: provider[0].crls: ";
    let no_anchor = "profile default: no list is of the trust anchor CN=Test Root, and with crl_scope = \"chain\"";
    check(&fixture, &lines("[\"ca.pem\"]", "[\"list.pem\"]", ""), &[(place, no_anchor)]);
    check(&fixture, &lines("[\"ca.pem\"]", "[\"list.pem\"]", "crl_scope = \"end-entity\"\n"), &[]);
    let no_intermediate =
        "every list is of a trust anchor, so a chain with an intermediate is refused, although verify_depth 2";
    check(&fixture, &lines("[\"root.pem\"]", "[\"root.crl\"]", ""), &[(place, no_intermediate)]);
    check(&fixture, &lines("[\"root.pem\"]", "[\"root.crl\"]", "verify_depth = 1\n"), &[]);
    // No scope leaves the end entity out, and an intermediate issued that.
    let scope = "crl_scope = \"end-entity\"\n";
    check(&fixture, &lines("[\"root.pem\"]", "[\"root.crl\"]", scope), &[(place, no_intermediate)]);
    let direct = format!("{scope}verify_depth = 1\n");
    check(&fixture, &lines("[\"root.pem\"]", "[\"root.crl\"]", &direct), &[]);
    let of_direct =
        "no list is of the trust anchor CN=Test Root, and with verify_depth = 1 it issued every certificate";
    check(&fixture, &lines("[\"ca.pem\"]", "[\"list.pem\"]", &direct), &[(place, of_direct)]);
    // What lacks the list of one anchor can lack that of each intermediate as well.
    let two = lines("[\"root.pem\", \"ca.pem\"]", "[\"root.crl\"]", scope);
    check(&fixture, &two, &[(place, no_intermediate)]);
    check(&fixture, &lines("[\"root.pem\"]", "[\"root.crl\", \"list.pem\"]", ""), &[]);
    let known = "no list is of the intermediate CN=Test Intermediate";
    check(&fixture, &lines("[\"root-bundle.pem\"]", "[\"root.crl\"]", ""), &[(place, known)]);
    check(&fixture, &lines("[\"root-bundle.pem\"]", "[\"root.crl\", \"issuing.crl\"]", ""), &[]);
    // Lists that are fetched may cover it.
    let urls = "crl_urls = [\"http://crl.example.com/ca.crl\"]\n";
    check(&fixture, &lines("[\"ca.pem\"]", "[\"list.pem\"]", urls), &[]);
}

#[test]
fn a_time_out_beyond_that_of_the_sender_is_told() {
    let fixture = Fixture::new();
    let limit = |milliseconds: u32| with(SIGNED) + &format!("[limits]\nhandler_timeout_ms = {milliseconds}\n");
    let words = "a handler may take 5001 ms, and the sender of the provider \"pagerduty\" waits 5000 ms";
    check(&fixture, &limit(5001), &[("15: limits.handler_timeout_ms: ", words)]);
    check(&fixture, &limit(5000), &[]);
    let notes = |text: &str| fixture.good(text).notes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(notes(&limit(5001)), Vec::<String>::new());
    let [note] = notes(&with(SIGNED)).try_into().unwrap();
    assert!(note.contains(":8: provider[0].preset: this sender waits 5000 ms"), "{note}");
    // Nothing is documented of a sender of one's own.
    assert_eq!(notes(&with(OWN)), Vec::<String>::new());
    // The time of the route counts, if it has its own.
    let of_route = |line: &str| with(SIGNED) + line + "[limits]\nhandler_timeout_ms = 5000\n";
    check(&fixture, &of_route("handler_timeout_ms = 5001\n"), &[("14: route[0].handler_timeout_ms: ", words)]);
    let short = with(SIGNED) + "handler_timeout_ms = 5000\n[limits]\nhandler_timeout_ms = 30000\n";
    check(&fixture, &short, &[]);
    assert_eq!(notes(&(with(SIGNED) + "handler_timeout_ms = 5000\n")), Vec::<String>::new());
    // The sender to a durable route does not wait for the handler.
    let durable = "delivery = \"durable\"\nhandler_timeout_ms = 60000\n[state]\ndirectory = \"state\"\n";
    check(&fixture, &(with(SIGNED) + durable), &[]);
    assert_eq!(notes(&(with(SIGNED) + durable)), Vec::<String>::new());
}

/// PagerDuty documents TLS 1.2 alone, and no suite with ChaCha20.
#[test]
fn a_tls_section_that_shuts_a_sender_out_is_told() {
    let fixture = Fixture::new();
    let tls = |lines: &str| with(SIGNED) + &format!("[tls]\n{lines}\n");
    let words = "the sender of the provider \"pagerduty\" has TLS 1.2 alone, and";
    check(&fixture, &tls("policy = \"modern\""), &[("15: tls.policy: ", words)]);
    check(&fixture, &tls("policy = \"modern\""), &[("15: tls.policy: ", "write policy = \"intermediate\"")]);
    if cfg!(feature = "aws-lc") {
        let hybrid = tls("key_exchange = [\"X25519MLKEM768\"]");
        check(&fixture, &hybrid, &[("15: tls.key_exchange: ", "and key_exchange in [tls] allows no handshake")]);
        check(&fixture, &tls("key_exchange = [\"X25519MLKEM768\", \"X25519\"]"), &[]);
    }
    for good in ["policy = \"intermediate\"", "policy = \"pagerduty\"", "key_exchange = [\"P-384\"]"] {
        check(&fixture, &tls(good), &[]);
    }
    // Nothing is documented of a sender of one's own, and a provider that no route names has no handshakes.
    check(&fixture, &(with(OWN) + "[tls]\npolicy = \"modern\"\n"), &[]);
    // Another sender of TLS 1.2 has no suite of PagerDuty's policy.
    let preset = "schema = 1\nversion = 2026-11-29\ntitle = \"Own\"\ndocumentation = \"https://own.example/\"\n\
                  [sender]\ncipher_suites = [\"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"]\n\
                  [[profile]]\nname = \"first\"\ntrust_anchors = [\"./ca.pem\"]\nidentity = [{ subject_cn = \"x\" }]\n";
    fs::create_dir(fixture.path("presets")).unwrap();
    fs::copy(fixture.path("ca.pem"), fixture.path("presets/ca.pem")).unwrap();
    fixture.write("presets/own.toml", preset);
    let own = |policy: &str| {
        let preset = format!("[presets]\ndirectories = [\"presets\"]\n[tls]\npolicy = \"{policy}\"\n");
        with("[[provider]]\nname = \"pagerduty\"\npreset = \"own\"\n") + &preset
    };
    check(&fixture, &own("intermediate"), &[]);
    let words = "the sender of the provider \"pagerduty\" offers none of the cipher suites";
    check(&fixture, &own("pagerduty"), &[("16: tls.policy: ", words)]);
    check(&fixture, &own("modern"), &[("16: tls.policy: ", words)]);
    // The policy has its suite, in a version for which there is no group.
    if cfg!(feature = "aws-lc") {
        let hybrid = own("intermediate") + "key_exchange = [\"X25519MLKEM768\"]\n";
        let words = "has TLS 1.2 alone, and key_exchange in [tls] allows no handshake of this version";
        check(&fixture, &hybrid, &[("17: tls.key_exchange: ", words)]);
    }
}

/// Every array of tables, written with the brackets of a table.
#[test]
fn sections_in_single_brackets_are_told_how_to_be_written() {
    let fixture = Fixture::new();
    let listen = |section: &str| format!("{LISTEN}{section}\n");
    for (section, header) in [
        ("[certificate]\nchain = \"fullchain.pem\"", "certificate"),
        ("[provider]\nname = \"a\"", "provider"),
        ("[route]\npath = \"/\"", "route"),
        ("[key_source]\nname = \"a\"", "key_source"),
        ("[[provider]]\nname = \"a\"\n[provider.profile]\nname = \"b\"", "provider.profile"),
        ("[[provider]]\nname = \"a\"\n[provider.identity]\nsubject_cn = \"b\"", "provider.identity"),
        (
            "[[provider]]\nname = \"a\"\n[[provider.profile]]\nname = \"b\"\n[provider.profile.identity]\nsubject_cn = \"b\"",
            "provider.profile.identity",
        ),
        ("[[provider]]\nname = \"a\"\n[provider.signature.secrets]\nfile = \"b\"", "provider.signature.secrets"),
        ("[[provider]]\nname = \"a\"\n[provider.proof.any]\nsignature = {}", "provider.proof.any"),
    ] {
        let errors = fixture.errors(&listen(section));
        let words = format!("this section can be repeated; write [[{header}]] instead of [{header}]");
        assert!(errors.iter().any(|error| error.contains(&words)), "{section}\n{errors:#?}");
    }
    let errors = fixture.errors(&listen("[[limits]]\nmax_headers = 1"));
    assert!(errors[0].contains("cannot be repeated; write [limits] instead of [[limits]]"), "{errors:#?}");
    let inline = "[[provider]]\nname = \"a\"\nidentity = { subject_cn = \"b\" }";
    let errors = fixture.errors(&listen(inline));
    assert!(
        errors.iter().any(|error| error.contains("write identity = [{ … }] instead of identity = { … }")),
        "{errors:#?}"
    );
}

/// The keys of a provider count for every profile of its preset.
#[test]
fn what_is_wrong_with_the_lists_of_a_provider_is_told_once() {
    let fixture = Fixture::new();
    let root = CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap()).unwrap();
    fixture.write("root.crl", &list_of(&root).pem().unwrap());
    fixture.write("root.pem", &root.pem());
    let text = with(&format!("{SIGNED}trust_anchors = [\"root.pem\"]\ncrls = [\"root.crl\"]\n"));
    let words = "profile digicert-global-root-ca, digicert-global-root-g2: every list is of a trust anchor";
    check(&fixture, &text, &[("11: provider[0].crls: ", words)]);
}
