//! Several reloads, each with files that have lost something: whatever was accepted in between, nothing is admitted that the whole files
//! did not admit.
//!
//! The damage is generated, and what is admitted is found by trying (`admission`). A part that was lost in one reload can come back weaker in
//! the next, so these files have many parts: identities in blocks, several revocation lists in a file, ranges with exceptions, profile
//! tables, and a preset that replaces an older one.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::edits::{Edit, config, edit};
use super::*;

const PROVIDERS: &str = "[[provider]]\nname = \"blocks\"\ntrust_anchors = [\"bundle.pem\"]\ncrls = [\"lists.pem\"]\n\
     refusal = \"terse\"\nsource_range_files = [{ file = \"ranges.txt\", minus = \"others.txt\" }]\n\
     [[provider.identity]]\nsubject_cn = \"a\"\n\
     [[provider.identity]]\nsubject_cn = \"b\"\nsan_dns = \"b.example\"\n\
     [[provider]]\nname = \"tables\"\non_failure = \"abort\"\n\
     [[provider.profile]]\nname = \"d1\"\ntrust_anchors = [\"ca.pem\"]\nverify_depth = 1\n\
     [[provider.profile.identity]]\nsubject_cn = \"x\"\n\
     [[provider.profile.identity]]\nsubject_cn = \"y\"\nsan_dns = \"y.example\"\n\
     [[provider.profile]]\nname = \"d2\"\ntrust_anchors = [\"builtin:GTS_Root_R1\"]\n\
     [[provider.profile.identity]]\nsubject_cn = \"z\"\n\
     [[provider]]\nname = \"preset\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n";

const ROUTES: &str = "[[route]]\npath = \"/blocks\"\nproviders = [\"blocks\"]\nhandler = \"unix:/run/a.sock\"\n\
     [[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-a\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route.proof.all]]\n[route.proof.all.signature]\nform = \"hmac\"\nheader = \"x-b\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route]]\npath = \"/*\"\nproviders = [\"tables\", \"preset\", \"blocks\"]\nhandler = \"unix:/run/b.sock\"\n\
     [[route.proof.any]]\n[route.proof.any.signature]\nform = \"hmac\"\nheader = \"x-a\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n\
     [[route.proof.any]]\n[route.proof.any.secret]\nheader = \"x-secret\"\n\
     secrets = [{ unsafe_value = \"a secret of the sender\" }]\n";

const PRESETS: &str = "[presets]\ndirectories = [\"presets\"]\n";
const LOG: &str = "[log]\npath = false\n";
const FILTER: &str = "[filter]\nmode = \"monitor\"\ninterfaces = [\"eth0\"]\nsyn_ipv4_address = { per_second = 100 }\n";

/// A newer preset, without one of the two authorities of the one that is compiled in.
const PRESET: &str = "schema = 1\nversion = 2026-12-24\ntitle = \"a\"\ndocumentation = \"https://a.example/\"\nrefusal = \"retry\"\n\
     [proof]\nsignature = { form = \"pagerduty\" }\n\
     [[profile]]\nname = \"digicert-global-root-g2\"\ntrust_anchors = [\"builtin:DigiCert_Global_Root_G2\"]\n\
     [[profile.identity]]\nsubject_cn = \"webhooks.pagerduty.com\"\nsan_dns = \"webhooks.pagerduty.com\"\n";

/// The files of [`files`], beside the configuration.
const NAMES: [&str; 5] = ["bundle.pem", "lists.pem", "ranges.txt", "others.txt", "presets/pagerduty.toml"];

/// What has become of a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Of a text.
    Edit(Edit),
    /// One section of a PEM file is gone, or a line of another one.
    Part(Index),
    /// It is gone.
    Gone,
}

