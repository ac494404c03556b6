//! DER elements (tag, length, contents), without knowledge of certificates.
//!
//! Owns the count of elements, which bounds the cost of parsing a certificate, and the search for keys and key identifiers. Must not decide
//! whether a certificate is well-formed: the parsers do.

use super::effort::{Reading, note};

/// Elements of universal types (X.690, section 8; X.680, section 8.6).
const OCTET_STRING: u8 = 0x04;
const CONSTRUCTED: u8 = 0x20;

/// [3] of a TBSCertificate.
pub(super) const EXTENSIONS: u8 = 0xa3;

/// The values of extensions nest to 8 levels in practice. Deeper elements are counted by their bytes.
const DEPTH_MAX: usize = 16;

/// Removes one element from the front of `input`: its tag, its contents, and the rest. `None` if it is cut, if its tag has several
/// bytes, or if its length takes more than 3.
pub(super) fn split(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    note(Reading::Element, 1);
    let [tag, length, rest @ ..] = input else { return None };
    let (length, rest) = match length {
        short @ ..0x80 => (usize::from(*short), rest),
        long => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if !(1..=3).contains(&length.len()) {
                return None;
            }
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

/// One element with this tag, which must be a single byte.
pub(super) fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..];
    let mut output = Vec::with_capacity(length + 2 + bytes.len());
    output.push(tag);
    match significant {
        [] => output.push(0),
        [short] if *short < 0x80 => output.push(*short),
        // At most 8 bytes of length.
        long => {
            output.push(0x80 | u8::try_from(long.len()).unwrap_or(0));
            output.extend_from_slice(long);
        }
    }
    parts.iter().for_each(|part| output.extend_from_slice(part));
    output
}

/// How many elements `der` has, those in the values of extensions included. What is not DER counts as one. Stops after `most`.
pub(super) fn count(der: &[u8], most: usize) -> usize {
    count_within(der, most, 0)
}

fn count_within(mut der: &[u8], most: usize, depth: usize) -> usize {
    let mut found = 0;
    while !der.is_empty() && found <= most {
        found += 1;
        let Some((tag, contents, rest)) = split(der) else { break };
        if tag & CONSTRUCTED != 0 || tag == OCTET_STRING {
            found += match depth {
                DEPTH_MAX.. => contents.len() / 2,
                _ => count_within(contents, most, depth + 1),
            };
        }
        der = rest;
    }
    found
}

/// The contents of the SubjectPublicKeyInfo of a certificate.
pub(super) fn subject_public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    /// [0] of a TBSCertificate, which may be absent.
    const VERSION: u8 = 0xa0;
    /// serialNumber, signature, issuer, validity and subject.
    const BEFORE_KEY: usize = 5;
    let (_, contents, _) = split(certificate)?;
    let (_, mut fields, _) = split(contents)?;
    if let (VERSION, _, rest) = split(fields)? {
        fields = rest;
    }
    for _ in 0..BEFORE_KEY {
        fields = split(fields)?.2;
    }
    Some(split(fields)?.1)
}

/// The contents of the extensions of a certificate, if it has some.
pub(super) fn extensions(certificate: &[u8]) -> Option<&[u8]> {
    let (_, contents, _) = split(certificate)?;
    let (_, mut fields, _) = split(contents)?;
    loop {
        let (tag, value, rest) = split(fields)?;
        if tag == EXTENSIONS {
            return Some(split(value)?.1);
        }
        fields = rest;
    }
}

/// The subjectKeyIdentifier of a certificate (RFC 5280, section 4.2.1.2): a hint, found without parsing the certificate.
pub(super) fn subject_key_identifier(certificate: &[u8]) -> Option<&[u8]> {
    let (tag, identifier, _) = split(extension_value(certificate, 0x0e)?)?;
    (tag == OCTET_STRING).then_some(identifier)
}

/// The keyIdentifier of a certificate's authorityKeyIdentifier (RFC 5280, section 4.2.1.1): a hint, as above.
pub(super) fn authority_key_identifier(certificate: &[u8]) -> Option<&[u8]> {
    let (_, identifiers, _) = split(extension_value(certificate, 0x23)?)?;
    let (tag, identifier, _) = split(identifiers)?;
    // [0] IMPLICIT, the first of its fields.
    (tag == 0x80).then_some(identifier)
}

/// The value of the first extension 2.5.29.`last` that is not critical, as neither identifier is.
fn extension_value(certificate: &[u8], last: u8) -> Option<&[u8]> {
    let identifier = [0x55, 0x1d, last];
    let mut extensions = extensions(certificate)?;
    while let Some((_, extension, rest)) = split(extensions) {
        let (_, id, fields) = split(extension)?;
        if id == identifier {
            let (tag, value, _) = split(fields)?;
            return (tag == OCTET_STRING).then_some(value);
        }
        extensions = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X.690, section 8.1.3: the definite form, in as few bytes as possible.
    #[test]
    fn a_length_is_written_as_der_demands() {
        for (length, written) in [
            (0, &[0x00][..]),
            (1, &[0x01]),
            (127, &[0x7f]),
            (128, &[0x81, 0x80]),
            (255, &[0x81, 0xff]),
            (256, &[0x82, 0x01, 0x00]),
            (65_536, &[0x83, 0x01, 0x00, 0x00]),
        ] {
            let contents = vec![7; length];
            let (one, other) = contents.split_at(length / 3);
            let element = wrap(0x04, &[one, other]);
            assert_eq!(element, [&[0x04], written, contents.as_slice()].concat());
            assert_eq!(split(&element), Some((0x04, contents.as_slice(), &[][..])));
        }
    }

    #[test]
    fn elements_are_counted_at_every_level() {
        let check = |der: &[u8], expected: usize| assert_eq!(count(der, 100), expected, "{der:x?}");
        check(&[], 0);
        check(&[0x05, 0x00], 1);
        check(&[0x30, 0x04, 0x05, 0x00, 0x05, 0x00], 3);
        check(&[0x04, 0x04, 0x05, 0x00, 0x05, 0x00], 3);
        check(&[0x03, 0x04, 0x05, 0x00, 0x05, 0x00], 1);
        check(&[0x30, 0x81, 0x02, 0x05, 0x00, 0x05, 0x00], 3);
        // Cut, or of a form that no DER has.
        check(&[0x30, 0x05, 0x05, 0x00], 1);
        check(&[0x30, 0x80, 0x00, 0x00], 1);
        check(&[0x30, 0x84, 0x00, 0x00, 0x00, 0x00], 1);
    }

    #[test]
    fn the_count_stops_soon_after_its_bound_and_is_not_evaded_by_depth() {
        let many = [0x05, 0x00].repeat(10_000);
        assert_eq!(count(&many, 100), 101);
        let mut nested = [0x05, 0x00].repeat(30);
        for _ in 0..40 {
            nested = [&[0x30, u8::try_from(nested.len()).expect("short")], &nested[..]].concat();
            if nested.len() > 120 {
                break;
            }
        }
        assert!(count(&nested, 1000) >= 60, "{}", count(&nested, 1000));
        // Below 16 levels, every two bytes count as an element: here, of three more levels and of a value of 50 bytes.
        let value = [&[0x05, 50][..], &[0; 50]].concat();
        let deep = (0..20).fold(value, |inner, _| wrap(0x30, &[&inner]));
        assert_eq!(count(&deep, 1000), 17 + (3 * 2 + 52) / 2);
    }
}
