//! Secrets: bytes that are never printed, are wiped when dropped, and are compared in constant time.
//!
//! Owns the type alone. Must not read files: `config` reads them and hands the bytes over.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest secret, in bytes. The longest that a provider documents has 64 (Standard Webhooks); a file that is longer than
/// this is not a secret but a mistake.
const MAX_BYTES: usize = 4096;

/// A shared secret: a webhook's signing secret, or the value of a session parameter.
///
/// `ring` keeps its own copy of an HMAC secret (as the state of two hashes), which is not wiped; see [`super::signature`].
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why bytes are no secret. Says nothing of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There are no bytes.
    #[error("the secret is empty; put the provider's signing secret there")]
    Empty,
    /// There are too many.
    #[error("the secret has {length} bytes, more than {MAX_BYTES}; is this the right file?")]
    TooLong {
        /// How many.
        length: usize,
    },
    /// The text is not in the encoding that this kind of secret has.
    #[error("the secret is not {expected}")]
    Encoding {
        /// What was expected, as a noun phrase.
        expected: &'static str,
    },
}

impl Secret {
    /// A secret of exactly these bytes.
    ///
    /// # Errors
    ///
    /// Where there are none, or more than 4,096.
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(SecretError::Empty),
            length if length > MAX_BYTES => Err(SecretError::TooLong { length }),
            _ => Ok(Self(bytes)),
        }
    }

    /// The secret that is the content of a file: one trailing line break, as editors and `echo` leave it, is not part of it.
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

    /// Whether `presented` is this secret. Takes as long for every `presented` of the same length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_slice().ct_eq(presented).into()
    }

    /// A number by which two secrets of this process can be told apart, and nothing else: `state` has keys of its own, so it says
    /// nothing to who does not have them.
    #[must_use]
    pub fn tag(&self, state: &RandomState) -> u64 {
        state.hash_one(self.0.as_slice())
    }

    /// The bytes, for the key of an algorithm. Whoever calls this must not keep a copy that outlives the secret.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(REDACTED)")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Secret, SecretError};

    #[test]
    fn never_prints() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(REDACTED) Some(Secret(REDACTED))");
    }

    #[test]
    fn matches_itself_alone() {
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
