//! One ClientHello with the exact versions and suites of a sender, and what the server answers to it: a ServerHello or an alert.
//!
//! Owns these two messages, because rustls offers only the suites that it has itself: no CBC, no DHE, no TLS 1.1. Nothing is derived
//! or decrypted: the connection ends after the answer. Must not judge.

use std::io;

use rustls::{AlertDescription, CipherSuite, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::suite::{self, TlsVersion};

/// The most bytes of a record (RFC 8446, section 5.1). A longer length is no TLS.
const MAXIMUM_RECORD_BYTES: usize = 1 << 14;
/// The most bytes that are read for the answer. A ServerHello has a hundred.
const MAXIMUM_ANSWER_BYTES: usize = 1 << 15;

/// Content types of records (RFC 8446, section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Handshake types (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Extensions (IANA, TLS ExtensionType Values).
const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const EC_POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const RENEGOTIATION_INFO: u16 = 0xff01;
/// X25519, P-256, P-384, P-521 (RFC 8446, section 4.2.7), for every version.
const GROUPS: [u16; 4] = [0x001d, 0x0017, 0x0018, 0x0019];
/// X25519MLKEM768 (IANA, TLS Supported Groups), which only TLS 1.3 has: a receiver may take nothing else. The hello has a share of no group,
/// so no key of it is made.
const HYBRID_GROUP: u16 = 0x11ec;

/// The signatures of any common library.
const SCHEMES: [SignatureScheme; 12] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

/// What a ClientHello offers.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    /// The versions; at least one.
    pub versions: &'a [TlsVersion],
    /// The suites, in the order of preference; at most [`Hello::MAXIMUM_SUITES`].
    pub suites: &'a [CipherSuite],
    /// The server name (SNI). `None` if the host is an address, which SNI cannot name (RFC 6066, section 3).
    pub server_name: Option<&'a str>,
}

/// The answer to a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server goes on with this version and suite.
    Selected(TlsVersion, CipherSuite),
    /// The server refuses.
    Alert(AlertDescription),
    /// The server closes without a word.
    Closed,
    /// The bytes are not TLS.
    NotTls,
}

impl Hello<'_> {
    /// The most suites of one hello. IANA has registered fewer.
    pub const MAXIMUM_SUITES: usize = 512;

    /// Sends it over `stream`, and reads the answer.
    ///
    /// # Errors
    ///
    /// The stream fails. A reset counts as [`Answer::Closed`]: some servers refuse so.
    pub async fn ask(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Answer> {
        match self.exchange(stream).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Answer::Closed),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Answer::Closed),
            outcome => outcome,
        }
    }

    async fn exchange(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Answer> {
        stream.write_all(&self.encode()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        loop {
            if let Some(found) = parse(&answer) {
                return Ok(found);
            }
            if answer.len() >= MAXIMUM_ANSWER_BYTES {
                return Ok(Answer::NotTls);
            }
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(if answer.is_empty() { Answer::Closed } else { Answer::NotTls });
            }
        }
    }

    /// The record with the message.
    fn encode(&self) -> Vec<u8> {
        let newest = self.versions.iter().max().copied().unwrap_or(TlsVersion::Tls12);
        // RFC 8446, section 4.1.2: legacy_version is TLS 1.2 at most.
        let legacy = newest.min(TlsVersion::Tls12);
        let mut body = Vec::with_capacity(1024);
        body.extend(legacy.code().to_be_bytes());
        body.extend((0..32).map(|_| fastrand::u8(..)));
        // A session id, as clients of TLS 1.3 send it for middleboxes (appendix D.4).
        length8(&mut body, &(0..32).map(|_| fastrand::u8(..)).collect::<Vec<u8>>());
        let suites = self.suites.iter().take(Self::MAXIMUM_SUITES).flat_map(|suite| u16::from(*suite).to_be_bytes());
        length16(&mut body, &suites.collect::<Vec<u8>>());
        length8(&mut body, &[0]);
        length16(&mut body, &self.extensions(newest));
        let mut message = vec![CLIENT_HELLO, 0];
        length16(&mut message, &body);
        // RFC 8446, section 5.1: the record of a first hello says TLS 1.0.
        let mut record = vec![HANDSHAKE, 3, 1];
        length16(&mut record, &message);
        record
    }

    fn extensions(&self, newest: TlsVersion) -> Vec<u8> {
        let mut all = Vec::new();
        if let Some(name) = self.server_name {
            let mut entry = vec![0];
            length16(&mut entry, name.as_bytes());
            extension(&mut all, SERVER_NAME, |out| length16(out, &entry));
        }
        let pairs = |codes: &[u16]| codes.iter().flat_map(|code| code.to_be_bytes()).collect::<Vec<u8>>();
        let hybrid = (newest == TlsVersion::Tls13).then_some(HYBRID_GROUP);
        let groups: Vec<u16> = hybrid.into_iter().chain(GROUPS).collect();
        extension(&mut all, SUPPORTED_GROUPS, |out| length16(out, &pairs(&groups)));
        extension(&mut all, EC_POINT_FORMATS, |out| length8(out, &[0]));
        let schemes: Vec<u16> = SCHEMES.iter().map(|scheme| u16::from(*scheme)).collect();
        extension(&mut all, SIGNATURE_ALGORITHMS, |out| length16(out, &pairs(&schemes)));
        extension(&mut all, EXTENDED_MASTER_SECRET, |_| {});
        extension(&mut all, RENEGOTIATION_INFO, |out| length8(out, &[]));
        if newest == TlsVersion::Tls13 {
            let mut versions: Vec<TlsVersion> = self.versions.to_vec();
            versions.sort_by(|one, other| other.cmp(one));
            let codes: Vec<u16> = versions.into_iter().map(TlsVersion::code).collect();
            extension(&mut all, SUPPORTED_VERSIONS, |out| length8(out, &pairs(&codes)));
            // Without a share the server asks for one (RFC 8446, section 4.2.8), and its request has the suite already.
            extension(&mut all, KEY_SHARE, |out| length16(out, &[]));
        }
        all
    }
}