impl Damage {
    fn of(self, text: &str) -> Option<String> {
        let end = if text.starts_with("-----") { "-----END" } else { "\n" };
        match self {
            Self::Edit(edit) => Some(edit.of(text)),
            Self::Gone => None,
            Self::Part(which) => {
                let mut parts: Vec<String> = Vec::new();
                let mut is_open = false;
                for line in text.split_inclusive('\n') {
                    match parts.last_mut().filter(|_| is_open) {
                        Some(last) => last.push_str(line),
                        None => parts.push(line.to_owned()),
                    }
                    is_open = end != "\n" && !line.starts_with(end);
                }
                if !parts.is_empty() {
                    parts.remove(which.index(parts.len()));
                }
                Some(parts.concat())
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => edit().prop_map(Damage::Edit),
        2 => any::<Index>().prop_map(|end| Damage::Edit(Edit::Cut(end))),
        4 => any::<Index>().prop_map(Damage::Part),
        1 => Just(Damage::Gone),
    ]
}

/// Damage to the configuration (0) or to one of [`NAMES`].
fn damages() -> impl Strategy<Value = Vec<(usize, Damage)>> {
    let file = prop_oneof![NAMES.len() as u32 => Just(0), NAMES.len() as u32 => 1..=NAMES.len()];
    prop::collection::vec((file, damage()), 1..3)
}

/// The whole files and what they admit.
struct Files {
    fixture: Fixture,
    configuration: String,
    others: Vec<String>,
    config: Config,
}

impl Files {
    fn new() -> Self {
        let fixture = fixture();
        fs::create_dir(fixture.path("presets")).unwrap();
        let issuer = CertifiedIssuer::self_signed(authority("Other"), KeyPair::generate().unwrap()).unwrap();
        let list = |month: u8| {
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, month, 1),
                next_update: date_time_ymd(2027, 1, 1),
                crl_number: SerialNumber::from(u64::from(month)),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&issuer).unwrap().pem().unwrap()
        };
        let first = fs::read_to_string(fixture.path("list.pem")).unwrap();
        fixture.write("lists.pem", &[first, list(2), list(5)].concat());
        fixture.write("others.txt", "192.0.2.0/25\n198.51.100.0/28\n");
        fixture.write("presets/pagerduty.toml", PRESET);
        let certificate = SECTIONS[0];
        let configuration = [LISTEN_WITH_PORT, FILTER, certificate, PRESETS, PROVIDERS, ROUTES, LOG].concat();
        let others = NAMES.iter().map(|name| fs::read_to_string(fixture.path(name)).unwrap()).collect();
        let config = fixture.good(&configuration);
        Self { fixture, configuration, others, config }
    }

    /// The configuration with this damage to the whole files; `None` if it has an error.
    fn damaged(&self, damages: &[(usize, Damage)]) -> Option<Part> {
        let whole = [&self.configuration].into_iter().chain(&self.others);
        let mut texts: Vec<Option<String>> = whole.cloned().map(Some).collect();
        for (file, damage) in damages {
            texts[*file] = texts[*file].take().and_then(|text| damage.clone().of(&text));
        }
        for (name, text) in NAMES.iter().zip(&texts[1..]) {
            match text {
                Some(text) => self.fixture.write(name, text),
                None => drop(fs::remove_file(self.fixture.path(name))),
            }
        }
        part(&self.fixture, format!("the files after {damages:?}"), texts[0].as_ref()?)
    }

