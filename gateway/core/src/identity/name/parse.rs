//! The two text forms of a distinguished name in the configuration.
//!
//! Owns their syntax and its errors. Must not guess: an ambiguous text is an error that says what to write instead, since a misread
//! name would match no certificate, without a warning.

use std::fmt::Write as _;
use std::str::FromStr as _;

use data_encoding::HEXLOWER_PERMISSIVE;
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, ToDer as _};

use super::{ATTRIBUTE_TYPES, Attribute, Value};

/// Why a text of the configuration is not a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("the name is empty; write it as \"/C=US/O=Example/CN=name\" or, by RFC 4514, \"CN=name,O=Example,C=US\"")]
    Empty,
    /// A component is not `type=value`.
    #[error("\"{component}\" is not of the form type=value; within a value, write {escape}")]
    NotAnAttribute {
        /// The component.
        component: String,
        /// How this form escapes its separators.
        escape: &'static str,
    },
    /// An attribute type that is not in the table.
    #[error(
        "the attribute type \"{kind}\" is unknown; known types are {known}, and dotted object identifiers such as 2.5.4.3"
    )]
    UnknownAttribute {
        /// The attribute type.
        kind: String,
        /// The names in the table.
        known: String,
    },
    /// An attribute without a value.
    #[error("the attribute \"{kind}\" has an empty value")]
    EmptyValue {
        /// The attribute type.
        kind: String,
    },
    /// A backslash that is not followed by what this form escapes.
    #[error("\"\\{found}\" is not an escape sequence; {expected}")]
    BadEscape {
        /// What follows the backslash.
        found: String,
        /// What may follow it.
        expected: &'static str,
    },
    /// A character that RFC 4514 requires to be escaped.
    #[error(
        "write {found:?} as \"\\{found}\" in an RFC 4514 name, which has no quotes and whose only separators are \",\" \
         and \"+\""
    )]
    Unescaped {
        /// The character.
        found: char,
    },
    /// A space next to a separator, which RFC 4514 does not allow.
    #[error(
        "a space is next to a separator; write a space that belongs to a value as \"\\ \". If `openssl x509 -subject` printed \
         this name, its order is that of the certificate, and RFC 4514 reverses it: print it with `-nameopt RFC2253`, or \
         write \"/C=US/O=Example/CN=name\""
    )]
    StraySpace,
    /// A `#` that is not followed by the hexadecimal of one DER value.
    #[error(
        "\"#{found}\" is not the hexadecimal form of one DER-encoded value; write a text that begins with \"#\" as \"\\#\""
    )]
    BadHex {
        /// What follows the `#`.
        found: String,
    },
    /// The escaped bytes are not a text that a certificate could match.
    #[error(
        "the value of \"{kind}\" is not UTF-8, or contains a NUL character; write such a value in the #hex form of \
         RFC 4514"
    )]
    NotText {
        /// The attribute type.
        kind: String,
    },
}

/// `C=US/O=Example/CN=a+OU=b`, without the leading slash.
pub(super) fn openssl(text: &str) -> Result<Vec<Vec<Attribute>>, NameError> {
    let mut relative = Vec::new();
    let mut attributes = Vec::new();
    let mut component = String::new();
    let mut characters = text.chars();
    loop {
        let character = characters.next();
        match character {
            Some('\\') => match characters.next() {
                Some(escaped @ ('/' | '+' | '\\')) => component.push(escaped),
                other => {
                    return Err(NameError::BadEscape {
                        found: other.map(String::from).unwrap_or_default(),
                        expected: "in a name that begins with \"/\", \"\\\" precedes \"/\", \"+\" or \"\\\"",
                    });
                }
            },
            None | Some('/' | '+') => {
                let Some((kind, value)) = component.split_once('=') else {
                    return Err(NameError::NotAnAttribute {
                        component,
                        escape: "\"/\" as \"\\/\" and \"+\" as \"\\+\"; a comma needs no escape",
                    });
                };
                attributes.push(text_attribute(kind, value.to_owned())?);
                component.clear();
                if character != Some('+') {
                    relative.push(std::mem::take(&mut attributes));
                }
                if character.is_none() {
                    return Ok(relative);
                }
            }
            Some(other) => component.push(other),
        }
    }
}