fn extension(all: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    all.extend(kind.to_be_bytes());
    length16(all, &content);
}

/// Appends `bytes` behind their length. Every caller's bytes are shorter than the length can say.
fn length8(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend(bytes);
}

/// The same with a length of two bytes.
fn length16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(bytes);
}

/// The answer in `bytes`; `None` if more are needed.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut rest = bytes;
    let mut message = Vec::new();
    loop {
        let [kind, major, _minor, length @ ..] = rest else { return None };
        let (kind, major) = (*kind, *major);
        let (length, body) = length.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        if major != 3 || length > MAXIMUM_RECORD_BYTES {
            return Some(Answer::NotTls);
        }
        let content = body.get(..length)?;
        match (kind, content) {
            (ALERT, [_level, description]) => return Some(Answer::Alert((*description).into())),
            (HANDSHAKE, _) => message.extend_from_slice(content),
            _ => return Some(Answer::NotTls),
        }
        match server_hello(&message) {
            Parsed::Whole(answer) => return Some(answer),
            Parsed::Short => rest = &body[length..],
        }
    }
}

enum Parsed {
    Whole(Answer),
    Short,
}

/// Reads a ServerHello or a HelloRetryRequest, which has the same form (RFC 8446, section 4.1.3).
fn server_hello(message: &[u8]) -> Parsed {
    let [kind, length @ ..] = message else { return Parsed::Short };
    if *kind != SERVER_HELLO {
        return Parsed::Whole(Answer::NotTls);
    }
    let Some(([high, middle, low], body)) = length.split_first_chunk::<3>() else { return Parsed::Short };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    let Some(body) = usize::try_from(length).ok().and_then(|length| body.get(..length)) else { return Parsed::Short };
    Parsed::Whole(selected(body).unwrap_or(Answer::NotTls))
}

/// `None` if the body is malformed.
fn selected(body: &[u8]) -> Option<Answer> {
    let (version, rest) = body.split_first_chunk::<2>()?;
    let rest = rest.get(32..)?;
    let (session, rest) = rest.split_first()?;
    let rest = rest.get(usize::from(*session)..)?;
    let (code, rest) = rest.split_first_chunk::<2>()?;
    let extensions = rest.get(3..).unwrap_or_default();
    let suite = CipherSuite::from(u16::from_be_bytes(*code));
    let version = supported_version(extensions).unwrap_or(u16::from_be_bytes(*version));
    let version = TlsVersion::from_code(version)?;
    (suite::is_of_tls13(suite) == (version == TlsVersion::Tls13)).then_some(Answer::Selected(version, suite))
}

/// The version in the extension supported_versions, with which a server selects TLS 1.3.
fn supported_version(mut extensions: &[u8]) -> Option<u16> {
    loop {
        let (kind, rest) = extensions.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let content = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        if u16::from_be_bytes(*kind) == SUPPORTED_VERSIONS {
            return Some(u16::from_be_bytes(content.try_into().ok()?));
        }
        extensions = &rest[content.len()..];
    }
}

#[cfg(test)]
mod tests;
