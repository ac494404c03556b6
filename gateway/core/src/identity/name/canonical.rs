//! The form in which two names of authorities are compared (RFC 5280, section 7.1).
//!
//! Owns what makes no difference: the string type, the case, spaces at the ends of a value, and how many there are within it. Must not
//! compare names for identity rules, which are exact. A wrong answer admits nobody: whether an authority issued a certificate, its
//! signature says.
//!
//! Stricter than RFC 5280 in one point: the Unicode normal form counts (RFC 4518, section 2.3, removes it). Authorities with such names
//! write them in one form.

use x509_parser::asn1_rs::{Any, Oid, ToDer as _};

use super::{Name, decode};
use crate::identity::elements::wrap;

const UTF8_STRING: u8 = 0x0c;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// The comparable form of a whole `Name` (DER): again a `Name`, so that a parser may read it. What is not a name stays as it is.
pub(in crate::identity) fn canonical(name: &[u8]) -> Vec<u8> {
    Name::from_der(name).map_or_else(|| name.to_vec(), |name| wrap(SEQUENCE, &[&contents(&name)]))
}

/// The same for the contents of a `Name`, without the outermost tag and length.
pub(in crate::identity) fn canonical_contents(name: &[u8]) -> Vec<u8> {
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
