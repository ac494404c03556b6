//! The public key of an end entity: whether its holder can sign a handshake here.
//!
//! Owns which kinds of keys are accepted, their names in a refusal, and which of them make the signature of a handshake expensive. Must not
//! verify a signature: the handshake does, with the same kinds (`crypto` of the daemon). A key of another kind can prove nothing, so its
//! certificate is refused before a path is built.
//!
//! **Cost.** A sender makes up the key of its end entity, and the check of the handshake's signature costs what that key costs. So long RSA
//! keys with long exponents are not accepted: none in use has both, and such a check costs as much as two on P-384.

use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::Oid;

use super::bounds::{FAILED_COST, READING_COST, check_cost};
use super::elements::{split, subject_public_key_info};
use super::links::public_key;
use crate::signatures::{CERTIFICATE_SIGNATURES, CHEAP_CHECK, P384_CHECK};

/// The accepted kinds of keys, in words.
pub(super) const ACCEPTED_KEYS: &str = "ECDSA on P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519";

/// Bytes of an accepted RSA modulus. Both libraries round a length in bits up to bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Bytes of the longest modulus beside which any exponent is accepted: 4096 bits.
const ANY_EXPONENT_BYTES: usize = 512;

/// Bytes of the longest exponent beside a longer modulus. In use are 3 and 65537, which has 17 bits.
const EXPONENT_BYTES: usize = 3;

/// What the reading of a chain, its failed checks and the check of its handshake may cost together, before the handshake ends without the
/// latter: a check on P-384, the reading of the longest chain for which it is made, and one check on P-256.
const REFUSAL_COST: u32 = P384_CHECK + READING_COST + CHEAP_CHECK;

const OBJECT_IDENTIFIER: u8 = 0x06;

/// DER contents of the object identifiers of rsaEncryption, 1.2.840.113549.1.1.1, and id-ecPublicKey, 1.2.840.10045.2.1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Names of kinds that are not accepted, for a person (RFC 3279, 5480, 8410, 9881).
const OTHERS: &[(&str, &str)] = &[
    ("1.2.840.10040.4.1", "a DSA key"),
    ("1.2.840.113549.1.1.10", "an RSA key that is restricted to RSASSA-PSS"),
    ("1.3.101.110", "an X25519 key"),
    ("1.3.101.113", "an Ed448 key"),
    ("2.16.840.1.101.3.4.3.17", "an ML-DSA key"),
    ("2.16.840.1.101.3.4.3.18", "an ML-DSA key"),
    ("2.16.840.1.101.3.4.3.19", "an ML-DSA key"),
];

/// The same for curves (RFC 5480, section 2.1.1.1).
const CURVES: &[(&str, &str)] = &[
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.35", "P-521"),
];

/// Whether a handshake can be signed with the key of this certificate. Also true if the key cannot be found, which the parsers report.
/// Takes no allocation.
pub fn is_key_accepted(certificate: &CertificateDer<'_>) -> bool {
    subject_public_key_info(certificate).is_none_or(accepts)
}

/// Whether the signature of a handshake with the key of this certificate is expensive to check. Then its chain is judged before, so that
/// [`exceeds_refusal_cost`] can be asked. Takes no allocation.
pub fn is_key_expensive(certificate: &CertificateDer<'_>) -> bool {
    subject_public_key_info(certificate).is_some_and(|spki| check_cost(spki) > FAILED_COST)
}

/// Whether a chain of this end entity, whose reading and failed checks cost so much, has cost too much for the check of its handshake's
/// signature.
pub(super) fn exceeds_refusal_cost(end_entity: &CertificateDer<'_>, cost: u32) -> bool {
    let check = subject_public_key_info(end_entity).map_or(0, check_cost);
    cost.saturating_add(check) > REFUSAL_COST
}

/// What the key of this certificate is, if no handshake can be signed with it: `a DSA key`.
pub(super) fn unaccepted(certificate: &CertificateDer<'_>) -> Option<String> {
    let spki = subject_public_key_info(certificate).filter(|spki| !accepts(spki))?;
    Some(kind(spki).unwrap_or_else(|| "a malformed key".to_owned()))
}

/// `spki` is the contents of a SubjectPublicKeyInfo.
fn accepts(spki: &[u8]) -> bool {
    let Some((_, algorithm, _)) = split(spki) else { return false };
    let is_known = CERTIFICATE_SIGNATURES.iter().any(|known| known.public_key_alg_id().as_ref() == algorithm);
    let is_rsa = split(algorithm).is_some_and(|(_, id, _)| id == RSA);
    is_known && (!is_rsa || rsa(spki).is_some_and(|key| MODULUS_BYTES.contains(&key.modulus.len()) && !key.is_slow()))
}

/// An RSA key (RFC 8017, appendix A.1.1). Both numbers without leading zeros.
struct RsaKey<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
}

impl RsaKey<'_> {
    /// Whether it is long, and its exponent too.
    fn is_slow(&self) -> bool {
        self.modulus.len() > ANY_EXPONENT_BYTES && self.exponent.len() > EXPONENT_BYTES
    }
}

fn rsa(spki: &[u8]) -> Option<RsaKey<'_>> {
    let (_, key, _) = split(public_key(spki)?)?;
    let (_, modulus, rest) = split(key)?;
    let (_, exponent, _) = split(rest)?;
    let number = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte != 0);
    Some(RsaKey { modulus: modulus.get(number(modulus)?..)?, exponent: exponent.get(number(exponent)?..)? })
}

