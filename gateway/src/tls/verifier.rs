//! The client verifier of a site: what rustls asks during a full handshake.
//!
//! It always checks that the peer holds the key of the certificate that it presented (`CertificateVerify`). Whether the
//! *chain* is good it decides only where every provider in question wants handshakes aborted, and where the certificate is so
//! odd that its key cannot be read; otherwise the chain is judged after the handshake, so that the refusal can be explained
//! over HTTP. Either way `identity` is asked after the handshake: a handshake that this verifier let through proves possession
//! of a key and nothing more.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use hookgate_core::identity::{ChainRefusal, Identity, OnFailure, Scope};
use hookgate_core::reject::Reject;

thread_local! {
    /// The refusal that made the verifier abort the handshake under way on this thread. rustls carries an alert out of a
    /// handshake but not our reason; a handshake step is one synchronous call, so the reason waits here for its end.
    static REFUSAL: RefCell<Option<ChainRefusal>> = const { RefCell::new(None) };
}

/// Takes the refusal that ended the last handshake step on this thread, if the verifier ended it.
pub(super) fn take_refusal() -> Option<ChainRefusal> {
    REFUSAL.with_borrow_mut(Option::take)
}

/// Verifies clients of one site.
pub(super) struct SiteVerifier {
    identity: Arc<Identity>,
    scope: Scope,
    authority_names: Vec<DistinguishedName>,
    /// Some provider of the scope wants handshakes aborted, so chains are judged inside the handshake.
    judges: bool,
    /// Every provider of the scope does, so a client without a certificate is turned away by rustls.
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SiteVerifier {
    pub(super) fn new(identity: Arc<Identity>, scope: Scope, algorithms: WebPkiSupportedAlgorithms) -> Self {
        let aborts = |id: &_| identity.provider(*id).on_failure == OnFailure::Abort;
        let judges = scope.providers.iter().any(aborts);
        let mandatory = judges && scope.providers.iter().all(aborts);
        let authority_names = identity.authority_names(&scope).into_iter().map(DistinguishedName::from).collect();
        Self { identity, scope, authority_names, judges, mandatory, algorithms }
    }
}

impl fmt::Debug for SiteVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SiteVerifier").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for SiteVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authority_names
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // A key that cannot be read proves nothing, so that such a handshake fails in any case: then at least by our reason.
        let readable = ParsedCertificate::try_from(end_entity).is_ok();
        if self.judges || !readable {
            let mut chain = Vec::with_capacity(1 + intermediates.len());
            chain.push(end_entity.clone());
            chain.extend_from_slice(intermediates);
            if let Some(refusal) = self.identity.refusal_of_presented(&self.scope, &chain, now)
                && (refusal.on_failure == OnFailure::Abort || !readable)
            {
                let error = error_with_alert_of(refusal.refusal.reject);
                REFUSAL.set(Some(refusal));
                return Err(Error::InvalidCertificate(error));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error for which rustls sends the alert that the table gives `reject`.
fn error_with_alert_of(reject: Reject) -> CertificateError {
    match reject.row().alert {
        AlertDescription::CertificateExpired => CertificateError::Expired,
        AlertDescription::CertificateRevoked => CertificateError::Revoked,
        AlertDescription::UnknownCA => CertificateError::UnknownIssuer,
        AlertDescription::DecryptError => CertificateError::BadSignature,
        AlertDescription::UnsupportedCertificate => CertificateError::InvalidPurpose,
        AlertDescription::AccessDenied => CertificateError::ApplicationVerificationFailure,
        AlertDescription::BadCertificate => CertificateError::BadEncoding,
        // certificate_unknown.
        _ => CertificateError::Other(rustls::OtherError(Arc::new(Abort(reject)))),
    }
}

#[derive(Debug)]
struct Abort(Reject);

impl fmt::Display for Abort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.row().title)
    }
}

impl std::error::Error for Abort {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_reason_ends_the_handshake_with_its_alert() {
        let before = Reject::ALL.iter().skip_while(|reject| **reject != Reject::ChainTooLarge);
        let reasons: Vec<_> = before.take_while(|reject| **reject != Reject::ProviderNotAdmitted).collect();
        assert!(reasons.contains(&&Reject::CertificateRevoked) && reasons.contains(&&Reject::IdentityMismatch));
        for reject in reasons {
            let error = error_with_alert_of(*reject);
            assert_eq!(AlertDescription::from(error), reject.row().alert, "{reject:?}");
        }
    }
}
