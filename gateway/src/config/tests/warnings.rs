//! The warnings about good configurations.

use rcgen::CustomExtension;
use x509_parser::prelude::X509Version;

use super::super::file;
use super::*;

/// Expects exactly these warnings, each at its place and with these words. The minimal configuration demands no proof beside a certificate
/// that many share, which is a warning of its own (`advice`).
fn check(fixture: &Fixture, text: &str, now: UnixTime, expected: &[(&str, &str)]) {
    let mut warnings = fixture.warnings_at(text, now);
    warnings.retain(|warning| !warning.contains("is shared by"));
    assert_eq!(warnings.len(), expected.len(), "{text}\n{warnings:#?}");
    for (warning, (place, words)) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(place) && warning.contains(words), "expected {place}: {words}\n{warnings:#?}");
    }
}

#[test]
fn a_plain_configuration_has_none() {
    check(&Fixture::new(), &minimal(), NOW, &[]);
}

#[test]
fn a_configuration_that_admits_no_peer_is_told() {
    check(&Fixture::new(), LISTEN, NOW, &[(" no peer is admitted", "handshake fails")]);
}

#[test]
fn our_chain_is_looked_at() {
    let fixture = Fixture::new();
    let chain = |name: &str| minimal().replace("fullchain.pem", name);
    check(
        &fixture,
        &chain("unordered.pem"),
        NOW,
        &[("4: certificate[0].chain", "certificate 2 did not issue the one before")],
    );
    let (leaf, intermediate) = ("certificate 1 of the chain expires on 2027-01-01, in 29 days", "certificate 2");
    check(&fixture, &minimal(), days_later(184), &[]);
    let place = "4: certificate[0].chain";
    check(&fixture, &minimal(), days_later(185), &[(place, leaf), (place, intermediate)]);
    let expired = [(place, "certificate 1 of the chain expired on 2027-01-01"), (place, "certificate 2")];
    check(&fixture, &minimal(), days_later(215), &expired);
    let early = UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs() - 365 * 86_400));
    check(&fixture, &minimal(), early, &[(place, "not valid before 2026-01-01")]);
}

#[test]
fn self_signed_and_nameless_certificates_are_told() {
    let fixture = Fixture::new();
    let key = KeyPair::generate().unwrap();
    fixture.write("self.pem", &end_entity(&["a.example"]).self_signed(&key).unwrap().pem());
    fixture.write("self.key", &key.serialize_pem());
    let text = minimal().replace("fullchain.pem", "self.pem").replace("privkey.pem", "self.key");
    check(&fixture, &text, NOW, &[("4: certificate[0].chain", "self-signed")]);
    fixture.write("self.pem", &end_entity(&[]).self_signed(&key).unwrap().pem());
    check(&fixture, &text, NOW, &[("4:", "no DNS name"), ("4:", "self-signed")]);
}

