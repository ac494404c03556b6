//! Secrets: bytes that are never printed, are zeroed when dropped, and are compared in constant time.
//!
//! Owns the type. Must not read files: the daemon's `config` does.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest secret, in bytes. The longest documented one has 64 (Standard Webhooks). A longer file is probably the wrong file.
const MAX_BYTES: usize = 4096;

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

    /// The number of bytes.
    pub(super) fn length(&self) -> usize {
        self.0.len()
    }

    /// The bytes, for the key of an algorithm. The caller must not keep a copy that outlives the secret.
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
