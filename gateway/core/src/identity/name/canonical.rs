//! The form in which two names of authorities are compared (RFC 5280, section 7.1).
//!
//! Owns what makes no difference: the string type, the case, spaces at the ends of a value, and how many there are within it. Must not
//! compare names for identity rules, which are exact. A wrong answer admits nobody: whether an authority issued a certificate, its
//! signature says.
//!
//! Stricter than RFC 5280 in two points. The Unicode normal form counts (RFC 4518, section 2.3, removes it): authorities with such names
//! write them in one form. A name in a chain that is longer than [`LONGEST`] is compared by its bytes, since this costs by the attribute and a
//! stranger chooses the names of a chain.

use x509_parser::asn1_rs::{Any, Oid, ToDer as _};

use super::{Name, decode, is_printable_string};
use crate::identity::effort::{Reading, note};
use crate::identity::elements::{split, wrap};

/// Most bytes of a name in a chain that has another form than its own. Those of authorities have less than 300.
const LONGEST: usize = 1024;

const UTF8_STRING: u8 = 0x0c;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The comparable form of a whole `Name` (DER): two names are equal (RFC 5280, section 7.1) if theirs are the same bytes. What is not a
/// name stays as it is.
pub fn canonical(name: &[u8]) -> Vec<u8> {
    Name::from_der(name).map_or_else(|| name.to_vec(), |name| wrap(SEQUENCE, &[&contents(&name)]))
}

/// The same for the contents of a `Name`, without the outermost tag and length. Again the contents of a `Name`, so that a parser may read
/// them.
pub(in crate::identity) fn canonical_contents(name: &[u8]) -> Vec<u8> {
    if name.len() > LONGEST {
        return name.to_vec();
    }
    note(Reading::Folded, name.len());
    if let Some(simple) = simple(name) {
        return simple;
    }
    Name::from_contents(name).map_or_else(|| name.to_vec(), |name| contents(&name))
}

fn contents(name: &Name<'_>) -> Vec<u8> {
    name.comparable().concat()
}

impl Name<'_> {
    /// The comparable forms of its relative names, in their order.
    pub(in crate::identity) fn comparable(&self) -> Vec<Vec<u8>> {
        let attribute = |(kind, value): &(Oid<'_>, Any<'_>)| {
            let value = match decode(value) {
                Some(text) => wrap(UTF8_STRING, &[folded(&text).as_bytes()]),
                None => value.to_der_vec().unwrap_or_default(),
            };
            wrap(SEQUENCE, &[&wrap(OBJECT_IDENTIFIER, &[kind.as_bytes()]), &value])
        };
        let relative = |attributes: &Vec<_>| {
            let mut attributes: Vec<Vec<u8>> = attributes.iter().map(attribute).collect();
            attributes.sort_unstable();
            wrap(SET, &[&attributes.concat()])
        };
        self.relative.iter().map(relative).collect()
    }

    /// Whether it has no relative name.
    pub(in crate::identity) fn is_empty(&self) -> bool {
        self.relative.is_empty()
    }
}

/// The comparable form of a name as most are: each relative name has one attribute, a short text of the characters of PrintableString.
/// `None` for any other. Every new chain is asked for a name, so this takes neither a parser nor an allocation for each attribute.
fn simple(mut name: &[u8]) -> Option<Vec<u8>> {
    const PRINTABLE_STRING: u8 = 0x13;
    /// A longer element has a longer length.
    const SHORT: usize = 0x80;
    let mut output = Vec::with_capacity(name.len());
    while !name.is_empty() {
        let (SET, set, rest) = split(name)? else { return None };
        let (SEQUENCE, pair, []) = split(set)? else { return None };
        let (OBJECT_IDENTIFIER, kind, value) = split(pair)? else { return None };
        let (UTF8_STRING | PRINTABLE_STRING, text, []) = split(value)? else { return None };
        if set.len() >= SHORT {
            return None;
        }
        name = rest;
        let start = output.len();
        output.extend_from_slice(&[SET, 0, SEQUENCE, 0, OBJECT_IDENTIFIER, u8::try_from(kind.len()).ok()?]);
        output.extend_from_slice(kind);
        output.extend_from_slice(&[UTF8_STRING, 0]);
        let begins = output.len();
        let mut space = false;
        for byte in text {
            if !is_printable_string(*byte) {
                return None;
            }
            if *byte == b' ' {
                space = output.len() > begins;
                continue;
            }
            if std::mem::take(&mut space) {
                output.push(b' ');
            }
            output.push(byte.to_ascii_lowercase());
        }
        // The text is not longer than it was, so every length still takes one byte.
        for place in [begins, start + 4, start + 2] {
            output[place - 1] = u8::try_from(output.len() - place).ok()?;
        }
    }
    Some(output)
}

/// In lower case, with one space between words, and none at the ends.
fn folded(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !output.is_empty() {
            output.push(' ');
        }
        output.extend(word.chars().flat_map(char::to_lowercase));
    }
    output
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_simple_name_has_the_same_form_as_any(
            texts in prop::collection::vec(("[ A-Za-z0-9.,'=?&@\\u{e9}]{0,40}", any::<bool>(), 0..3_usize), 0..5),
        ) {
            let kinds: [&[u8]; 3] = [&[0x55, 4, 3], &[0x55, 4, 10], &[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25]];
            let mut name = Vec::new();
            for (text, is_utf8, kind) in &texts {
                let value = wrap(if *is_utf8 { UTF8_STRING } else { 0x13 }, &[text.as_bytes()]);
                let pair = wrap(SEQUENCE, &[&wrap(OBJECT_IDENTIFIER, &[kinds[*kind]]), &value]);
                name.extend(wrap(SET, &[&pair]));
            }
            let any = contents(&Name::from_contents(&name).expect("it is a name"));
            prop_assert_eq!(simple(&name).unwrap_or_else(|| any.clone()), any.clone());
            prop_assert_eq!(canonical_contents(&any), any);
        }
    }

    #[test]
    fn most_names_are_simple() {
        let attribute = |kind: &[u8], text: &str| {
            wrap(SET, &[&wrap(SEQUENCE, &[&wrap(OBJECT_IDENTIFIER, &[kind]), &wrap(UTF8_STRING, &[text.as_bytes()])])])
        };
        let name = [attribute(&[0x55, 4, 6], "US"), attribute(&[0x55, 4, 10], " Google  Trust Services LLC")].concat();
        let expected =
            [attribute(&[0x55, 4, 6], "us"), attribute(&[0x55, 4, 10], "google trust services llc")].concat();
        assert_eq!(simple(&name), Some(expected));
    }
}
