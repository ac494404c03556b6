//! The bounds of one search: what its failed checks, the reading of its chain and its path builds may cost.
//!
//! Owns the numbers, and the estimates that are compared with them: microseconds of a recent server, of which only the proportions matter.
//! Must not count: `checks` does.

use std::collections::HashMap;

use super::name::canonical_contents;
use super::provider::{ChainLimits, Provider};
use crate::signatures::{CERTIFICATE_SIGNATURES, CHEAP_CHECK, P384_CHECK, cost};

/// No check starts once the failed ones cost this: as much as four cheap ones. For most genuine chains no check fails. If a sender
/// presents two generations of an intermediate without key identifiers, one may.
pub(super) const FAILED_COST: u32 = 4 * CHEAP_CHECK;

/// What the reading of a chain may cost for which an expensive check is made: that of 16 KiB with 570 elements. Four certificates of public
/// authorities have 8 KiB and 500 elements; one with a hundred alternative names has a hundred more.
pub(super) const READING_COST: u32 = 200;

/// What failed checks may cost if one of them is expensive: a check on P-384, and before it one or two cheap ones.
pub(super) const EXPENSIVE_COST: u32 = P384_CHECK + 2 * CHEAP_CHECK;

/// DER elements that a chain may have for each certificate of `max_presented_certificates`. Certificates of public authorities have 60
/// to 150. Each subject alternative name is one more.
const ELEMENTS_PER_CERTIFICATE: usize = 128;

/// The certificates for which [`ELEMENTS_PER_CERTIFICATE`] counts at least: a short chain may have a long certificate.
const CERTIFICATES_MIN: usize = 8;

/// How often failed builds may parse each element of a chain. The longest path takes 7 steps (webpki's MAX_SUB_CA_COUNT is 6).
const PARSED_AGAIN: usize = 8;

/// What a search may cost, by its policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// No check starts once the failed ones cost this.
    pub(super) failed_cost: u32,
    /// What they may cost if one of them is expensive.
    expensive_cost: u32,
    elements: usize,
}

impl Bounds {
    pub(super) fn new(limits: &ChainLimits, providers: &[Provider]) -> Self {
        let certificates = limits.max_certificates.max(CERTIFICATES_MIN);
        let namesakes = cost_of_namesakes(providers);
        Self {
            failed_cost: FAILED_COST.max(namesakes),
            expensive_cost: EXPENSIVE_COST.max(namesakes),
            elements: certificates.saturating_mul(ELEMENTS_PER_CERTIFICATE),
        }
    }

    /// Most DER elements of a chain.
    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Most elements that failed builds parse.
    pub(super) fn steps(&self) -> usize {
        self.elements.saturating_mul(PARSED_AGAIN)
    }

    /// Whether a check may start that costs `check`, if those that failed cost `failed` and the reading of the chain `reading`. The first may be
    /// as expensive as the key of an anchor makes it.
    pub(super) fn affords(&self, check: u32, failed: u32, reading: u32) -> bool {
        let checks = failed.saturating_add(check);
        let is_cheap = checks <= FAILED_COST;
        is_cheap || (reading <= READING_COST && (failed == 0 || checks <= self.expensive_cost))
    }
}

/// About how many microseconds it takes to read a chain of so many DER elements and bytes: to receive, hash and parse it.
pub(super) fn reading_cost(elements: usize, bytes: usize) -> u32 {
    u32::try_from(elements / 8 + bytes / 128).unwrap_or(u32::MAX)
}

/// What it costs to check a certificate with the key of every trust anchor of one name. The highest value of all names with several
/// keys; 0 if there is none.
fn cost_of_namesakes(providers: &[Provider]) -> u32 {
    let mut keys: HashMap<Vec<u8>, Vec<&[u8]>> = HashMap::new();
    for anchor in
        providers.iter().flat_map(|provider| &provider.profiles).flat_map(|profile| profile.trust_anchors.iter())
    {
        let known = keys.entry(canonical_contents(&anchor.subject)).or_default();
        if !known.contains(&anchor.subject_public_key_info.as_ref()) {
            known.push(&anchor.subject_public_key_info);
        }
    }
    let several = keys.into_values().filter(|keys| keys.len() > 1);
    several.map(|keys| keys.into_iter().map(check_cost).fold(0, u32::saturating_add)).max().unwrap_or(0)
}

/// What a check with this key costs (contents of a SubjectPublicKeyInfo); 0 if it is of no accepted kind.
pub(super) fn check_cost(key: &[u8]) -> u32 {
    let algorithm = CERTIFICATE_SIGNATURES.iter().find(|algorithm| {
        // The algorithm's identifier is the contents of the sequence that comes first.
        super::elements::split(key).is_some_and(|(_, found, _)| found == algorithm.public_key_alg_id().as_ref())
    });
    algorithm.map_or(0, |algorithm| cost(*algorithm, key, &[]))
}

#[cfg(test)]
mod tests {
    use super::{Bounds, FAILED_COST, READING_COST, reading_cost};

    #[test]
    fn the_cost_of_reading_follows_elements_and_bytes() {
        assert_eq!([reading_cost(0, 0), reading_cost(800, 0), reading_cost(0, 12_800)], [0, 100, 100]);
        assert_eq!(reading_cost(1024, 65_536), 640);
        assert_eq!(reading_cost(usize::MAX, 0), u32::MAX);
    }

    #[test]
    fn an_expensive_check_is_affordable_once_and_for_a_short_chain() {
        let bounds = Bounds { failed_cost: 0, expensive_cost: 3 * FAILED_COST, elements: 0 };
        for (check, failed, reading, expected) in [
            (FAILED_COST, 0, u32::MAX, true),
            (FAILED_COST, 1, 0, true),
            (FAILED_COST + 1, 0, READING_COST, true),
            (FAILED_COST + 1, 0, READING_COST + 1, false),
            (9 * FAILED_COST, 0, 0, true),
            (2 * FAILED_COST, FAILED_COST, 0, true),
            (2 * FAILED_COST, FAILED_COST + 1, 0, false),
            (u32::MAX, u32::MAX, 0, false),
        ] {
            assert_eq!(bounds.affords(check, failed, reading), expected, "{check}, {failed}, {reading}");
        }
    }
}
