//! Target `chain`: certificates that a peer presents before it has proven anything.
//!
//! Input: a byte that selects a policy, then certificates, end entity first. A byte below 64 is the place of a committed one; any other
//! byte, and two more with a length, precede the DER of one of the peer's own.

use hookgate_core::identity::{PeerChain, Verification};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::policy::{CERTIFICATES, GENUINE, LIMITS, NOW, POLICIES, REVOKED, scope};

/// What failed checks may cost before no further one starts, and what the last one may cost on top: four checks on P-256, one on P-384
/// (SECURITY.md, *What a chain may cost*), in microseconds.
const FAILED_COST_MAX: u32 = 240 + 740;

/// Elements that failed builds may parse: 8 times those of a chain, and a step more.
const STEPS_MAX: usize = 9 * 8 * 256;

/// The longest sentence about a chain.
const DETAIL_BYTES_MAX: usize = 768;

/// Certificates of the input beyond these are left out: twice as many as a chain may have.
const CERTIFICATES_MAX: usize = 16;

/// Judges the chain by the selected policy. Its cost must be bounded, and only the end entities that the authority made may be admitted.
pub fn judge(input: &[u8]) {
    let Some((selector, rest)) = input.split_first() else { return };
    let policy = usize::from(*selector) % POLICIES.len();
    let chain = certificates(rest);
    let identity = &POLICIES[policy];
    let Verification { result, work, .. } = identity.verify(&scope(), PeerChain::unsafe_assumed(&chain), NOW);

    assert!(work.failed_cost < FAILED_COST_MAX, "{work:?}");
    assert!(work.failed_checks <= 4, "{work:?}");
    // A list has one good signature at most, and so has a certificate.
    assert!(work.signature_checks <= work.failed_checks + chain.len() + 1, "{work:?}");
    assert!(work.steps < STEPS_MAX, "{work:?}");
    match &result {
        Ok(verified) => {
            assert!(chain.len() <= LIMITS.max_certificates);
            assert!(is_genuine(&chain[0], policy), "admitted: {}", verified.subject());
            assert!(verified.valid_until() > NOW && verified.matches().len() == 1);
        }
        Err(refusal) => {
            let detail = refusal.refusal.detail();
            assert!(detail.len() <= DETAIL_BYTES_MAX && detail.is_ascii(), "{detail}");
        }
    }
    let early = identity.refusal_of_presented(&scope(), &chain, NOW);
    assert_eq!(early.map(|early| early.refusal.refusal.reject), result.err().map(|refusal| refusal.refusal.reject));
}

/// The certificates of an input.
fn certificates(mut rest: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    while let Some((first, after)) = rest.split_first()
        && chain.len() < CERTIFICATES_MAX
    {
        if *first < 64 {
            chain.push(CERTIFICATES[usize::from(*first) % CERTIFICATES.len()].clone());
            rest = after;
            continue;
        }
        let Some((length, after)) = after.split_first_chunk::<2>() else { break };
        let (der, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        chain.push(der.to_vec().into());
        rest = after;
    }
    chain
}

/// Whether the authority of the policy made this end entity for the sender. Compares what is signed: anyone can write one signature of
/// ECDSA in two ways.
fn is_genuine(end_entity: &[u8], policy: usize) -> bool {
    let below_first_root = [&GENUINE[..3], if policy == 2 { &[] } else { &[REVOKED] }].concat();
    let genuine = if policy == 1 { [below_first_root.as_slice(), &GENUINE[3..]].concat() } else { below_first_root };
    let signed =
        |der: &[u8]| X509Certificate::from_der(der).map(|(_, parsed)| parsed.tbs_certificate.as_ref().to_vec());
    let presented = signed(end_entity).expect("an admitted certificate is well-formed");
    genuine.iter().any(|place| signed(&CERTIFICATES[*place]).is_ok_and(|made| made == presented))
}
