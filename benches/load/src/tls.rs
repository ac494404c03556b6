//! The client side of TLS: client certificates, the expected server certificate, and the sessions that may be resumed.
//!
//! Owns the configuration of a load. Accepts one server certificate, byte for byte, so that the core, which also runs the handler,
//! verifies no chain. Verifies the signature of the server in the first handshake of each load, and its scheme in the others.

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group, sign};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::protocol::{Identities, Identity, Sender, Transport};

/// The signature scheme of every server under test: its key is P-256.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Most sessions kept: more than the connections of any scenario that resumes.
const MAXIMUM_SESSIONS: usize = 1024;

/// Every certificate and key of a benchmark, parsed once.
pub(crate) struct Credentials {
    server: CertificateDer<'static>,
    /// Name for SNI and `Host`.
    pub(crate) server_name: String,
    returning: Arc<CertifiedKey>,
    distinct: Arc<Turns>,
}

impl Credentials {
    /// Reads every file that `identities` names.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is no PEM of the right kind.
    pub(crate) fn read(identities: &Identities) -> Result<Self> {
        let server = read_chain(&identities.server)?.swap_remove(0);
        let distinct = identities.distinct.iter().map(read_identity).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            server,
            server_name: identities.server_name.clone(),
            returning: read_identity(&identities.returning)?,
            distinct: Arc::new(Turns { keys: distinct, next: AtomicUsize::new(0) }),
        })
    }

    /// The configuration for one load, and its sessions.
    ///
    /// # Errors
    ///
    /// `transport` is [`Transport::Plain`], or `sender` is [`Sender::Distinct`] and there are no distinct certificates.
    pub(crate) fn client_config(
        &self,
        transport: Transport,
        sender: Sender,
    ) -> Result<(Arc<ClientConfig>, Arc<Sessions>)> {
        let (suite, protocol) = match transport {
            Transport::Tls13 | Transport::Tls13Hybrid => (cipher_suite::TLS13_AES_128_GCM_SHA256, &version::TLS13),
            Transport::Tls12 => (cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, &version::TLS12),
            Transport::Plain => anyhow::bail!("without TLS there is no TLS configuration"),
        };
        // TLS 1.2 must also offer the curve of the server certificate, or OpenSSL and BoringSSL cannot use it (RFC 8422, section
        // 5.1). The group that the key exchange used is checked after the handshake.
        let kx_groups = match transport {
            Transport::Tls12 => vec![kx_group::X25519, kx_group::SECP256R1],
            Transport::Tls13Hybrid => vec![X25519MLKEM768],
            Transport::Tls13 | Transport::Plain => vec![kx_group::X25519],
        };
        let provider = CryptoProvider { cipher_suites: vec![suite], kx_groups, ..default_provider() };
        let verifier = Pinned {
            server: self.server.clone(),
            algorithms: provider.signature_verification_algorithms,
            verified: AtomicBool::new(false),
        };
        let resolver: Arc<dyn ResolvesClientCert> = match sender {
            Sender::Distinct => {
                ensure!(!self.distinct.keys.is_empty(), "there are no distinct certificates");
                Arc::clone(&self.distinct) as _
            }
            Sender::Returning | Sender::Resuming => {
                Arc::new(Turns { keys: vec![Arc::clone(&self.returning)], next: AtomicUsize::new(0) })
            }
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[protocol])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(resolver);
        let sessions = Arc::new(Sessions::default());
        config.resumption = match sender {
            Sender::Resuming => Resumption::store(Arc::clone(&sessions) as _),
            Sender::Returning | Sender::Distinct => Resumption::disabled(),
        };
        Ok((Arc::new(config), sessions))
    }
}

fn read_chain(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?;
    ensure!(!chain.is_empty(), "{} holds no certificate", path.display());
    Ok(chain)
}

fn read_identity(identity: &Identity) -> Result<Arc<CertifiedKey>> {
    let key = PrivateKeyDer::from_pem_file(&identity.key).with_context(|| format!("{}", identity.key.display()))?;
    Ok(Arc::new(CertifiedKey::new(read_chain(&identity.chain)?, sign::any_supported_type(&key)?)))
}

/// Client certificates, used in turn.
#[derive(Debug)]
struct Turns {
    keys: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

impl ResolvesClientCert for Turns {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&self.keys[turn % self.keys.len()]))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts one server certificate.
#[derive(Debug)]
struct Pinned {
    server: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
    verified: AtomicBool,
}

impl Pinned {
    /// Whether this is the first signature, which is verified.
    fn is_first(&self, signed: &DigitallySignedStruct) -> Result<bool, Error> {
        match signed.scheme {
            SCHEME => Ok(!self.verified.swap(true, Ordering::Relaxed)),
            other => Err(Error::General(format!("signed with {other:?}, not {SCHEME:?}"))),
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.server {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("another certificate than that of the servers under test".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.is_first(signed)? {
            true => verify_tls12_signature(message, certificate, signed, &self.algorithms),
            false => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.is_first(signed)? {
            true => verify_tls13_signature(message, certificate, signed, &self.algorithms),
            false => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

/// Sessions that may be resumed. TLS 1.3 tickets are used once (RFC 8446, appendix C.4), the newest first; a TLS 1.2 session is
/// reused.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Until this is set, sessions are only collected: a handshake that resumes would consume as many as it adds.
    released: bool,
    tickets: VecDeque<Tls13ClientSessionValue>,
    tls12: Option<Tls12ClientSessionValue>,
}

impl Sessions {
    /// The number of handshakes that can resume now.
    pub(crate) fn len(&self) -> usize {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.tls12.is_some() { MAXIMUM_SESSIONS } else { kept.tickets.len() }
    }

    /// Allows handshakes to resume the collected sessions.
    pub(crate) fn release(&self) {
        self.with(|kept| kept.released = true);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|kept| kept.tls12 = Some(value));
    }

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| if kept.released { kept.tls12.clone() } else { None })
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {
        self.with(|kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|kept| {
            if kept.tickets.len() == MAXIMUM_SESSIONS {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, _server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| if kept.released { kept.tickets.pop_back() } else { None })
    }
}
