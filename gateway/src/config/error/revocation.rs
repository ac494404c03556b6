//! The problems of revocation lists, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: `crls` finds the problems.

/// A problem of revocation lists. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationProblem {
    /// Another word for `crls`.
    #[error(
        "\"{}\" is unknown; write \"from-certificates\" to fetch the lists that the certificates name, or an array of files, such as \
         [\"ca.crl\"]",
        .text.escape_default()
    )]
    Word {
        /// The text.
        text: String,
    },
    /// Another origin in the table of `crls`.
    #[error("\"{}\" is unknown; write \"certificates\"", .text.escape_default())]
    From {
        /// The text.
        text: String,
    },
}
