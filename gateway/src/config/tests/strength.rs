//! What a reload may not weaken, and that no part of a file is weaker than the whole without being refused.

mod admission;
mod edits;
mod sequences;
mod variants;
mod without_certificates;

use std::collections::BTreeMap;

use super::*;
use crate::config::strength::{Comparison, Loss, Strength, WrittenPermission};
use admission::newly_admitted;
use hookgate_core::identity::{RevocationList, RevocationLists, RevocationScope};

/// The sections of a configuration in which every demand is made. Each begins with its header.
const SECTIONS: [&str; 10] = [
    "[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n",
    "[filter]\nmode = \"enforce\"\ninterfaces = [\"eth0\"]\ndeny = [\"192.0.2.66\"]\n\
     syn_ipv4_address = { per_second = 100 }\nsyn_ipv6_network = { per_second = 100 }\n",
    "[[key_source]]\nname = \"login\"\nurl = \"https://login.example/keys\"\nca_file = \"ca.pem\"\nmax_stale_s = 60\n",
    "[[provider]]\nname = \"sender\"\nsource_ranges_check = \"refuse\"\nsource_ranges = [\"198.51.100.0/24\"]\n\
     trust_anchors = [\"bundle.pem\"]\nverify_depth = 1\nextended_key_usage = \"client-auth-explicit\"\n\
     crls = [\"list.pem\"]\ncrl_scope = \"chain\"\n\
     [[provider.identity]]\nsubject_cn = \"sender\"\nsan_dns = \"sender.example\"\n\
     [provider.proof.signature]\nform = \"hmac\"\nheader = \"x-a\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     message = \"{timestamp}.{body}\"\ntimestamp_header = \"x-time\"\ntolerance_s = 60\n\
     [provider.replay]\nid_header = \"x-id\"\nby_signature = true\nwindow_s = 172800\n",
    "[[provider]]\nname = \"partner\"\nsource_ranges = [\"203.0.113.0/24\"]\ntrust_anchors = [\"ca.pem\"]\n\
     identity = [{ subject_cn = \"a\", san_dns = \"a.example\" }]\n\
     [[provider.profile]]\nname = \"first\"\nverify_depth = 1\nextended_key_usage = \"client-auth-explicit\"\n\
     crls = [\"list.pem\"]\n\
     [[provider.profile]]\nname = \"second\"\nverify_depth = 1\ncrl_urls = [\"http://a.example/ca.crl\"]\n",
    "[[provider]]\nname = \"chosen\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n\
     source_ranges = [\"203.0.113.0/24\"]\nprofiles = [\"digicert-global-root-g2\"]\n\
     [[provider.source_range_files]]\nfile = \"ranges.txt\"\nminus = \"others.txt\"\n\
     [[provider.source_range_urls]]\nurl = \"https://a.example/a\"\nminus = \"https://a.example/b\"\n\
     pointer = \"/hooks/*\"\nca_file = \"authorities.pem\"\n\
     [[provider.profile]]\nname = \"rotated\"\ntrust_anchors = [\"ca.pem\"]\nverify_depth = 1\ncrls = \"from-certificates\"\n\
     identity = [{ subject_cn = \"webhooks.pagerduty.com\", san_dns = \"webhooks.pagerduty.com\" }]\n",
    "[[provider]]\nname = \"narrowed\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n\
     source_ranges = [\"203.0.113.0/24\"]\ntrust_anchors = [\"builtin:DigiCert_Global_Root_G2\"]\n\
     identity = [{ subject_cn = \"webhooks.pagerduty.com\", san_dns = \"webhooks.pagerduty.com\" }]\n",
    "[[route]]\nname = \"general\"\npath = \"/*\"\nproviders = [\"sender\", \"partner\"]\nhandler = \"unix:/run/a.sock\"\n\
     host = \"a.example\"\nmethods = [\"GET\"]\n",
    "[[route]]\npath = \"/admin\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/b.sock\"\nmethods = [\"GET\", \"PUT\"]\n\
     host = \"a.example\"\n\
     [[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-a\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-b\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [route.replay]\nid_header = \"x-id\"\n",
    "[[route]]\npath = \"/partner/*\"\nproviders = [\"partner\", \"chosen\", \"narrowed\"]\nhandler = \"unix:/run/c.sock\"\n\
     [[route.proof.any]]\n[route.proof.any.signature]\nform = \"hmac\"\nheader = \"x-b\"\n\
     secrets = [{ unsafe_value = \"a secret of the partner\" }]\n\
     [[route.proof.any]]\n[route.proof.any.token]\nissuers = [\"https://login.example\"]\naudiences = [\"hook\"]\n\
     key_source = \"login\"\nemails = [\"a@login.example\"]\nleeway_s = 5\n",
];

