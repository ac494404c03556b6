//! The message that a signature covers: a template such as `v0:{timestamp}:{body}`, and the bytes that a request puts in it.
//!
//! Owns the syntax of templates. Must not know keys.

use ring::digest;

/// Most pieces of a template.
const MAX_PIECES: usize = 16;

/// The signed message as a sequence of pieces. The body is always one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MessageTemplate(Box<[Piece]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<[u8]>),
    Id,
    Timestamp,
    Method,
    Path,
    Body,
}

impl Piece {
    fn bytes<'a>(&'a self, parts: &MessageParts<'a>) -> &'a [u8] {
        match self {
            Self::Literal(bytes) => bytes,
            Self::Id => parts.id,
            Self::Timestamp => parts.timestamp,
            Self::Method => parts.method,
            Self::Path => parts.path,
            Self::Body => parts.body,
        }
    }
}

/// The names of the variable pieces, as written between braces.
const NAMES: [(&str, Piece); 5] = [
    ("id", Piece::Id),
    ("timestamp", Piece::Timestamp),
    ("method", Piece::Method),
    ("path", Piece::Path),
    ("body", Piece::Body),
];

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An unknown name in braces, or a single brace.
    #[error("\"{template}\" has {found:?}; write {{id}}, {{timestamp}}, {{method}}, {{path}} or {{body}}")]
    UnknownPiece {
        /// The template.
        template: String,
        /// The unknown piece, with its braces.
        found: String,
    },
    /// The body is missing, or stands twice.
    #[error("\"{template}\" must have {{body}} exactly once; a signature proves the body only if it covers it")]
    Body {
        /// The template.
        template: String,
    },
    /// Another piece stands twice.
    #[error("\"{template}\" has a piece twice; write each piece at most once")]
    Repeated {
        /// The template.
        template: String,
    },
    /// Two variable pieces are adjacent, so that bytes could move from one to the other under the same signature.
    #[error("\"{template}\" has two adjacent pieces; write a separator, such as \".\", between them")]
    Adjacent {
        /// The template.
        template: String,
    },
    /// Too many pieces.
    #[error("\"{template}\" has too many pieces; write at most {MAX_PIECES}")]
    TooLong {
        /// The template.
        template: String,
    },
}

/// The variable bytes of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageParts<'request> {
    pub(super) id: &'request [u8],
    pub(super) timestamp: &'request [u8],
    pub(super) method: &'request [u8],
    pub(super) path: &'request [u8],
    pub(super) body: &'request [u8],
}

impl MessageTemplate {
    /// Parses a template: text in which `{id}`, `{timestamp}`, `{method}`, `{path}` and `{body}` stand for their bytes.
    pub(super) fn parse(template: &str) -> Result<Self, TemplateError> {
        let text = || template.to_owned();
        let mut pieces = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            if end > 0 {
                pieces.push(Piece::Literal(rest.as_bytes()[..end].into()));
                rest = &rest[end..];
                continue;
            }
            let close = rest.find('}').map_or(rest.len(), |close| close + 1);
            let name = rest[..close].strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            let known = NAMES.iter().find(|(known, _)| Some(*known) == name);
            let (_, piece) = known
                .ok_or_else(|| TemplateError::UnknownPiece { template: text(), found: rest[..close].to_owned() })?;
            if pieces.contains(piece) {
                return Err(match piece {
                    Piece::Body => TemplateError::Body { template: text() },
                    _ => TemplateError::Repeated { template: text() },
                });
            }
            pieces.push(piece.clone());
            rest = &rest[close..];
        }
        if !pieces.contains(&Piece::Body) {
            return Err(TemplateError::Body { template: text() });
        }
        if pieces.len() > MAX_PIECES {
            return Err(TemplateError::TooLong { template: text() });
        }
        let literal = |piece: &Piece| matches!(piece, Piece::Literal(_));
        if pieces.windows(2).any(|pair| !literal(&pair[0]) && !literal(&pair[1])) {
            return Err(TemplateError::Adjacent { template: text() });
        }
        Ok(Self(pieces.into()))
    }

    /// Whether the template holds `{id}`.
    pub(super) fn has_id(&self) -> bool {
        self.0.contains(&Piece::Id)
    }

    /// Whether the template holds `{timestamp}`.
    pub(super) fn has_timestamp(&self) -> bool {
        self.0.contains(&Piece::Timestamp)
    }

    /// Whether a piece contains the literal that ends it, so that the same signed bytes could be split elsewhere: the id `1.2`
    /// before the body `3` has the same signed bytes as `1` before `2.3`. Standard Webhooks forbids "." in ids for this reason.
    pub(super) fn is_ambiguous(&self, parts: &MessageParts<'_>) -> bool {
        self.0.windows(2).any(|pair| match pair {
            // What follows the body has a fixed form, and a timestamp has digits only.
            [Piece::Body | Piece::Timestamp | Piece::Literal(_), _] => false,
            [piece, Piece::Literal(end)] => piece.bytes(parts).windows(end.len()).any(|window| window == &**end),
            _ => false,
        })
    }

    /// Passes the signed bytes to `sink`, piece by piece.
    pub(super) fn write(&self, parts: &MessageParts<'_>, sink: &mut dyn FnMut(&[u8])) {
        for piece in &self.0 {
            sink(piece.bytes(parts));
        }
    }

    /// SHA-256 of the signed bytes.
    pub(super) fn digest(&self, parts: &MessageParts<'_>) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        self.write(parts, &mut |bytes| context.update(bytes));
        context.finish()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{MessageParts, MessageTemplate, TemplateError};

    #[test]
    fn writes_the_messages_that_providers_document() {
        let parts = MessageParts { id: b"msg", timestamp: b"12", method: b"POST", path: b"/a?b", body: b"{}" };
        for (template, expected) in [
            ("{body}", "{}"),
            ("v0:{timestamp}:{body}", "v0:12:{}"),
            ("{timestamp}.{body}", "12.{}"),
            ("{id}.{timestamp}.{body}", "msg.12.{}"),
            ("{method} {path}\n{body}!", "POST /a?b\n{}!"),
        ] {
            let mut written = Vec::new();
            MessageTemplate::parse(template).unwrap().write(&parts, &mut |bytes| written.extend_from_slice(bytes));
            assert_eq!(String::from_utf8(written).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn refuses_templates_that_do_not_prove_the_body() {
        let template = |text: &str| text.to_owned();
        for (text, error) in [
            ("", TemplateError::Body { template: template("") }),
            ("{timestamp}", TemplateError::Body { template: template("{timestamp}") }),
            ("{body}.{body}", TemplateError::Body { template: template("{body}.{body}") }),
            ("{id}.{id}.{body}", TemplateError::Repeated { template: template("{id}.{id}.{body}") }),
            ("{id}{body}", TemplateError::Adjacent { template: template("{id}{body}") }),
            (
                "{nonce}.{body}",
                TemplateError::UnknownPiece { template: template("{nonce}.{body}"), found: template("{nonce}") },
            ),
            ("{body", TemplateError::UnknownPiece { template: template("{body"), found: template("{body") }),
            ("a}{body}", TemplateError::UnknownPiece { template: template("a}{body}"), found: template("}") }),
        ] {
            assert_eq!(MessageTemplate::parse(text), Err(error), "{text}");
        }
    }
}
