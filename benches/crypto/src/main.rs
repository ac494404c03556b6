//! What the operations of a handshake cost with ring, aws-lc and graviola: `cargo run --release` here prints a table.
//!
//! All three are asked through the same traits of rustls, in turn within each round, so that a busy host slows them alike. Owns the operations.
//! The numbers are medians of rounds, in microseconds of one core.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use rustls::{NamedGroup, SignatureScheme};

/// Rounds, of which the median counts.
const ROUNDS: usize = 31;

/// Operations of one library in a round.
const OPERATIONS: u32 = 40;

/// A round of one operation with one library.
type Operation = Box<dyn FnMut() -> Result<()>>;

fn main() -> Result<()> {
    let providers = [
        ("ring", rustls::crypto::ring::default_provider()),
        ("aws-lc", rustls::crypto::aws_lc_rs::default_provider()),
        ("graviola", rustls_graviola::default_provider()),
    ];
    let generated = rcgen::generate_simple_self_signed(["hooks.example.com".to_owned()])?;
    let key = generated.signing_key.serialize_der();
    let public = generated.signing_key.public_key_raw().to_vec();
    println!("{:<44}{:>10}{:>10}{:>10}", "microseconds, median", "ring", "aws-lc", "graviola");
    for (name, make) in operations(&key, &public) {
        let made: Vec<Option<Operation>> = providers.iter().map(|(_, provider)| make(provider).ok()).collect();
        let cells: Vec<String> = measure(made)?.iter().map(|time| time.map_or("–".into(), |us| format!("{us:.1}"))).collect();
        println!("{name:<44}{:>10}{:>10}{:>10}", cells[0], cells[1], cells[2]);
    }
    Ok(())
}

/// Makes an operation of a library; fails if the library lacks it.
type Make<'a> = Box<dyn Fn(&CryptoProvider) -> Result<Operation> + 'a>;

fn operations<'a>(key: &'a [u8], public: &'a [u8]) -> Vec<(&'static str, Make<'a>)> {
    vec![
        ("X25519, the side of the server", Box::new(|provider| exchange(provider, NamedGroup::X25519))),
        ("X25519MLKEM768, the side of the server", Box::new(|provider| exchange(provider, NamedGroup::X25519MLKEM768))),
        ("P-256, the side of the server", Box::new(|provider| exchange(provider, NamedGroup::secp256r1))),
        ("ECDSA P-256, a signature", Box::new(move |provider| sign(provider, key))),
        ("ECDSA P-256, a verification", Box::new(move |provider| verify(provider, key, public))),
    ]
}

/// Key generation and agreement with the share of a client, as for a ClientHello.
fn exchange(provider: &CryptoProvider, name: NamedGroup) -> Result<Operation> {
    let group = *provider.kx_groups.iter().find(|group| group.name() == name).context("it has no such group")?;
    let client = group.start()?;
    let share = client.pub_key().to_vec();
    Ok(Box::new(move || group.start_and_complete(&share).map(drop).map_err(Into::into)))
}

fn load(provider: &CryptoProvider, key: &[u8]) -> Result<Arc<dyn SigningKey>> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
    Ok(provider.key_provider.load_private_key(key)?)
}

/// As long as what a CertificateVerify of TLS 1.3 signs.
const MESSAGE: [u8; 130] = [0x20; 130];

fn sign(provider: &CryptoProvider, key: &[u8]) -> Result<Operation> {
    let key = load(provider, key)?;
    let choose = move || key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).context("it has no such scheme");
    choose()?;
    Ok(Box::new(move || choose()?.sign(&MESSAGE).map(drop).map_err(Into::into)))
}

fn verify(provider: &CryptoProvider, key: &[u8], public: &[u8]) -> Result<Operation> {
    let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    let signer = load(provider, key)?.choose_scheme(&[scheme]).context("it has no such scheme")?;
    let (signature, public) = (signer.sign(&MESSAGE)?, public.to_vec());
    let known = provider.signature_verification_algorithms.mapping.iter().find(|(known, _)| *known == scheme);
    // Of those of a scheme, the first is that of the curve of TLS 1.3.
    let algorithm = *known.and_then(|(_, algorithms)| algorithms.first()).context("it has no such scheme")?;
    let rejected = |_| anyhow!("it rejects its own signature");
    Ok(Box::new(move || algorithm.verify_signature(&public, &MESSAGE, &signature).map_err(rejected)))
}

/// The median time of each, in microseconds; `None` for what a library lacks.
fn measure(mut operations: Vec<Option<Operation>>) -> Result<Vec<Option<f64>>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); operations.len()];
    for _ in 0..ROUNDS {
        for (operation, times) in operations.iter_mut().zip(&mut times) {
            let Some(operation) = operation else { continue };
            let start = Instant::now();
            for _ in 0..OPERATIONS {
                operation()?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(OPERATIONS));
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