/// The text of the sections, the one with this index first.
fn rotated(first: usize) -> String {
    let sections = SECTIONS.iter().cycle().skip(first).take(SECTIONS.len()).copied();
    "reload = \"watch\"\n".to_owned() + LISTEN_WITH_PORT + &sections.collect::<String>()
}

const LISTEN_WITH_PORT: &str = "[listen]\naddresses = [\"127.0.0.1:8443\"]\n";

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("ranges.txt", "192.0.2.0/24\n198.51.100.0/24\n");
    fixture.write("others.txt", "192.0.2.0/25\n");
    fs::copy(fixture.path("ca.pem"), fixture.path("authorities.pem")).unwrap();
    fixture
}

fn sentences(losses: &[Loss]) -> Vec<String> {
    losses.iter().map(|loss| loss.text().to_owned()).collect()
}

/// What is lost from the file `old` to the file `new`.
fn losses(fixture: &Fixture, old: &str, new: &str) -> Vec<String> {
    match fixture.good(old).strength.compare(&fixture.good(new).strength) {
        Comparison::NotWeaker => Vec::new(),
        Comparison::Permitted { losses } => panic!("permitted: {losses:?}"),
        Comparison::Refused { losses, .. } => sentences(&losses),
    }
}

/// Replaces `from` by `to` in the whole text. Expects exactly these losses.
#[track_caller]
fn check(fixture: &Fixture, from: &str, to: &str, expected: &[&str]) {
    let old = rotated(0);
    assert!(old.contains(from), "{from}");
    assert_eq!(losses(fixture, &old, &old.replacen(from, to, 1)), expected, "{from:?} → {to:?}");
}

#[test]
fn a_source_that_may_name_addresses_from_now_on_is_a_loss() {
    let fixture = fixture();
    let with = |from: &str| {
        let key = if from.is_empty() { String::new() } else { format!("proxy_protocol = {{ from = [{from}] }}\n") };
        rotated(0).replacen(LISTEN_WITH_PORT, &format!("{LISTEN_WITH_PORT}{key}"), 1)
    };
    let check = |old: &str, new: &str, added: &[&str]| {
        let loss = |range: &&str| format!("listen: proxy_protocol: {range} may name any address as its peer's");
        let expected: Vec<String> = added.iter().map(loss).collect();
        assert_eq!(losses(&fixture, &with(old), &with(new)), expected, "{old} → {new}");
    };
    let (narrow, wide) = ("\"10.0.0.0/9\"", "\"10.0.0.0/8\", \"2001:db8::/32\"");
    check(narrow, narrow, &[]);
    check(narrow, wide, &["10.128.0.0/9", "2001:db8::/32"]);
    check("", narrow, &["10.0.0.0/9"]);
    check(wide, narrow, &[]);
    check(wide, "\"10.128.0.0/9\", \"10.0.0.0/9\"", &[]);
    // Such a source has its own address again, and no header of it counts.
    check(wide, "", &[]);
}

