//! Distinguished names: those of the configuration, those of certificates, and how the two compare.
//!
//! Owns the two text forms (OpenSSL's `/C=US/O=…/CN=…` and RFC 4514), the decoding of attribute values, and the printed
//! form. Must not decide whether a peer is admitted: `rule` does.
//!
//! The comparison is stricter than that of RFC 5280, section 7.1. Relative distinguished names are compared in order; within
//! one, attributes in any order. Values are compared by their exact decoded text: case, spaces and Unicode form count, the ASN.1
//! string type does not. A value that cannot be decoded equals only a configured `#hex` value.

use std::fmt;

use data_encoding::HEXLOWER;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Oid, Tag, ToDer as _};

use super::trust_digest::{Digested, Transcript};

mod canonical;
mod parse;
#[cfg(test)]
mod tests;

pub use canonical::canonical;
pub(super) use canonical::canonical_contents;
pub use parse::NameError;

/// A distinguished name of the configuration, in the order of the certificate (usually country first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinguishedName {
    /// At least one relative distinguished name, none of them empty. Within one, encoded values come first, so that each of them
    /// finds its attribute before a text value takes it.
    relative: Vec<Vec<Attribute>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    value: Value,
    kind: Vec<u8>,
}

/// The order of the variants is the order of comparison: see [`DistinguishedName::relative`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// `#hex` of RFC 4514: the DER encoding of the value, tag and length included.
    Encoded(Vec<u8>),
    /// Any string type that decodes to this text.
    Text(String),
}

/// Attribute types: the printed name, other accepted names, the object identifier. The names are those of RFC 4514, section 3,
/// of the IANA registry of LDAP descriptors, and of OpenSSL's `objects.txt`.
const ATTRIBUTE_TYPES: &[(&str, &[&str], &str)] = &[
    ("C", &["countryName"], "2.5.4.6"),
    ("ST", &["S", "stateOrProvinceName"], "2.5.4.8"),
    ("L", &["localityName"], "2.5.4.7"),
    ("O", &["organizationName"], "2.5.4.10"),
    ("OU", &["organizationalUnitName"], "2.5.4.11"),
    ("CN", &["commonName"], "2.5.4.3"),
    ("DC", &["domainComponent"], "0.9.2342.19200300.100.1.25"),
    ("UID", &["userId"], "0.9.2342.19200300.100.1.1"),
    ("emailAddress", &["E"], "1.2.840.113549.1.9.1"),
    ("serialNumber", &[], "2.5.4.5"),
    ("STREET", &["streetAddress"], "2.5.4.9"),
    ("postalCode", &[], "2.5.4.17"),
    ("title", &[], "2.5.4.12"),
    ("GN", &["givenName"], "2.5.4.42"),
    ("SN", &["surname"], "2.5.4.4"),
    ("businessCategory", &[], "2.5.4.15"),
    ("organizationIdentifier", &[], "2.5.4.97"),
    ("jurisdictionL", &["jurisdictionLocalityName"], "1.3.6.1.4.1.311.60.2.1.1"),
    ("jurisdictionST", &["jurisdictionStateOrProvinceName"], "1.3.6.1.4.1.311.60.2.1.2"),
    ("jurisdictionC", &["jurisdictionCountryName"], "1.3.6.1.4.1.311.60.2.1.3"),
];

/// DER contents of the object identifier of commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

impl DistinguishedName {
    /// Parses either form: a name that begins with `/` has OpenSSL's form, any other that of RFC 4514.
    ///
    /// In OpenSSL's form, `+` joins the attributes of a multi-valued relative distinguished name, and `\/`, `\+` and `\\`
    /// stand for themselves.
    ///
    /// # Errors
    ///
    /// [`NameError`] says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut relative = match text.strip_prefix('/') {
            _ if text.is_empty() => return Err(NameError::Empty),
            Some("") => return Err(NameError::Empty),
            Some(rest) => parse::openssl(rest)?,
            None => {
                let mut reversed = parse::rfc4514(text)?;
                reversed.reverse();
                reversed
            }
        };
        relative.iter_mut().for_each(|attributes| attributes.sort());
        Ok(Self { relative })
    }

    /// Type and text of each attribute, in the order of the certificate: the DER contents of the object identifier, and the value. `None`
    /// if a value is written as `#hex`, which is no text.
    pub fn attributes(&self) -> Option<Vec<(&[u8], &str)>> {
        let attributes = self.relative.iter().flatten();
        let texts = attributes.map(|attribute| match &attribute.value {
            Value::Text(text) => Some((attribute.kind.as_slice(), text.as_str())),
            Value::Encoded(_) => None,
        });
        texts.collect()
    }

    /// Whether `name` equals this name; the module's doc defines the comparison.
    pub(super) fn matches(&self, name: &Name<'_>) -> bool {
        self.relative.len() == name.relative.len()
            && self.relative.iter().zip(&name.relative).all(|(wanted, found)| same_attributes(wanted, found))
    }
}

