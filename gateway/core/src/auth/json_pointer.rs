//! JSON pointers (RFC 6901), and the strings that they find in a body.
//!
//! Owns the syntax of pointers and the walk along one, which does not build the body in memory. The whole body must be well-formed
//! JSON, and an object on the path must have the member once: a body that two parsers can read in two ways proves nothing. Must not
//! know what the strings are for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most reference tokens of a pointer. Webhook bodies need at most five.
const MAX_DEPTH: usize = 16;

/// Most strings that one walk reports; further ones are ignored. Only `*` can find more than one, and a Dialogflow conversation
/// has a few contexts.
const MAX_FOUND: usize = 32;

/// A JSON pointer (RFC 6901), such as `/sessionInfo/parameters/token`, with one addition: in an array, the token `*` stands for
/// every element. In an object, `*` is the member of that name, as in the RFC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPointer {
    tokens: Box<[Box<str>]>,
    text: Box<str>,
}

/// Why a text is not a JSON pointer to a string in a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPointerError {
    /// No leading slash. The empty pointer is refused too: it means the whole body, which is not a string.
    #[error("\"{text}\" is not a JSON pointer; begin it with \"/\", as in \"/sessionInfo/parameters/token\"")]
    NoSlash {
        /// The text.
        text: String,
    },
    /// `~` not followed by `0` or `1`.
    #[error("\"{text}\" is not a JSON pointer; write \"~\" as \"~0\", and a \"/\" within a name as \"~1\"")]
    Escape {
        /// The text.
        text: String,
    },
    /// Too many parts.
    #[error("\"{text}\" has {depth} parts; write at most {MAX_DEPTH}")]
    TooDeep {
        /// The text.
        text: String,
        /// The number of parts.
        depth: usize,
    },
}

impl JsonPointer {
    /// Parses a pointer.
    ///
    /// # Errors
    ///
    /// If `text` is empty, is not a pointer, or has more than 16 parts.
    pub fn parse(text: &str) -> Result<Self, JsonPointerError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(JsonPointerError::NoSlash { text: text.to_owned() });
        };
        let tokens: Box<[Box<str>]> = rest
            .split('/')
            .map(|token| unescape(token).ok_or_else(|| JsonPointerError::Escape { text: text.to_owned() }))
            .collect::<Result<_, _>>()?;
        if tokens.len() > MAX_DEPTH {
            return Err(JsonPointerError::TooDeep { text: text.to_owned(), depth: tokens.len() });
        }
        Ok(Self { tokens, text: text.into() })
    }

    /// Calls `found` with each string at the pointer, at most 32, and returns the number of other values there. Allocates the
    /// parser's stack, one byte a level of nesting, and each string that has escapes.
    ///
    /// # Errors
    ///
    /// If `body` is not one well-formed JSON value, or has a member on the path twice.
    pub(super) fn strings<'body>(
        &self,
        body: &'body [u8],
        found: &mut dyn FnMut(Cow<'body, str>),
    ) -> Result<usize, serde_json::Error> {
        let sink = Sink { found, takes_scalars: false, strings: 0, others: 0 };
        self.walk(body, sink)
    }

    /// The only string, number or boolean at the pointer, as text; `None` if there is none, or more than one value.
    ///
    /// # Errors
    ///
    /// If `body` is not one well-formed JSON value, or has a member on the path twice.
    pub fn only_scalar<'body>(&self, body: &'body [u8]) -> Result<Option<Cow<'body, str>>, serde_json::Error> {
        let (mut only, mut count) = (None, 0);
        let found = &mut |value| {
            count += 1;
            only = Some(value);
        };
        let others = self.walk(body, Sink { found, takes_scalars: true, strings: 0, others: 0 })?;
        Ok(only.filter(|_| count == 1 && others == 0))
    }

    /// Walks through `body`, and returns the number of values that are not for the sink.
    fn walk<'body>(&self, body: &'body [u8], mut sink: Sink<'_, 'body>) -> Result<usize, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        Walk { tokens: &self.tokens, sink: &mut sink }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(sink.others)
    }

    /// The only string at the pointer; `None` if there is none, or more than one value.
    ///
    /// # Errors
    ///
    /// As [`JsonPointer::strings`].
    pub(super) fn only_string<'body>(&self, body: &'body [u8]) -> Result<Option<Cow<'body, str>>, serde_json::Error> {
        let mut only = None;
        let mut count = 0;
        let others = self.strings(body, &mut |value| {
            count += 1;
            only = Some(value);
        })?;
        Ok(only.filter(|_| count == 1 && others == 0))
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// RFC 6901, section 4: `~1` is a slash and `~0` a tilde. Any other `~` is an error.
fn unescape(token: &str) -> Option<Box<str>> {
    let mut plain = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain.into())
}

