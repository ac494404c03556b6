//! Secrets: bytes that are never printed, are zeroed when dropped, and are compared in constant time.
//!
//! Owns the type. Must not read files: the daemon's `config` does.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use ring::hkdf;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest secret, in bytes. The longest documented one has 64 (Standard Webhooks). A longer file is probably the wrong file.
const MAX_BYTES: usize = 4096;

/// Fewest bytes of a strong secret: 112 bits, which NIST SP 800-131A demands of the key of an HMAC.
const STRONG_BYTES: usize = 14;

/// A shared secret: a webhook's signing secret, or the value of a session parameter.
///
/// `ring` keeps its own copy of an HMAC secret, as the state of two hashes, and does not zero it; see [`super::body_signature`].
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why bytes are not a secret. Never quotes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There are no bytes.
    #[error("the secret is empty; write the secret that you share with the sender")]
    Empty,
    /// There are too many bytes.
    #[error("the secret has {length} bytes, more than {MAX_BYTES}; check that this is the right file")]
    TooLong {
        /// The number of bytes.
        length: usize,
    },
    /// The text does not have the encoding of this kind of secret.
    #[error("the secret is not {expected}")]
    Encoding {
        /// The expected encoding, as a noun phrase.
        expected: &'static str,
    },
}

/// What makes it likely that a secret is not the one that the sender uses, or that it can be guessed. Never quotes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretOddity {
    /// A byte order mark, which some editors write, is a part of the secret.
    #[error("the secret begins with a byte order mark (EF BB BF), which counts; save the file as UTF-8 without one")]
    ByteOrderMark,
    /// Text in UTF-16, as PowerShell 5 writes it.
    #[error(
        "the secret is in UTF-16, and the sender's is probably in ASCII; save the file as UTF-8 without a byte order mark"
    )]
    Utf16,
    /// A space, a tab or a line break at one end is a part of the secret.
    #[error("the secret begins or ends with a space, a tab or a line break, which counts; write it with printf '%s'")]
    WhiteSpace,
    /// Text of several lines, all of which are the secret.
    #[error(
        "the secret has several lines, and all of them count; write only the secret to the file, and one file for each secret"
    )]
    Lines,
    /// A text such as `NAME=value`, as in a file of environment variables. The name is a part of the secret.
    #[error("the secret has the form NAME=value, and the whole text counts; write only the value to the file")]
    Assignment,
    /// A text in quotation marks, which are a part of the secret.
    #[error("the secret is in quotation marks, which count; write it without them")]
    Quoted,
    /// Fewer bytes than a strong secret has.
    #[error(
        "the secret is short ({length} of at least {STRONG_BYTES} bytes), so it can be guessed; use a random one, such as from openssl rand -hex 32"
    )]
    Short {
        /// The number of bytes.
        length: usize,
    },
}

impl Secret {
    /// A secret of exactly these bytes.
    ///
    /// # Errors
    ///
    /// If there are none, or more than 4,096.
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(SecretError::Empty),
            length if length > MAX_BYTES => Err(SecretError::TooLong { length }),
            _ => Ok(Self(bytes)),
        }
    }

    /// A secret that is the content of a file. One line break at the end, as editors and `echo` write it, is not part of the
    /// secret.
    ///
    /// # Errors
    ///
    /// As [`Secret::new`].
    pub fn from_file_content(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, SecretError> {
        let mut bytes = bytes.into();
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self::new(bytes)
    }

    /// What is odd about the secret: probably a mistake in the file it came from, or a secret that can be guessed.
    #[must_use]
    pub fn oddity(&self) -> Option<SecretOddity> {
        let bytes = self.0.as_slice();
        let is_space = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => Some(SecretOddity::ByteOrderMark),
            _ if utf16 || is_half_zeros(bytes) => Some(SecretOddity::Utf16),
            _ if is_space(bytes.first()) || is_space(bytes.last()) => Some(SecretOddity::WhiteSpace),
            _ if is_text(bytes) && bytes.contains(&b'\n') => Some(SecretOddity::Lines),
            _ if is_assignment(bytes) => Some(SecretOddity::Assignment),
            [mark @ (b'"' | b'\''), .., last] if last == mark => Some(SecretOddity::Quoted),
            _ if bytes.len() < STRONG_BYTES => Some(SecretOddity::Short { length: bytes.len() }),
            _ => None,
        }
    }

    /// Whether `presented` is this secret. Takes the same time for every `presented` of the same length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_slice().ct_eq(presented).into()
    }

    /// A number that tells two secrets of this process apart. It reveals nothing without the random keys in `state`.
    #[must_use]
    pub fn tag(&self, state: &RandomState) -> u64 {
        state.hash_one(self.0.as_slice())
    }

    /// Whether both have the same bytes.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// The pseudorandom key of HKDF-SHA256 (RFC 5869, section 2.2) that this secret makes with `salt`.
    ///
    /// `ring` does not zero it.
    #[must_use]
    pub fn pseudorandom_key(&self, salt: &[u8]) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0)
    }

    /// The number of bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// The bytes, for the key of an algorithm. The caller must not keep a copy that outlives the secret.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Text without control characters but tabs and line breaks. Random bytes are not, and may contain a line break.
fn is_text(bytes: &[u8]) -> bool {
    let is_allowed = |character: char| !character.is_control() || matches!(character, '\t' | '\n' | '\r');
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(is_allowed))
}

/// Whether the bytes are the name of a variable, `=`, and a value. The padding of base64 is no value.
fn is_assignment(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"export ").unwrap_or(bytes);
    let Some(at) = bytes.iter().position(|&byte| byte == b'=') else { return false };
    let (name, value) = bytes.split_at(at);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let begins = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    begins && name.iter().all(is_name) && value.iter().any(|&byte| byte != b'=')
}

