//! The client verifier of a site: what rustls asks during a full handshake.
//!
//! Owns the check that the peer holds the key of its certificate (`CertificateVerify`), which is always made. It judges the *chain*
//! only if a provider of the site wants handshakes aborted, or if the key of the certificate cannot be used or makes that check expensive;
//! otherwise the chain is judged after the handshake, so that the refusal can be explained over HTTP. Must not admit: a handshake that this
//! verifier lets through proves possession of a key and nothing more, and `admission` asks `identity` afterwards. It does not ask again
//! about a chain that was refused here already, since refusing costs more than admitting.
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

use hookgate_core::identity::{
    CertificateRequest, ChainRefusal, Identity, OnFailure, PresentedRefusal, Scope, is_key_accepted, is_key_expensive,
};
use hookgate_core::reject::Reject;

thread_local! {
    /// The refusal of the handshake step that runs on this thread.
    static REFUSAL: RefCell<Option<Judged>> = const { RefCell::new(None) };
}

/// A chain that was refused.
struct Judged {
    refusal: Box<ChainRefusal>,
    /// The handshake ends here. Otherwise it goes on, and the refusal is explained over HTTP.
    aborts: bool,
}

/// The refusal of the client's chain, if a step of the handshake made one.
pub(super) type Refused = Option<Box<ChainRefusal>>;

/// Runs one step of a handshake on this thread. Its result comes with the refusal, if the verifier refused the client's chain in it: an
/// error with one that ended the handshake, a success with one that did not.
pub(super) fn observe<T>(step: impl FnOnce() -> Result<T, Error>) -> Result<(T, Refused), (Error, Refused)> {
    let result = step();
    // Taken after every step, so that none is left from an earlier one.
    let judged = REFUSAL.take();
    match result {
        Ok(done) => Ok((done, judged.map(|judged| judged.refusal))),
        Err(error) => Err((error, judged.filter(|judged| judged.aborts).map(|judged| judged.refusal))),
    }
}

