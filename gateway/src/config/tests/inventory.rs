//! What a reload says about its changes, and which files it depends on.

use super::*;
use crate::config::inventory::difference;
use crate::config::{FileVersion, ReloadTrigger};

/// Two providers, one of them with everything that stands behind files.
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

fn site() -> Site {
    let site = Site::new();
    site.write("ranges.txt", "192.0.2.0/24\n198.51.100.0/24\n");
    site
}

/// Expects these lines, and no other, after `change` was made to the files and `text` was read in the place of [`rich`]. `…` in
/// a line stands for anything.
#[track_caller]
fn check(text: &str, change: impl FnOnce(&Site), expected: &[&str]) {
    let site = site();
    let before = site.good(&rich()).inventory;
    change(&site);
    let after = site.good(text).inventory;
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
fn what_stands_behind_files_is_told_by_what_it_is() {
    let check = |change: &dyn Fn(&Site), expected: &[&str]| check(&rich(), change, expected);
    let renewed = |site: &Site| {
        let other = Site::new();
        for name in ["fullchain.pem", "privkey.pem"] {
            fs::copy(other.path(name), site.path(name)).unwrap();
        }
    };
    check(&renewed, &["certificate hooks.example.com: serial … until 2027-01-01 → serial "]);
    let anchor = |site: &Site| assert!(fs::copy(Site::new().path("ca.pem"), site.path("ca.pem")).is_ok());
    check(&anchor, &["provider own: trust anchor Test Root (…) ", "provider own: trust anchor Test Root (…) "]);
    let list = |site: &Site| {
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
        fs::write(site.path("list.crl"), list.signed_by(&issuer).unwrap().der()).unwrap();
    };
    let lists = [
        "provider pagerduty: revocation list of CN=Test Intermediate (profile digicert-global-root-ca): number 1, next update 2027-01-01 → number 42, next update 2027-02-01",
        "provider pagerduty: revocation list of CN=Test Intermediate (profile digicert-global-root-g2): … → number 42, ",
    ];
    check(&list, &lists);
    let more = |site: &Site| site.write("ranges.txt", "192.0.2.0/24\n198.51.100.0/24\n203.0.113.0/24\n");
    check(&more, &["provider pagerduty: ranges: 2 prefixes → 3 prefixes"]);
    let others = |site: &Site| site.write("ranges.txt", "192.0.2.0/24\n203.0.113.0/24\n");
    check(&others, &["provider pagerduty: ranges: changed (2 prefixes)"]);
    let keys = |site: &Site| site.write("keys.json", &KEYS.replace("\"EC\",", "\"EC\",\"kid\":\"2\","));
    check(&keys, &["key source keys: keys: changed (1 keys)"]);
    let secret = |site: &Site| site.write("webhook.secret", "another");
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
    let site = site();
    let [before, after] = [SECRET, "another"].map(|value| site.good(&inline(value)).inventory);
    let lines: Vec<String> = difference(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["provider pagerduty: secret in unsafe_value: changed"]);
    assert!(!format!("{before:?}").contains(SECRET));
}

#[test]
fn every_file_that_is_read_is_known() {
    let site = site();
    let text = rich()
        .replace("{ file = \"webhook.secret\" }", "{ file = \"webhook.secret\" }, { credential = \"webhook\" }")
        .replace("[\"ranges.txt\"]", "[{ file = \"ranges.txt\", minus = \"minus.txt\" }]");
    site.write("minus.txt", "192.0.2.0/25\n");
    let read = |text: &str| {
        let environment = Environment { now: NOW, credentials: Some(site.path("credentials")) };
        let mut files = FileVersions::default();
        let outcome = Config::parse_in(text, &site.path("hookgate.toml"), environment, &mut files);
        (outcome.is_ok(), files)
    };
    let names =
        "ca.pem credentials/webhook fullchain.pem keys.json list.crl minus.txt privkey.pem ranges.txt webhook.secret";
    let versions = |name: &str| (site.path(name), FileVersion::at(&site.path(name)));
    assert_eq!(read(&text), (true, names.split(' ').map(versions).collect()));
    let (good, files) = read(&text.replace("ca.pem", "absent.pem"));
    let absent: FileVersions = [(site.path("absent.pem"), None)].into_iter().collect();
    assert!(!good && files.clone().only(&absent) == absent, "what is not there yet is waited for: {files:?}");
}

#[test]
fn a_file_is_another_version_however_it_was_replaced() {
    let site = Site::new();
    let path = site.path("ca.pem");
    let mut versions = vec![FileVersion::at(&path)];
    site.write("next", "another");
    fs::rename(site.path("next"), &path).unwrap();
    versions.push(FileVersion::at(&path));
    site.write("ca.pem", "yet another");
    versions.push(FileVersion::at(&path));
    for target in ["list.crl", "list.pem"] {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(site.path(target), &path).unwrap();
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
    let site = Site::new();
    let check = |line: &str, expected| {
        assert_eq!(site.good(&format!("{line}{}", minimal())).reload, expected, "{line}");
    };
    check("", ReloadTrigger::Signal);
    check("reload = \"signal\"\n", ReloadTrigger::Signal);
    check("reload = \"watch\"\n", ReloadTrigger::Watch);
    let errors = site.errors(&format!("reload = \"inotify\"\n{}", minimal()));
    assert!(errors[0].contains("write \"signal\" or \"watch\""), "{errors:?}");
}
