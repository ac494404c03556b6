//! `strip_prefix`: the begin of a path that a handler does not get.
//!
//! Owns what is left of a target without it. Pure. Must not choose a route: routes, proofs and the log see the path as sent.
//!
//! As `handle_path` of Caddy, and in nginx a `proxy_pass` whose URI is `/`. The rest is byte by byte as sent, but for slashes at its begin: they are
//! one, because `//host` and `/\host` are the begin of a URL for handlers that resolve a target as a reference (RFC 3986, section 4.2).

use bytes::Bytes;
use http::HeaderValue;
use http::uri::PathAndQuery;

use super::PathPattern;

/// A beginning of paths: whole segments, and without the slash behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripPrefix(HeaderValue);

/// Why a text is no such prefix. Each is a clause, with what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StripPrefixError {
    /// It is no path.
    #[error("it does not begin with \"/\"; write \"/hooks\", for example")]
    NoPath,
    /// It is `/`, or empty segments alone.
    #[error("it takes nothing away; remove the key")]
    Nothing,
    /// A slash at the end.
    #[error("it ends with \"/\"; write it without the last slash, which stays with the rest of the path")]
    LastSlash,
    /// A pattern.
    #[error("it is compared byte by byte; write it without \"*\"")]
    Pattern,
    /// A query.
    #[error("it is a part of the path; write it without \"?\" and \"#\"")]
    Query,
    /// Bytes that no path of a request has.
    #[error("write printable ASCII characters, and percent-encode all others")]
    Unprintable,
}

impl StripPrefix {
    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// [`StripPrefixError`].
    pub fn new(text: &str) -> Result<Self, StripPrefixError> {
        if !text.starts_with('/') {
            return Err(StripPrefixError::NoPath);
        }
        if text.bytes().all(|byte| byte == b'/') {
            return Err(StripPrefixError::Nothing);
        }
        if text.contains('*') {
            return Err(StripPrefixError::Pattern);
        }
        if text.ends_with('/') {
            return Err(StripPrefixError::LastSlash);
        }
        if text.contains(['?', '#']) {
            return Err(StripPrefixError::Query);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StripPrefixError::Unprintable);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| StripPrefixError::Unprintable)
    }

    /// The prefix.
    pub fn as_str(&self) -> &str {
        // `new` takes printable ASCII alone.
        self.0.to_str().unwrap_or_default()
    }

    /// The prefix as a field for the handler.
    pub fn field(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether every path of `pattern` is the prefix, or lies below it.
    pub fn is_above(&self, pattern: &PathPattern) -> bool {
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = pattern;
        self.rest(path).is_some()
    }

    /// What follows the prefix: nothing, or a slash and more.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.as_str()).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// The paths that the handler gets for those of `pattern`, which are the prefix or below it.
    pub fn strip_pattern(&self, pattern: &PathPattern) -> PathPattern {
        let stripped = |path: &str| {
            let rest = self.rest(path).unwrap_or(path).trim_start_matches('/');
            format!("/{rest}").into()
        };
        match pattern {
            PathPattern::Exact(path) => PathPattern::Exact(stripped(path)),
            PathPattern::Prefix(path) => PathPattern::Prefix(stripped(path)),
        }
    }

    /// `target` without the prefix. It begins with one slash, and has the query of `target`. A target that is not below the prefix, which the
    /// route of the prefix does not take, stays as it is.
    pub fn strip(&self, target: &PathAndQuery) -> PathAndQuery {
        let Some(rest) = self.rest(target.as_str()) else { return target.clone() };
        let rest = rest.trim_start_matches(['/', '\\']);
        let mut stripped = String::with_capacity(1 + rest.len());
        stripped.push('/');
        stripped.push_str(rest);
        // A slash and a part of a target are a target.
        PathAndQuery::from_maybe_shared(Bytes::from(stripped)).unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }
}