fn kind(spki: &[u8]) -> Option<String> {
    let (_, algorithm, _) = split(spki)?;
    let (OBJECT_IDENTIFIER, id, parameters) = split(algorithm)? else { return None };
    if id == RSA {
        let key = rsa(spki)?;
        let bits = |number: &[u8]| Some(number.len() * 8 - usize::try_from(number.first()?.leading_zeros()).ok()?);
        let length = format!("an RSA key of {} bits", bits(key.modulus)?);
        let exponent = bits(key.exponent)?;
        return Some(if key.is_slow() { format!("{length} with an exponent of {exponent} bits") } else { length });
    }
    if id == ELLIPTIC_CURVE {
        let curve = match split(parameters) {
            Some((OBJECT_IDENTIFIER, curve, _)) => named(curve, CURVES),
            _ => "explicit parameters".to_owned(),
        };
        return Some(format!("an ECDSA key on {curve}"));
    }
    let name = named(id, OTHERS);
    Some(if name.contains(' ') { name } else { format!("a key of the algorithm {name}") })
}

/// The name of an object identifier (DER contents), or its dotted form.
pub(super) fn named(id: &[u8], names: &[(&str, &str)]) -> String {
    let dotted = Oid::new(id.into()).to_id_string();
    names.iter().find(|(known, _)| *known == dotted).map_or(dotted, |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::elements::wrap;

    /// The contents of a SubjectPublicKeyInfo.
    fn spki(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
        [wrap(0x30, algorithm), wrap(0x03, &[&[0], key])].concat()
    }

    fn rsa(bits: usize) -> Vec<u8> {
        rsa_with(bits, &[1, 0, 1])
    }

    fn rsa_with(bits: usize, exponent: &[u8]) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        // An INTEGER whose first bit is set has a zero before it.
        let zero: &[u8] = if bits.is_multiple_of(8) { &[0] } else { &[] };
        let key = wrap(0x30, &[&wrap(0x02, &[zero, &modulus]), &wrap(0x02, &[exponent])]);
        spki(&[&wrap(OBJECT_IDENTIFIER, &[RSA]), &[0x05, 0x00]], &key)
    }

    #[test]
    fn an_end_entity_has_a_key_that_can_sign_a_handshake() {
        let on = |curve: &[u8]| {
            let ids = [wrap(OBJECT_IDENTIFIER, &[ELLIPTIC_CURVE]), wrap(OBJECT_IDENTIFIER, &[curve])].concat();
            spki(&[&ids], &[4; 65])
        };
        let by = |id: &[u8]| spki(&[&wrap(OBJECT_IDENTIFIER, &[id])], &[4; 32]);
        for (spki, expected) in [
            (on(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]), None),
            (on(&[0x2b, 0x81, 0x04, 0x00, 0x22]), None),
            (by(&[0x2b, 0x65, 0x70]), None),
            (rsa(2048), None),
            (rsa(2049), None),
            (rsa(8192), None),
            (rsa_with(8192, &[0, 0xff, 0xff, 0xff]), None),
            (rsa_with(4096, &[1, 0, 0, 0, 1]), None),
            (rsa_with(8192, &[1, 0, 0, 0, 1]), Some("an RSA key of 8192 bits with an exponent of 33 bits")),
            (rsa_with(4104, &[1, 0, 0, 1]), Some("an RSA key of 4104 bits with an exponent of 25 bits")),
            (rsa(1024), Some("an RSA key of 1024 bits")),
            (rsa(2040), Some("an RSA key of 2040 bits")),
            (rsa(8200), Some("an RSA key of 8200 bits")),
            (on(&[0x2b, 0x81, 0x04, 0x00, 0x23]), Some("an ECDSA key on P-521")),
            (on(&[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07]), Some("an ECDSA key on 1.3.36.3.3.2.8.1.1.7")),
            (by(ELLIPTIC_CURVE), Some("an ECDSA key on explicit parameters")),
            (by(&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]), Some("a DSA key")),
            (by(&[0x2b, 0x65, 0x71]), Some("an Ed448 key")),
            (by(&[0x2a, 0x03, 0x04]), Some("a key of the algorithm 1.2.3.4")),
            (spki(&[&wrap(OBJECT_IDENTIFIER, &[RSA]), &[0x05, 0x00]], &[]), None),
        ] {
            let is_cut = spki.ends_with(&[0x03, 0x01, 0]);
            let found = (!accepts(&spki)).then(|| kind(&spki));
            let expected = if is_cut { Some(None) } else { expected.map(|text| Some(text.to_owned())) };
            assert_eq!(found, expected, "{spki:x?}");
        }
    }

    #[test]
    fn no_accepted_key_costs_more_than_one_on_p384() {
        let longest = [rsa(8192), rsa_with(8192, &[0xff, 0xff, 0xff]), rsa_with(4096, &[1, 0xff, 0xff, 0xff, 0xff])];
        for spki in longest {
            assert!(accepts(&spki));
            let cost = check_cost(&spki);
            assert!((FAILED_COST + 1..=P384_CHECK).contains(&cost), "{cost}");
        }
    }
}
