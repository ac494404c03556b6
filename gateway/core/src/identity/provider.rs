//! The configured providers, their profiles, and which of them a server name can reach.
//!
//! Owns plain data, which `config` makes once and nothing changes. Must not verify anything. An empty policy admits no peer: a profile
//! without trust anchors or without identity rules matches no chain, and `config` refuses to build one.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::anchor::TrustAnchors;
use super::revocation::RevocationLists;
use super::rule::IdentityRule;
use super::trust_digest::{Digested, Transcript};

/// The index of a provider in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(pub u16);

/// `on_failure`: what happens when a peer's certificate is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Complete the handshake, and answer each request with a problem document that explains the refusal.
    #[default]
    Respond,
    /// Abort the handshake with the TLS alert of the reason.
    Abort,
}

/// `refusal`: how a refusal is answered that may be ignorance of this receiver. Decides about the answer alone: it admits no peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalAnswer {
    /// 403, with what is wrong.
    #[default]
    Deny,
    /// 503 with Retry-After if there is evidence that the claim is true (see [`crate::suspicion`]), otherwise as [`Deny`](Self::Deny).
    /// For senders that send again after 503 and not after 403.
    Retry,
    /// 403, without what is wrong.
    Terse,
}

/// `client_certificate`: whether the senders of a provider have a client certificate.
///
/// A provider that demands none has no profiles, so that no chain proves it. Its requests prove it themselves: see
/// [`auth::AuthorizedPeer`](crate::auth::AuthorizedPeer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A chain that one of the profiles verifies. The proofs come on top of it.
    #[default]
    Required,
    /// None, so that the proofs of the request are all that tells who sent it.
    None {
        /// `unsafe_static_secret_suffices`: a proof that is the same in every request is enough.
        static_secret_suffices: bool,
    },
}

/// What the handshake at a server name asks of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateRequest {
    /// A certificate; a peer without one is refused.
    Required,
    /// A certificate; a peer without one may go on to its request, because some provider demands none, or a route answers everyone.
    Optional,
    /// Nothing: no provider of this server name demands a certificate.
    Never,
}

impl CertificateRequest {
    /// What the handshake asks for if these providers are served.
    pub fn of<'a>(providers: impl Iterator<Item = &'a Provider>) -> Self {
        let (mut some, mut none) = (false, false);
        for provider in providers {
            match provider.client_certificate {
                ClientCertificate::Required => some = true,
                ClientCertificate::None { .. } => none = true,
            }
        }
        match (some, none) {
            (_, false) => Self::Required,
            (true, true) => Self::Optional,
            (false, true) => Self::Never,
        }
    }

    /// The same at a server name with a route that answers everyone, and with providers or without.
    #[must_use]
    pub fn beside_public_route(self, has_providers: bool) -> Self {
        match self {
            Self::Required if has_providers => Self::Optional,
            Self::Required => Self::Never,
            Self::Optional | Self::Never => self,
        }
    }

    /// Whether a peer may go on to its request without an admitted certificate.
    pub fn admits_without(self) -> bool {
        self != Self::Required
    }
}

/// `extended_key_usage`: what this extension of the end entity and its issuers must allow (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// If the extension is present, it must list id-kp-clientAuth. If it is absent, the certificate passes and counts as lenient.
    #[default]
    ClientAuth,
    /// The end entity must have the extension with id-kp-clientAuth. If an issuer has the extension, it must list it too.
    ClientAuthExplicit,
    /// The extension is ignored. A certificate that `ClientAuth` would have refused counts as lenient.
    Ignore,
}

impl ExtendedKeyUsage {
    /// As the configuration writes it.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientAuth => "client-auth",
            Self::ClientAuthExplicit => "client-auth-explicit",
            Self::Ignore => "ignore",
        }
    }

    /// Whether it admits less than `other`.
    #[must_use]
    pub fn is_stricter_than(self, other: Self) -> bool {
        let rank = |usage| match usage {
            Self::Ignore => 0_u8,
            Self::ClientAuth => 1,
            Self::ClientAuthExplicit => 2,
        };
        rank(self) > rank(other)
    }
}

