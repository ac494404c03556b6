//! Which provider a refused certificate nearly proves: its path is good, and its name is wrong.
//!
//! Owns the comparison of names that differ, for the log and for metrics. Must not decide: a name that is nearly right is wrong. Its cost is
//! bounded, because a stranger with a certificate of a public authority chooses the name.

use std::fmt::Write as _;

use super::presented::EndEntity;
use super::rule::{Condition, IdentityRule};

/// Most bytes of a name that are compared: the names of providers are shorter.
const MAX_COMPARED_BYTES: usize = 128;

/// Most rules that are compared for one certificate: more than the providers that share an authority have.
pub(super) const MAX_COMPARED_RULES: usize = 64;

/// How much of a name is as the rule expects it, of the best of its conditions: from 0, nothing, to 1000, everything.
pub(super) fn nearness(rule: &IdentityRule, end_entity: &EndEntity<'_>) -> usize {
    let of_condition = |condition: &Condition| match condition {
        Condition::SubjectCn(wanted) => end_entity.common_name().map_or(0, |found| similarity(wanted, found)),
        // A sender's certificate has its host name in both places, or in one of them.
        Condition::SanDns(wanted) => end_entity.common_name().map_or(0, |found| similarity(&wanted.to_string(), found)),
        Condition::Subject(wanted) => similarity(&beginning(wanted), &beginning(end_entity.subject())),
        Condition::SanUri(_) | Condition::SpkiSha256(_) | Condition::CertificateSha256(_) => 0,
    };
    rule.conditions().iter().map(of_condition).max().unwrap_or_default()
}

/// What two texts have in common at their beginnings and at their ends, in thousandths of the longer one.
fn similarity(left: &str, right: &str) -> usize {
    let compared = |text: &str| text.bytes().take(MAX_COMPARED_BYTES).collect::<Vec<u8>>();
    let (left, right) = (compared(left), compared(right));
    let prefix = left.iter().zip(&right).take_while(|(left, right)| left.eq_ignore_ascii_case(right)).count();
    let ends = left[prefix..].iter().rev().zip(right[prefix..].iter().rev());
    let suffix = ends.take_while(|(left, right)| left.eq_ignore_ascii_case(right)).count();
    (prefix + suffix) * 1000 / left.len().max(right.len()).max(1)
}

/// The first bytes of what is printed; a name may have thousands of attributes.
fn beginning(printed: &impl std::fmt::Display) -> String {
    struct Bounded(String);
    impl std::fmt::Write for Bounded {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend(text.chars().take(MAX_COMPARED_BYTES));
            if self.0.len() < MAX_COMPARED_BYTES { Ok(()) } else { Err(std::fmt::Error) }
        }
    }
    let mut text = Bounded(String::new());
    // An error says that the text is long enough.
    let _ = write!(text, "{printed}");
    text.0
}

#[cfg(test)]
mod tests {
    use super::{MAX_COMPARED_BYTES, beginning, similarity};

    /// Writes more pieces than are wanted, and fails as its output does.
    struct Endless;

    impl std::fmt::Display for Endless {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            (0..MAX_COMPARED_BYTES * 9).try_for_each(|_| formatter.write_str("x"))
        }
    }

    #[test]
    fn the_beginning_of_what_is_printed_is_compared() {
        assert_eq!(beginning(&"CN=x,O=y"), "CN=x,O=y");
        assert_eq!(beginning(&Endless), "x".repeat(MAX_COMPARED_BYTES));
    }

    #[test]
    fn names_that_differ_in_a_letter_are_nearer_than_others() {
        let near = similarity("webhooks.pagerduty.com", "webhook.pagerduty.com");
        assert!(near > 900, "{near}");
        assert!(near > similarity("webhooks.pagerduty.com", "webhooks.example.com"));
        assert!(similarity("webhooks.pagerduty.com", "pagerduty.example.com") < 500);
        assert_eq!(similarity("a", "b"), 0);
        assert_eq!(similarity("", ""), 0);
        assert_eq!(similarity("Same", "same"), 1000);
        assert_eq!(similarity("aaa", "aa"), 666, "no byte counts twice");
        assert_eq!(similarity(&"x".repeat(9999), &"x".repeat(9999)), 1000);
    }
}
