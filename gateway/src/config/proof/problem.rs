//! What can be wrong with proofs and with the sources of their keys: the closed list, with its words.
//!
//! Owns these sentences, none of which repeats a secret. Decides nothing.

use std::path::PathBuf;

use crate::config::KeyUrlError;
use hookgate_core::auth::keys::KeySetError;
use hookgate_core::auth::pointer::PointerError;
use hookgate_core::auth::policy::PolicyError;
use hookgate_core::auth::replay::ReplayRuleError;
use hookgate_core::auth::secret::SecretError;
use hookgate_core::auth::session::SessionParameterError;
use hookgate_core::auth::signature::SignatureRuleError;
use hookgate_core::auth::token::TokenRuleError;

/// What is wrong with a proof, or with a source of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofProblem {
    /// A word that `proof` does not know.
    #[error(
        "\"{word}\" is no proof; write \"certificate\" for the certificate alone, or a table: token, session_parameter, \
         signature, or a list of them under all or any"
    )]
    Word {
        /// The word.
        word: String,
    },
    /// A table that is not exactly one proof or group.
    #[error("{count} proofs in one table; write one of token, session_parameter, signature, all = […], any = […]")]
    NotOne {
        /// How many.
        count: usize,
    },
    /// Groups within groups within groups.
    #[error("a group within a group within a group; write at most {{ all = [{{ any = [token, …] }}] }} or the reverse")]
    TooDeep,
    /// A preset demands more than the provider says.
    #[error(
        "missing; the preset \"{preset}\" demands more than the certificate: write {write}; or proof = \"certificate\" to do \
         without"
    )]
    Incomplete {
        /// The preset.
        preset: String,
        /// The lines that would complete it.
        write: String,
    },
    /// A part of a proof outside of `proof`, and no preset that has the rest of it.
    #[error(
        "this completes the proof of a preset, and there is none that it could complete; write it within proof = {{ … }}"
    )]
    NothingToComplete,
    /// A part of a proof outside of `proof`, which replaces what it would complete.
    #[error(
        "proof replaces the proof that this would complete; write it within proof = {{ … }}, or leave one of both out"
    )]
    Replaced,
    /// A route's rule about duplicates, without a proof.
    #[error("replay of a route goes with its proof; write proof too, or write replay to the providers")]
    ReplayWithoutProof,
    /// A word that `replay` does not know.
    #[error(
        "\"{word}\" is no rule about duplicates; write \"none\", or a table with id_header, id_pointer or by_signature"
    )]
    ReplayWord {
        /// The word.
        word: String,
    },
    /// A key that does nothing beside another, or without it.
    #[error("this has no meaning {circumstance}; leave it out")]
    Meaningless {
        /// Beside, or without, what.
        circumstance: &'static str,
    },
    /// A piece of a message and its place, of which one is missing.
    #[error("{piece} in message and {keys} go together; write both, or neither")]
    Unplaced {
        /// The piece.
        piece: &'static str,
        /// The keys that say its place.
        keys: &'static str,
    },
    /// Not one ASCII character.
    #[error("not one ASCII character; write such as \",\"")]
    Separator,
    /// A session parameter that is to be nothing, or several things.
    #[error("a session parameter is one of secrets, hmac_secrets and token; write one of them")]
    Parameter,
    /// A secret from nowhere, or from several places.
    #[error("a secret comes from one place; write one of file = \"…\", credential = \"…\", unsafe_value = \"…\"")]
    SecretOrigin,
    /// A credential whose name could be a path.
    #[error("not the name of a credential; write it without \"/\"")]
    CredentialName,
    /// A credential where the service manager gave none.
    #[error(
        "$CREDENTIALS_DIRECTORY is not set, so there are no credentials; write LoadCredential={name}:/path to the unit, or \
         file = \"…\" here"
    )]
    NoCredentials {
        /// The name.
        name: String,
    },
    /// A secret that cannot be one.
    #[error("{origin}: {error}")]
    Secret {
        /// Where it was read from.
        origin: String,
        /// What is wrong.
        error: SecretError,
    },
    /// One of the secrets is not of the form that this signature has.
    #[error(transparent)]
    SecretForm(SecretError),
    /// A source of keys with two places.
    #[error("keys come from url or from file; write one of them")]
    UrlAndFile,
    /// A bound of fetching, for keys that are not fetched.
    #[error("this is about fetching, and keys from a file are not fetched; leave it out")]
    NotFetched,
    /// Not a URL that keys may come from.
    #[error(transparent)]
    KeyUrl(#[from] KeyUrlError),
    /// A file that holds no keys.
    #[error("{}: {error}", .path.display())]
    KeySet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeySetError,
    },
    /// A combination of proofs.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A signature.
    #[error(transparent)]
    Signature(#[from] SignatureRuleError),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenRuleError),
    /// A session parameter.
    #[error(transparent)]
    SessionParameter(#[from] SessionParameterError),
    /// A JSON pointer.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// A rule about duplicates.
    #[error(transparent)]
    Replay(#[from] ReplayRuleError),
}
