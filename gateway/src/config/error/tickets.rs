//! The problems of `[tickets]`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the section finds the problems.

/// An error about shared session tickets. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketProblem {
    /// A secret that could be guessed.
    #[error(
        "the secret has {length} bytes; write at least {minimum} random ones, such as from openssl rand -hex 32: with it, anyone can make sessions \
         of every sender"
    )]
    Short {
        /// The number of bytes.
        length: usize,
        /// The fewest allowed.
        minimum: usize,
    },
}