struct Sink<'found, 'body> {
    found: &'found mut dyn FnMut(Cow<'body, str>),
    /// Whether numbers and booleans count as strings.
    takes_scalars: bool,
    strings: usize,
    others: usize,
}

impl<'body> Sink<'_, 'body> {
    fn string(&mut self, value: Cow<'body, str>) {
        if self.strings < MAX_FOUND {
            self.strings += 1;
            (self.found)(value);
        }
    }
}

/// One step of the walk: the rest of the pointer, to be applied to the next value.
struct Walk<'walk, 'found, 'body> {
    tokens: &'walk [Box<str>],
    sink: &'walk mut Sink<'found, 'body>,
}

impl Walk<'_, '_, '_> {
    /// A value that is not a string. It counts if the pointer ends here.
    fn other<E>(self) -> Result<(), E> {
        self.sink.others += usize::from(self.tokens.is_empty());
        Ok(())
    }

    /// A number or a boolean.
    fn scalar<E>(self, value: impl fmt::Display) -> Result<(), E> {
        if self.sink.takes_scalars && self.tokens.is_empty() {
            self.sink.string(Cow::Owned(value.to_string()));
            return Ok(());
        }
        self.other()
    }
}

impl<'body> DeserializeSeed<'body> for Walk<'_, '_, 'body> {
    type Value = ();

    fn deserialize<D: Deserializer<'body>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'body> Visitor<'body> for Walk<'_, '_, 'body> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, value: &'body str) -> Result<(), E> {
        if self.tokens.is_empty() {
            self.sink.string(Cow::Borrowed(value));
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if self.tokens.is_empty() {
            self.sink.string(Cow::Owned(value.to_owned()));
        }
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.other()
    }

    fn visit_map<A: MapAccess<'body>>(self, mut members: A) -> Result<(), A::Error> {
        let Some((token, rest)) = self.tokens.split_first() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return self.other();
        };
        let mut seen = false;
        while let Some(matches) = members.next_key_seed(NameIs(token))? {
            if !matches {
                members.next_value::<IgnoredAny>()?;
            } else if seen {
                return Err(A::Error::custom(format_args!("the member \"{token}\" is repeated")));
            } else {
                seen = true;
                members.next_value_seed(Walk { tokens: rest, sink: &mut *self.sink })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'body>>(self, mut elements: A) -> Result<(), A::Error> {
        let Some((token, rest)) = self.tokens.split_first() else {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return self.other();
        };
        let wanted = array_index(token);
        let mut index = 0_usize;
        loop {
            let element = if &**token == "*" || wanted == Some(index) {
                elements.next_element_seed(Walk { tokens: rest, sink: &mut *self.sink })?
            } else {
                elements.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if element.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// RFC 6901, section 4: digits without a leading zero.
fn array_index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (token == "0" || !token.starts_with('0'))).then(|| token.parse().ok()).flatten()
}

/// Whether the name of a member, with its escapes resolved, is this one.
struct NameIs<'walk>(&'walk str);

impl<'body> DeserializeSeed<'body> for NameIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'body>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIs<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{JsonPointer, JsonPointerError};

    fn found(pointer: &str, body: &str) -> Result<(Vec<String>, usize), String> {
        let mut strings = Vec::new();
        let others = JsonPointer::parse(pointer)
            .unwrap()
            .strings(body.as_bytes(), &mut |value| strings.push(value.into_owned()))
            .map_err(|error| error.to_string())?;
        Ok((strings, others))
    }

    #[track_caller]
    fn check(pointer: &str, body: &str, strings: &[&str], others: usize) {
        let strings: Vec<String> = strings.iter().map(ToString::to_string).collect();
        assert_eq!(found(pointer, body), Ok((strings, others)), "{pointer} in {body}");
    }

    #[test]
    fn follows_the_examples_of_rfc_6901() {
        let body =
            r#"{"foo":["bar","baz"],"":"empty","a/b":"slash","c%d":"percent","m~n":"tilde","k\"l":"quote","*":"star"}"#;
        for (pointer, expected) in [
            ("/foo/0", "bar"),
            ("/foo/1", "baz"),
            ("/", "empty"),
            ("/a~1b", "slash"),
            ("/c%d", "percent"),
            ("/m~0n", "tilde"),
            ("/k\"l", "quote"),
            ("/*", "star"),
        ] {
            check(pointer, body, &[expected], 0);
        }
        for pointer in ["/foo/2", "/foo/00", "/foo/-", "/foo/+1", "/nothing", "/a~1b/deeper", "/foo/x"] {
            check(pointer, body, &[], 0);
        }
        check("/foo", body, &[], 1);
    }

    #[test]
    fn finds_in_every_element_and_through_escapes() {
        check("/contexts/*/token", r#"{"contexts":[{"token":"a"},{},{"token":"b"},{"token":3},"x"]}"#, &["a", "b"], 1);
        check("/token", r#"{"to\u006ben":"\u0061\n"}"#, &["a\n"], 0);
        check("/a", r#"{"b":{"a":"no","a":"no"},"a":"yes"}"#, &["yes"], 0);
        for other in ["null", "true", "1", "-1", "1.5", "{}", "[]", r#"{"x":1}"#, r#"["x"]"#] {
            check("/a", &format!("{{\"a\":{other}}}"), &[], 1);
        }
        let many = format!("[{}\"x\"]", "\"x\",".repeat(99));
        assert_eq!(found("/*", &many).unwrap().0.len(), 32);
    }

    #[test]
    fn the_only_string_has_no_other_value_beside_it() {
        for (pointer, body, expected) in [
            ("/a/id", r#"{"a":{"id":"x"}}"#, Some("x")),
            ("/a/id", r#"{"a":{"id":7}}"#, None),
            ("/a/id", r#"{"a":{}}"#, None),
            ("/*/id", r#"[{"id":"x"},{"b":1}]"#, Some("x")),
            ("/*/id", r#"[{"id":"x"},{"id":"x"}]"#, None),
            ("/*/id", r#"[{"id":"x"},{"id":7}]"#, None),
        ] {
            let pointer = JsonPointer::parse(pointer).unwrap();
            assert_eq!(pointer.only_string(body.as_bytes()).unwrap().as_deref(), expected, "{pointer} {body}");
        }
    }

    #[test]
    fn refuses_bodies_that_parsers_read_differently() {
        for (body, error) in [
            (r#"{"a":{"b":"1"},"a":{"b":"2"}}"#, "the member \"a\" is repeated"),
            (r#"{"a":{"b":"1","\u0062":"2"}}"#, "the member \"b\" is repeated"),
            (r#"{"a":{"b":"1"}} {}"#, "trailing characters"),
            (r#"{"a":{"b":"1"}"#, "EOF while parsing"),
            (r#"{"a":{"b":"1"},}"#, "trailing comma"),
            ("\u{feff}{\"a\":{\"b\":\"1\"}}", "expected value"),
            ("", "EOF while parsing"),
        ] {
            let message = found("/a/b", body).unwrap_err();
            assert!(message.contains(error), "{body}: {message}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_scalars_if_asked() {
        let only = |body: &str| {
            let pointer = JsonPointer::parse("/a").unwrap();
            pointer.only_scalar(body.as_bytes()).ok().flatten().map(|text| text.into_owned())
        };
        for (body, expected) in [
            (r#"{"a":"x"}"#, Some("x")),
            (r#"{"a":17}"#, Some("17")),
            (r#"{"a":-17}"#, Some("-17")),
            (r#"{"a":true}"#, Some("true")),
            (r#"{"a":null}"#, None),
            (r#"{"a":{"b":1}}"#, None),
            (r#"{"a":[1]}"#, None),
            (r#"{"b":1}"#, None),
            (r#"{"a":1,"a":2}"#, None),
            ("", None),
        ] {
            assert_eq!(only(body).as_deref(), expected, "{body}");
        }
        check("/a", r#"{"a":17}"#, &[], 1);
    }

    #[test]
    fn every_truncation_of_a_body_is_an_error() {
        let body = r#"{"sessionInfo":{"session":"s","parameters":{"token":"abc"}},"messages":[{"text":{}}]}"#;
        check("/sessionInfo/parameters/token", body, &["abc"], 0);
        for end in 0..body.len() {
            assert!(found("/sessionInfo/parameters/token", &body[..end]).is_err(), "{}", &body[..end]);
        }
    }

    #[test]
    fn deep_nesting_does_not_recurse() {
        let body = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        check("/b", &body, &[], 0);
    }

    #[test]
    fn parses_pointers_or_says_why_not() {
        let text = |text: &str| text.to_owned();
        assert_eq!(JsonPointer::parse(""), Err(JsonPointerError::NoSlash { text: text("") }));
        assert_eq!(JsonPointer::parse("a/b"), Err(JsonPointerError::NoSlash { text: text("a/b") }));
        assert_eq!(JsonPointer::parse("/a~2"), Err(JsonPointerError::Escape { text: text("/a~2") }));
        assert_eq!(JsonPointer::parse("/a~"), Err(JsonPointerError::Escape { text: text("/a~") }));
        let deep = "/a".repeat(17);
        assert_eq!(JsonPointer::parse(&deep), Err(JsonPointerError::TooDeep { text: deep.clone(), depth: 17 }));
        assert_eq!(JsonPointer::parse("/a~1b").unwrap().to_string(), "/a~1b");
    }
}