impl Digested for DistinguishedName {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { relative } = self;
        transcript.number(relative.len() as u64);
        relative.iter().for_each(|attributes| transcript.add(attributes.as_slice()));
    }
}

impl Digested for Attribute {
    fn add_to(&self, transcript: &mut Transcript) {
        let Self { value, kind } = self;
        transcript.bytes(kind);
        match value {
            Value::Encoded(der) => {
                transcript.number(0);
                transcript.bytes(der);
            }
            Value::Text(text) => {
                transcript.number(1);
                transcript.add(text.as_str());
            }
        }
    }
}

impl fmt::Display for DistinguishedName {
    /// RFC 4514, in printable ASCII.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relative = self.relative.iter().rev().map(|attributes| {
            attributes.iter().map(|attribute| match &attribute.value {
                Value::Text(text) => (Oid::new(attribute.kind.as_slice().into()), Printed::Text(text)),
                Value::Encoded(der) => (Oid::new(attribute.kind.as_slice().into()), Printed::Encoded(der)),
            })
        });
        write_rfc4514(formatter, relative)
    }
}

/// Set equality. The configured set bounds the cost, since the lengths are compared first.
fn same_attributes(wanted: &[Attribute], found: &[(Oid<'_>, Any<'_>)]) -> bool {
    if wanted.len() != found.len() {
        return false;
    }
    let mut taken = vec![false; found.len()];
    wanted.iter().all(|attribute| {
        let place = found.iter().enumerate().position(|(index, (kind, value))| {
            !taken[index] && kind.as_bytes() == attribute.kind && attribute.value.matches(value)
        });
        place.map(|index| taken[index] = true).is_some()
    })
}

impl Value {
    fn matches(&self, value: &Any<'_>) -> bool {
        match self {
            Self::Encoded(der) => value.to_der_vec().is_ok_and(|found| found == *der),
            // No string type takes more than 4 bytes for a byte of UTF-8. So an expected text bounds the cost.
            Self::Text(text) => value.data.len() <= 4 * text.len() && decode(value).is_some_and(|found| found == *text),
        }
    }
}

/// A name from a certificate, parsed strictly.
#[derive(Debug)]
pub(super) struct Name<'a> {
    relative: Vec<Vec<(Oid<'a>, Any<'a>)>>,
}

impl<'a> Name<'a> {
    /// Parses the contents of a `Name`: its RDNSequence without the outermost tag and length, as webpki returns it. `None` if
    /// they are not a sequence of non-empty sets of type and value.
    pub(super) fn from_contents(mut contents: &'a [u8]) -> Option<Self> {
        let mut relative = Vec::new();
        while !contents.is_empty() {
            let mut set = element(&mut contents, Tag::Set)?;
            let mut attributes = Vec::new();
            while !set.is_empty() {
                let pair = element(&mut set, Tag::Sequence)?;
                let (rest, kind) = Oid::from_der(pair).ok()?;
                let (rest, value) = Any::from_der(rest).ok()?;
                if !rest.is_empty() {
                    return None;
                }
                attributes.push((kind, value));
            }
            if attributes.is_empty() {
                return None;
            }
            relative.push(attributes);
        }
        Some(Self { relative })
    }

    /// Parses a whole `Name`, including its outermost tag and length.
    pub(super) fn from_der(mut der: &'a [u8]) -> Option<Self> {
        let contents = element(&mut der, Tag::Sequence)?;
        if der.is_empty() { Self::from_contents(contents) } else { None }
    }

    /// The type, as [`fmt::Display`] prints it, of the first value that cannot be decoded.
    pub(super) fn undecodable(&self) -> Option<String> {
        let (kind, _) = self.relative.iter().flatten().find(|(_, value)| decode(value).is_none())?;
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = write_kind(&mut text, kind);
        Some(text)
    }

    /// The text of the common name. `None` if there is none, if there are several, or if it cannot be decoded.
    pub(super) fn only_common_name(&self) -> Option<String> {
        let mut names = self.relative.iter().flatten().filter(|(kind, _)| kind.as_bytes() == COMMON_NAME);
        let (_, value) = names.next()?;
        if names.next().is_some() {
            return None;
        }
        decode(value)
    }
}

impl fmt::Display for Name<'_> {
    /// RFC 4514, in printable ASCII: other characters are escaped as the hexadecimal of their UTF-8 bytes.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relative = self
            .relative
            .iter()
            .rev()
            .map(|attributes| attributes.iter().map(|(kind, value)| (kind.clone(), Printed::Value(value))));
        write_rfc4514(formatter, relative)
    }
}

