//! The message that a signature covers: a template such as `v0:{timestamp}:{body}`, and the bytes that a request puts in it.
//!
//! Owns the syntax of templates. Must not know keys.
//!
//! No two requests give one message: otherwise a signature for one of them would be valid for the other. So the message must tell
//! where each piece ends, which [`collision`] checks when the template is parsed:
//!
//! | piece | contains | ends |
//! | --- | --- | --- |
//! | `{timestamp}` | digits | before any other byte |
//! | `{timestamp:10}` | ten digits, which seconds since 1970 have until the year 2286 | after the tenth |
//! | `{url}` | the configured URL, the same in every request | as any other text |
//! | `{method}` | a token (RFC 9110, section 5.6.2) | before a byte that a token cannot contain |
//! | `{path}` | `/` or `?`, then a path and query | before a byte that neither can contain, such as a space or a line break |
//! | `{id}` | the bytes of a field value | before `{body}`: at the first text that stands after it in the template |
//! | `{body}` | any bytes | where the pieces after it begin, which are read from the end of the message |
//!
//! The text that ends an id is forbidden within the id ([`MessageTemplate::has_early_end`]), as Standard Webhooks forbids "." in ids.
//! This holds for requests. A sender whose ids contain that text signs messages that can be divided in two ways.

mod collision;

use ring::digest;

/// Longest template, in bytes. Templates of senders have fewer than 64. The search for collisions takes time that grows with the
/// square.
const MAX_BYTES: usize = 256;

/// The signed message as a sequence of pieces. The body is always one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MessageTemplate {
    pieces: Box<[Piece]>,
    covers_url: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<[u8]>),
    Id,
    Timestamp,
    /// A timestamp of [`FIXED_DIGITS`] digits.
    FixedTimestamp,
    Method,
    Path,
    Body,
}

impl Piece {
    fn bytes<'a>(&'a self, parts: &MessageParts<'a>) -> &'a [u8] {
        match self {
            Self::Literal(bytes) => bytes,
            Self::Id => parts.id,
            Self::Timestamp | Self::FixedTimestamp => parts.timestamp,
            Self::Method => parts.method,
            Self::Path => parts.path,
            Self::Body => parts.body,
        }
    }

    /// The name of a variable piece.
    fn name(&self) -> Option<&'static str> {
        NAMES.iter().find(|(_, piece)| piece == self).map(|(name, _)| *name)
    }
}

/// The digits of a timestamp with a fixed width. Seconds since 1970 have ten from 2001 until 2286.
const FIXED_DIGITS: usize = 10;

/// The place of the configured URL, which is not variable.
const URL: &str = "{url}";