/// `CN=a+OU=b,O=Example,C=US`; keeps the order of the text.
pub(super) fn rfc4514(text: &str) -> Result<Vec<Vec<Attribute>>, NameError> {
    let mut relative = Vec::new();
    let mut attributes = Vec::new();
    let mut rest = text;
    loop {
        let Some((kind, after)) = rest.split_once('=').filter(|(kind, _)| !kind.contains([',', '+'])) else {
            let component = rest.split([',', '+']).next().unwrap_or_default().to_owned();
            return Err(NameError::NotAnAttribute {
                component,
                escape: "\",\" as \"\\,\" and \"+\" as \"\\+\"; a slash needs no escape",
            });
        };
        if kind.starts_with(' ') || kind.ends_with(' ') {
            return Err(NameError::StraySpace);
        }
        let (attribute, after) = match after.strip_prefix('#') {
            Some(after) => encoded_attribute(kind, after)?,
            None => {
                let (value, after) = unescape(kind, after)?;
                (text_attribute(kind, value)?, after)
            }
        };
        attributes.push(attribute);
        let mut characters = after.chars();
        let separator = characters.next();
        if separator != Some('+') {
            relative.push(std::mem::take(&mut attributes));
        }
        if separator.is_none() {
            return Ok(relative);
        }
        rest = characters.as_str();
    }
}

/// Parses a `#hex` value up to its separator; returns the attribute and the rest, separator included.
fn encoded_attribute<'a>(kind: &str, text: &'a str) -> Result<(Attribute, &'a str), NameError> {
    let (hex, rest) = text.split_at(text.find([',', '+']).unwrap_or(text.len()));
    let bad = || NameError::BadHex { found: hex.to_owned() };
    let der = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| bad())?;
    match Any::from_der(&der) {
        Ok(([], value)) => {
            let der = value.to_der_vec().map_err(|_| bad())?;
            Ok((Attribute { kind: attribute_type(kind)?, value: Value::Encoded(der) }, rest))
        }
        _ => Err(bad()),
    }
}

/// Parses a string value up to its separator (RFC 4514, section 3: `string`); returns the value and the rest, separator included.
fn unescape<'a>(kind: &str, text: &'a str) -> Result<(String, &'a str), NameError> {
    let mut value = Vec::new();
    let mut ends_with_space = false;
    let mut characters = text.chars();
    let rest = loop {
        let rest = characters.as_str();
        match characters.next() {
            None | Some(',' | '+') => break rest,
            Some('\\') => {
                value.push(escaped_byte(&mut characters)?);
                ends_with_space = false;
            }
            Some(found @ ('"' | ';' | '<' | '>' | '\0')) => return Err(NameError::Unescaped { found }),
            Some(' ') if value.is_empty() => return Err(NameError::StraySpace),
            Some(character) => {
                value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                ends_with_space = character == ' ';
            }
        }
    };
    if ends_with_space {
        return Err(NameError::StraySpace);
    }
    match String::from_utf8(value) {
        Ok(value) if !value.contains('\0') => Ok((value, rest)),
        _ => Err(NameError::NotText { kind: kind.to_owned() }),
    }
}

/// The byte after a backslash: a special character, or two hexadecimal digits (RFC 4514, section 3: `pair`).
fn escaped_byte(characters: &mut std::str::Chars<'_>) -> Result<u8, NameError> {
    let first = characters.next();
    if let Some(special @ (' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\')) = first {
        return Ok(u8::try_from(special).unwrap_or_default());
    }
    let second = first.and_then(|_| characters.next());
    let mut found = String::new();
    found.extend(first);
    found.extend(second);
    match HEXLOWER_PERMISSIVE.decode(found.as_bytes()).as_deref() {
        Ok(&[byte]) => Ok(byte),
        _ => Err(NameError::BadEscape {
            found,
            expected: "in an RFC 4514 name, \"\\\" precedes a special character (such as \",\") or two hexadecimal digits",
        }),
    }
}

fn text_attribute(kind: &str, value: String) -> Result<Attribute, NameError> {
    let attribute = attribute_type(kind)?;
    if value.is_empty() {
        return Err(NameError::EmptyValue { kind: kind.to_owned() });
    }
    if value.contains('\0') {
        return Err(NameError::NotText { kind: kind.to_owned() });
    }
    Ok(Attribute { kind: attribute, value: Value::Text(value) })
}

/// The object identifier (DER contents) of a name in the table, in any case, or of a dotted form.
fn attribute_type(kind: &str) -> Result<Vec<u8>, NameError> {
    let same = |name: &&str| name.eq_ignore_ascii_case(kind);
    let named = ATTRIBUTE_TYPES.iter().find(|(name, others, _)| same(name) || others.iter().any(same));
    let dotted = match named {
        Some((_, _, dotted)) => Some(*dotted),
        None => Some(kind)
            .filter(|kind| kind.contains('.') && kind.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')),
    };
    match dotted.map(Oid::from_str) {
        Some(Ok(oid)) => Ok(oid.as_bytes().to_vec()),
        _ => {
            let mut known = String::new();
            for (name, _, _) in ATTRIBUTE_TYPES {
                let separator = if known.is_empty() { "" } else { ", " };
                // Writing into a `String` cannot fail.
                let _ = write!(known, "{separator}{name}");
            }
            Err(NameError::UnknownAttribute { kind: kind.to_owned(), known })
        }
    }
}
