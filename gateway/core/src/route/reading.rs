//! What a tolerant handler may read in a path that hookgate compares as sent.
//!
//! Owns that reading, and the faults for which there is none. Pure. Must not know routes.
//!
//! Handlers read one path in different ways: they decode escapes (some of them twice), take `\` for `/`, cut parameters (`;…`) off a
//! segment, merge empty segments, and resolve dot segments. The reading of a path is what is left after all of that, so that two paths
//! which any handler could take for each other have one reading. Dot segments have no reading: a request has no reason to send them.
//!
//! Other gateways, by their documentation: nginx decodes once, merges slashes and resolves dots before it chooses a location, and
//! refuses `%00`. Envoy does the same with `normalize_path` and `merge_slashes`, and keeps, refuses or decodes `%2F` and `%5C`
//! (`path_with_escaped_slashes_action`). HAProxy compares as sent unless `normalize-uri` says otherwise. None of them cuts parameters
//! or decodes twice.

use std::borrow::Cow;

/// Why a path has no reading. Each is a sentence for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// A dot segment, in any spelling.
    #[error("The path has a \".\" or \"..\" segment, plain or encoded; resolve it first.")]
    DotSegment,
    /// A percent sign without two hexadecimal digits.
    #[error("The path has a \"%\" without two hexadecimal digits after it; write \"%25\" for the character itself.")]
    Escape,
    /// A control character, such as `%00`.
    #[error("The path has a control character, plain or encoded.")]
    Control,
    /// Bytes that are no UTF-8. Overlong forms of `.` and `/` are among them.
    #[error("The path is not UTF-8 when it is decoded (RFC 3629).")]
    Encoding,
    /// A parameter beside a character that ends it for some handlers.
    #[error(
        "The path has a \";\" beside a \"\\\", or beside an encoded \"/\", \"?\" or \"#\"; send it without the \";\"."
    )]
    Parameter,
    /// The path belongs to one route as sent, and to another one as read.
    #[error(
        "The path, when it is decoded, belongs to another route; send it without escapes, \";\", \"\\\" and \"//\"."
    )]
    OtherRoute,
}

/// The reading of `path`, which has no query. A path that every handler reads as sent is returned as it is.
///
/// # Errors
///
/// Any [`PathFault`] but [`PathFault::OtherRoute`].
pub fn of(path: &str) -> Result<Cow<'_, str>, PathFault> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let text = String::from_utf8(decoded(path)?).map_err(|_| PathFault::Encoding)?;
    if text.contains(char::is_control) {
        return Err(PathFault::Control);
    }
    let mut reading = String::with_capacity(text.len());
    // A handler that decodes a whole target before it looks for the query takes `%3F` for its beginning.
    let mut in_query = false;
    let mut ends_with_slash = false;
    for segment in text.split(['/', '\\']) {
        let name = segment.split([';', '?', '#']).next().unwrap_or_default();
        if name == "." || name == ".." {
            return Err(PathFault::DotSegment);
        }
        if !in_query {
            if !name.is_empty() {
                reading.push('/');
                reading.push_str(name);
            }
            ends_with_slash = name.is_empty();
        }
        in_query |= segment.contains(['?', '#']);
    }
    check_parameters(path, &text)?;
    if ends_with_slash {
        reading.push('/');
    }
    Ok(Cow::Owned(reading))
}

/// Refuses paths in which it depends on the order of a handler's steps where a parameter ends: `/a;%2fb` is `/a` if parameters are cut
/// before escapes are decoded, and `/a/b` after. `text` is the decoded path.
fn check_parameters(path: &str, text: &str) -> Result<(), PathFault> {
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    let is_disputed = text.contains(['\\', '?', '#']) || slashes(text) > slashes(path);
    if text.contains(';') && is_disputed { Err(PathFault::Parameter) } else { Ok(()) }
}

/// Whether every handler reads `path` as sent. May be wrong only about paths that are.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let is_special = matches!(byte, b'%' | b'\\' | b';') || !byte.is_ascii_graphic();
        let begins_segment = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !is_special && !begins_segment
    })
}

/// `path` after as many rounds of decoding as change it. One pass: an escape that a decoded byte completes is decoded at once.
fn decoded(path: &str) -> Result<Vec<u8>, PathFault> {
    let bytes = path.as_bytes();
    let is_escape = |at: usize| matches!(bytes.get(at + 1..at + 3), Some([high, low]) if value(*high, *low).is_some());
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !is_escape(at)) {
        return Err(PathFault::Escape);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    for byte in bytes {
        decoded.push(*byte);
        while let [.., b'%', high, low] = decoded[..]
            && let Some(byte) = value(high, low)
        {
            decoded.truncate(decoded.len() - 3);
            decoded.push(byte);
        }
    }
    Ok(decoded)
}

/// The byte of two hexadecimal digits.
fn value(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}