/// The names of the variable pieces, as written between braces.
const NAMES: [(&str, Piece); 6] = [
    ("id", Piece::Id),
    ("timestamp", Piece::Timestamp),
    ("timestamp:10", Piece::FixedTimestamp),
    ("method", Piece::Method),
    ("path", Piece::Path),
    ("body", Piece::Body),
];

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An unknown name in braces, or a single brace.
    #[error(
        "{template:?} has {found:?}; write {{id}}, {{timestamp}}, {{timestamp:10}}, {{method}}, {{path}}, {{url}} or {{body}}"
    )]
    UnknownPiece {
        /// The template.
        template: String,
        /// The unknown piece, with its braces.
        found: String,
    },
    /// The body is missing, or stands twice.
    #[error("{template:?} must have {{body}} exactly once; a signature proves the body only if it covers it")]
    Body {
        /// The template.
        template: String,
    },
    /// Another piece stands twice.
    #[error("{template:?} has a piece twice; write each piece at most once")]
    Repeated {
        /// The template.
        template: String,
    },
    /// Two different requests give the same message.
    #[error(
        "{template:?} gives one signed text to different requests: {one}, and {other}; write {{body}} last, and after each other \
         piece a text that it cannot contain, as in \"{{id}}.{{timestamp}}.{{body}}\" or \"{{method}} {{path}}\\n{{body}}\"; write \
         {{timestamp:10}} if nothing stands after the timestamp"
    )]
    Ambiguous {
        /// The template.
        template: String,
        /// The pieces of one such request, of those that differ.
        one: String,
        /// The pieces of the other one.
        other: String,
    },
    /// Too long.
    #[error("the message has {bytes} bytes; write at most {MAX_BYTES}")]
    TooLong {
        /// The length of the template, in bytes.
        bytes: usize,
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
    /// Parses a template: text in which `{id}`, `{timestamp}`, `{timestamp:10}`, `{method}`, `{path}` and `{body}` stand for their bytes,
    /// and `{url}` for `url`.
    ///
    /// # Errors
    ///
    /// [`TemplateError`]; above all, if two different requests give one message.
    pub(super) fn parse(template: &str, url: Option<&str>) -> Result<Self, TemplateError> {
        if template.len() > MAX_BYTES {
            return Err(TemplateError::TooLong { bytes: template.len() });
        }
        let pieces = pieces(template, url)?;
        let text = template.to_owned();
        if !pieces.contains(&Piece::Body) {
            return Err(TemplateError::Body { template: text });
        }
        match collision::find(&pieces).map(|collision| collision.describe()) {
            Some((one, other)) => Err(TemplateError::Ambiguous { template: text, one, other }),
            None => Ok(Self { pieces: pieces.into(), covers_url: url.is_some() && template.contains(URL) }),
        }
    }

    /// The names of the pieces that the signature covers.
    pub(super) fn covered(&self) -> impl Iterator<Item = &'static str> {
        let pieces = self.pieces.iter().filter_map(|piece| match piece {
            Piece::FixedTimestamp => Piece::Timestamp.name(),
            piece => piece.name(),
        });
        pieces.chain(self.covers_url.then_some("url"))
    }

    /// Whether the template holds `{id}`.
    pub(super) fn has_id(&self) -> bool {
        self.pieces.contains(&Piece::Id)
    }

    /// Whether the template holds `{timestamp}` or `{timestamp:10}`.
    pub(super) fn has_timestamp(&self) -> bool {
        self.pieces.contains(&Piece::Timestamp) || self.pieces.contains(&Piece::FixedTimestamp)
    }

    /// Whether the timestamp has another number of digits than the template says.
    pub(super) fn has_other_width(&self, timestamp: &[u8]) -> bool {
        self.pieces.contains(&Piece::FixedTimestamp) && timestamp.len() != FIXED_DIGITS
    }

    /// Whether the id before the body contains the text that ends it, or ends with the beginning of that text so that the text begins
    /// within the id. The same signed bytes could then be divided elsewhere: the id `1.2` before the body `3` signs what `1` before
    /// `2.3` does, and with `--` after the id, `1-` before `2` what `1` before `-2` does.
    pub(super) fn has_early_end(&self, parts: &MessageParts<'_>) -> bool {
        let Some(at) = self.pieces.iter().position(|piece| matches!(piece, Piece::Id | Piece::Body)) else {
            return false;
        };
        match &self.pieces[at..] {
            [Piece::Id, Piece::Literal(end), ..] => (0..parts.id.len()).any(|start| {
                let rest = &parts.id[start..];
                match end.strip_prefix(rest) {
                    Some(after) => end.starts_with(after),
                    None => rest.starts_with(end),
                }
            }),
            _ => false,
        }
    }

    /// Passes the signed bytes to `sink`, piece by piece.
    pub(super) fn write(&self, parts: &MessageParts<'_>, sink: &mut dyn FnMut(&[u8])) {
        for piece in &self.pieces {
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

/// Splits a template at its braces.
fn pieces(template: &str, url: Option<&str>) -> Result<Vec<Piece>, TemplateError> {
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
        if let (URL, Some(url)) = (&rest[..close], url) {
            let literal = Piece::Literal(url.as_bytes().into());
            if pieces.contains(&literal) {
                return Err(TemplateError::Repeated { template: text() });
            }
            pieces.push(literal);
            rest = &rest[close..];
            continue;
        }
        let name = rest[..close].strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        let known = NAMES.iter().find(|(known, _)| Some(*known) == name);
        let (_, piece) =
            known.ok_or_else(|| TemplateError::UnknownPiece { template: text(), found: rest[..close].to_owned() })?;
        let is_timestamp = |piece: &Piece| matches!(piece, Piece::Timestamp | Piece::FixedTimestamp);
        if pieces.contains(piece) || is_timestamp(piece) && pieces.iter().any(is_timestamp) {
            return Err(match piece {
                Piece::Body => TemplateError::Body { template: text() },
                _ => TemplateError::Repeated { template: text() },
            });
        }
        pieces.push(piece.clone());
        rest = &rest[close..];
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;