#[test]
fn a_demand_that_is_no_longer_made_is_a_loss() {
    let fixture = fixture();
    for (from, to, expected) in [
        ("mode = \"enforce\"", "mode = \"monitor\"", "filter: mode is no longer \"enforce\""),
        ("syn_ipv6_network = { per_second = 100 }\n", "", "filter: syn_ipv6_network is no longer limited"),
        (
            "verify_depth = 1\nextended_key_usage",
            "extended_key_usage",
            "provider sender: profile default: verify_depth 1 → 2",
        ),
        (
            "extended_key_usage = \"client-auth-explicit\"\n",
            "",
            "provider sender: profile default: extended_key_usage client-auth-explicit → client-auth",
        ),
        (
            "crl_scope = \"chain\"",
            "crl_scope = \"end-entity\"",
            "provider sender: profile default: crl_scope chain → end-entity",
        ),
        (
            "crls = [\"list.pem\"]\ncrl_scope = \"chain\"\n",
            "",
            "provider sender: profile default: revocation is no longer checked (crls, crl_urls)",
        ),
        (
            "crls = \"from-certificates\"\n",
            "",
            "provider chosen: profile rotated: revocation is no longer checked (crls, crl_urls)",
        ),
        (
            "subject_cn = \"sender\"\nsan_dns = \"sender.example\"\n",
            "subject_cn = \"sender\"\n",
            "provider sender: profile default: identity subject CN \"sender\" and DNS name \"sender.example\" → subject CN \"sender\"",
        ),
        (
            "source_ranges_check = \"refuse\"",
            "source_ranges_check = \"count\"",
            "provider sender: source_ranges_check refuse → count",
        ),
        ("tolerance_s = 60", "tolerance_s = 300", "provider sender: signature in x-a: tolerance_s 60 → 300"),
        ("window_s = 172800", "window_s = 17280", "provider sender: replay: window_s 172800 → 17280"),
        (
            "minus = \"others.txt\"\n",
            "",
            "provider chosen: the ranges of others.txt are no longer left out of ranges.txt",
        ),
        (
            "minus = \"https://a.example/b\"\n",
            "",
            "provider chosen: the ranges of https://a.example/b are no longer left out of https://a.example/a",
        ),
        (
            "pointer = \"/hooks/*\"\n",
            "",
            "provider chosen: pointer no longer selects the ranges of https://a.example/a",
        ),
        (
            "ca_file = \"authorities.pem\"\n",
            "",
            "provider chosen: ca_file is no longer demanded of https://a.example/a",
        ),
        (
            "profiles = [\"digicert-global-root-g2\"]\n",
            "",
            "provider chosen: profiles no longer leaves digicert-global-root-ca out",
        ),
        (
            "trust_anchors = [\"builtin:DigiCert_Global_Root_G2\"]\n",
            "",
            "provider narrowed: profile digicert-global-root-ca: trust_anchors no longer leaves DigiCert Global Root CA (aff98890) out",
        ),
        (
            "host = \"a.example\"\nmethods = [\"GET\"]\n",
            "methods = [\"GET\"]\n",
            "route \"general\": host a.example is no longer demanded",
        ),
        ("ca_file = \"ca.pem\"\n", "", "route \"/partner/*\": token: ca_file is no longer demanded"),
        ("max_stale_s = 60\n", "", "route \"/partner/*\": token: max_stale_s 60 → 86400"),
        ("leeway_s = 5\n", "", "route \"/partner/*\": token: leeway_s 5 → 60"),
    ] {
        check(&fixture, from, to, &[expected]);
    }
    let lost = losses(&fixture, &rotated(0), &rotated(0).replacen("crl_urls = [\"http://a.example/ca.crl\"]\n", "", 1));
    assert_eq!(lost[1], "provider partner: profile second: revocation is no longer checked (crls, crl_urls)");
}

/// A profile table beside a preset, or beside other tables, admits what it names.
#[test]
fn a_profile_that_is_added_beside_a_preset_is_no_loss_and_its_own_demands_count_from_then_on() {
    let fixture = fixture();
    let table = |name: &str, lines: &str| {
        format!(
            "[[provider.profile]]\nname = \"{name}\"\ntrust_anchors = [\"builtin:DigiCert_Global_Root_CA\"]\n{lines}"
        )
    };
    let identity = "identity = [{ subject_cn = \"webhooks.eu.pagerduty.com\" }]\n";
    let provider = "[[provider]]\nname = \"beside\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n\
                    source_ranges = [\"203.0.113.0/24\"]\n";
    let with = |tables: &[String]| rotated(0) + provider + &tables.concat();
    let bare = with(&[]);
    let added = with(&[table("new", &format!("verify_depth = 1\n{identity}"))]);
    assert_eq!(losses(&fixture, &bare, &added), [""; 0]);
    assert_eq!(losses(&fixture, &added, &bare), [""; 0]);
    let deeper = with(&[table("new", identity)]);
    assert_eq!(losses(&fixture, &added, &deeper), ["provider beside: profile new: verify_depth 1 → 2"]);
    // Under a name of before, a pair of anchor and identity is not new.
    let under_preset = bare.clone() + &table("digicert-global-root-g2", identity).replace("[[provider.profile]]\n", "");
    assert!(fixture.parse(&under_preset).is_err());
    let paired = with(&[table("new", identity).replace("builtin:DigiCert_Global_Root_CA", "ca.pem")]);
    assert_eq!(
        losses(&fixture, &paired, &deeper),
        [
            "provider beside: profile new: trust anchor DigiCert Global Root CA (aff98890) is now combined with identity subject CN \"webhooks.eu.pagerduty.com\""
        ]
    );
    // The tables come back after they were gone.
    let strength = |text: &str| fixture.good(text).strength;
    let in_force = strength(&bare).after(strength(&added));
    assert_eq!(in_force.compare(&strength(&added)), Comparison::NotWeaker);
    assert!(matches!(in_force.compare(&strength(&deeper)), Comparison::Refused { .. }));
}

