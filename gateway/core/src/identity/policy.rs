//! What the operator demands of a peer: providers, their profiles, and which of them a server name can reach.
//!
//! Plain data, made once by `config` and immutable afterwards. An empty policy admits nobody: a profile without trust
//! anchors, and one without identity rules, matches no chain at all (and `config` refuses to build either).

use std::sync::Arc;

use rustls_pki_types::{TrustAnchor, UnixTime};

use super::revocation::RevocationLists;
use super::rule::IdentityRule;

/// The place of a provider in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(pub u16);

/// What happens when a peer's certificate is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Complete the handshake and answer the request with a problem document that says what was wrong.
    #[default]
    Respond,
    /// End the handshake with the TLS alert of the reason.
    Abort,
}

/// How the extended key usage of the end-entity certificate and its issuers is judged (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// Where the extension is present it must list id-kp-clientAuth. Absence passes, and is counted as leniency.
    #[default]
    ClientAuth,
    /// The end entity must carry the extension with id-kp-clientAuth; an issuer that carries one must list it too.
    ClientAuthExplicit,
    /// Not judged. A pass that `ClientAuth` would have refused is counted as leniency.
    Ignore,
}

/// One way in which a provider's certificate chain may look.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name within the provider, such as `digicert-global-root-g2`; `default` where the configuration names none.
    pub name: Arc<str>,
    /// The anchors, any of which may end the path. Never empty.
    pub trust_anchors: Vec<TrustAnchor<'static>>,
    /// notAfter of each of them, in the same order, in seconds since 1970. For warnings: no path depends on it.
    pub anchors_not_after: Vec<u64>,
    /// The first second after the last day on which the provider documents this profile; `None` where no end is known. For
    /// warnings: what ends it is the operator.
    pub overlap_ends: Option<UnixTime>,
    /// Highest depth of the trust anchor on the verified path. Everything above the end entity counts: the end entity
    /// stands at 0, so an anchor that issued it directly at 1, and one above a single intermediate at 2. This is how nginx'
    /// documentation and the providers' read. OpenSSL (since 1.1.0) and BoringSSL limit the intermediates alone instead,
    /// so that their depth 1 is 2 here. What was presented, but is on no path, does not count.
    pub verify_depth: u8,
    /// Any of these must match the end-entity certificate. Never empty.
    pub identity: Vec<IdentityRule>,
    /// How extended key usage is judged.
    pub extended_key_usage: ExtendedKeyUsage,
    /// The revocation lists to check against; `None` checks nothing.
    pub revocation: Option<RevocationLists>,
}

/// A sender of webhooks, as the configuration defines it.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The configured name: metric label, and `X-Hookgate-Provider`.
    pub name: Arc<str>,
    /// The profiles, any of which admits. Never empty.
    pub profiles: Vec<Profile>,
    /// What happens when the certificate of this provider is refused.
    pub on_failure: OnFailure,
}

/// The providers that one server name can route to: the only ones that its peers are verified for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Distinct for every distinct scope of a snapshot; part of the cache key.
    pub id: u32,
    /// Ascending, without duplicates. Empty admits nobody.
    pub providers: Vec<ProviderId>,
}

/// Bounds on what a peer may present, so that junk can neither cost much nor mint cache keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// Most certificates in a presented chain.
    pub max_certificates: usize,
    /// Most bytes of DER over all of them.
    pub max_bytes: usize,
}
