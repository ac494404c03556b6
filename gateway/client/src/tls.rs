//! A handshake in the versions and suites of a sender, with rustls. What the server presents is recorded, and not refused.
//!
//! Owns what a handshake shows: chain, CertificateRequest, version, suite, and why it failed. Must not judge the chain: `chain` does.
//! The signature of the handshake is verified all the same: only the holder of the server's key completes one.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::suite::TlsVersion;

/// What a client offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The versions. Those that rustls does not have are left out.
    pub versions: Vec<TlsVersion>,
    /// The suites; `None` for all that rustls has. Those that it does not have are left out.
    pub suites: Option<Vec<CipherSuite>>,
    /// The certificate to present if the server asks for one.
    pub identity: Option<Arc<CertifiedKey>>,
}

/// What a server showed in a handshake, however it ended.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The chain as presented, the end entity first; empty if the handshake ended before.
    pub chain: Vec<CertificateDer<'static>>,
    /// The CertificateRequest, if there was one.
    pub request: Option<CertificateRequest>,
}

/// What a server asks for in its CertificateRequest.
#[derive(Clone, Debug, Default)]
pub struct CertificateRequest {
    /// The names of authorities, each a DER `Name`.
    pub authorities: Vec<Vec<u8>>,
    /// The signature schemes.
    pub schemes: Vec<SignatureScheme>,
}

/// A finished handshake.
#[derive(Debug)]
pub struct Connected {
    /// The stream, on which nothing was sent yet.
    pub stream: TlsStream<TcpStream>,
    /// The version.
    pub version: &'static str,
    /// The suite.
    pub suite: CipherSuite,
}

/// Why TLS ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The server sent an alert.
    #[error("the receiver ended the connection with the TLS alert {}", alert_name(*.0))]
    Alert(AlertDescription),
    /// The server closed the connection without an alert.
    #[error("the receiver closed the connection without a TLS alert")]
    Closed,
    /// No end within the time.
    #[error("the handshake was not complete in time")]
    TimedOut,
    /// rustls has none of the versions or suites.
    #[error("this program has none of the TLS versions and cipher suites to offer")]
    NothingToOffer,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// The failure behind an error of a stream or of HTTP over it; `None` if it is not about TLS and not a closed connection.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(match tls {
                    rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
                    other => Self::Other(other.to_string()),
                });
            }
            next = match error.downcast_ref::<io::Error>() {
                // An error that io::Error wraps is not its source.
                Some(io) => match io.get_ref() {
                    Some(inner) => Some(inner as &(dyn Error + 'static)),
                    None if is_close(io.kind()) => return Some(Self::Closed),
                    None => error.source(),
                },
                None => error.source(),
            };
        }
        let mut next = Some(error);
        while let Some(error) = next {
            if error.downcast_ref::<io::Error>().is_some_and(|io| is_close(io.kind())) {
                return Some(Self::Closed);
            }
            next = error.source();
        }
        None
    }
}

fn is_close(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

/// The name in RFC 8446, section 6: `certificate_required`.
#[must_use]
pub fn alert_name(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else { return format!("{}", u8::from(alert)) };
    let mut text = String::new();
    let letters: Vec<char> = name.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        let after_small = index > 0 && letters[index - 1].is_lowercase();
        let before_small = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && index > 0 && (after_small || before_small) {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

impl Offer {
    /// The configuration of one connection, and where it records.
    fn config(&self, provider: &CryptoProvider) -> Result<(ClientConfig, Arc<Recorder>), TlsFailure> {
        let mut provider = provider.clone();
        if let Some(suites) = &self.suites {
            provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
        }
        let has = |version: &&'static SupportedProtocolVersion| {
            provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
        };
        let versions: Vec<&'static SupportedProtocolVersion> = [&rustls::version::TLS13, &rustls::version::TLS12]
            .into_iter()
            .filter(|version| self.versions.iter().any(|wanted| wanted.code() == u16::from(version.version)))
            .filter(has)
            .collect();
        if versions.is_empty() {
            return Err(TlsFailure::NothingToOffer);
        }
        let recorder = Arc::new(Recorder {
            algorithms: provider.signature_verification_algorithms,
            identity: self.identity.clone(),
            shown: Mutex::default(),
        });
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder =
            builder.with_protocol_versions(&versions).map_err(|error| TlsFailure::Other(error.to_string()))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<_>);
        let mut config = builder.with_client_cert_resolver(Arc::clone(&recorder) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed handshake would show neither chain nor request.
        config.resumption = Resumption::disabled();
        Ok((config, recorder))
    }

    /// Makes one handshake over `stream`. The caller bounds its duration.
    pub async fn connect(
        &self,
        provider: &CryptoProvider,
        server_name: ServerName<'static>,
        stream: TcpStream,
    ) -> (Shown, Result<Connected, TlsFailure>) {
        let (config, recorder) = match self.config(provider) {
            Ok(made) => made,
            Err(failure) => return (Shown::default(), Err(failure)),
        };
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
        let outcome = connecting
            .await
            .map_err(|error| TlsFailure::of(&error).unwrap_or_else(|| TlsFailure::Other(error.to_string())));
        (recorder.shown(), outcome.map(Connected::of))
    }
}

impl Connected {
    fn of(stream: TlsStream<TcpStream>) -> Self {
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        };
        let suite = connection.negotiated_cipher_suite().map_or(CipherSuite::from(0), |suite| suite.suite());
        Self { version, suite, stream }
    }
}

/// Verifier and resolver of one connection. The verifier accepts every chain, because `chain` judges it afterwards.
#[derive(Debug)]
struct Recorder {
    algorithms: WebPkiSupportedAlgorithms,
    identity: Option<Arc<CertifiedKey>>,
    shown: Mutex<Shown>,
}

impl Recorder {
    fn record(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let chain = all.map(|certificate| certificate.clone().into_owned()).collect();
        self.record(|shown| shown.chain = chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Recorder {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let authorities = authorities.iter().map(|name| name.to_vec()).collect();
        let request = CertificateRequest { authorities, schemes: schemes.to_vec() };
        self.record(|shown| shown.request = Some(request));
        self.identity.clone()
    }

    /// rustls asks [`ResolvesClientCert::resolve`] only if this is true.
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::CertificateRequired, "certificate_required"),
            (AlertDescription::ProtocolVersion, "protocol_version"),
            (AlertDescription::UnrecognisedName, "unrecognised_name"),
            (AlertDescription::Unknown(250), "250"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn the_alert_is_found_behind_other_errors() {
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let io = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(TlsFailure::of(&io), Some(TlsFailure::Alert(AlertDescription::UnknownCA)));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(TlsFailure::of(&reset), Some(TlsFailure::Closed));
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(TlsFailure::of(&eof), Some(TlsFailure::Closed));
        assert_eq!(TlsFailure::of(&io::Error::other("anything")), None);
    }
}