#[test]
fn keys_that_replaced_those_of_a_preset_are_missed_when_they_are_gone() {
    let fixture = fixture();
    let identity = "identity = [{ subject_cn = \"webhooks.pagerduty.com\", san_dns = \"webhooks.pagerduty.com\" }]\n";
    let old = rotated(0);
    let narrowed = |from: &str, to: &str| old.replace(SECTIONS[6], &SECTIONS[6].replacen(from, to, 1));
    let lost = losses(&fixture, &old, &narrowed(identity, ""));
    let eu = "provider narrowed: profile digicert-global-root-g2: identity no longer leaves subject CN \"webhooks.eu.pagerduty.com\" out";
    assert!(lost.iter().any(|loss| loss == eu), "{lost:?}");
    // The keys of the operator, written as tables instead, admit what they did.
    let anchors = "trust_anchors = [\"builtin:DigiCert_Global_Root_G2\"]\n";
    let table = ["profiles = [\"digicert-global-root-g2\"]\n", identity].concat();
    assert_eq!(losses(&fixture, &old, &narrowed(&[anchors, identity].concat(), &table)), [""; 0]);
    // A preset without profiles has what the keys of the operator say, and so have its tables.
    let own = "[[provider]]\nname = \"own\"\npreset = \"github\"\nclient_certificate = \"required\"\n\
               source_ranges = [\"203.0.113.0/24\"]\nsignature.secrets = [{ file = \"webhook.secret\" }]\n\
               trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";
    let tables = "[[provider.profile]]\nname = \"a\"\nverify_depth = 1\n";
    let lost = losses(&fixture, &(rotated(0) + own + tables), &(rotated(0) + own));
    assert_eq!(lost, ["provider own: profile default: verify_depth 1 → 2"]);
}

#[test]
fn a_provider_and_a_route_may_ask_for_less_than_before_in_several_ways() {
    let fixture = fixture();
    let old = rotated(0);
    let without = |section: usize| old.replacen(SECTIONS[section], "", 1);
    // A route that is removed leaves its requests to a more general one.
    assert_eq!(
        losses(&fixture, &old, &without(8)),
        [
            "requests of provider partner for route \"a.example/admin\" now belong to route \"general\"",
            "route \"general\", provider sender instead of route \"a.example/admin\": signature in x-b is no longer demanded",
        ]
    );
    // Methods by default: POST, whose requests had another route.
    let by_default = losses(&fixture, &old, &old.replacen("methods = [\"GET\"]\n", "", 1));
    assert_eq!(by_default[2], "route \"general\": methods no longer excludes POST");
    // Without a more general one, they belong to none.
    assert_eq!(losses(&fixture, &without(7), &without(7).replacen(SECTIONS[8], "", 1)), [""; 0]);
    // The proof of the attack: the section below the route is gone.
    let start = old.find("[[route.proof.all]]").unwrap();
    let end = old.find("[[route]]\npath = \"/partner/*\"").unwrap();
    let cut = [&old[..start], &old[end..]].concat();
    assert!(
        losses(&fixture, &old, &cut)
            .contains(&"route \"a.example/admin\", provider sender: signature in x-b is no longer demanded".to_owned())
    );
    // The profile tables are gone, and the keys of the provider make a profile of their own.
    let start = old.find("[[provider.profile]]").unwrap();
    let end = old.find("[[provider]]\nname = \"chosen\"").unwrap();
    let cut = [&old[..start], &old[end..]].concat();
    let lost = losses(&fixture, &old, &cut);
    assert!(lost.iter().any(|loss| loss.starts_with("provider partner: profile default: verify_depth")), "{lost:?}");
}

