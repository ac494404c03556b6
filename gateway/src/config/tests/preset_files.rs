//! Presets in files: which one is in use, and what becomes of one with an error.

use super::*;
use crate::config::inventory::difference;
use crate::config::preset::{self, DIRECTORIES, Found, Origin, Presets};
use crate::config::strength::Comparison;

/// A preset with one profile; the test root stands beside it.
const SENDER: &str = "schema = 1\nversion = 2026-11-29\ntitle = \"Sender\"\ndocumentation = \"https://sender.example/\"\n\
                      [proof]\nsignature = { form = \"pagerduty\" }\n\
                      [[profile]]\nname = \"first\"\ntrust_anchors = [\"./ca.pem\"]\n\
                      identity = [{ subject_cn = \"sender.example\" }]\n";

/// A configuration with the directories `a` and `b`, whose provider uses the preset `name`.
fn using(name: &str) -> String {
    let provider = format!(
        "[[provider]]\nname = \"pagerduty\"\npreset = \"{name}\"\nsignature = {{ secrets = [{{ file = \"webhook.secret\" }}] }}\n"
    );
    ["[presets]\ndirectories = [\"a\", \"b\"]\n", LISTEN, CERTIFICATE, &provider, ROUTE].concat()
}

/// A fixture with the empty directories `a` and `b`, each with the test root.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    for directory in ["a", "b"] {
        fs::create_dir(fixture.path(directory)).unwrap();
        fs::copy(fixture.path("ca.pem"), fixture.path(&format!("{directory}/ca.pem"))).unwrap();
    }
    fixture
}

/// The errors of a configuration with this text, as lines without the directory of the fixture.
fn errors(fixture: &Fixture, text: &str) -> Vec<String> {
    let errors = fixture.parse(text).map(|(config, _)| config.providers).unwrap_err().to_string();
    let directory = format!("{}/", fixture.directory.path().display());
    errors.lines().map(|line| line.replace(&directory, "")).collect()
}

fn common_names(config: &Config) -> Vec<String> {
    let rules = config.providers[0].profiles.iter().flat_map(|profile| &profile.identity);
    rules.map(ToString::to_string).collect()
}

#[test]
fn a_later_directory_replaces_the_whole_preset() {
    let fixture = fixture();
    fixture.write("a/sender.toml", SENDER);
    assert_eq!(common_names(&fixture.good(&using("sender"))), ["subject CN \"sender.example\""]);
    let second = SENDER.replace("first", "second").replace("sender.example\" }", "b.example\" }");
    fixture.write("b/sender.toml", &second);
    let config = fixture.good(&using("sender"));
    assert_eq!(common_names(&config), ["subject CN \"b.example\""]);
    assert_eq!(&*config.providers[0].profiles[0].name, "second");
    // And one that is compiled in.
    fixture.write("a/pagerduty.toml", SENDER);
    assert_eq!(common_names(&fixture.good(&using("pagerduty"))), ["subject CN \"sender.example\""]);
    fs::remove_file(fixture.path("a/pagerduty.toml")).unwrap();
    assert_eq!(fixture.good(&using("pagerduty")).providers[0].profiles.len(), 2);
}

#[test]
fn without_a_section_the_usual_directories_count_and_need_not_exist() {
    let fixture = fixture();
    fixture.write("b/sender.toml", SENDER);
    let text = using("sender").replace("[presets]\ndirectories = [\"a\", \"b\"]\n", "");
    let parse = |directories: Vec<PathBuf>| {
        let environment = Environment { preset_directories: directories, ..Environment::at(NOW) };
        Config::parse_in(&text, &fixture.path("hookgate.toml"), environment, &mut FileVersions::default())
    };
    assert!(parse(vec![fixture.path("missing"), fixture.path("b")]).is_ok());
    let errors = parse(vec![fixture.path("missing"), fixture.path("webhook.secret")]).unwrap_err().to_string();
    assert!(errors.contains("webhook.secret: ") && errors.contains("Not a directory"), "{errors}");
    assert_eq!(DIRECTORIES, ["/usr/share/hookgate/presets", "/etc/hookgate/presets.d"]);
}

#[test]
fn a_directory_that_is_named_must_exist() {
    let fixture = fixture();
    fs::remove_dir_all(fixture.path("b")).unwrap();
    let errors = errors(&fixture, &using("pagerduty"));
    assert!(errors.len() == 1 && errors[0].starts_with("hookgate.toml:2: presets.directories[1]: b "), "{errors:?}");
}

