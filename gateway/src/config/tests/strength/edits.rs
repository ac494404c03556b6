//! Accidents and careless edits, generated: whatever they make of a file, a reload admits nothing that the file did not, or is refused.
//!
//! An edit takes something away, changes a number, or puts a weaker word in place of a stronger one. It names nothing new: who is named is
//! admitted on purpose.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;

use super::without_certificates::{fixture_of_senders, senders};
use super::*;

/// Words, and weaker ones that could stand there.
const WEAKER: [(&str, &str); 14] = [
    ("client_certificate = \"required\"", "client_certificate = \"none\""),
    ("replay = { id_header = \"x-id\" }", "replay = \"none\""),
    ("\"client-auth-explicit\"", "\"client-auth\""),
    ("\"client-auth-explicit\"", "\"ignore\""),
    ("crl_scope = \"chain\"", "crl_scope = \"end-entity\""),
    ("\"refuse\"", "\"count\""),
    ("\"refuse\"", "\"off\""),
    ("mode = \"enforce\"", "mode = \"monitor\""),
    ("mode = \"enforce\"", "mode = \"off\""),
    ("by_signature = true", "by_signature = false"),
    ("all = [", "any = ["),
    (".proof.all", ".proof.any"),
    ("rsa-pkcs1-sha512", "rsa-pkcs1-sha256"),
    ("\"{url}\\n{body}\"", "\"{body}\""),
];

/// One edit of a text.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// The text ends here.
    Cut(Index),
    /// This element of an array or inline table is gone, but not the first.
    Element(Index),
    /// These lines are gone.
    Lines(Index, usize),
    /// The section of this header is gone.
    Section(Index),
    /// This number is another one.
    Number(Index, u64),
    /// A weaker word, wherever the stronger one stands first, or everywhere.
    Weaker(usize, bool),
}

impl Edit {
    pub(super) fn of(self, text: &str) -> String {
        let starts = |of: &dyn Fn(&str) -> bool| -> Vec<usize> {
            let mut at = 0;
            let lines = text.split_inclusive('\n').map(|line| {
                at += line.len();
                (at - line.len(), line)
            });
            let ends = |start: usize| (start > 0).then_some(start);
            lines.filter_map(|(start, line)| of(line).then_some(start)).chain(ends(text.len())).collect()
        };
        if text.is_empty() {
            return String::new();
        }
        let without = |range: std::ops::Range<usize>| [&text[..range.start], &text[range.end..]].concat();
        match self {
            Self::Cut(end) => text[..end.index(text.len())].to_owned(),
            Self::Element(which) => {
                let starts: Vec<usize> = text.match_indices(", ").map(|(at, _)| at).collect();
                if starts.is_empty() {
                    return text.to_owned();
                }
                let start = starts[which.index(starts.len())];
                let ends = [", ", " }", "]", "\n"];
                let end = ends.iter().filter_map(|end| text[start + 1..].find(end)).min();
                without(start..end.map_or(text.len(), |end| start + 1 + end))
            }
            Self::Lines(first, count) => {
                let starts = starts(&|_| true);
                let first = first.index(starts.len() - 1);
                without(starts[first]..starts[(first + count).min(starts.len() - 1)])
            }
            Self::Section(header) => {
                let starts = starts(&|line| line.starts_with('['));
                if starts.len() < 2 {
                    return text.to_owned();
                }
                let first = header.index(starts.len() - 1);
                without(starts[first]..starts[first + 1])
            }
            Self::Number(which, value) => {
                let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
                let starts: Vec<usize> =
                    text.match_indices("= ").map(|(at, _)| at + 2).filter(|at| is_digit(*at)).collect();
                if starts.is_empty() {
                    return text.to_owned();
                }
                let start = starts[which.index(starts.len())];
                let end = (start..text.len()).find(|at| !is_digit(*at)).unwrap_or(text.len());
                [&text[..start], &value.to_string(), &text[end..]].concat()
            }
            Self::Weaker(which, everywhere) => {
                let (stronger, weaker) = WEAKER[which];
                text.replacen(stronger, weaker, if everywhere { usize::MAX } else { 1 })
            }
        }
    }
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let numbers = select(vec![0, 1, 2, 3, 10, 59, 61, 120, 150, 300, 1000, 86_400, 200_000]);
    prop_oneof![
        1 => any::<Index>().prop_map(Edit::Cut),
        2 => any::<Index>().prop_map(Edit::Element),
        4 => (any::<Index>(), 1..8_usize).prop_map(|(first, count)| Edit::Lines(first, count)),
        2 => any::<Index>().prop_map(Edit::Section),
        2 => (any::<Index>(), numbers).prop_map(|(which, value)| Edit::Number(which, value)),
        2 => (0..WEAKER.len(), any::<bool>()).prop_map(|(which, everywhere)| Edit::Weaker(which, everywhere)),
    ]
}

/// A file and what it admits, read once.
struct Whole {
    fixture: Fixture,
    text: String,
    config: Config,
}

impl Whole {
    fn new(text: String) -> Self {
        let fixture = fixture_of_senders();
        let config = fixture.good(&text);
        Self { fixture, text, config }
    }

