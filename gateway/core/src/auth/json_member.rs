//! A member of a JSON object of which the type is not certain: a claim of a token, or a parameter of its header.
//!
//! Owns the reading of a member of any type, and the sentence about a wrong one. Must not decide which members matter: issuers
//! write members that nobody asked for in many types, and these must not make a token unreadable (RFC 7519, section 4).

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member, by its type. A missing member is [`Member::Absent`], and so is `null`: several serializers write it for a missing one.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Member<'document> {
    #[default]
    Absent,
    Boolean(bool),
    Number(f64),
    /// Borrows from the document if it has no escapes.
    Text(Cow<'document, str>),
    /// A list of strings, possibly empty.
    Texts(Vec<Cow<'document, str>>),
    /// A list with an element that is not a string.
    List,
    Object,
}

/// A member that is needed has another type than expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongType {
    name: &'static str,
    found: &'static str,
    expected: &'static str,
}

impl fmt::Display for WrongType {
    /// For example `"kid" is a number, not a string`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\" is {}, not {}", self.name, self.found, self.expected)
    }
}

impl Member<'_> {
    /// The string of the member `name`, or `None` if there is no such member.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, WrongType> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(self.is_not("a string", name)),
        }
    }

    /// The strings of the member `name`, which is one string or a list of strings, or `None` if there is no such member.
    pub(super) fn texts(&self, name: &'static str) -> Result<Option<&[Cow<'_, str>]>, WrongType> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(std::slice::from_ref(text))),
            Self::Texts(texts) => Ok(Some(texts)),
            _ => Err(self.is_not("a string or a list of strings", name)),
        }
    }

    /// The error that the member `name` is not what `expected` says, such as "a number".
    pub(super) fn is_not(&self, expected: &'static str, name: &'static str) -> WrongType {
        let found = match self {
            Self::Absent => "missing",
            Self::Boolean(_) => "a Boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Texts(_) => "a list of strings",
            Self::List => "a list of other values than strings",
            Self::Object => "an object",
        };
        WrongType { name, found, expected }
    }
}

impl<'de: 'document, 'document> Deserialize<'de> for Member<'document> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyType)
    }
}

struct AnyType;

impl<'de> Visitor<'de> for AnyType {
    type Value = Member<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Member::Absent)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Member::Boolean(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Member::Number(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Member::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Member::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Member::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(element) = elements.next_element::<Member<'de>>()? {
            let Member::Text(text) = element else {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Member::List);
            };
            texts.push(text);
        }
        Ok(Member::Texts(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Object)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Member;

    #[test]
    fn reads_every_type() {
        for (json, expected) in [
            ("null", Member::Absent),
            ("true", Member::Boolean(true)),
            ("7", Member::Number(7.0)),
            ("-7", Member::Number(-7.0)),
            ("7.5", Member::Number(7.5)),
            ("\"a\"", Member::Text("a".into())),
            (r#""\u0061""#, Member::Text("a".into())),
            ("[]", Member::Texts(Vec::new())),
            (r#"["a", "b"]"#, Member::Texts(vec!["a".into(), "b".into()])),
            (r#"["a", 7, {"b": []}]"#, Member::List),
            ("[[\"a\"]]", Member::List),
            (r#"{"a": {"b": [1]}}"#, Member::Object),
        ] {
            assert_eq!(serde_json::from_str::<Member<'_>>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<Member<'_>>("[1,").is_err());
    }

    #[test]
    fn names_a_member_of_the_wrong_type() {
        let error = Member::Number(1.0).text("kid").unwrap_err();
        assert_eq!(error.to_string(), "\"kid\" is a number, not a string");
        let error = Member::List.texts("aud").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"aud\" is a list of other values than strings, not a string or a list of strings"
        );
    }
}