/// One kind of certificate chain that a provider uses: trust anchors, depth, identity rules. While a provider changes its authority,
/// it has two profiles.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Name within the provider, such as `digicert-global-root-g2`; `default` if the configuration gives none.
    pub name: Arc<str>,
    /// The trust anchors. The path may end at any of them. Never empty.
    pub trust_anchors: TrustAnchors,
    /// The first second after the last day on which the provider documents this profile; `None` if no end is known. For warnings
    /// only: the profile stays in force until the operator removes it.
    pub overlap_ends: Option<UnixTime>,
    /// Highest depth of the trust anchor on the verified path. The end entity is at depth 0, a trust anchor that issued it at 1,
    /// and a trust anchor above one intermediate at 2. The documentation of nginx and of the providers counts in the same way.
    /// OpenSSL (since 1.1.0) and BoringSSL count the intermediates only: their depth 1 is 2 here. A presented certificate that
    /// is not on the path does not count, and neither does a self-issued authority (RFC 5280, section 6.1.4 (l)): with one, an
    /// authority certifies its next key.
    pub verify_depth: u8,
    /// The identity rules. At least one must match the end entity. Never empty.
    pub identity: Vec<IdentityRule>,
    /// What the extended key usage extension must allow.
    pub extended_key_usage: ExtendedKeyUsage,
    /// The revocation lists; `None` means that revocation is not checked.
    pub revocation: Option<RevocationLists>,
}

/// A sender of webhooks, as the configuration defines it: a `[[provider]]`.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The configured name: metric label, and `X-Hookgate-Provider`.
    pub name: Arc<str>,
    /// The profiles. A chain that satisfies any of them proves the provider. Empty if and only if the provider demands no certificate.
    pub profiles: Vec<Profile>,
    /// What happens when a certificate of this provider is refused. `Respond` if the provider demands none.
    pub on_failure: OnFailure,
    /// How such a refusal is answered over HTTP.
    pub refusal: RefusalAnswer,
    /// Whether its senders have a certificate.
    pub client_certificate: ClientCertificate,
}

impl Digested for Provider {
    fn add_to(&self, transcript: &mut Transcript) {
        // `refusal` decides about answers alone.
        let Self { name, profiles, on_failure, refusal: _, client_certificate } = self;
        transcript.add(&**name);
        transcript.add(profiles.as_slice());
        transcript.number(match on_failure {
            OnFailure::Respond => 0,
            OnFailure::Abort => 1,
        });
        match client_certificate {
            ClientCertificate::Required => transcript.number(0),
            ClientCertificate::None { static_secret_suffices } => {
                transcript.number(1);
                transcript.add(static_secret_suffices);
            }
        }
    }
}

impl Digested for Profile {
    fn add_to(&self, transcript: &mut Transcript) {
        // `overlap_ends` is for warnings.
        let Self { name, trust_anchors, overlap_ends: _, verify_depth, identity, extended_key_usage, revocation } =
            self;
        transcript.add(&**name);
        transcript.add(trust_anchors);
        transcript.number(u64::from(*verify_depth));
        transcript.add(identity.as_slice());
        transcript.add(extended_key_usage.label());
        transcript.add(revocation);
    }
}

/// The providers that the routes of one server name admit. A peer at this server name is verified for these providers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Unique among the different scopes of a snapshot; part of the cache key.
    pub id: u32,
    /// Ascending, without duplicates. An empty scope admits no peer.
    pub providers: Vec<ProviderId>,
}

impl Digested for Scope {
    fn add_to(&self, transcript: &mut Transcript) {
        // A number of this process.
        let Self { id: _, providers } = self;
        transcript.number(providers.len() as u64);
        providers.iter().for_each(|ProviderId(id)| transcript.number(u64::from(*id)));
    }
}

/// Bounds on a presented chain, which limit what a hostile chain can cost. They are checked before the cache is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLimits {
    /// `max_presented_certificates`: most certificates in a chain.
    pub max_certificates: usize,
    /// `max_presented_bytes`: most bytes of DER in all of them.
    pub max_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::ExtendedKeyUsage::{ClientAuth, ClientAuthExplicit, Ignore};

    #[test]
    fn a_usage_is_stricter_if_it_admits_less() {
        let order = [Ignore, ClientAuth, ClientAuthExplicit];
        for (place, usage) in order.into_iter().enumerate() {
            let stricter = order.map(|other| other.is_stricter_than(usage));
            assert_eq!(stricter, [0, 1, 2].map(|other| other > place), "{usage:?}");
        }
    }
}