#[test]
fn certificates_that_some_senders_cannot_read_are_told() {
    let fixture = Fixture::new();
    let key = KeyPair::generate().unwrap();
    fixture.write("self.key", &key.serialize_pem());
    let text = minimal().replace("fullchain.pem", "self.pem").replace("privkey.pem", "self.key");
    let with = |names: &[&str], extensions: &[&[u64]], expected: &[&str]| {
        let mut params = end_entity(names);
        params.custom_extensions = extensions
            .iter()
            .map(|oid| {
                let mut extension = CustomExtension::from_oid_content(oid, vec![5, 0]);
                extension.set_criticality(true);
                extension
            })
            .collect();
        fixture.write("self.pem", &params.self_signed(&key).unwrap().pem());
        let expected: Vec<_> = expected.iter().map(|words| ("4: certificate[0].chain", *words)).collect();
        check(&fixture, &text, NOW, &expected);
    };
    // 1.3.6.1.4.1.32473 is reserved for examples (RFC 5612); 2.5.29.32 is certificatePolicies.
    let (ours, policies): (&[u64], &[u64]) = (&[1, 3, 6, 1, 4, 1, 32_473, 1], &[2, 5, 29, 32]);
    let unknown = "certificate 1 of the chain has the critical extension 1.3.6.1.4.1.32473.1, which not";
    with(&["a.example"], &[ours], &[unknown, "self-signed"]);
    with(&["a.example"], &[policies], &["the critical extension 2.5.29.32 (certificatePolicies)", "self-signed"]);
    with(&["a.example"], &[ours, ours], &["has the extension 1.3.6.1.4.1.32473.1 twice", "self-signed"]);
    let names: Vec<String> = (0..3000).map(|number| format!("host-{number}.large.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    with(&names, &[], &["the chain is large: ", "self-signed"]);
}

#[test]
fn a_certificate_of_version_1_is_used_and_told() {
    let fixture = Fixture::new();
    let run = |arguments: &[&str]| {
        let output =
            std::process::Command::new("openssl").args(arguments).current_dir(fixture.directory.path()).output();
        assert!(output.as_ref().is_ok_and(|output| output.status.success()), "{output:?}");
    };
    run(&["req", "-new", "-key", "privkey.pem", "-subj", "/CN=hooks.example.com", "-out", "v1.csr"]);
    run(&["x509", "-req", "-in", "v1.csr", "-signkey", "privkey.pem", "-days", "3000", "-out", "v1.pem"]);
    let text = minimal().replace("fullchain.pem", "v1.pem");
    let warnings = fixture.warnings_at(&text, NOW);
    let told =
        warnings.iter().any(|warning| warning.contains("certificate 1 of the chain is of version 1, which has no"));
    // OpenSSL 3.4 and later write version 3 here.
    let path = fixture.path("v1.pem");
    let written = file::certificates(&fs::read(&path).unwrap(), &path, &[]).unwrap();
    let is_version_1 = file::parse(&written[0], 0, &path).unwrap().version() == X509Version::V1;
    assert_eq!(told, is_version_1, "{warnings:#?}");
}

#[test]
fn a_key_that_every_user_can_read_is_told() {
    let fixture = Fixture::new();
    let readable = ["is readable by every user of this host"].as_slice();
    let writable = ["can be changed by every user of this host"].as_slice();
    for (mode, expected) in [(0o640, &[][..]), (0o644, readable), (0o646, writable), (0o642, writable)] {
        fs::set_permissions(fixture.path("privkey.pem"), fs::Permissions::from_mode(mode)).unwrap();
        let expected: Vec<_> = expected.iter().map(|words| ("5: certificate[0].key: ", *words)).collect();
        check(&fixture, &minimal(), NOW, &expected);
    }
}

#[test]
fn a_key_of_a_profile_that_another_replaces_is_told() {
    let table =
        "[[provider.profile]]\nname = \"a\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";
    let text = [LISTEN, CERTIFICATE, ROUTE, PROVIDER, "trust_anchors = [\"ca.pem\"]\n", table].concat();
    check(
        &Fixture::new(),
        &text,
        NOW,
        &[("15: provider[0].profile[0]", "trust_anchors of this profile has no effect")],
    );
    let text = [LISTEN, CERTIFICATE, ROUTE, PROVIDER, table].concat();
    check(&Fixture::new(), &text, NOW, &[]);
}

#[test]
fn a_fleet_that_names_one_server_for_several_copies_is_told() {
    let fixture = Fixture::new();
    let fleet = |lines: &str| minimal() + "[fleet]\n" + lines;
    let place = format!("{}: fleet.nats", minimal().lines().count() + 2);
    let lonely = (place.as_str(), "replicas = 3 needs a cluster of at least 3");
    check(&fixture, &fleet("nats = [\"tls://a.example.com\"]\n"), NOW, &[lonely]);
    check(&fixture, &fleet("nats = [\"tls://a.example.com\"]\nreplicas = 1\n"), NOW, &[]);
    check(&fixture, &fleet("nats = [\"tls://a.example.com\", \"tls://b.example.com\"]\n"), NOW, &[]);
}

#[test]
fn a_bound_of_bytes_that_holds_for_no_disk_is_told() {
    let fixture = Fixture::new();
    let route = |delivery: &str| minimal() + "delivery = \"durable\"\n" + delivery + "[state]\ndirectory = \"state\"\n";
    let servers = "[fleet]\nnats = [\"tls://a.example.com\"]\nreplicas = 1\n";
    let bytes = "durable.max_bytes = 65536\n";
    let place = format!("{}: route[0].durable.max_bytes", minimal().lines().count() + 2);
    let unused = (place.as_str(), "max_bytes has no effect");
    check(&fixture, &(route(bytes) + servers), NOW, &[unused]);
    for uses_disk in ["fallback = \"disk\"\n", "spool = \"disk\"\n"] {
        check(&fixture, &(route(bytes) + servers + uses_disk), NOW, &[]);
    }
    check(&fixture, &route(bytes), NOW, &[]);
    check(&fixture, &(route("durable.max_entries = 9\n") + servers), NOW, &[]);
}

#[test]
fn providers_without_routes_are_told() {
    let text = minimal() + "[[provider]]\nname = \"percolate\"\npreset = \"percolate\"\n";
    check(&Fixture::new(), &text, NOW, &[("14: provider[1]", "no route names the provider \"percolate\"")]);
}

#[test]
fn certificates_and_hosts_must_meet() {
    let fixture = Fixture::new();
    let host = |host: &str| minimal().replace("path =", &format!("host = \"{host}\"\npath ="));
    check(&fixture, &host("hooks.example.com"), NOW, &[]);
    check(&fixture, &host("a.example.net"), NOW, &[]);
    for other in ["example.net", "a.b.example.net", "other.example.com"] {
        let expected = [("3: certificate[0]", "(hooks.example.com, *.example.net)"), ("11: route[0].host: ", other)];
        check(&fixture, &host(other), NOW, &expected);
        let words = "correct host, or add a [[certificate]] with this name";
        check(&fixture, &host(other), NOW, &[expected[0], ("11: route[0].host: ", words)]);
    }
    // A wildcard needs a certificate for all of its names.
    check(&fixture, &host("*.example.net"), NOW, &[]);
    let words = "of the names of *.example.com only some have a certificate (hooks.example.com)";
    check(&fixture, &host("*.example.com"), NOW, &[("11: route[0].host: ", words)]);
    let unused = ("3: certificate[0]", "(hooks.example.com, *.example.net)");
    let words = "no certificate has the name *.a.example.net";
    check(&fixture, &host("*.a.example.net"), NOW, &[unused, ("11: route[0].host: ", words)]);
}

#[test]
fn ended_parts_of_a_preset_are_warned_of() {
    let fixture = Fixture::new();
    let text = minimal().replace("preset = \"pagerduty\"", "preset = \"dialogflow-cx\"");
    check(&fixture, &text, days_later(183), &[]); // 2026-12-01, the last day
    let outdated = "profile google-trust-services was documented until 2026-12-01";
    assert!(fixture.warnings_at(&text, days_later(184)).iter().any(|warning| warning.contains(outdated)));
    let later = days_later(6 * 366); // 2032: the oldest of DigiCert's roots are past
    let warnings = fixture.warnings_at(&minimal(), later);
    assert!(
        warnings.iter().any(|warning| warning
            .contains("CN=DigiCert Global Root CA,OU=www.digicert.com,O=DigiCert Inc,C=US expired on 2031-11-10")),
        "{warnings:#?}"
    );
}

#[test]
fn expired_anchors_and_lists_of_ones_own_are_told() {
    let fixture = Fixture::new();
    let lines = "trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"x\" }]\ncrls = [\"list.pem\"]\n";
    let text = minimal().replace("preset = \"pagerduty\"\n", lines);
    check(&fixture, &text, NOW, &[("11: provider[0].crls", "no list is of the trust anchor CN=Test Root")]);
    let warnings = fixture.warnings_at(&text, days_later(365));
    assert!(warnings.iter().any(|warning| warning.contains("the trust anchor CN=Test Root expired")), "{warnings:#?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("list of CN=Test Intermediate has expired")),
        "{warnings:#?}"
    );
}

#[test]
fn an_anchor_that_must_not_issue_is_told() {
    let fixture = Fixture::new();
    let key = KeyPair::generate().unwrap();
    let mut no_usage = authority("Old Root");
    no_usage.key_usages = vec![KeyUsagePurpose::CrlSign];
    let mut unknown = authority("Other Root");
    let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
    extension.set_criticality(true);
    unknown.custom_extensions.push(extension);
    let certificates = [no_usage, unknown, end_entity(&[])].map(|params| params.self_signed(&key).unwrap().pem());
    fixture.write("odd.pem", &certificates.concat());
    let lines = "trust_anchors = [\"odd.pem\"]\nidentity = [{ subject_cn = \"x\" }]\n";
    let words = [
        "the trust anchor CN=Old Root has a key usage extension without keyCertSign, so it admits only a client that has the key of this certificate itself",
        "the trust anchor CN=Other Root has a critical extension that hookgate does not support (1.2.3.4)",
        "the trust anchor CN=hooks is not a CA certificate (basicConstraints with CA:TRUE)",
    ];
    check(
        &fixture,
        &minimal().replace("preset = \"pagerduty\"\n", lines),
        NOW,
        &words.map(|words| ("9: provider[0].trust_anchors: ", words)),
    );
}

#[test]
fn a_depth_that_shuts_the_preset_out_is_told() {
    let text = minimal().replace("preset =", "verify_depth = 1\npreset =");
    let words = |profile| format!("depth 1 is less than the 2 that profile {profile}");
    let (old, new) = (words("digicert-global-root-ca"), words("digicert-global-root-g2"));
    let place = "9: provider[0].verify_depth";
    check(&Fixture::new(), &text, NOW, &[(place, &old), (place, &new)]);
}

#[test]
fn proxies_everywhere_are_told() {
    let fixture = Fixture::new();
    let listen =
        |from: &str| minimal().replacen(LISTEN, &format!("{LISTEN}proxy_protocol = {{ from = [{from}] }}\n"), 1);
    check(&fixture, &listen("\"10.0.0.0/8\", \"::ffff:10.0.0.0/104\", \"2001:db8::/32\""), NOW, &[]);
    let place = "3: listen.proxy_protocol.from";
    check(&fixture, &listen("\"0.0.0.0/0\""), NOW, &[(place, "0.0.0.0/0 lets every source name any address")]);
    check(&fixture, &listen("\"::/1\", \"8000::/1\""), NOW, &[(place, "::/0 lets every source name any address")]);
}
