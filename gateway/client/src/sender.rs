//! What is known of a sender: which certificate, versions and suites it uses, what it sends, and what it does after a failure.
//!
//! Plain data, filled from a preset by the caller. Must not know a sender by name.

use std::time::Duration;

use hookgate_core::auth::SignatureForm;
use hookgate_core::auth::body_signature::{HmacHash, StandardFields};
use rustls::CipherSuite;

use crate::suite::TlsVersion;

/// A sender of webhooks.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The name of its preset.
    pub name: String,
    /// Who it is, in a few words.
    pub title: String,
    /// The page that documents it.
    pub documentation: String,
    /// Its client certificate; `None` if it has none.
    pub certificate: Option<CertificateShape>,
    /// What proves its requests: one of these suffices. Empty if the certificate alone does.
    pub proofs: Vec<Proof>,
    /// Where the id of a delivery stands.
    pub delivery_id: Option<DeliveryId>,
    /// What it documents about connections.
    pub facts: Facts,
    /// What it sends.
    pub request: RequestShape,
}

/// The shape of a client certificate.
#[derive(Clone, Debug)]
pub struct CertificateShape {
    /// The profile of the preset.
    pub profile: String,
    /// Subject: attribute types (DER contents of the object identifier) and values, in order. Empty if the preset leaves it open.
    pub subject: Vec<(Vec<u8>, String)>,
    /// DNS names in the subject alternative name.
    pub dns_names: Vec<String>,
    /// URIs in it.
    pub uris: Vec<String>,
    /// The trust anchors of every profile; empty if the preset leaves them open.
    pub anchors: Vec<AnchorName>,
    /// How deep the anchor may be: 1 if it issues end entities itself.
    pub depth: u8,
}

/// The name of a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorName {
    /// A form in which equal names are equal bytes.
    pub comparable: Vec<u8>,
    /// To print.
    pub text: String,
}

/// One way in which a request proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An HMAC over the request.
    Hmac(SignatureForm, HmacHash),
    /// Standard Webhooks, under these names: the secret is `whsec_…`.
    StandardWebhooks(StandardFields),
    /// A signature by a private key.
    PublicKey(SignatureForm, KeyAlgorithm),
    /// A bearer token, which the sender gets elsewhere.
    Token,
    /// A parameter in the body, at this JSON pointer; `{name}` in it stands for a name that the receiver chooses.
    SessionParameter(String),
    /// A secret in this header field, after this prefix.
    FieldSecret {
        /// The field; `None` if the receiver chooses it.
        header: Option<String>,
        /// The text before the secret.
        prefix: String,
    },
    /// User name and password.
    Basic,
    /// A proof that this program cannot make.
    Unsupported(&'static str),
}

impl Proof {
    /// The word for `--proof`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hmac(..) | Self::StandardWebhooks(_) | Self::PublicKey(..) => "signature",
            Self::Token => "token",
            Self::SessionParameter(_) => "session-parameter",
            Self::FieldSecret { .. } => "secret",
            Self::Basic => "basic",
            Self::Unsupported(_) => "unsupported",
        }
    }
}

/// The algorithms of private keys that sign requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256, as DER.
    EcdsaP256,
    /// RSA, PKCS #1 version 1.5, with SHA-256.
    RsaPkcs1Sha256,
    /// The same with SHA-512.
    RsaPkcs1Sha512,
}

/// Where the id of a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryId {
    /// In this header field.
    Header(String),
    /// In the body, at this JSON pointer.
    Body(String),
}

/// What a sender documents about connections. Everything may be undocumented.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The versions of TLS; empty if undocumented.
    pub tls_versions: Vec<TlsVersion>,
    /// The suites, in its order; empty if undocumented.
    pub cipher_suites: Vec<CipherSuite>,
    /// Which roots it trusts.
    pub server_roots: ServerRoots,
    /// Whether it verifies only a chain in order.
    pub needs_ordered_chain: bool,
    /// Whether it chooses its certificate by the CA names in the CertificateRequest.
    pub needs_ca_names: bool,
    /// How long it waits for the first byte of an answer.
    pub timeout: Option<Duration>,
    /// What it does after failures.
    pub after: After,
}

/// Which roots a sender trusts for the receiver's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerRoots {
    /// Not documented. Public roots are the safe choice.
    #[default]
    Undocumented,
    /// Mozilla's list, and nothing else.
    Mozilla,
    /// Public ones, or the receiver's own that one gives the sender.
    Own,
}

/// What a sender does after a failure, each in words that follow its name: `drops the webhook without a retry`.
#[derive(Clone, Debug, Default)]
pub struct After {
    /// After a handshake that fails, or a server certificate that it does not accept.
    pub handshake: Option<String>,
    /// After a server certificate that has expired, if that differs.
    pub expired: Option<String>,
    /// After a status 4xx.
    pub refused: Option<String>,
    /// After a status 5xx, a time-out, or if it cannot connect.
    pub failed: Option<String>,
}

/// What a sender sends.
#[derive(Clone, Debug, Default)]
pub struct RequestShape {
    /// Header fields beside `Host`, `Content-Length` and those of the proof. A value may have the placeholders of the body.
    pub fields: Vec<(String, String)>,
    /// The body, in which `@id@` stands for the id of the delivery, `@unix@` for the time in seconds since 1970, and `@time@` for it as RFC
    /// 3339. `None` if undocumented.
    pub body: Option<String>,
}
