//! The client verifier of a site: what rustls asks during a full handshake.
//!
//! Owns the check that the peer holds the key of its certificate (`CertificateVerify`), which is always made. It judges the *chain*
//! only if a provider of the site wants handshakes aborted, or if the key of the certificate cannot be read; otherwise the chain is
//! judged after the handshake, so that the refusal can be explained over HTTP. Must not admit: a handshake that this verifier lets
//! through proves possession of a key and nothing more, and `admission` asks `identity` afterwards.
//!
//! A refusal leaves the handshake through a thread-local value. rustls has no other way: a verifier is shared by all connections of
//! a site, and its error either chooses the alert or carries data (`CertificateError::Other`, which always sends
//! `certificate_unknown`). A handshake step is one synchronous call, so `observe` sees the refusal of its own step and no other.

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
    /// The refusal of the handshake step that runs on this thread.
    static REFUSAL: RefCell<Option<ChainRefusal>> = const { RefCell::new(None) };
}

/// Runs one step of a handshake on this thread. An error comes with the refusal, if a verifier refused the client's chain in it.
pub(super) fn observe<T>(step: impl FnOnce() -> Result<T, Error>) -> Result<T, (Error, Option<ChainRefusal>)> {
    // A verifier that refuses fails its step, so no refusal is left from an earlier one.
    step().map_err(|error| (error, REFUSAL.take()))
}

/// Verifies clients of one site.
pub(super) struct SiteVerifier {
    identity: Arc<Identity>,
    scope: Scope,
    authority_names: Vec<DistinguishedName>,
    /// A provider of the scope wants handshakes aborted, so chains are judged during the handshake.
    judges: bool,
    /// Every provider of the scope does, so rustls refuses a client without a certificate.
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
        // A key that cannot be read proves nothing, so such a handshake fails in any case: with our reason rather than rustls'.
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