/// A name of a certificate as RFC 4514 writes it, in printable ASCII: what a stranger put into it cannot steer a terminal. `der` is the whole
/// `Name`, or its contents without the outermost tag and length. `None` if it is malformed.
pub fn printable_name(der: &[u8]) -> Option<String> {
    let name = Name::from_der(der).or_else(|| Name::from_contents(der))?;
    Some(name.to_string())
}

/// Removes one constructed element of the universal class with this tag from the front of `input`; returns its contents.
fn element<'a>(input: &mut &'a [u8], tag: Tag) -> Option<&'a [u8]> {
    let (rest, any) = Any::from_der(input).ok()?;
    if any.class() != Class::Universal || any.tag() != tag || !any.header.constructed() {
        return None;
    }
    *input = rest;
    Some(any.data)
}

/// The text of an attribute value, decoded strictly by the rules of its string type: `None` for a byte that the type does not
/// allow, for a NUL, and for a type that is not a string.
///
/// A PrintableString may contain every printable character of ASCII, since authorities issue such names (`hook_sender`), and no character
/// of it can mean another one. TeletexString has a code of its own (T.61), of which only the characters of PrintableString are accepted.
fn decode(value: &Any<'_>) -> Option<String> {
    if value.class() != Class::Universal || value.header.constructed() {
        return None;
    }
    let ascii_where = |allowed: fn(u8) -> bool| {
        let text = std::str::from_utf8(value.data).ok()?;
        text.bytes().all(allowed).then(|| text.to_owned())
    };
    let text = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(value.data).ok()?.to_owned(),
        Tag::TeletexString => ascii_where(is_printable_string)?,
        Tag::NumericString => ascii_where(|byte| byte.is_ascii_digit() || byte == b' ')?,
        Tag::Ia5String => ascii_where(|byte| byte.is_ascii())?,
        Tag::PrintableString | Tag::VisibleString => ascii_where(|byte| (b' '..=b'~').contains(&byte))?,
        Tag::BmpString => {
            let units = value.data.chunks_exact(2);
            if !units.remainder().is_empty() {
                return None;
            }
            // A surrogate is not a character, and BMPString has no surrogate pairs: `from_u32` refuses both halves.
            units
                .map(|unit| char::from_u32(u32::from(u16::from_be_bytes([unit[0], unit[1]]))))
                .collect::<Option<_>>()?
        }
        Tag::UniversalString => {
            let units = value.data.chunks_exact(4);
            if !units.remainder().is_empty() {
                return None;
            }
            units
                .map(|unit| char::from_u32(u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]])))
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    (!text.contains('\0')).then_some(text)
}

/// The character set of PrintableString (X.680, table 10).
fn is_printable_string(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b' ' | b'\'' | b'(' | b')' | b'+' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?')
}

/// A value to print.
enum Printed<'a> {
    Text(&'a str),
    Encoded(&'a [u8]),
    Value(&'a Any<'a>),
}

fn write_rfc4514<'a>(
    output: &mut impl fmt::Write,
    relative: impl Iterator<Item = impl Iterator<Item = (Oid<'a>, Printed<'a>)>>,
) -> fmt::Result {
    for (index, attributes) in relative.enumerate() {
        if index > 0 {
            output.write_char(',')?;
        }
        for (index, (kind, value)) in attributes.enumerate() {
            if index > 0 {
                output.write_char('+')?;
            }
            write_kind(output, &kind)?;
            output.write_char('=')?;
            match value {
                Printed::Text(text) => write_escaped(output, text)?,
                Printed::Encoded(der) => write!(output, "#{}", HEXLOWER.encode(der))?,
                Printed::Value(value) => match decode(value) {
                    Some(text) => write_escaped(output, &text)?,
                    None => write!(output, "#{}", HEXLOWER.encode(&value.to_der_vec().map_err(|_| fmt::Error)?))?,
                },
            }
        }
    }
    Ok(())
}

fn write_kind(output: &mut impl fmt::Write, kind: &Oid<'_>) -> fmt::Result {
    let dotted = kind.to_id_string();
    match ATTRIBUTE_TYPES.iter().find(|(_, _, known)| *known == dotted) {
        Some((name, _, _)) => output.write_str(name),
        None => output.write_str(&dotted),
    }
}

/// Escapes by RFC 4514, section 2.4, and also everything that is not printable ASCII.
fn write_escaped(output: &mut impl fmt::Write, text: &str) -> fmt::Result {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => write!(output, "\\{}", char::from(byte))?,
            b'#' if index == 0 => output.write_str("\\#")?,
            b' ' if index == 0 || index == last => output.write_str("\\ ")?,
            b' '..=b'~' => output.write_char(char::from(byte))?,
            _ => write!(output, "\\{byte:02X}")?,
        }
    }
    Ok(())
}
