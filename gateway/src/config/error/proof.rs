//! The problems of proofs and of key sources, as a closed list with their messages.
//!
//! Owns these messages. No message repeats a secret. Must not decide: the sections find the problems.

use std::path::PathBuf;

use crate::config::feed_url::FeedUrlError;
use hookgate_core::auth::body_signature::SignatureRuleError;
use hookgate_core::auth::json_pointer::JsonPointerError;
use hookgate_core::auth::proof_policy::ProofPolicyError;
use hookgate_core::auth::replay::ReplayRuleError;
use hookgate_core::auth::secret::SecretError;
use hookgate_core::auth::session_parameter::SessionParameterError;
use hookgate_core::auth::static_credential::CredentialRuleError;
use hookgate_core::auth::token::TokenRuleError;
use hookgate_core::auth::token_keys::KeySetError;

/// An error of a proof or of a key source. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofProblem {
    /// An unknown word for `proof`.
    #[error(
        "\"{word}\" is not a proof; write \"certificate\" for the certificate alone, or a table with one of token, \
         session_parameter, signature, secret, basic, all = […], any = […]"
    )]
    Word {
        /// The word.
        word: String,
    },
    /// A table with no proof, or with several.
    #[error(
        "{count} proofs in one table; write exactly one of token, session_parameter, signature, secret, basic, all = […], any = […]"
    )]
    NotOne {
        /// The number of proofs.
        count: usize,
    },
    /// A third level of groups.
    #[error(
        "a group within a group cannot hold another group; write at most two levels, as in \
         {{ all = [{{ any = [{{ token = {{ … }} }}, …] }}, …] }}"
    )]
    TooDeep,
    /// The provider lacks its part of the preset's proof.
    #[error(
        "missing; the preset \"{preset}\" demands a proof beside the certificate: write {write}; or write \
         proof = \"certificate\" to demand none"
    )]
    Incomplete {
        /// The name of the preset.
        preset: String,
        /// The lines that complete the proof.
        write: String,
    },
    /// The provider lacks its part of the preset's proof, and no certificate replaces that.
    #[error(
        "missing; senders of the preset \"{preset}\" have no certificate, so each request must prove its sender: write {write}"
    )]
    IncompleteAlone {
        /// The name of the preset.
        preset: String,
        /// The lines that complete the proof.
        write: String,
    },
    /// The preset's replay rule for a proof that binds the request, beside another proof.
    #[error(
        "the preset \"{preset}\" finds copies of signed requests ({ids}), and what completes it here is static: write \
         replay = {{ id_header = \"…\" }} with a field that every request has, or replay = \"none\""
    )]
    ReplayOfSigned {
        /// The name of the preset.
        preset: String,
        /// The ids of the preset's rule, in words.
        ids: String,
    },
    /// A part of a proof beside `proof`, without a preset that demands a proof of this kind.
    #[error(
        "this completes the proof of a preset, and no preset of this provider has such a proof; write it within proof = {{ … }}"
    )]
    NothingToComplete,
    /// A part of a proof beside `proof`, which replaces the preset's proof.
    #[error(
        "proof replaces the preset's proof, which this would complete; write it within proof = {{ … }}, or remove one of the two"
    )]
    Replaced,
    /// A replay rule of a route without a proof.
    #[error("a route has replay only together with proof; write proof too, or write replay in the [[provider]] tables")]
    ReplayWithoutProof,
    /// An unknown word for `replay`.
    #[error("\"{word}\" is not a replay rule; write \"none\", or a table with id_header, id_pointer or by_signature")]
    ReplayWord {
        /// The word.
        word: String,
    },
    /// A status that a refused signature cannot have.
    #[error("a request without a right signature is answered with 401 or 403; write one of these")]
    RefusalStatus,
    /// A key without effect, because another key is present or absent.
    #[error("this key has no effect {circumstance}; remove it")]
    NoEffect {
        /// The other key, after "with" or "without".
        circumstance: &'static str,
    },
    /// A piece of the message without the key for its place, or the key without the piece.
    #[error("{piece} in message and {keys} go together; write both, or neither")]
    Unplaced {
        /// The piece, in braces.
        piece: &'static str,
        /// The keys for its place.
        keys: &'static str,
    },
    /// Not one ASCII character.
    #[error("the separator is not one ASCII character; write one, such as \",\"")]
    Separator,
    /// A session parameter without an expected value, or with several kinds.
    #[error("a session parameter has exactly one of secrets, hmac_secrets and token; write one of them")]
    Parameter,
    /// A secret from no place, or from several.
    #[error("a secret comes from one place; write one of file = \"…\", credential = \"…\", unsafe_value = \"…\"")]
    SecretOrigin,
    /// A credential whose name could be a path.
    #[error("not a credential name; write the name from LoadCredential=, which has no \"/\"")]
    CredentialName,
    /// A credential, without a directory of credentials.
    #[error(
        "$CREDENTIALS_DIRECTORY is not set, so there are no credentials; write LoadCredential={name}:/path in the unit, or \
         file = \"…\" here"
    )]
    NoCredentials {
        /// The name of the credential.
        name: String,
    },
    /// An empty or too long secret.
    #[error("{origin}: {error}")]
    Secret {
        /// The file, or `unsafe_value`.
        origin: String,
        /// The error.
        error: SecretError,
    },
    /// A secret without the encoding that this form of signature needs.
    #[error(transparent)]
    SecretForm(SecretError),
    /// A key source with two origins.
    #[error("a key source has url or file, not both; write one of them")]
    UrlAndFile,
    /// A bound of fetches, for keys from a file.
    #[error("this key needs url: hookgate does not fetch keys from a file; remove it")]
    NotFetched,
    /// A bad URL of a key set.
    #[error(transparent)]
    FeedUrl(#[from] FeedUrlError),
    /// A file that is not a usable key set.
    #[error("{}: {error}", .path.display())]
    KeySet {
        /// The file.
        path: PathBuf,
        /// The error.
        error: KeySetError,
    },
    /// A PEM file with several keys, or with none.
    #[error("{}: {count} keys or certificates in one file; write one file for each key", .path.display())]
    SeveralKeys {
        /// The file.
        path: PathBuf,
        /// The number of sections.
        count: usize,
    },
    /// A file without a key for the algorithm.
    #[error("{}: no key in it is for the algorithm {algorithm}; write the algorithm of this key, or another file", .path.display())]
    KeyOfOtherType {
        /// The file.
        path: PathBuf,
        /// The algorithm.
        algorithm: &'static str,
    },
    /// An error of a combination of proofs.
    #[error(transparent)]
    Policy(#[from] ProofPolicyError),
    /// An error of a signature.
    #[error(transparent)]
    Signature(#[from] SignatureRuleError),
    /// An error of a secret in a field, or of basic authentication.
    #[error(transparent)]
    Credential(#[from] CredentialRuleError),
    /// An error of a token.
    #[error(transparent)]
    Token(#[from] TokenRuleError),
    /// An error of a session parameter.
    #[error(transparent)]
    SessionParameter(#[from] SessionParameterError),
    /// An error of a JSON pointer.
    #[error(transparent)]
    Pointer(#[from] JsonPointerError),
    /// An error of a replay rule.
    #[error(transparent)]
    Replay(#[from] ReplayRuleError),
}