/// Fails unless [`SENDER`] with a replaced text has one error, at this place and with these words.
#[track_caller]
fn check_error(fixture: &Fixture, (from, to): (&str, &str), place: &str, words: &str) {
    fixture.write("b/sender.toml", &SENDER.replacen(from, to, 1));
    let errors = errors(fixture, &using("sender"));
    let expected = |error: &String| error.starts_with(place) && error.contains(words);
    assert!(errors.len() == 1 && errors.iter().all(expected), "{from:?} → {to:?}: {errors:#?}");
}

#[test]
fn an_error_of_a_preset_in_use_names_its_file_and_line() {
    let fixture = fixture();
    let check = |from: &str, to: &str, place: &str, words: &str| check_error(&fixture, (from, to), place, words);
    // An older version that is right must not hide it.
    fixture.write("a/sender.toml", SENDER);
    check(
        "schema = 1",
        "schema = 2",
        "b/sender.toml:1: schema: ",
        "newer than this hookgate, which reads presets up to schema 1",
    );
    check("schema = 1", "schema = 2\nkey_of_schema_2 = true", "b/sender.toml:1: schema: ", "upgrade hookgate");
    check("schema = 1\n", "", "b/sender.toml: schema: ", "missing; write schema = 1");
    check("schema = 1", "schema = 0", "b/sender.toml:1: schema: ", "0 is out of bounds");
    let sender = |lines: &str| format!("[sender]\n{lines}\n[proof]\n");
    let wrong = |lines: &str, place: &str, words: &str| check("[proof]\n", &sender(lines), place, words);
    wrong("tls_versions = [\"1.4\"]", "b/sender.toml:6: sender.tls_versions[0]: ", "not a version of TLS");
    wrong("cipher_suites = [\"AES\"]", "b/sender.toml:6: sender.cipher_suites[0]: ", "write its name at IANA");
    wrong("timeout_ms = 5", "b/sender.toml:6: sender.timeout_ms: ", "write a number from 10 to 600000");
    wrong("fields = { \"a b\" = \"c\" }", "b/sender.toml:6: sender.fields: ", "\"a b\" is not a header field");
    wrong("roots = \"own\"", "b/sender.toml:6: sender.roots: ", "server_roots");
    check("version = 2026-11-29\n", "", "b/sender.toml: version: ", "missing; write version = 2026-11-29");
    check("2026-11-29", "\"2026-11-29\"", "b/sender.toml:2: version: ", "expected a date (no quotes)");
    check("title = \"Sender\"\n", "", "b/sender.toml: title: ", "missing; write title");
    check("https:", "http:", "b/sender.toml:4: documentation: ", "write the https URL");
    check("title = \"Sender\"", "title = \"Sender\"\nnote = []", "b/sender.toml:4: note: ", "did you mean \"notes\"?");
    check("subject_cn", "subjectcn", "b/sender.toml:10: profile[0].identity[0].subjectcn: ", "unknown key");
    check("./ca.pem", "./missing.pem", "b/sender.toml:9: profile[0].trust_anchors[0]: ", "b/./missing.pem");
    check("identity = [{ subject_cn = \"sender.example\" }]\n", "iden", "b/sender.toml:10", "not valid TOML");
    check("[proof]", "[[download]]\nfile = \"x\"\n[proof]", "b/sender.toml:5: download[0].page: ", "missing");
    let key = "[[download]]\nkind = \"public-key\"\nfile = \"x\"\npage = \"https://a/\"\nsha256 = [\"00\"]\n[proof]";
    let key = key.replace("\"00\"", &format!("\"{}\"", "00".repeat(32)));
    check("[proof]", &key, "b/sender.toml:9: download[0].sha256[0]: ", "no effect with kind = \"public-key\"");
    let download = "[[download]]\nfile = \"x\"\npage = \"https://a/\"\nsha256 = [\"9A:1A\"]\n[proof]";
    check("[proof]", download, "b/sender.toml:8: download[0].sha256[0]: ", "not a SHA-256 fingerprint");
    fixture.write("b/ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    check("first", "first", "b/sender.toml:9: profile[0].trust_anchors[0]: ", "ca.pem is damaged: section 1 (line 1)");
}

/// Also where the operator adds to it: the error is in the file of the preset.
#[test]
fn an_error_in_the_proof_of_a_preset_names_its_file_and_line() {
    let fixture = fixture();
    let check = |from: &str, to: &str, place: &str, words: &str| check_error(&fixture, (from, to), place, words);
    let signature = |with: &str| format!("[proof]\nsignature = {{ form = \"hmac\", {with} }}\n[[profile]]");
    let proof = "[proof]\nsignature = { form = \"pagerduty\" }\n[[profile]]";
    check(
        proof,
        &signature("header = \"x bad\""),
        "b/sender.toml:6: proof.signature.header: ",
        "\"x bad\" is not a header",
    );
    let message = "header = \"x\", message = \"{url}{id}{body}\", id_header = \"y\"";
    check(
        proof,
        &signature(message),
        "b/sender.toml:6: proof.signature.message: ",
        "one signed text to different requests",
    );
    check(proof, &signature("refusal_status = 500"), "b/sender.toml:6: proof.signature.refusal_status: ", "401 or 403");
    check(proof, &signature("key_id_header = \"x\""), "b/sender.toml:6: proof.signature.key_id_header: ", "no effect");
    let parameter = "[proof]\nsession_parameter = { pointer = \"{name}\" }\n[[profile]]";
    check(proof, parameter, "b/sender.toml:6: proof.session_parameter.pointer: ", "not a JSON pointer");
    let secret = "[proof]\nsecret = { header = \"x:\" }\n[[profile]]";
    check(proof, secret, "b/sender.toml:6: proof.secret.header: ", "not a header field name");
    let replay = "[replay]\nid_header = \"x\"\nwindow_s = 0\n[[profile]]";
    check("[[profile]]", replay, "b/sender.toml:9: replay.window_s: ", "0 is out of bounds");
}

#[test]
fn an_error_of_a_preset_without_a_provider_is_a_warning() {
    let fixture = fixture();
    fixture.write("a/sender.toml", &SENDER.replace("schema = 1", "schema = 2"));
    fixture.write("a/bad name.toml", SENDER);
    fixture.write("a/.#half", "half");
    fixture.write("a/.half.toml", "half");
    fixture.write("a/half.toml.dpkg-new", "half");
    let (_, warnings) = fixture.parse(&using("pagerduty")).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    let found = |words: &str| warnings.iter().any(|warning| warning.contains(words));
    assert!(found("a/bad name.toml: the name of the file is the name of the preset; write 1 to 64"), "{warnings:#?}");
    assert!(found("a/sender.toml:1: schema: schema 2 is newer"), "{warnings:#?}");
    assert!(found("(no provider uses this preset, so hookgate runs without it)"), "{warnings:#?}");
    let unknown = errors(&fixture, &using("sendr"));
    assert!(unknown[0].contains("there is no preset \"sendr\" (did you mean \"sender\"?)"), "{unknown:?}");
}

#[test]
fn a_directory_is_read_up_to_its_bound() {
    let fixture = fixture();
    for number in 0..1024 {
        fs::write(fixture.path(&format!("b/{number}")), "").unwrap();
    }
    let found = errors(&fixture, &using("pagerduty"));
    assert!(found.len() == 1 && found[0].contains("more than 1024 entries"), "{found:?}");
    let many = format!("[presets]\ndirectories = [{}]\n", "\"a\", ".repeat(17));
    let text = using("pagerduty").replace("[presets]\ndirectories = [\"a\", \"b\"]\n", &many);
    let found = errors(&fixture, &text);
    assert!(found.len() == 1 && found[0].contains("17 entries; write at most 16"), "{found:?}");
    fixture.write("a/large.toml", &"#".repeat(256 * 1024 + 1));
    let text = using("large").replace(", \"b\"", "");
    let found = errors(&fixture, &text);
    assert!(found.len() == 1 && found[0].contains("larger than 262144 bytes"), "{found:?}");
}

#[test]
fn every_file_of_the_directories_is_watched() {
    let fixture = fixture();
    fixture.write("a/sender.toml", SENDER);
    fixture.write("b/broken.toml", "half");
    let mut files = FileVersions::default();
    let environment = Environment::at(NOW);
    let parsed = Config::parse_in(&using("sender"), &fixture.path("hookgate.toml"), environment, &mut files);
    assert!(parsed.is_ok());
    let changed = |name: &str| {
        let seen = files.look();
        files.changes(&seen).any(|(path, _)| path == fixture.path(name))
    };
    assert_eq!(files, files.look());
    fixture.write("b/broken.toml", "half of it");
    fixture.write("a/ca.pem", "");
    assert!(changed("b/broken.toml") && changed("a/./ca.pem") && !changed("a/sender.toml"));
    fixture.write("a/another.toml", SENDER);
    assert!(changed("a"), "an added file");
}

#[test]
fn a_replaced_preset_is_compared_with_the_one_in_force() {
    let fixture = fixture();
    let compare = |before: &str, after: &str| {
        fixture.write("b/sender.toml", before);
        let old = fixture.good(&using("sender"));
        fixture.write("b/sender.toml", after);
        let new = fixture.good(&using("sender"));
        let changes: Vec<String> = difference(&old.inventory, &new.inventory).iter().map(ToString::to_string).collect();
        (old.strength.compare(&new.strength), changes)
    };
    let newer = SENDER.replace("2026-11-29", "2026-12-24");
    let (comparison, changes) = compare(SENDER, &newer);
    assert_eq!(comparison, Comparison::NotWeaker);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(changes[0].starts_with("provider pagerduty: content of the preset: version 2026-11-29 ("), "{changes:?}");
    let with = |lines: &str| SENDER.replace("identity", &format!("{lines}\nidentity"));
    for (before, after) in [
        (with("verify_depth = 1"), SENDER.to_owned()),
        (with("extended_key_usage = \"client-auth-explicit\""), SENDER.to_owned()),
        (SENDER.replace("example\" }", "example\", san_dns = \"sender.example\" }"), SENDER.to_owned()),
        (SENDER.replace("[[profile]]", "[replay]\nid_header = \"x-id\"\n[[profile]]"), SENDER.to_owned()),
    ] {
        let (comparison, _) = compare(&before, &after);
        assert!(matches!(comparison, Comparison::Refused { .. }), "{before}\n→\n{after}: {comparison:?}");
    }
}

#[test]
fn a_preset_that_hides_a_newer_one_is_a_warning() {
    let fixture = fixture();
    fixture.write("a/sender.toml", &SENDER.replace("2026-11-29", "2026-12-24"));
    fixture.write("b/sender.toml", SENDER);
    let warnings = fixture.warnings_at(&using("sender"), NOW);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let words = ["provider[0].preset: version 2026-11-29 of this preset (", "the newer version 2026-12-24 ("];
    assert!(words.iter().all(|words| warnings[0].contains(words)), "{warnings:?}");
    fixture.write("b/sender.toml", &SENDER.replace("2026-11-29", "2026-12-24"));
    assert_eq!(fixture.warnings_at(&using("sender"), NOW), [""; 0]);
}

#[test]
fn a_root_that_the_operator_downloads_is_demanded_and_compared() {
    let fixture = fixture();
    let download = "[[download]]\nfile = \"sender-ca.pem\"\npage = \"https://sender.example/ca\"\n";
    let without = SENDER.replace("trust_anchors = [\"./ca.pem\"]\n", "");
    fixture.write("b/sender.toml", &format!("{without}{download}"));
    let missing = errors(&fixture, &using("sender"));
    assert_eq!(missing.len(), 1, "{missing:?}");
    let words = "provider[0].trust_anchors: missing; this preset cannot contain the trust anchor: download sender-ca.pem from \
                 https://sender.example/ca, and write trust_anchors = [\"sender-ca.pem\"]";
    assert!(missing[0].ends_with(words), "{missing:?}");
    let with = using("sender").replace("signature =", "trust_anchors = [\"ca.pem\"]\nsignature =");
    assert_eq!(fixture.warnings_at(&with, NOW), [""; 0], "the preset knows no fingerprint");
    let knowing = |fingerprint: &str| {
        fixture.write("b/sender.toml", &format!("{without}{download}sha256 = [\"{fingerprint}\"]\n"));
    };
    let other = ["00"; 32].join(":");
    knowing(&other);
    let found = errors(&fixture, &with);
    let words = [
        "provider[0].trust_anchors: ca.pem: the trust anchor ",
        &format!("but the preset expects {}: ", "00".repeat(32)),
        "Download sender-ca.pem from https://sender.example/ca again",
    ];
    assert!(found.len() == 1 && words.iter().all(|words| found[0].contains(words)), "{found:?}");
    let fingerprint = found[0].split("SHA-256 ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    knowing(&fingerprint);
    assert_eq!(fixture.warnings_at(&with, NOW), [""; 0]);
    knowing(&fingerprint.to_lowercase());
    assert_eq!(fixture.warnings_at(&with, NOW), [""; 0]);
    // A successor stands in a file of its own, beside the known one.
    let pem = |name: &str| fs::read_to_string(fixture.path(name)).unwrap();
    let successor = include_str!("../../../presets/roots/GTS_Root_R1.pem");
    fixture.write("next.pem", successor);
    let beside = with.replace("[\"ca.pem\"]", "[\"ca.pem\", \"next.pem\"]");
    let warnings = fixture.warnings_at(&beside, NOW);
    assert!(warnings.len() == 1 && warnings[0].contains("beside those that the preset knows"), "{warnings:?}");
    // Not in the file of the known one, nor in place of it, nor under its name.
    fixture.write("both.pem", &[&pem("ca.pem"), successor].concat());
    fixture.write("sender-ca.pem", successor);
    for written in ["\"both.pem\"", "\"next.pem\"", "\"ca.pem\", \"sender-ca.pem\"", "\"ca.pem\", \"both.pem\""] {
        let found = errors(&fixture, &with.replace("\"ca.pem\"", written));
        assert!(found.len() == 1 && found[0].contains("but the preset expects"), "{written}: {found:?}");
    }
}

#[test]
fn a_root_beside_a_preset_is_the_one_that_the_preset_knows() {
    let fixture = fixture();
    let download = "[[download]]\nfile = \"ca.pem\"\npage = \"https://sender.example/ca\"\n";
    fixture.write("b/sender.toml", &format!("{SENDER}{download}sha256 = [\"{}\"]\n", ["00"; 32].join(":")));
    let found = errors(&fixture, &using("sender"));
    assert!(found.len() == 1 && found[0].contains("./ca.pem: the trust anchor "), "{found:?}");
    let fingerprint = found[0].split("SHA-256 ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    fixture.write("b/sender.toml", &format!("{SENDER}{download}sha256 = [\"{fingerprint}\"]\n"));
    assert_eq!(fixture.warnings_at(&using("sender"), NOW), [""; 0]);
}

#[test]
fn a_preset_that_is_cut_in_its_last_line_is_an_error() {
    let fixture = fixture();
    let whole = format!("{SENDER}verify_depth = 10\n");
    for (end, cut) in [(whole.len() - 1, true), (whole.len() - 2, true), (whole.len(), false)] {
        fixture.write("b/sender.toml", &whole[..end]);
        let parsed = fixture.parse(&using("sender")).map(|_| ());
        assert_eq!(parsed.is_err(), cut, "{parsed:?}");
        if let Err(errors) = parsed {
            assert!(errors.to_string().contains("b/sender.toml: the last line has no end"), "{errors}");
        }
    }
}

#[test]
fn a_public_key_that_the_operator_copies_is_named_with_its_page() {
    let fixture = fixture();
    let key = "[[download]]\nkind = \"public-key\"\nfile = \"sender-key.pem\"\npage = \"https://sender.example/key\"\n[proof]";
    let signature = "{ form = \"public-key\", algorithm = \"ed25519\", header = \"x-signature\" }";
    let preset = SENDER.replace("[proof]", key).replace("{ form = \"pagerduty\" }", signature);
    fixture.write("b/sender.toml", &preset);
    let without = using("sender").replace("signature = { secrets = [{ file = \"webhook.secret\" }] }\n", "");
    let errors = errors(&fixture, &without);
    let words =
        "write signature = { keys = [{ file = \"sender-key.pem\" }] } (the key stands on https://sender.example/key)";
    assert!(errors.len() == 1 && errors[0].contains(words), "{errors:?}");
}

#[test]
fn providers_shows_version_and_origin() {
    let fixture = fixture();
    fixture.write("a/sender.toml", SENDER);
    fixture.write("b/half.toml", "half");
    fixture.write("hookgate.toml", "[presets]\ndirectories = [\"a\", \"b\"]\n[[provider]]\nhalf = 1\n");
    let presets = Presets::for_configuration(&fixture.path("hookgate.toml")).unwrap();
    let Found::Preset(sender) = presets.find("sender") else { panic!() };
    assert_eq!(*sender.origin(), Origin::File(fixture.path("a/sender.toml")));
    let (text, json) = (preset::list(&presets), preset::list_as_json(&presets));
    let path = fixture.path("a/sender.toml");
    let origin = format!("sender                 2026-11-29  certificate     Sender ({})", path.display());
    assert!(text.lines().any(|line| line == origin), "{text}");
    assert!(text.contains("(compiled in)") && text.contains("half                   unusable    "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let named = |name: &str| json.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    assert_eq!(named("sender")["version"], "2026-11-29");
    assert_eq!(named("pagerduty")["origin"], "compiled in");
    assert!(named("half")["errors"].as_str().unwrap().contains("half.toml:1"), "{json}");
    assert!(preset::describe(sender).contains("version 2026-11-29 ("));
    // Its TOML can be copied into the configuration: paths are absolute.
    let ca = format!("trust_anchors = [\"{}/ca.pem\"]", fixture.path("a").display());
    assert!(sender.toml().contains(&ca), "{}", sender.toml());
    // Without a configuration, and with another error than in [presets].
    assert!(Presets::for_configuration(&fixture.path("none.toml")).is_ok());
    fixture.write("hookgate.toml", "[presets]\ndirectory = \"a\"\n");
    assert!(Presets::for_configuration(&fixture.path("hookgate.toml")).is_err());
}
