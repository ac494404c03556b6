//! The warnings about the revocation lists of profiles, as a closed list with their messages.
//!
//! Owns these messages. Must not decide: the sections find the reasons.

/// What is wrong with the revocation lists of profiles. Keys of a provider count for each of its profiles, so several can have the same flaw.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {}: {flaw}", .profiles.join(", "))]
pub struct ListWarning {
    /// The names of the profiles.
    pub profiles: Vec<String>,
    /// What is wrong.
    pub flaw: ListFlaw,
}

/// Why revocation lists refuse chains that are probably meant to be admitted. The message says what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListFlaw {
    /// A trust anchor without a list, although every certificate of a path needs one.
    #[error(
        "no list is of the trust anchor {subject}, and with crl_scope = \"chain\" every certificate of a chain needs a list of its issuer, so every \
         chain to this anchor is refused; add its list, or write crl_scope = \"end-entity\", with which the end entity alone needs a list of its issuer"
    )]
    NoneOfAnchor {
        /// The subject of the anchor.
        subject: String,
    },
    /// A trust anchor without a list, at a verify depth that admits nothing but what the anchor issued.
    #[error(
        "no list is of the trust anchor {subject}, and with verify_depth = 1 it issued every certificate that has a path to it, so each of these is \
         refused; add its list"
    )]
    NoneOfOnlyIssuer {
        /// The subject of the anchor.
        subject: String,
    },
    /// A known intermediate without a list.
    #[error("no list is of the intermediate {subject}, so the certificates that it issued are refused; add its list")]
    NoneOfIntermediate {
        /// The subject of the intermediate.
        subject: String,
    },
    /// Lists of trust anchors alone, although paths may have intermediates.
    #[error(
        "every list is of a trust anchor, so a chain with an intermediate is refused, although verify_depth {depth} allows one: its end entity needs \
         the list of the intermediate in any crl_scope; add that list, or write verify_depth = 1 if there is no intermediate"
    )]
    NoneOfAnyIntermediate {
        /// The verify depth.
        depth: u8,
    },
    /// A list with the name of a known authority, whose key has not signed it.
    #[error(
        "the revocation list of {issuer} is not signed by the key of the trust anchor or intermediate of this name, so certificates of this issuer \
         are refused; get the list again, or compare the certificate of the authority"
    )]
    Signature {
        /// The issuer of the list.
        issuer: String,
    },
    /// A list whose signature has an algorithm that is not accepted.
    #[error(
        "the revocation list of {issuer} is signed by an algorithm that is not accepted, such as SHA-1, so certificates of this issuer are refused; \
         ask its issuer for a list with SHA-256"
    )]
    Algorithm {
        /// The issuer of the list.
        issuer: String,
    },
}