/// Verifies clients of one site.
pub(super) struct SiteVerifier {
    identity: Arc<Identity>,
    scope: Scope,
    authority_names: Vec<DistinguishedName>,
    /// A provider of the scope wants handshakes aborted, so chains are judged during the handshake.
    judges: bool,
    /// Every provider of the scope does, and every request needs a certificate, so rustls refuses a client without one.
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SiteVerifier {
    pub(super) fn new(
        identity: Arc<Identity>,
        scope: Scope,
        request: CertificateRequest,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let aborts = |id: &_| identity.provider(*id).on_failure == OnFailure::Abort;
        let judges = scope.providers.iter().any(aborts);
        let is_required = request == CertificateRequest::Required;
        let mandatory = is_required && judges && scope.providers.iter().all(aborts);
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
        // A key that cannot be read, or is of a kind that is not accepted, proves nothing, so such a handshake fails in any case: with our
        // reason rather than rustls'.
        let usable = ParsedCertificate::try_from(end_entity).is_ok() && is_key_accepted(end_entity);
        // An expensive signature is not checked for a chain whose refusal was expensive.
        if self.judges || !usable || is_key_expensive(end_entity) {
            let mut chain = Vec::with_capacity(1 + intermediates.len());
            chain.push(end_entity.clone());
            chain.extend_from_slice(intermediates);
            let refused = self.identity.refusal_of_presented(&self.scope, &chain, now);
            if let Some(PresentedRefusal { refusal, ends_handshake }) = refused {
                let aborts = refusal.on_failure == OnFailure::Abort || !usable || ends_handshake;
                let error = error_with_alert_of(refusal.refusal.reject);
                REFUSAL.set(Some(Judged { refusal: Box::new(refusal), aborts }));
                if aborts {
                    return Err(Error::InvalidCertificate(error));
                }
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
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use hookgate_core::identity::{
        ChainCache, ChainLimits, Condition, ConfiguredAnchor, ExtendedKeyUsage, IdentityRule, Profile, Provider,
        ProviderId, RefusalAnswer,
    };

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256 as P256, PKCS_ECDSA_P384_SHA384 as P384, SignatureAlgorithm};

    use super::*;

    type Authority = rcgen::CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str, algorithm: &'static SignatureAlgorithm) -> Authority {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate_for(algorithm).unwrap()).unwrap()
    }

    /// A well-formed client certificate.
    fn client(issuer: &Authority, algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        rcgen::CertificateParams::default().signed_by(&key, issuer).unwrap().der().clone()
    }

    /// A verifier of a site with one provider for each of `modes`, and a well-formed client certificate of a foreign authority.
    fn verifier(modes: &[OnFailure]) -> (SiteVerifier, CertificateDer<'static>) {
        (verifier_below(modes, &authority("root", &P256)), client(&authority("foreign", &P256), &P256))
    }

    /// A verifier of a site with one provider for each of `modes`, whose trust anchor is `root`.
    fn verifier_below(modes: &[OnFailure], root: &Authority) -> SiteVerifier {
        let profile = Profile {
            name: "default".into(),
            trust_anchors: [ConfiguredAnchor::of(root.der(), u64::MAX).unwrap()].into_iter().collect(),
            overlap_ends: None,
            verify_depth: 1,
            identity: vec![IdentityRule::new(vec![Condition::subject_cn("sender").unwrap()]).unwrap()],
            extended_key_usage: ExtendedKeyUsage::ClientAuth,
            revocation: None,
        };
        let provider = |on_failure: &OnFailure| Provider {
            name: "sender".into(),
            profiles: vec![profile.clone()],
            on_failure: *on_failure,
            refusal: RefusalAnswer::Deny,
            client_certificate: Default::default(),
        };
        let providers: Vec<_> = modes.iter().map(provider).collect();
        let scope = Scope { id: 0, providers: (0..).take(modes.len()).map(ProviderId).collect() };
        let limits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };
        let identity = Identity::new(1, providers.into(), Arc::new(ChainCache::new(0, Duration::ZERO)), limits);
        let algorithms = crate::crypto::provider().signature_verification_algorithms;
        SiteVerifier::new(Arc::new(identity), scope, CertificateRequest::Required, algorithms)
    }

    #[test]
    fn a_chain_that_is_refused_in_the_handshake_is_judged_once() {
        use OnFailure::{Abort, Respond};
        let junk = CertificateDer::from(b"junk".to_vec());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_009_600));
        // Whether the handshake ends, and whether it says why the chain is refused.
        let check = |modes: &[OnFailure], readable: bool, expected: (bool, bool)| {
            let (verifier, leaf) = verifier(modes);
            let certificate = if readable { &leaf } else { &junk };
            let found = match observe(|| verifier.verify_client_cert(certificate, &[], now)) {
                Ok((_, refusal)) => (false, refusal.is_some()),
                Err((_, refusal)) => (true, refusal.is_some()),
            };
            assert_eq!(found, expected, "{modes:?}, readable: {readable}");
            // The next step of another connection does not see it.
            assert!(observe(|| Ok(())).is_ok_and(|((), refusal)| refusal.is_none()));
        };
        check(&[Respond], true, (false, false));
        check(&[Respond], false, (true, true));
        check(&[Abort], true, (true, true));
        check(&[Abort, Respond], true, (false, true));
        check(&[Abort, Respond], false, (true, true));
        // The chain was refused, but the handshake failed for another reason.
        let (verifier, leaf) = verifier(&[Abort, Respond]);
        let failed = observe(|| {
            verifier.verify_client_cert(&leaf, &[], now)?;
            Err::<(), _>(Error::DecryptError)
        });
        assert!(failed.is_err_and(|(error, refusal)| error == Error::DecryptError && refusal.is_none()));
    }

    #[test]
    fn an_expensive_key_ends_the_handshake_if_the_refusal_was_expensive_too() {
        let verifier = verifier_below(&[OnFailure::Respond], &authority("root", &P384));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_009_600));
        let (impostor, foreign) = (authority("root", &P384), authority("foreign", &P384));
        // Whether the handshake ends, and the reason if the chain was judged in it.
        for (leaf, expected) in [
            (client(&impostor, &P384), (true, Some(Reject::BadSignature))),
            (client(&impostor, &P256), (false, None)),
            (client(&foreign, &P384), (false, Some(Reject::UnknownIssuer))),
        ] {
            let (ends, refusal) = match observe(|| verifier.verify_client_cert(&leaf, &[], now)) {
                Ok((_, refusal)) => (false, refusal),
                Err((_, refusal)) => (true, refusal),
            };
            assert_eq!((ends, refusal.map(|refused| refused.refusal.reject)), expected);
        }
    }

    #[test]
    fn a_key_that_cannot_sign_ends_the_handshake_with_a_refusal_that_names_it() {
        /// id-ecPublicKey and the curve P-256; the last byte 1 makes it P-192 (RFC 5480, section 2.1.1.1).
        const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let (verifier, leaf) = verifier(&[OnFailure::Respond]);
        let mut leaf = leaf.to_vec();
        let place = leaf.windows(P256.len()).position(|window| window == P256).unwrap();
        leaf[place + P256.len() - 1] = 1;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_009_600));
        let failed = observe(|| verifier.verify_client_cert(&leaf.into(), &[], now));
        let (_, refusal) = failed.unwrap_err();
        let refusal = refusal.unwrap().refusal;
        assert_eq!(refusal.reject, Reject::PathConstraint);
        assert!(refusal.detail().contains("an ECDSA key on P-192"), "{refusal}");
    }

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
