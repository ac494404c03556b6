//! `hookgate probe` and `hookgate send`: from the command line and a preset to the sender's side, which is the crate
//! [`hookgate_client`].
//!
//! Owns the exit status and the files that the command line names. Must not know the daemon, but for `config`, which has the presets,
//! and `crypto`.

mod probe;
mod send;

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use hookgate_client::pki::Identity;
use hookgate_client::roots::Roots;
use hookgate_client::sender::Sender;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::Receiver;
use crate::config::preset::{Found, Presets};

pub use self::probe::probe;
pub use self::send::send;

/// The exit status after a wrong command line: that of the parser of the command line.
const USAGE: u8 = 2;

/// A wrong command line that its parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Prints an error. Returns the exit status: 2 if the command line is wrong, else `otherwise`.
fn failed(error: &anyhow::Error, otherwise: u8) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(if error.is::<Usage>() { USAGE } else { otherwise })
}

/// The sender that `receiver` names.
fn sender(receiver: &Receiver) -> Result<Sender> {
    let presets = Presets::for_configuration(&receiver.config)?;
    let known = || presets.names().collect::<Vec<_>>().join(", ");
    let Some(name) = &receiver.sender else {
        bail!(Usage(format!("--as is missing: write --as PRESET, one of {}", known())));
    };
    match presets.find(name) {
        Found::Unknown => bail!("there is no preset \"{name}\"; the presets are {}", known()),
        Found::Unusable(unusable) => bail!(unusable.errors()),
        Found::Preset(preset) => preset.sender(receiver.profile.as_deref()).with_context(|| {
            let profile = receiver.profile.as_deref().unwrap_or_default();
            let names = preset.profile_names().collect::<Vec<_>>().join(", ");
            format!("the preset \"{name}\" has no profile \"{profile}\"; its profiles are {names}")
        }),
    }
}

/// The roots that the sender trusts.
fn roots(receiver: &Receiver) -> Result<Roots> {
    let mut roots = Roots::mozilla();
    for path in &receiver.root {
        roots = roots.with_file(path).context("--root")?;
    }
    Ok(roots)
}

/// A certificate of the user's.
fn identity(chain: &Path, key: &Path) -> Result<Identity> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(chain).and_then(Iterator::collect).map_err(|error| (chain, error));
    let wrong = |(path, error): (&Path, rustls_pki_types::pem::Error)| anyhow::anyhow!("{}: {error}", path.display());
    let chain_of = certificates.map_err(wrong)?;
    if chain_of.is_empty() {
        bail!("{} holds no certificate", chain.display());
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong((key, error)))?;
    Ok(Identity { chain: chain_of, key })
}

/// Runs `work` to its end, on this thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the event loop")?;
    let result = runtime.block_on(work);
    // A name that did not resolve in time is still being resolved by a thread of its own.
    runtime.shutdown_background();
    Ok(result)
}
