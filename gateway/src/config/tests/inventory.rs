//! The differences that a reload logs, and the files that it depends on.

use super::*;
use crate::config::inventory::difference;
use crate::config::{FileVersion, ReloadTrigger};

/// A configuration with two providers. One has all kinds of files.
fn rich() -> String {
    [
        LISTEN,
        CERTIFICATE,
        "[[provider]]\nname = \"pagerduty\"\npreset = \"pagerduty\"\ncrls = [\"list.crl\"]\n\
         signature = { secrets = [{ file = \"webhook.secret\" }] }\nsource_range_files = [\"ranges.txt\"]\n",
        "[[provider]]\nname = \"own\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n\
         proof.token = { form = \"dialogflow\", project_number = \"4711\", audiences = [\"https://a.example/\"], key_source = \"keys\" }\n",
        ROUTE,
        "[[route]]\nname = \"own\"\npath = \"/own\"\nproviders = [\"own\"]\nhandler = \"unix:/run/own.sock\"\n",
        "[[key_source]]\nname = \"keys\"\nfile = \"keys.json\"\n",
        "[limits]\nmax_body_bytes = 1048576\n",
    ]
    .concat()
}

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("ranges.txt", "192.0.2.0/24\n198.51.100.0/24\n");
    fixture
}

/// Reads [`rich`], changes the files by `change`, reads `text`, and expects exactly these lines. `…` in a line matches any text.
#[track_caller]
fn check(text: &str, change: impl FnOnce(&Fixture), expected: &[&str]) {
    let fixture = fixture();
    let before = fixture.good(&rich()).inventory;
    change(&fixture);
    let after = fixture.good(text).inventory;
    let lines: Vec<String> = difference(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        match expected.split_once('…') {
            Some((start, end)) => assert!(line.starts_with(start) && line.contains(end), "{expected}\n{lines:#?}"),
            None => assert_eq!(line, expected, "{lines:#?}"),
        }
    }
    assert!(!lines.concat().contains(SECRET), "{lines:#?}");
}

#[test]
fn nothing_changed_is_no_line() {
    check(&rich(), |_| {}, &[]);
    check(&format!("# a comment\n{}", rich().replace(" = 1048576", "  =  1048576")), |_| {}, &[]);
}

#[test]
fn settings_are_told_by_their_keys() {
    let check = |from: &str, to: &str, expected: &[&str]| check(&rich().replace(from, to), |_| {}, expected);
    check("1048576", "2097152", &["limits.max_body_bytes: 1048576 → 2097152"]);
    let both = ["limits.max_body_bytes: 1048576 → (not set)", "limits.max_headers: (not set) → 7"];
    check("max_body_bytes = 1048576", "max_headers = 7", &both);
    let fixed = "limits.replay_entries: (not set) → 7 (needs a restart)";
    check("[limits]", "[limits]\nreplay_entries = 7", &[fixed]);
    check("[listen]", "reload = \"watch\"\n[listen]", &["reload: (not set) → \"watch\""]);
    let proxies = "[listen]\nproxy_protocol = { from = [\"10.0.0.0/8\"] }";
    check("[listen]", proxies, &["listen.proxy_protocol.from: (not set) → [\"10.0.0.0/8\"]"]);
    let handler = "route \"own\": handler: \"unix:/run/own.sock\" → \"unix:/run/other.sock\"";
    check("/run/own.sock", "/run/other.sock", &[handler]);
    check("\"4711\"", "\"4712\"", &["provider own: proof.token.project_number: \"4711\" → \"4712\""]);
    let identity = "provider own: identity: [{ subject_cn = \"a\" }] → [{ subject_cn = \"b\" }]";
    check("subject_cn = \"a\"", "subject_cn = \"b\"", &[identity]);
}

#[test]
fn what_comes_and_goes_is_told_once() {
    let route = "[[route]]\nname = \"hooks\"\npath = \"/h\"\nproviders = [\"own\"]\nhandler = \"unix:/h.sock\"\n";
    check(&(rich() + route), |_| {}, &["route \"hooks\" added"]);
    let without = rich().replace("name = \"own\"\npath = \"/own\"", "name = \"other\"\npath = \"/own\"");
    check(&without, |_| {}, &["route \"other\" added", "route \"own\" removed"]);
    let own = rich().replace("\"own\"", "\"mine\"");
    let all = ["provider mine added", "provider own removed", "route \"mine\" added", "route \"own\" removed"];
    check(&own, |_| {}, &all);
}

