//! Providers without client certificates: what must prove them instead, and the keys that they cannot have.

use super::bad::check;
use super::*;
use crate::config::strength::Comparison;
use hookgate_core::identity::ClientCertificate;

const SIGNED: &str = "proof = { signature = { form = \"hmac\", header = \"x-a\", message = \"{body}\", \
                      secrets = [{ file = \"webhook.secret\" }] } }\n";
const STATIC: &str =
    "proof = { session_parameter = { pointer = \"/key\", secrets = [{ file = \"webhook.secret\" }] } }\n";

/// A provider that demands no certificate, with these lines from line 4 on.
fn provider(lines: &str) -> String {
    format!("[[provider]]\nname = \"pagerduty\"\nclient_certificate = \"none\"\n{lines}")
}

fn whole(provider: &str, route: &str) -> String {
    [LISTEN, CERTIFICATE, provider, ROUTE, route].concat()
}

#[test]
fn a_proof_that_binds_the_request_replaces_the_certificate() {
    let fixture = Fixture::new();
    let certificate = |lines: &str| {
        let config = fixture.good(&whole(&provider(lines), ""));
        assert!(config.providers[0].profiles.is_empty());
        config.providers[0].client_certificate
    };
    let none = |static_secret_suffices| ClientCertificate::None { static_secret_suffices };
    assert_eq!(certificate(SIGNED), none(false));
    assert_eq!(certificate(&format!("unsafe_static_secret_suffices = true\n{STATIC}")), none(true));
    // The profiles of a preset are not used.
    let signature = "preset = \"pagerduty\"\nsignature = { secrets = [{ file = \"webhook.secret\" }] }\n";
    assert_eq!(certificate(signature), none(false));
    assert_eq!(fixture.good(&minimal()).providers[0].client_certificate, ClientCertificate::Required);
    let required = PROVIDER.to_owned() + "client_certificate = \"required\"\n";
    assert_eq!(fixture.good(&whole(&required, "")).providers[0].client_certificate, ClientCertificate::Required);
}

#[test]
fn a_provider_that_nothing_would_prove_is_an_error() {
    let nothing = "write proof = { signature = { … } } with a message that covers {body}, or proof = { token";
    check(&provider(""), 1, "provider[0]", nothing);
    check(&provider("proof = \"certificate\"\n"), 4, "provider[0].proof", nothing);
    check(&provider(STATIC), 4, "provider[0].proof", "or unsafe_static_secret_suffices = true in the [[provider]]");
    let either = format!("proof = {{ any = [{}, {}] }}\n", &SIGNED[8..SIGNED.len() - 1], &STATIC[8..STATIC.len() - 1]);
    check(&provider(&either), 4, "provider[0].proof", "a secret that is the same in every request");
    check(
        &provider("unsafe_static_secret_suffices = true\nproof = \"certificate\"\n"),
        5,
        "provider[0].proof",
        nothing,
    );
    let word = PROVIDER.to_owned() + "client_certificate = \"optional\"\n";
    check(&word, 5, "provider[0].client_certificate", "\"required\" or \"none\"");
}

#[test]
fn keys_about_certificates_are_errors_without_one() {
    for line in [
        "trust_anchors = [\"ca.pem\"]",
        "identity = [{ subject_cn = \"x\" }]",
        "verify_depth = 1",
        "extended_key_usage = \"ignore\"",
        "crls = []",
        "crl_urls = []",
        "crl_scope = \"chain\"",
        "on_failure = \"abort\"",
    ] {
        let key = format!("provider[0].{}", line.split(' ').next().unwrap());
        check(&provider(&format!("{line}\n{SIGNED}")), 4, &key, "nothing uses this key; remove it");
    }
    let both = PROVIDER.to_owned() + "unsafe_static_secret_suffices = true\n";
    check(&both, 5, "provider[0].unsafe_static_secret_suffices", "no effect without client_certificate = \"none\"");
}

#[test]
fn a_route_tells_the_requests_of_its_providers_apart_and_its_proof_proves_them() {
    let fixture = Fixture::new();
    let two = provider(SIGNED) + &provider(SIGNED).replace("pagerduty", "other");
    let route = "[[route]]\npath = \"/x\"\nproviders = [\"pagerduty\", \"other\"]\nhandler = \"unix:/run/a.sock\"\n";
    let errors = fixture.errors(&whole(&two, route));
    assert!(errors.len() == 1 && errors[0].contains("write a route of its own for each"), "{errors:?}");
    let own = |proof: &str| {
        let route = route.replace(", \"other\"", "") + proof;
        fixture.parse(&whole(&provider(SIGNED), &route))
    };
    assert!(own(SIGNED).is_ok());
    for proof in ["proof = \"certificate\"\n", STATIC] {
        let errors = own(proof).unwrap_err().to_string();
        assert!(errors.contains("route[1].proof") && errors.contains("client_certificate = \"none\""), "{errors}");
    }
}

#[test]
fn to_demand_a_certificate_no_longer_is_weaker() {
    let fixture = Fixture::new();
    let signed = |line: &str| {
        whole(
            &format!(
                "[[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\n{line}signature = {{ secrets = [{{ file = \"webhook.secret\" }}] }}\n"
            ),
            "",
        )
    };
    let (with, without) =
        (fixture.good(&signed("")).strength, fixture.good(&signed("client_certificate = \"none\"\n")).strength);
    match with.compare(&without) {
        Comparison::Refused { losses, .. } => {
            assert_eq!(
                losses.iter().map(crate::config::strength::Loss::text).collect::<Vec<_>>(),
                ["provider pagerduty: client_certificate required → none"]
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(without.compare(&with), Comparison::NotWeaker);
}