    /// Reloads the edited file again and again, each time edited in another way. What is accepted is in force for the next.
    fn expect_no_weaker(&self, reloads: &[Vec<Edit>]) {
        let mut in_force = self.config.strength.clone();
        for edits in reloads {
            let text = edits.iter().cloned().fold(self.text.clone(), |text, edit| edit.of(&text));
            let Some(part) = part(&self.fixture, format!("the file after {edits:?}"), &text) else { continue };
            if !judge(&self.config, &in_force, &part) {
                in_force = part.config.strength.after(in_force);
            }
        }
    }
}

static WITH_CERTIFICATES: LazyLock<Whole> = LazyLock::new(|| Whole::new(rotated(0)));
/// The same with a route for names below a domain, and one for a name among them.
static WITH_WILDCARD: LazyLock<Whole> = LazyLock::new(|| {
    let (exact, wildcard) = ("host = \"a.example\"\nmethods = [\"GET\"]", "host = \"*.example\"\nmethods = [\"GET\"]");
    let text = rotated(0).replacen(exact, wildcard, 1);
    assert!(text.contains(wildcard));
    Whole::new(text)
});
static WITHOUT: LazyLock<Whole> = LazyLock::new(|| Whole::new(senders(0)));

/// The same edits in each run, unless `PROPTEST_RNG_SEED` says otherwise: a search with other seeds belongs to whoever changes the comparison,
/// not to whoever changes something else (docs/development.md, *Search with other seeds*).
pub(super) fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match default.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(20_261_130), ..default },
        RngSeed::Fixed(_) => default,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_edit_that_weakens_senders_with_certificates_is_accepted(
        reloads in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..4),
    ) {
        WITH_CERTIFICATES.expect_no_weaker(&reloads);
    }

    #[test]
    fn no_edit_that_weakens_senders_at_wildcard_hosts_is_accepted(
        reloads in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..4),
    ) {
        WITH_WILDCARD.expect_no_weaker(&reloads);
    }

    #[test]
    fn no_edit_that_weakens_senders_without_certificates_is_accepted(
        reloads in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..4),
    ) {
        WITHOUT.expect_no_weaker(&reloads);
    }
}

#[test]
fn edits_weaken_some_files_and_leave_others() {
    let mut count = Count::default();
    for (which, _) in WEAKER.iter().enumerate() {
        for whole in [&*WITH_CERTIFICATES, &*WITHOUT] {
            let text = Edit::Weaker(which, false).of(&whole.text);
            let Some(part) = part(&whole.fixture, format!("{which}"), &text) else { continue };
            if text != whole.text {
                count.add(judge(&whole.config, &whole.config.strength, &part));
            }
        }
    }
    assert!(count.refused >= 10, "{count:?}");
}

#[test]
fn a_list_that_falls_to_another_provider_keeps_what_it_leaves_out() {
    let whole = &*WITH_CERTIFICATES;
    let header = "[[provider]]\nname = \"chosen\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n";
    let start = whole.text.find(header).unwrap();
    let end = start + whole.text[start..].find("[[provider.source_range_files]]").unwrap();
    let moved = [&whole.text[..start], &whole.text[end..]].concat();
    let text = moved.replacen("minus = \"others.txt\"\n", "", 1).replace(", \"chosen\"", "");
    let part = part(&whole.fixture, "without the header".to_owned(), &text).unwrap();
    let Comparison::Refused { losses, .. } = whole.config.strength.compare(&part.config.strength) else {
        unreachable!()
    };
    let lost = "the ranges of others.txt are no longer left out of ranges.txt";
    assert!(losses.iter().any(|loss| loss.text().contains(lost)), "{losses:#?}");
}

/// Found by the seed 101: without its header, the list admits senders of the provider before it from more addresses.
#[test]
fn a_list_that_falls_to_another_provider_is_a_loss() {
    let whole = &*WITH_CERTIFICATES;
    let header = "[[provider]]\nname = \"chosen\"\npreset = \"pagerduty\"\nproof = \"certificate\"\n";
    let start = whole.text.find(header).unwrap();
    let end = start + whole.text[start..].find("[[provider.source_range_files]]").unwrap();
    let text = [&whole.text[..start], &whole.text[end..]].concat().replacen(", \"chosen\"", "", 1);
    let part = part(&whole.fixture, "without the header".to_owned(), &text).unwrap();
    assert!(judge(&whole.config, &whole.config.strength, &part), "it admits more");
    let Comparison::Refused { losses, .. } = whole.config.strength.compare(&part.config.strength) else {
        unreachable!()
    };
    let lost = "provider partner: the ranges of ranges.txt come from provider chosen, which has them no longer";
    assert!(losses.iter().any(|loss| loss.text() == lost), "{losses:#?}");

    // A list that a second provider gets is named on purpose.
    let shared = "source_ranges = [\"203.0.113.0/24\"]\n";
    let list = "source_range_files = [{ file = \"ranges.txt\", minus = \"others.txt\" }]\n";
    let both = whole.text.replacen(
        &format!("{shared}trust_anchors = [\"ca.pem\"]"),
        &format!("{shared}{list}trust_anchors = [\"ca.pem\"]"),
        1,
    );
    assert_ne!(both, whole.text);
    let both = whole.fixture.good(&both);
    assert_eq!(whole.config.strength.compare(&both.strength), Comparison::NotWeaker);
}