/// ASCII in UTF-16 without a mark: every other byte is zero, and no other.
fn is_half_zeros(bytes: &[u8]) -> bool {
    let has_form = |zero: usize| {
        bytes.chunks_exact(2).all(|pair| pair[zero] == 0 && pair[1 - zero].is_ascii() && pair[1 - zero] != 0)
    };
    bytes.len() >= 4 && bytes.len().is_multiple_of(2) && (has_form(0) || has_form(1))
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(REDACTED)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::hash::RandomState;

    use super::{Secret, SecretError, SecretOddity};

    #[test]
    fn a_tag_tells_secrets_apart() {
        let tag = |text: &str, state: &RandomState| Secret::new(text.as_bytes().to_vec()).unwrap().tag(state);
        let state = RandomState::new();
        assert_eq!(tag("a", &state), tag("a", &state));
        assert_ne!(tag("a", &state), tag("b", &state));
        assert_ne!(tag("a", &state), tag("a", &RandomState::new()));
    }

    #[test]
    fn a_secret_has_up_to_4096_bytes() {
        let error = |bytes: usize| Secret::new(vec![7; bytes]).err();
        assert_eq!(error(0), Some(SecretError::Empty));
        assert_eq!(error(1), None);
        assert_eq!(error(4096), None);
        assert_eq!(error(4097), Some(SecretError::TooLong { length: 4097 }));
    }

    #[test]
    fn probable_mistakes_are_told() {
        const GOOD: &[u8] = b"0123456789abcdef";
        let utf16 = |mark: &[u8], order: fn(u16) -> [u8; 2]| {
            let text = GOOD.iter().flat_map(|&byte| order(byte.into()));
            mark.iter().copied().chain(text).collect::<Vec<u8>>()
        };
        for (content, expected) in [
            (GOOD.to_vec(), None),
            ([GOOD, b"\n"].concat(), None),
            ([GOOD, b"\r\n"].concat(), None),
            ([GOOD, b" or more words"].concat(), None),
            ([GOOD, b"\n", GOOD].concat(), Some(SecretOddity::Lines)),
            ([GOOD, b"\r\n", GOOD, b"\r\n"].concat(), Some(SecretOddity::Lines)),
            ([GOOD, b"\n\x01", GOOD].concat(), None),
            ([GOOD, b"\n\xff", GOOD].concat(), None),
            ([b"WEBHOOK_SECRET=", GOOD].concat(), Some(SecretOddity::Assignment)),
            ([b"export _key2=\"", GOOD, b"\"\n"].concat(), Some(SecretOddity::Assignment)),
            ([b"2key=", GOOD].concat(), None),
            ([b"=", GOOD].concat(), None),
            ([b"a-key=", GOOD].concat(), None),
            (b"c2VjcmV0c2VjcmV0c2VjcmV0cw==".to_vec(), None),
            ([b"\"", GOOD, b"\"\n"].concat(), Some(SecretOddity::Quoted)),
            ([b"'", GOOD, b"'"].concat(), Some(SecretOddity::Quoted)),
            ([b"\"", GOOD, b"'"].concat(), None),
            ([b"\"", GOOD].concat(), None),
            ([b"\xef\xbb\xbf", GOOD].concat(), Some(SecretOddity::ByteOrderMark)),
            (utf16(b"\xff\xfe", u16::to_le_bytes), Some(SecretOddity::Utf16)),
            (utf16(b"\xfe\xff", u16::to_be_bytes), Some(SecretOddity::Utf16)),
            (utf16(b"", u16::to_le_bytes), Some(SecretOddity::Utf16)),
            (utf16(b"", u16::to_be_bytes), Some(SecretOddity::Utf16)),
            ([GOOD, b"\n\n"].concat(), Some(SecretOddity::WhiteSpace)),
            ([GOOD, b" \n"].concat(), Some(SecretOddity::WhiteSpace)),
            ([GOOD, b"\t"].concat(), Some(SecretOddity::WhiteSpace)),
            ([b" ", GOOD].concat(), Some(SecretOddity::WhiteSpace)),
            (b"hunter2".to_vec(), Some(SecretOddity::Short { length: 7 })),
            (GOOD[..13].to_vec(), Some(SecretOddity::Short { length: 13 })),
            (GOOD[..14].to_vec(), None),
            (vec![0; 32], None),
            ((0..=255).collect(), None),
        ] {
            let secret = Secret::from_file_content(content.clone()).unwrap();
            assert_eq!(secret.oddity(), expected, "{}", content.escape_ascii());
        }
    }

    #[test]
    fn never_prints() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(REDACTED) Some(Secret(REDACTED))");
    }

    #[test]
    fn matches_only_itself() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        for (presented, expected) in
            [("hunter2", true), ("hunter3", false), ("hunter", false), ("hunter22", false), ("", false)]
        {
            assert_eq!(secret.matches(presented.as_bytes()), expected, "{presented}");
        }
    }

    #[test]
    fn one_line_break_of_a_file_is_not_part_of_it() {
        for (content, expected) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("a\r", "a\r"), ("a b ", "a b ")]
        {
            assert!(Secret::from_file_content(content.as_bytes().to_vec()).unwrap().matches(expected.as_bytes()));
        }
        assert_eq!(Secret::from_file_content(b"\n".to_vec()).unwrap_err(), SecretError::Empty);
        assert_eq!(Secret::new(vec![0; 4097]).unwrap_err(), SecretError::TooLong { length: 4097 });
    }
}
