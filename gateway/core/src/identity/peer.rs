//! The chain of a peer that has proven possession of its private key.
//!
//! Owns the only constructors of [`PeerChain`]. Must not parse a certificate.

use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;

use super::VerifiedChain;

/// The certificates that a peer presented, end entity first, after a handshake that proved possession of the end entity's private
/// key.
///
/// A full handshake proves possession by `CertificateVerify` (RFC 8446, section 4.4.3; RFC 5246, section 7.4.8), a resumed one by
/// the secret of the session that a full handshake established. Empty if the peer presented no certificate, which every policy
/// refuses. [`Identity::verify`](super::Identity::verify) decides whether the chain is trusted.
///
/// Code outside this module cannot make one from certificates alone:
///
/// ```compile_fail,E0451
/// use hookgate_core::identity::PeerChain;
///
/// fn forge<'a>(certificates: &'a [rustls_pki_types::CertificateDer<'a>]) -> PeerChain<'a> {
///     PeerChain { certificates }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeerChain<'a> {
    certificates: &'a [CertificateDer<'a>],
}

impl<'a> PeerChain<'a> {
    /// The chain of a finished handshake, full or resumed; `None` while it is in progress. The verifier of the connection's
    /// configuration must check the signature of `CertificateVerify`, as `tls::verifier` of the daemon does for every site.
    pub fn of_handshake(connection: &'a ServerConnection) -> Option<Self> {
        let certificates = connection.peer_certificates().unwrap_or_default();
        (!connection.is_handshaking()).then_some(Self { certificates })
    }

    /// The chain of a peer that was verified before, in order to verify it again: by another policy, or at a later time.
    pub fn of_verified(chain: &'a VerifiedChain) -> Self {
        Self { certificates: chain.certificates() }
    }

    /// A chain without a handshake, for tests and micro-benchmarks of the later steps. A release build of the daemon that contains
    /// this does not compile.
    #[cfg(any(test, feature = "testing"))]
    pub fn unsafe_assumed(certificates: &'a [CertificateDer<'a>]) -> Self {
        Self { certificates }
    }

    /// The certificates, end entity first.
    pub fn certificates(self) -> &'a [CertificateDer<'a>] {
        self.certificates
    }
}
