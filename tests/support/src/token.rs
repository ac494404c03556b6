//! A token issuer: keys, the key set that it publishes, and tokens that it signs.
//!
//! Takes the part of Google, which signs the tokens of Dialogflow. Signs any claims and headers, wrong ones included.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use crate::pki::KeyKind;

/// The issuer of Google's tokens.
pub const GOOGLE_ISSUER: &str = "https://accounts.google.com";

/// One signing key of an issuer: RS256 for an RSA key, ES256 for a P-256 key.
#[derive(Debug)]
pub struct Issuer {
    key: KeyPair,
    kind: KeyKind,
    key_id: String,
}

impl Issuer {
    /// A new key with this `kid`.
    ///
    /// # Errors
    ///
    /// The `openssl` command, which makes RSA keys, is missing.
    pub fn new(key_id: &str, kind: KeyKind) -> Result<Self> {
        Ok(Self { key: kind.generate()?, kind, key_id: key_id.to_owned() })
    }

    /// The `alg` of its tokens.
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            KeyKind::P256 => "ES256",
            KeyKind::Rsa2048 => "RS256",
        }
    }

    /// A JSON Web Key Set (RFC 7517) with the public keys of `issuers`.
    ///
    /// # Errors
    ///
    /// A key has an unexpected form.
    pub fn key_set(issuers: &[&Self]) -> Result<String> {
        let keys: Vec<String> = issuers.iter().map(|issuer| issuer.public_key()).collect::<Result<_>>()?;
        Ok(format!("{{\"keys\":[{}]}}", keys.join(",")))
    }

    fn public_key(&self) -> Result<String> {
        let (key_id, algorithm, public) = (&self.key_id, self.algorithm(), self.key.der_bytes());
        let members = match self.kind {
            KeyKind::P256 => {
                // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
                let (x, y) = public.get(1..65).context("no uncompressed P-256 point")?.split_at(32);
                format!("\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"", encode(x), encode(y))
            }
            KeyKind::Rsa2048 => {
                // RSAPublicKey (RFC 8017, appendix A.1.1): a sequence of two integers.
                let (sequence, _) = element(public, 0x30)?;
                let (modulus, rest) = element(sequence, 0x02)?;
                let (exponent, _) = element(rest, 0x02)?;
                let unsigned = |integer: &[u8]| encode(integer.strip_prefix(&[0]).unwrap_or(integer));
                format!("\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"{}\"", unsigned(modulus), unsigned(exponent))
            }
        };
        Ok(format!("{{\"kid\":\"{key_id}\",\"use\":\"sig\",\"alg\":\"{algorithm}\",{members}}}"))
    }

    /// Signs `claims`, a JSON object, with the usual header.
    ///
    /// # Errors
    ///
    /// Signing fails.
    pub fn sign(&self, claims: &str) -> Result<String> {
        let header = format!("{{\"alg\":\"{}\",\"kid\":\"{}\",\"typ\":\"JWT\"}}", self.algorithm(), self.key_id);
        self.sign_under(&header, claims)
    }

    /// Signs `claims` with this `header`, a JSON object too.
    ///
    /// # Errors
    ///
    /// As [`Self::sign`].
    pub fn sign_under(&self, header: &str, claims: &str) -> Result<String> {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.key.sign(signed.as_bytes())?;
        let signature = match self.kind {
            KeyKind::P256 => fixed_size(&signature)?,
            KeyKind::Rsa2048 => signature,
        };
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}

/// The claims of a Dialogflow service identity token for `audience`, by the service agent of `project_number`, valid for an
/// hour from now.
pub fn dialogflow_claims(audience: &str, project_number: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!(
        "{{\"iss\":\"{GOOGLE_ISSUER}\",\"aud\":\"{audience}\",\"sub\":\"109876543210987654321\",\"iat\":{now},\"exp\":{},\
         \"email\":\"service-{project_number}@gcp-sa-dialogflow.iam.gserviceaccount.com\",\"email_verified\":true}}",
        now + 3600
    )
}

fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// An ECDSA signature in the form of JWS (RFC 7518, section 3.4): r and s, 32 bytes each. `der` is a sequence of two integers.
fn fixed_size(der: &[u8]) -> Result<Vec<u8>> {
    let (sequence, _) = element(der, 0x30)?;
    let (r, rest) = element(sequence, 0x02)?;
    let (s, _) = element(rest, 0x02)?;
    let mut fixed = vec![0; 64];
    for (integer, end) in [(r, 32), (s, 64)] {
        let integer = integer.strip_prefix(&[0]).unwrap_or(integer);
        ensure!(integer.len() <= 32, "an integer of {} bytes", integer.len());
        fixed[end - integer.len()..end].copy_from_slice(integer);
    }
    Ok(fixed)
}

/// The contents of the DER element at the front of `bytes`, which must have this tag, and the bytes after it.
fn element(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else { anyhow::bail!("no DER element") };
    ensure!(*first == tag, "DER tag {first}, not {tag}");
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (octets, rest) = rest.split_at_checked(long - 0x80).context("a cut DER length")?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
    };
    rest.split_at_checked(length).context("a cut DER element")
}