#[test]
fn changed_files_are_told_by_their_content() {
    let check = |change: &dyn Fn(&Fixture), expected: &[&str]| check(&rich(), change, expected);
    let renewed = |fixture: &Fixture| {
        let other = Fixture::new();
        for name in ["fullchain.pem", "privkey.pem"] {
            fs::copy(other.path(name), fixture.path(name)).unwrap();
        }
    };
    check(&renewed, &["certificate hooks.example.com: serial … until 2027-01-01 → serial "]);
    let anchor = |fixture: &Fixture| assert!(fs::copy(Fixture::new().path("ca.pem"), fixture.path("ca.pem")).is_ok());
    check(&anchor, &["provider own: trust anchor Test Root (…) ", "provider own: trust anchor Test Root (…) "]);
    let list = |fixture: &Fixture| {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(authority("Test Intermediate"), key).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 2, 1),
            next_update: date_time_ymd(2027, 2, 1),
            crl_number: SerialNumber::from(42),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(fixture.path("list.crl"), list.signed_by(&issuer).unwrap().der()).unwrap();
    };
    let lists = [
        "provider pagerduty: revocation list of CN=Test Intermediate (profile digicert-global-root-ca): number 1, next update 2027-01-01 → number 42, next update 2027-02-01",
        "provider pagerduty: revocation list of CN=Test Intermediate (profile digicert-global-root-g2): … → number 42, ",
    ];
    check(&list, &lists);
    let more = |fixture: &Fixture| fixture.write("ranges.txt", "192.0.2.0/24\n198.51.100.0/24\n203.0.113.0/24\n");
    check(&more, &["provider pagerduty: ranges: 2 prefixes → 3 prefixes"]);
    let others = |fixture: &Fixture| fixture.write("ranges.txt", "192.0.2.0/24\n203.0.113.0/24\n");
    check(&others, &["provider pagerduty: ranges: changed (2 prefixes)"]);
    let keys = |fixture: &Fixture| fixture.write("keys.json", &KEYS.replace("\"EC\",", "\"EC\",\"kid\":\"2\","));
    check(&keys, &["key source keys: keys: changed (1 keys)"]);
    let secret = |fixture: &Fixture| fixture.write("webhook.secret", "another");
    check(&secret, &["provider pagerduty: secret webhook.secret: changed"]);
}

#[test]
fn a_secret_shows_in_no_change() {
    let inline =
        |value: &str| rich().replace("{ file = \"webhook.secret\" }", &format!("{{ unsafe_value = \"{value}\" }}"));
    let expected = [
        "provider pagerduty: secret in unsafe_value added",
        "provider pagerduty: secret webhook.secret removed",
        "provider pagerduty: signature.secrets: [{ file = \"webhook.secret\" }] → [{ unsafe_value = (hidden) }]",
    ];
    check(&inline(SECRET), |_| {}, &expected);
    let fixture = fixture();
    let [before, after] = [SECRET, "another"].map(|value| fixture.good(&inline(value)).inventory);
    let lines: Vec<String> = difference(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["provider pagerduty: secret in unsafe_value: changed"]);
    assert!(!format!("{before:?}").contains(SECRET));
}

#[test]
fn every_file_that_is_read_is_known() {
    let fixture = fixture();
    let text = rich()
        .replace("{ file = \"webhook.secret\" }", "{ file = \"webhook.secret\" }, { credential = \"webhook\" }")
        .replace("[\"ranges.txt\"]", "[{ file = \"ranges.txt\", minus = \"minus.txt\" }]");
    fixture.write("minus.txt", "192.0.2.0/25\n");
    let read = |text: &str| {
        let environment = Environment { credentials: Some(fixture.path("credentials")), ..Environment::at(NOW) };
        let mut files = FileVersions::default();
        let outcome = Config::parse_in(text, &fixture.path("hookgate.toml"), environment, &mut files);
        (outcome.is_ok(), files)
    };
    let names =
        "ca.pem credentials/webhook fullchain.pem keys.json list.crl minus.txt privkey.pem ranges.txt webhook.secret";
    let versions = |name: &str| (fixture.path(name), FileVersion::at(&fixture.path(name)));
    assert_eq!(read(&text), (true, names.split(' ').map(versions).collect()));
    let (good, files) = read(&text.replace("ca.pem", "absent.pem"));
    let absent: FileVersions = [(fixture.path("absent.pem"), None)].into_iter().collect();
    assert!(!good && files.clone().only(&absent) == absent, "what is not there yet is waited for: {files:?}");
}

#[test]
fn a_file_is_another_version_however_it_was_replaced() {
    let fixture = Fixture::new();
    let path = fixture.path("ca.pem");
    let mut versions = vec![FileVersion::at(&path)];
    fixture.write("next", "another");
    fs::rename(fixture.path("next"), &path).unwrap();
    versions.push(FileVersion::at(&path));
    fixture.write("ca.pem", "yet another");
    versions.push(FileVersion::at(&path));
    for target in ["list.crl", "list.pem"] {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(fixture.path(target), &path).unwrap();
        versions.push(FileVersion::at(&path));
    }
    fs::remove_file(&path).unwrap();
    versions.push(FileVersion::at(&path));
    for (index, version) in versions.iter().enumerate() {
        assert!(!versions[..index].contains(version), "{index}: {versions:?}");
    }
    assert_eq!(versions.last(), Some(&None));
}

#[test]
fn what_makes_it_reload_is_a_word() {
    let fixture = Fixture::new();
    let check = |line: &str, expected| {
        assert_eq!(fixture.good(&format!("{line}{}", minimal())).reload, expected, "{line}");
    };
    check("", ReloadTrigger::Signal);
    check("reload = \"signal\"\n", ReloadTrigger::Signal);
    check("reload = \"watch\"\n", ReloadTrigger::Watch);
    let errors = fixture.errors(&format!("reload = \"inotify\"\n{}", minimal()));
    assert!(errors[0].contains("write \"signal\" or \"watch\""), "{errors:?}");
}