#[test]
fn a_route_that_no_longer_stores_or_orders_its_deliveries_promises_less() {
    let fixture = fixture();
    let route = |lines: &str| {
        let state = "[state]\ndirectory = \"state\"\n";
        [LISTEN, CERTIFICATE, PROVIDER, state, ROUTE, "name = \"orders\"\n", lines].concat()
    };
    let durable = route("delivery = \"durable\"\ndurable = { order_by = \"/id\", max_in_flight = 4 }\n");
    let stored = "route \"orders\": deliveries are no longer stored before they are answered (delivery = \"durable\")";
    let ordered = "route \"orders\": deliveries are no longer handed over in the order of durable.order_by";
    assert_eq!(losses(&fixture, &durable, &route("")), [stored]);
    assert_eq!(losses(&fixture, &durable, &route("delivery = \"durable\"\n")), [ordered]);
    let other = durable.replace("\"/id\"", "\"x-id\"");
    assert_eq!(losses(&fixture, &durable, &other), [ordered]);
    assert_eq!(losses(&fixture, &durable, &durable.replace("max_in_flight = 4", "max_in_flight = 1")), [""; 0]);
    assert_eq!(losses(&fixture, &route(""), &durable), [""; 0]);
}

/// A file that takes the place of a list that was fetched must not be older.
#[test]
fn a_list_that_was_fetched_is_in_force_and_an_older_file_is_a_loss() {
    let fixture = fixture();
    let issuer = CertifiedIssuer::self_signed(authority("Fetched"), KeyPair::generate().unwrap()).unwrap();
    let list = |month: u8| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, month, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(u64::from(month)),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap()
    };
    let old = rotated(0);
    let mut in_force = fixture.good(&old);
    for profile in in_force.providers.iter_mut().flat_map(|provider| &mut provider.profiles) {
        if &*profile.name == "second" {
            let fetched = RevocationList::from_der(list(3).der()).unwrap();
            profile.revocation = Some(RevocationLists::new(vec![fetched], RevocationScope::Chain));
        }
    }
    let mut strength = in_force.strength;
    strength.note_lists(&in_force.providers);
    let from_file = old.replacen("crl_urls = [\"http://a.example/ca.crl\"]", "crls = [\"fetched.pem\"]", 1);
    for (month, expected) in [(3, None), (4, None), (2, Some("is older: of 2026-03-01 → of 2026-02-01"))] {
        fixture.write("fetched.pem", &list(month).pem().unwrap());
        match (strength.compare(&fixture.good(&from_file).strength), expected) {
            (Comparison::NotWeaker, None) => {}
            (Comparison::Refused { losses, .. }, Some(words)) => {
                assert!(losses.iter().any(|loss| loss.text().contains(words)), "{losses:?}");
            }
            (other, _) => panic!("{month}: {other:?}"),
        }
    }
}

/// Routes without a name are called by host and path, and several can have one name.
#[test]
fn routes_of_one_path_and_several_methods_are_told_apart() {
    let fixture = fixture();
    let route = |providers: &str, lines: &str| {
        format!("[[route]]\npath = \"/same\"\nproviders = {providers}\nhandler = \"unix:/run/s.sock\"\n{lines}")
    };
    let (sender, both) = ("[\"sender\"]", "[\"sender\", \"partner\"]");
    let with = |routes: &[String]| rotated(0) + &routes.concat();
    let (get, put) = ("methods = [\"GET\"]\n", "methods = [\"PUT\"]\n");
    let certificate = "proof = \"certificate\"\n";
    let old = with(&[route(sender, get), route(sender, ""), route(sender, put)]);
    assert_eq!(losses(&fixture, &old, &old), [""; 0]);
    let moved = with(&[route(sender, put), route(sender, get), route(sender, "")]);
    assert_eq!(losses(&fixture, &old, &moved), [""; 0]);
    let more = with(&[route(sender, get), route(both, ""), route(sender, put)]);
    assert_eq!(losses(&fixture, &old, &more), [""; 0]);
    // A route for another method is new; without its methods, a route takes others.
    assert_eq!(
        losses(&fixture, &with(&[route(sender, get)]), &with(&[route(sender, get), route(sender, "")])),
        [""; 0]
    );
    let lost = losses(&fixture, &with(&[route(sender, get)]), &with(&[route(sender, "")]));
    assert_eq!(lost, ["route \"/same\": methods no longer excludes POST"]);
    let weaker = with(&[route(sender, &(get.to_owned() + certificate)), route(sender, ""), route(sender, put)]);
    assert_eq!(
        losses(&fixture, &old, &weaker)[0],
        "route \"/same\", provider sender: replay: by_signature is no longer demanded"
    );
}

