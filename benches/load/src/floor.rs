//! The crypto floor: the cost of the operations of a handshake with the libraries of the default build, alone on a core: key exchange and signatures by
//! aws-lc, AES-GCM by ring.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::protocol::Floor;

/// Batches of one operation. The time is the median of the batches.
const BATCHES: usize = 21;

/// Operations of one batch.
const OPERATIONS: u32 = 40;

/// Measures all operations, in about a tenth of a second.
///
/// # Errors
///
/// A library has no randomness.
pub(crate) fn measure() -> Result<Floor> {
    let random = SystemRandom::new();
    let unspecified = |_| anyhow!("aws-lc failed without a reason");
    let peer = EphemeralPrivateKey::generate(&X25519, &random).map_err(unspecified)?;
    let peer = peer.compute_public_key().map_err(unspecified)?;
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(unspecified)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())
        .map_err(|rejected| anyhow!("aws-lc rejects its own key: {rejected}"))?;
    // As long as the content that a TLS 1.3 CertificateVerify signs (RFC 8446, section 4.4.3).
    let message = [0x20; 130];
    let signed = pair.sign(&random, &message).map_err(unspecified)?;
    let public = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    let of_ring = |_| anyhow!("ring failed without a reason");
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(of_ring)?);
    let generate =
        || EphemeralPrivateKey::generate(&X25519, &random).and_then(|key| key.compute_public_key().map(|_| key));
    let mut private_keys = Vec::new();
    let x25519_generate = median(|| {
        private_keys.push(generate().map_err(unspecified)?);
        Ok(())
    })?;
    let peer = UnparsedPublicKey::new(&X25519, peer.as_ref());
    let failed = || anyhow!("aws-lc failed without a reason");
    let agree = |key| agree_ephemeral(key, peer, failed(), |secret| Ok(secret[0]));
    Ok(Floor {
        x25519_generate,
        x25519_agree: median(|| match private_keys.pop() {
            Some(key) => agree(key).map(drop),
            None => Err(anyhow!("there are fewer keys than agreements")),
        })?,
        p256_sign: median(|| pair.sign(&random, &message).map(drop).map_err(unspecified))?,
        p256_verify: median(|| public.verify(&message, signed.as_ref()).map_err(unspecified))?,
        aes128_gcm_seal_1k: median(|| {
            let mut text = [0; 1024];
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut text).map(drop).map_err(of_ring)
        })?,
    })
}

/// Nanoseconds of one `operation`: the median of [`BATCHES`].
fn median(mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..OPERATIONS {
            operation()?;
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median: Duration = times[BATCHES / 2];
    Ok(median.as_secs_f64() * 1e9 / f64::from(OPERATIONS))
}
