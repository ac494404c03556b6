//! A recent refusal as JSON: what `hookgate explain` reads, and prints with `--json`.

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::recent::{Refused, fingerprint_text};

/// A recent refusal. What is unknown is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::control) struct Record {
    /// `request`, `handshake` or `connection`.
    pub(in crate::control) what: String,
    /// In seconds since 1970.
    pub(in crate::control) at: u64,
    pub(in crate::control) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) status: Option<u16>,
    pub(in crate::control) explanation: String,
    /// Of the configuration that refused it.
    pub(in crate::control) generation: u64,
    /// Address and port.
    pub(in crate::control) peer: String,
    /// Those of the proxy that the peer came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) route: Option<String>,
    pub(in crate::control) providers: Vec<String>,
    /// SHA-256 of the end entity, as authorities print it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::control) issuer: Option<String>,
    /// As presented, in base64. Empty if there was none, or if it is not kept any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::control) certificates: Vec<String>,
}

impl Record {
    pub(super) fn new(refused: &Refused) -> Self {
        let chain = refused.note.chain.as_ref();
        let certificates = chain.into_iter().flat_map(|chain| chain.certificates());
        let certificates = certificates.map(|certificate| BASE64.encode(certificate)).collect();
        Self { certificates, ..Self::without_chain(refused) }
    }

    pub(super) fn without_chain(refused: &Refused) -> Self {
        let Refused { note, end_entity, .. } = refused;
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let known = |text: &str| Some(text).filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            what: note.what.label().to_owned(),
            at: note.at,
            reason: note.reject.row().reason.to_owned(),
            status: note.status,
            explanation: note.explanation.to_string(),
            generation: note.generation,
            peer: note.peer.to_string(),
            proxy: note.proxy.map(|proxy| proxy.to_string()),
            request_id: text(&note.request_id),
            server_name: text(&note.server_name),
            method: text(&note.method),
            path: text(&note.path),
            route: note.route.as_deref().map(str::to_owned),
            providers: note.providers.iter().map(|name| name.to_string()).collect(),
            fingerprint: end_entity.as_ref().map(|it| fingerprint_text(&it.fingerprint)),
            subject: end_entity.as_ref().and_then(|it| known(&it.subject)),
            issuer: end_entity.as_ref().and_then(|it| known(&it.issuer)),
            certificates: Vec::new(),
        }
    }

    /// The chain, as presented.
    pub(in crate::control) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let decoded = self.certificates.iter().map(|text| BASE64.decode(text.as_bytes()).map(CertificateDer::from));
        decoded.collect::<Result<_, _>>().unwrap_or_default()
    }
}
