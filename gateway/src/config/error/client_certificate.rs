//! The problems of `client_certificate`, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the problems.

/// An error about a provider without client certificates. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// A key about certificates.
    #[error("with client_certificate = \"none\" no certificate is judged, and nothing uses this key; remove it")]
    Unused,
    /// `unsafe_static_secret_suffices` of a provider with certificates.
    #[error("this key has no effect without client_certificate = \"none\"; remove it")]
    StaticSecretBesideCertificate,
    /// Neither a certificate nor a proof.
    #[error(
        "the provider \"{provider}\" has client_certificate = \"none\", so the proof alone tells who sent a request, and not every \
         request needs one here; write proof = {{ signature = {{ … }} }} with a message that covers {{body}}, or proof = {{ token = {{ … }} }}"
    )]
    NothingProves {
        /// The provider.
        provider: String,
    },
    /// A proof that is the same in every request.
    #[error(
        "the provider \"{provider}\" has client_certificate = \"none\", and a request passes here with a secret that is the same in every \
         request, so that a copy of one permits any other; write a signature or a token, or unsafe_static_secret_suffices = true in the \
         [[provider]]"
    )]
    StaticSecret {
        /// The provider.
        provider: String,
    },
    /// Two providers without certificates on one route.
    #[error(
        "\"{first}\" and \"{second}\" both have client_certificate = \"none\", and nothing tells their requests apart before the proof; write \
         a route of its own for each"
    )]
    TwoWithoutCertificate {
        /// The first one.
        first: String,
        /// The second one.
        second: String,
    },
}