#[test]
fn a_half_written_bundle_of_trust_anchors_makes_no_anchor_of_an_intermediate() {
    let fixture = fixture();
    let before = fixture.good(&rotated(0)).strength;
    fs::copy(fixture.path("intermediate.pem"), fixture.path("bundle.pem")).unwrap();
    match before.compare(&fixture.good(&rotated(0)).strength) {
        Comparison::Refused { losses, .. } => {
            assert!(losses[0].text().contains("becomes a trust anchor"), "{losses:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_intermediate_is_remembered_as_one_if_its_issuer_is_gone_and_it_comes_back_alone() {
    let fixture = fixture();
    let before = fixture.good(&rotated(0)).strength;
    fs::copy(fixture.path("ca.pem"), fixture.path("bundle.pem")).unwrap();
    let root_alone = fixture.good(&rotated(0)).strength;
    assert_eq!(before.compare(&root_alone), Comparison::NotWeaker);
    let in_force = root_alone.after(before);
    fs::copy(fixture.path("intermediate.pem"), fixture.path("bundle.pem")).unwrap();
    match in_force.compare(&fixture.good(&rotated(0)).strength) {
        Comparison::Refused { losses, .. } => {
            assert!(losses[0].text().contains("becomes a trust anchor"), "{losses:?}")
        }
        other => panic!("{other:?}"),
    }
}

/// What is lost if the files of ranges hold these texts instead of those before.
fn lost_by_files(before: [&str; 2], after: [&str; 2]) -> Vec<String> {
    let fixture = fixture();
    let strength = |texts: [&str; 2]| {
        fixture.write("ranges.txt", texts[0]);
        fixture.write("others.txt", texts[1]);
        fixture.good(&rotated(0)).strength
    };
    let before = strength(before);
    match before.compare(&strength(after)) {
        Comparison::Refused { losses, .. } => sentences(&losses),
        Comparison::NotWeaker => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_ranges_that_is_cut_within_its_last_line_is_a_loss() {
    const WHOLE: &str = "198.51.100.0/24\n192.0.0.0/24\n";
    const OTHERS: &str = "198.51.100.0/25\n";
    let check = |after: &str, expected: &str| {
        let expected: Vec<String> = match expected {
            "" => Vec::new(),
            range => vec![format!(
                "provider chosen: the last line of ranges.txt, {range}, is new and has no line break: the file may be cut"
            )],
        };
        assert_eq!(lost_by_files([WHOLE, OTHERS], [after, OTHERS]), expected, "{after:?}");
    };
    // A quarter of all addresses.
    check("198.51.100.0/24\n192.0.0.0/2", "192.0.0.0/2");
    check("198.51.100.0/24\n192.0.1.7", "192.0.1.7/32");
    check("198.51.100.0/24\n192.0.0.0/24\n203.0.0.0/24", "203.0.0.0/24");
    // The same ranges or fewer, with and without a line break.
    check("198.51.100.0/24\n192.0.0.0/24", "");
    check("198.51.100.0/24\n192.0.0.0", "");
    check("198.51.100.0/24\n", "");
    // Whole lines name what they add, and a comment shows that the line is whole.
    check("198.51.100.0/24\n192.0.0.0/24\n203.0.0.0/24\n", "");
    check("198.51.100.0/24\n203.0.0.0/24 # new", "");
    check("[\"198.51.100.0/24\", \"203.0.0.0/24\"]", "");
}

#[test]
fn a_plain_file_of_exceptions_that_lost_lines_is_a_loss() {
    const RANGES: &str = "192.0.2.0/24\n198.51.100.0/24\n";
    let check = |before: &str, after: &str, expected: &str| {
        let expected: Vec<String> = match expected {
            "" => Vec::new(),
            range => vec![format!(
                "provider chosen: others.txt no longer leaves out of ranges.txt what it did, such as {range}"
            )],
        };
        assert_eq!(lost_by_files([RANGES, before], [RANGES, after]), expected, "{before:?} → {after:?}");
    };
    check("192.0.2.0/25\n192.0.2.128/26\n", "192.0.2.0/25\n", "192.0.2.128/26");
    check("192.0.2.0/25\n", "192.0.2.0\n", "192.0.2.1/32");
    check("192.0.2.0/25\n", "192.0.2.0/24\n", "");
    check("192.0.2.0/25\n203.0.113.0/24\n", "192.0.2.0/25\n", "");
    // JSON that is cut is an error, so a document that can be read is meant.
    check("[\"192.0.2.0/25\", \"192.0.2.128/26\"]", "[\"192.0.2.0/25\"]", "");
    // The ranges themselves are gone as well.
    assert_eq!(lost_by_files([RANGES, "192.0.2.0/25\n"], ["198.51.100.0/24\n", "192.0.2.128/25\n"]), [""; 0]);
}

#[test]
fn what_names_something_new_is_no_loss() {
    let fixture = fixture();
    let old = rotated(0);
    for (from, to) in [
        ("{ unsafe_value = \"a secret of the sender\" }", "{ unsafe_value = \"another secret of the sender\" }"),
        ("[{ unsafe_value", "[{ unsafe_value = \"a second secret for the sender\" }, { unsafe_value"),
        ("trust_anchors = [\"bundle.pem\"]", "trust_anchors = [\"bundle.pem\", \"builtin:GTS_Root_R1\"]"),
        ("[[provider.identity]]", "[[provider.identity]]\nsan_uri = \"urn:a\"\n[[provider.identity]]"),
        ("providers = [\"sender\"]", "providers = [\"sender\", \"partner\"]"),
        ("methods = [\"GET\"]", "methods = [\"GET\", \"PATCH\"]"),
        (
            "[[route]]\npath = \"/admin\"",
            "[[route]]\npath = \"/more\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/d\"\n[[route]]\npath = \"/admin\"",
        ),
        ("verify_depth = 1", "verify_depth = 1\non_failure = \"abort\""),
        ("verify_depth = 1", "verify_depth = 1\nrefusal = \"retry\""),
        ("[filter]", "[limits]\nmax_body_bytes = 1\n[filter]"),
        ("source_ranges = [\"198.51.100.0/24\"]", "source_ranges = [\"198.51.0.0/16\"]"),
        ("audiences = [\"hook\"]", "audiences = [\"hook\", \"hooks\"]"),
        ("tolerance_s = 60", "tolerance_s = 30"),
        ("crl_scope = \"chain\"", "crl_scope = \"chain\"\ncrl_urls = [\"http://a.example/ca.crl\"]"),
        ("crls = [\"list.pem\"]\ncrl_scope", "crls = \"from-certificates\"\ncrl_scope"),
        ("http://a.example/ca.crl", "http://b.example/ca.crl"),
    ] {
        assert!(old.contains(from), "{from}");
        assert_eq!(losses(&fixture, &old, &old.replacen(from, to, 1)), [""; 0], "{from:?} → {to:?}");
    }
}

#[test]
fn a_permission_is_for_one_change_and_for_one_time() {
    let fixture = fixture();
    let old = rotated(0);
    let weaker = old.replacen("verify_depth = 1\nextended", "verify_depth = 2\nextended", 1);
    let strength = |text: &str| fixture.good(text).strength;
    let Comparison::Refused { losses, permission, written } = strength(&old).compare(&strength(&weaker)) else {
        panic!("not refused");
    };
    assert_eq!(written, WrittenPermission::Nothing);
    let line = format!("accept_weaker = \"{permission}\"\n");
    let permitted = |old: Strength, text: &str| old.compare(&strength(text));
    assert_eq!(permitted(strength(&old), &(line.clone() + &weaker)), Comparison::Permitted { losses });
    // Of the same file, a part: another loss, or more than one.
    let part = weaker.replacen("tolerance_s = 60\n", "", 1);
    assert!(matches!(
        permitted(strength(&old), &(line.clone() + &part)),
        Comparison::Refused { written: WrittenPermission::OfAnother, .. }
    ));
    // The line stays in the file, the demand comes back, and is lost by accident.
    let restored = strength(&(line.clone() + &old)).after(strength(&(line.clone() + &weaker)));
    assert!(matches!(
        permitted(restored, &(line + &weaker)),
        Comparison::Refused { written: WrittenPermission::Used, .. }
    ));
}

/// A part of [`rotated`] that is a valid configuration.
struct Part {
    what: String,
    config: Config,
}

/// Expects that `part` admits nothing that `whole` does not, or is refused in its place. Returns whether it is refused.
#[track_caller]
fn judge(whole: &Config, in_force: &Strength, part: &Part) -> bool {
    if matches!(in_force.compare(&part.config.strength), Comparison::Refused { .. }) {
        return true;
    }
    let newly = newly_admitted(whole, &part.config);
    assert!(newly.is_empty(), "{} would admit {newly:#?}", part.what);
    false
}

/// Numbers of parts by outcome, so that a test shows that it tested something.
#[derive(Debug, Default)]
struct Count {
    refused: usize,
    accepted: usize,
}

impl Count {
    fn add(&mut self, refused: bool) {
        *(if refused { &mut self.refused } else { &mut self.accepted }) += 1;
    }
}

fn part(fixture: &Fixture, what: String, text: &str) -> Option<Part> {
    fixture.parse(text).ok().map(|(config, _)| Part { what, config })
}

/// The parts of `text` up to each line break, without those that are no configuration.
fn beginnings(fixture: &Fixture, text: &str, ends: impl Iterator<Item = usize>) -> Vec<Part> {
    ends.filter(|end| text.is_char_boundary(*end))
        .filter_map(|end| {
            part(fixture, format!("the file up to {:?}", &text[end.saturating_sub(60)..end]), &text[..end])
        })
        .collect()
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_not_weaker_or_is_refused() {
    let fixture = fixture();
    let mut count = Count::default();
    for first in 0..SECTIONS.len() {
        let text = rotated(first);
        let whole = fixture.good(&text);
        // Every byte of the last section, and every line of the others.
        let last = text.len() - SECTIONS[(first + SECTIONS.len() - 1) % SECTIONS.len()].len();
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).filter(|end| *end < last);
        for part in beginnings(&fixture, &text, lines.chain(last..text.len())) {
            count.add(judge(&whole, &whole.strength, &part));
        }
    }
    assert!(count.refused > 50 && count.accepted > 15, "{count:?}");
}

#[test]
fn a_file_that_grows_slowly_is_not_weaker_or_is_refused() {
    let fixture = fixture();
    let mut count = Count::default();
    for first in 0..SECTIONS.len() {
        let text = rotated(first);
        let whole = fixture.good(&text);
        let parts = beginnings(&fixture, &text, text.match_indices('\n').map(|(at, _)| at + 1));
        for (index, shorter) in parts.iter().enumerate() {
            if matches!(whole.strength.compare(&shorter.config.strength), Comparison::Refused { .. }) {
                continue;
            }
            let in_force = shorter.config.strength.clone().after(whole.strength.clone());
            for longer in &parts[index..] {
                count.add(judge(&whole, &in_force, longer));
            }
            assert_eq!(
                in_force.compare(&whole.strength),
                Comparison::NotWeaker,
                "the whole file after {}",
                shorter.what
            );
        }
    }
    assert!(count.refused > 10 && count.accepted > 30, "{count:?}");
}

#[test]
fn a_file_without_some_of_its_lines_is_not_weaker_or_is_refused() {
    let fixture = fixture();
    let text = rotated(0);
    let whole = fixture.good(&text);
    let lines: Vec<&str> = text.lines().collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut count = Count::default();
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..1500 {
        let removed: Vec<usize> = match round {
            // Each line by itself, then runs of lines, then some lines.
            round if round < lines.len() => vec![round],
            round if round % 2 == 0 => {
                let start = random.usize(..lines.len());
                (start..lines.len().min(start + 1 + random.usize(..12))).collect()
            }
            _ => (0..1 + random.usize(..4)).map(|_| random.usize(..lines.len())).collect(),
        };
        let rest = lines.iter().enumerate().filter(|(index, _)| !removed.contains(index)).map(|(_, line)| *line);
        let rest = rest.collect::<Vec<_>>().join("\n");
        let what = format!("the file without {:?}", removed.iter().map(|index| lines[*index]).collect::<Vec<_>>());
        let Some(part) = part(&fixture, what, &rest) else { continue };
        count.add(judge(&whole, &whole.strength, &part));
        if let Comparison::Refused { losses, .. } = whole.strength.compare(&part.config.strength) {
            losses.iter().for_each(|loss| *causes.entry(loss.text().to_owned()).or_default() += 1);
        }
    }
    assert!(count.refused > 100 && count.accepted > 20 && causes.len() > 25, "{count:?} {causes:#?}");
}

/// Who removes it takes an answer away, and who adds it writes that down.
#[test]
fn a_public_route_is_neither_a_demand_nor_a_loss() {
    let fixture = fixture();
    let old = rotated(0);
    let with = old.clone() + "[[route]]\nname = \"up\"\nhost = \"a.example\"\npath = \"/up\"\nrespond = 200\n";
    assert_eq!(losses(&fixture, &old, &with), [""; 0]);
    assert_eq!(losses(&fixture, &with, &old), [""; 0], "the route for every path demands more");
    let moved = with.replace("host = \"a.example\"\npath = \"/up\"", "path = \"/up\"");
    assert_eq!(losses(&fixture, &moved, &with), [""; 0]);
}