    /// Reloads with each damage, one after the other. Returns which were refused; without those that have errors.
    #[track_caller]
    fn expect_no_weaker(&self, reloads: &[Vec<(usize, Damage)>]) -> Vec<bool> {
        let mut in_force = self.config.strength.clone();
        let mut refused = Vec::new();
        for damages in reloads {
            let Some(part) = self.damaged(damages) else { continue };
            let is_refused = judge(&self.config, &in_force, &part);
            refused.push(is_refused);
            if !is_refused {
                in_force = part.config.strength.after(in_force);
            }
        }
        refused
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_sequence_of_damaged_files_admits_more_than_the_whole_files(
        reloads in prop::collection::vec(damages(), 2..4),
    ) {
        static FILES: LazyLock<Files> = LazyLock::new(Files::new);
        FILES.expect_no_weaker(&reloads);
    }
}

/// Expects that after `first`, which is accepted, `second` is refused with these words, and the whole files are accepted.
#[track_caller]
fn check_steps(fixture: &Fixture, whole: &Config, steps: [&dyn Fn() -> String; 3], words: &str) {
    let [first, second, restored] = steps;
    let first = fixture.good(&first());
    assert_eq!(whole.strength.compare(&first.strength), Comparison::NotWeaker);
    let in_force = first.strength.after(whole.strength.clone());
    let second = fixture.good(&second());
    let newly = newly_admitted(whole, &second);
    assert!(!newly.is_empty(), "the second step admits no more than the whole");
    match in_force.compare(&second.strength) {
        Comparison::Refused { losses, .. } => {
            assert!(losses.iter().any(|loss| loss.text().contains(words)), "{losses:#?}")
        }
        other => panic!("{other:?} although it admits {newly:#?}"),
    }
    assert_eq!(in_force.compare(&fixture.good(&restored()).strength), Comparison::NotWeaker);
}

/// As [`check_steps`], with two damaged configurations.
#[track_caller]
fn check_texts(first: &dyn Fn(&str) -> String, second: &dyn Fn(&str) -> String, words: &str) {
    let files = Files::new();
    let whole = &files.configuration;
    let steps: [&dyn Fn() -> String; 3] = [&|| first(whole), &|| second(whole), &|| whole.clone()];
    check_steps(&files.fixture, &files.config, steps, words);
}

/// As [`check_steps`], with two contents of a file.
#[track_caller]
fn check_contents(writes: [&[(&str, &str)]; 2], words: &str) {
    let files = Files::new();
    let write = |contents: &[(&str, &str)]| {
        NAMES.iter().zip(&files.others).for_each(|(name, text)| files.fixture.write(name, text));
        contents.iter().for_each(|(name, text)| files.fixture.write(name, text));
        files.configuration.clone()
    };
    let steps: [&dyn Fn() -> String; 3] = [&|| write(writes[0]), &|| write(writes[1]), &|| write(&[])];
    check_steps(&files.fixture, &files.config, steps, words);
}

fn without(text: &str, part: &str) -> String {
    assert!(text.contains(part), "{part}");
    text.replacen(part, "", 1)
}

const SECOND_RULE: &str = "[[provider.identity]]\nsubject_cn = \"b\"\nsan_dns = \"b.example\"\n";

#[test]
fn an_identity_that_was_lost_does_not_come_back_with_fewer_conditions() {
    let expected = "identity subject CN \"b\" and DNS name \"b.example\" → subject CN \"b\"";
    check_texts(&|whole| without(whole, SECOND_RULE), &|whole| without(whole, "san_dns = \"b.example\"\n"), expected);
    let of_table = "[[provider.profile.identity]]\nsubject_cn = \"y\"\nsan_dns = \"y.example\"\n";
    let expected = "identity subject CN \"y\" and DNS name \"y.example\" → subject CN \"y\"";
    check_texts(&|whole| without(whole, of_table), &|whole| without(whole, "san_dns = \"y.example\"\n"), expected);
}

#[test]
fn a_trust_anchor_that_was_lost_does_not_come_back_with_the_identity_of_another_profile() {
    let start = "[[provider.profile]]\nname = \"d1\"";
    let end = "[[provider.profile]]\nname = \"d2\"";
    let lost = |whole: &str| {
        let (start, end) = (whole.find(start).unwrap(), whole.find(end).unwrap());
        [&whole[..start], &whole[end..]].concat()
    };
    let combined =
        |whole: &str| lost(whole).replace("[\"builtin:GTS_Root_R1\"]", "[\"builtin:GTS_Root_R1\", \"ca.pem\"]");
    check_texts(&lost, &combined, "is now combined with identity subject CN \"z\"");
}

#[test]
fn an_identity_does_not_fall_to_the_provider_before_its_own() {
    // Without the header, the blocks would follow those of the provider before.
    let extra = "[[provider]]\nname = \"next\"\ntrust_anchors = [\"builtin:GTS_Root_R2\"]\n\
                 [[provider.identity]]\nsubject_cn = \"n\"\n";
    let routed = |text: &str| text.replacen("providers = [\"blocks\"]", "providers = [\"blocks\", \"next\"]", 1);
    let files = Files::new();
    let anchor = "[[provider]]\nname = \"tables\"";
    let whole = routed(&files.configuration.replacen(anchor, &[extra, anchor].concat(), 1));
    let config = files.fixture.good(&whole);
    let header = "[[provider]]\nname = \"next\"\ntrust_anchors = [\"builtin:GTS_Root_R2\"]\n";
    let fallen = without(&whole, header).replacen(", \"next\"", "", 1);
    let words = "provider blocks: identity subject CN \"n\" was one of provider next";
    let losses = losses(&files.fixture, &whole, &fallen);
    assert!(losses.iter().any(|loss| loss == words), "{losses:#?}");
    let steps: [&dyn Fn() -> String; 3] = [&|| files.configuration.clone(), &|| fallen.clone(), &|| whole.clone()];
    check_steps(&files.fixture, &config, steps, words);
    // What is written for both is meant.
    let both = whole.replacen(SECOND_RULE, &[SECOND_RULE, "[[provider.identity]]\nsubject_cn = \"n\"\n"].concat(), 1);
    assert_eq!(super::losses(&files.fixture, &whole, &both), [""; 0]);
}

#[test]
fn an_older_revocation_list_does_not_come_in_place_of_one_that_was_lost() {
    let files = Files::new();
    let sections: Vec<&str> = files.others[1].split_inclusive("-----END X509 CRL-----\n").collect();
    assert_eq!(sections.len(), 3);
    let write = |parts: &[&str]| {
        files.fixture.write("lists.pem", &parts.concat());
        files.configuration.clone()
    };
    let [first, old, new] = [sections[0], sections[1], sections[2]];
    let steps: [&dyn Fn() -> String; 3] =
        [&|| write(&[first]), &|| write(&[first, old]), &|| write(&[first, old, new])];
    check_steps(&files.fixture, &files.config, steps, "is older: of 2026-05-01 → of 2026-02-01");
    // Also if its provider is gone in between.
    let in_force = files.fixture.good(&write(&[first])).strength.after(files.config.strength.clone());
    let other = files.configuration.replacen("name = \"blocks\"", "name = \"renamed\"", 1);
    let other = other.replace("\"blocks\"]", "\"renamed\"]");
    let in_force = files.fixture.good(&other).strength.after(in_force);
    let back = files.fixture.good(&write(&[first, old])).strength;
    assert!(matches!(in_force.compare(&back), Comparison::Refused { .. }));
}

#[test]
fn an_exception_is_remembered_while_its_range_is_lost() {
    let (ranges, others) = ("192.0.2.0/24\n", "192.0.2.0/25\n");
    check_contents(
        [&[("ranges.txt", ranges)], &[("others.txt", others)]],
        "others.txt no longer leaves out of ranges.txt what it did, such as 198.51.100.0/28",
    );
}

#[test]
fn the_own_proof_of_a_route_is_remembered_while_that_of_its_provider_counts() {
    let provider = "[provider.proof]\nall = [{ signature = { form = \"hmac\", header = \"x-a\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } }]\n";
    let own = "[route.proof]\nany = [\n{ signature = { form = \"hmac\", header = \"x-a\", secrets = [{ unsafe_value = \"a secret of the sender\" }] } },\n{ signature = { form = \"hmac\", header = \"x-b\", secrets = [{ unsafe_value = \"a secret of the sender\" }], timestamp_header = \"x-time\", message = \"{timestamp}.{body}\", tolerance_s = 60 } },\n]\n";
    let weaker = own.replace("tolerance_s = 60", "tolerance_s = 600");
    let with = |own: &str| {
        let sender =
            "[[provider]]\nname = \"sender\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";
        let route = "[[route]]\npath = \"/a\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/a.sock\"\n";
        [LISTEN_WITH_PORT, SECTIONS[0], sender, provider, route, own].concat()
    };
    let fixture = fixture();
    let whole = fixture.good(&with(own));
    let first = fixture.good(&with(""));
    assert_eq!(whole.strength.compare(&first.strength), Comparison::NotWeaker);
    let in_force = first.strength.after(whole.strength.clone());
    match in_force.compare(&fixture.good(&with(&weaker)).strength) {
        Comparison::Refused { losses, .. } => {
            assert_eq!(sentences(&losses), ["route \"/a\", provider sender: signature in x-b: tolerance_s 60 → 600"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(in_force.compare(&fixture.good(&with(own)).strength), Comparison::NotWeaker);
}

#[test]
fn the_proof_of_a_provider_counts_again_when_a_route_without_its_own_comes_back() {
    let proof = |tolerance: &str| {
        format!(
            "[provider.proof.signature]\nform = \"hmac\"\nheader = \"x-a\"\ntimestamp_header = \"x-time\"\n\
             message = \"{{timestamp}}.{{body}}\"\ntolerance_s = {tolerance}\nsecrets = [{{ unsafe_value = \"a secret of the sender\" }}]\n"
        )
    };
    let with = |tolerance: &str, routes: &[&str]| {
        let sender =
            "[[provider]]\nname = \"sender\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n";
        [LISTEN_WITH_PORT, SECTIONS[0], sender, &proof(tolerance), &routes.concat()].concat()
    };
    let plain = "[[route]]\npath = \"/a\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/a.sock\"\n";
    let own =
        "[[route]]\npath = \"/b\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/b.sock\"\nproof = \"certificate\"\n";
    let fixture = fixture();
    let strength = |tolerance: &str, routes: &[&str]| fixture.good(&with(tolerance, routes)).strength;
    let whole = strength("60", &[plain, own]);
    let alone = strength("240", &[own]);
    assert_eq!(whole.compare(&alone), Comparison::NotWeaker, "no route has that proof");
    let in_force = alone.after(whole);
    match in_force.compare(&strength("240", &[plain, own])) {
        Comparison::Refused { losses, .. } => {
            assert_eq!(sentences(&losses), ["provider sender: signature in x-a: tolerance_s 60 → 240"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(in_force.compare(&strength("60", &[plain, own])), Comparison::NotWeaker);
}

/// What is lost from the whole files if the configuration is this one, and the preset is gone or not.
fn lost_with_preset(configuration: &dyn Fn(&str) -> String, preset: Option<&str>) -> Vec<String> {
    let files = Files::new();
    match preset {
        Some(text) => files.fixture.write("presets/pagerduty.toml", text),
        None => fs::remove_file(files.fixture.path("presets/pagerduty.toml")).unwrap(),
    }
    match files.config.strength.compare(&files.fixture.good(&configuration(&files.configuration)).strength) {
        Comparison::Refused { losses, .. } => sentences(&losses),
        Comparison::NotWeaker => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_preset_in_place_of_one_that_is_gone_is_a_loss_if_it_admits_more() {
    let same = |whole: &str| whole.to_owned();
    let is_told = |losses: &[String]| {
        let words = "takes the place of that of 2026-12-24 (";
        let again = "and admits DigiCert Global Root CA (aff98890) again";
        assert!(losses.iter().any(|it| it.contains(words) && it.contains(again)), "{losses:#?}");
    };
    is_told(&lost_with_preset(&same, None));
    is_told(&lost_with_preset(&|whole| without(whole, PRESETS), Some(PRESET)));
    // The same file, as it was before.
    let more = "[[profile]]\nname = \"digicert-global-root-ca\"\ntrust_anchors = [\"builtin:DigiCert_Global_Root_CA\"]\n\
                identity = [{ subject_cn = \"webhooks.pagerduty.com\", san_dns = \"webhooks.pagerduty.com\" }]\n";
    let older = PRESET.replace("2026-12-24", "2026-12-23");
    is_told(&lost_with_preset(&same, Some(&[older.as_str(), more].concat())));
    // A newer version of the file is meant, and so is an older one that admits no more.
    assert_eq!(lost_with_preset(&same, Some(&[PRESET, more].concat())), [""; 0]);
    assert_eq!(lost_with_preset(&same, Some(&older)), [""; 0]);
    // What the configuration names is its own.
    let own = |whole: &str| {
        let keys = "trust_anchors = [\"builtin:DigiCert_Global_Root_CA\"]\nidentity = [{ subject_cn = \"own\" }]\n";
        without(whole, PRESETS).replacen("preset = \"pagerduty\"\n", &["preset = \"pagerduty\"\n", keys].concat(), 1)
    };
    assert_eq!(lost_with_preset(&own, Some(PRESET)), [""; 0]);
}

#[test]
fn what_protects_and_is_gone_is_a_loss() {
    let files = Files::new();
    let whole = files.configuration.replacen("mode = \"monitor\"", "mode = \"enforce\"\ndeny = [\"192.0.2.1\"]", 1);
    let whole = whole.replace("[[provider]]\n", "[[provider]]\nsource_ranges = [\"192.0.2.0/24\"]\n");
    for (part, to, expected) in [
        ("path = false\n", "", "log: path is no longer false"),
        (LOG, "", "log: path is no longer false"),
        ("refusal = \"terse\"\n", "", "provider blocks: a refused peer is told the reason alone → what is wrong"),
        ("on_failure = \"abort\"\n", "", "provider tables: a refused peer is told an alert alone → what is wrong"),
        ("deny = [\"192.0.2.1\"]\n", "", "filter: deny no longer denies sources"),
    ] {
        assert!(whole.contains(part), "{part}");
        assert_eq!(losses(&files.fixture, &whole, &whole.replacen(part, to, 1)), [expected], "{part}");
    }
    let tls = |lines: &str| format!("{whole}[tls]\n{lines}\n");
    for (before, after, expected) in [
        (tls("policy = \"modern\""), whole.clone(), vec!["tls: TLS 1.2 is accepted again"]),
        (tls("policy = \"modern\""), tls("policy = \"pagerduty\""), vec!["tls: TLS 1.2 is accepted again"]),
        (tls("policy = \"pagerduty\""), whole.clone(), vec!["tls: TLS 1.3 is accepted again"]),
        (whole.clone(), tls("policy = \"modern\""), vec![]),
        (tls("key_exchange = [\"X25519\"]"), tls("key_exchange = [\"P-384\", \"P-256\"]"), vec![]),
    ] {
        assert_eq!(losses(&files.fixture, &before, &after), expected, "{before} {after}");
    }
    // The log without requests has the paths of failed ones.
    let quiet = whole.replacen("path = false\n", "access = false\n", 1);
    assert_eq!(losses(&files.fixture, &quiet, &without(&quiet, "access = false\n")), [""; 0]);
}

/// A version counts if a handshake can succeed in it: TLS 1.2 has no hybrid group. Each change is tried both ways, and every row is a policy with
/// or without other groups than the hybrid.
#[cfg(feature = "aws-lc")]
#[test]
fn versions_without_a_group_are_not_in_force() {
    let files = Files::new();
    let tls = |lines: &str| format!("{}[tls]\n{lines}\n", files.configuration);
    let [modern, intermediate, pagerduty] =
        ["modern", "intermediate", "pagerduty"].map(|policy| format!("policy = \"{policy}\"\n"));
    let (hybrid, both) = ("key_exchange = [\"X25519MLKEM768\"]", "key_exchange = [\"X25519MLKEM768\", \"X25519\"]");
    let [hybrid_modern, hybrid_intermediate, both_modern, both_intermediate] =
        [(&modern, hybrid), (&intermediate, hybrid), (&modern, both), (&intermediate, both)]
            .map(|(policy, groups)| tls(&(policy.to_owned() + groups)));
    let (modern, intermediate, pagerduty) = (tls(&modern), tls(&intermediate), tls(&pagerduty));
    let (of_tls12, of_tls13) = ("tls: TLS 1.2 is accepted again", "tls: TLS 1.3 is accepted again");
    let classical = "tls: key exchange without ML-KEM is accepted again";
    let check = |before: &str, after: &str, expected: &[&str]| {
        assert_eq!(losses(&files.fixture, before, after), expected, "{before} {after}");
    };
    for (one, other, lost, lost_back) in [
        // The same handshakes.
        (&hybrid_modern, &hybrid_intermediate, &[][..], &[][..]),
        (&modern, &both_modern, &[], &[]),
        (&intermediate, &both_intermediate, &[], &[]),
        // TLS 1.2 is gone with its groups, and comes back with them, under any policy.
        (&modern, &hybrid_intermediate, &[], &[classical]),
        (&both_modern, &hybrid_intermediate, &[], &[classical]),
        (&intermediate, &hybrid_intermediate, &[], &[of_tls12, classical]),
        (&both_intermediate, &hybrid_modern, &[], &[of_tls12, classical]),
        (&both_intermediate, &both_modern, &[], &[of_tls12]),
        (&pagerduty, &hybrid_intermediate, &[of_tls13], &[of_tls12, classical]),
        (&pagerduty, &both_modern, &[of_tls13], &[of_tls12]),
    ] {
        check(one, other, lost);
        let mut lost_back = lost_back.to_vec();
        lost_back.sort_unstable();
        check(other, one, &lost_back);
    }
}
