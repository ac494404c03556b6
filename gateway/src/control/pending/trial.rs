//! Whether the lines that are advised suffice to admit a chain.
//!
//! A chain is judged by its evidence and its names, so it may lack more than its authority: it may have ended, or not be signed by the
//! anchor that it presents. Owns the trial of the configuration with exactly these lines. Must not admit: its policy serves no site.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookgate_core::identity::{ChainCache, ChainLimits, Identity, ProviderId, Scope};
use rustix::fs::{MemfdFlags, memfd_create};
use rustls_pki_types::UnixTime;
use toml::{Table, Value};

use super::advice::{Advice, apply};
use super::record;
use crate::config::Config;
use crate::config::strength::{Comparison, Loss};
use crate::suspects::Pending;

/// The most bytes of a configuration that is tried.
const MAXIMUM_BYTES: u64 = 4 * 1024 * 1024;

/// What became of the chain, as one sentence, at `now`, with the configuration at `path` (which was read as `config`) after an operator did as
/// advised.
pub(in crate::control) fn verdict(
    path: &Path,
    config: &Config,
    chain: &Pending,
    advice: &Advice,
    now: UnixTime,
) -> String {
    let anchor = match advice.anchor.as_ref().map(|(anchor, _)| in_memory(&record::pem(anchor))).transpose() {
        Ok(anchor) => anchor,
        Err(error) => return format!("These lines were not tried: {error}."),
    };
    let Some(text) = edited(path, chain, advice, anchor.as_ref()) else {
        return "These lines were not tried: the configuration has no such place.".to_owned();
    };
    let tried = match Config::parse_draft(&text, path) {
        Ok((tried, _)) => tried,
        Err(errors) => return format!("A reload refuses these lines: {}.", errors.to_string().replace('\n', "; ")),
    };
    let Some(provider) = tried.providers.iter().find(|provider| provider.name == chain.provider) else {
        return "These lines were not tried: the provider is gone.".to_owned();
    };
    let limits = ChainLimits {
        max_certificates: tried.limits.max_presented_certificates,
        max_bytes: tried.limits.max_presented_bytes,
    };
    let identity =
        Identity::new(1, vec![provider.clone()].into(), Arc::new(ChainCache::new(0, Duration::ZERO)), limits);
    let scope = Scope { id: 0, providers: vec![ProviderId(0)] };
    if let Some(refused) = identity.refusal_of_presented(&scope, &chain.certificates, now) {
        let refusal = refused.refusal.refusal;
        let reason = refusal.reject.row().reason;
        let fetched = match reason.starts_with("revocation") {
            true => " Lists that hookgate fetches (crl_urls, from-certificates) are not tried here.",
            false => "",
        };
        return format!("These lines do not admit the chain as it is: {reason}. {}{fetched}", refusal.detail());
    }
    match config.strength.compare(&tried.strength) {
        Comparison::Refused { losses, .. } => format!(
            "With these lines, and the line accept_weaker that hookgate check --against COPY prints, a reload admits the chain. Without it, the \
             reload is refused: {}.",
            losses.iter().map(Loss::text).collect::<Vec<_>>().join("; ")
        ),
        Comparison::NotWeaker | Comparison::Permitted { .. } => {
            "With these lines, a reload admits the chain.".to_owned()
        }
    }
}

/// A file without a name that holds the certificate until it is closed: nothing is written to a disk.
fn in_memory(pem: &str) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("anchor", MemfdFlags::CLOEXEC)?);
    file.write_all(pem.as_bytes())?;
    Ok(file)
}

/// The text of the configuration after the operator wrote the lines, with the file of the new anchor in memory.
fn edited(path: &Path, chain: &Pending, advice: &Advice, anchor: Option<&File>) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAXIMUM_BYTES).read_to_string(&mut text).ok()?;
    let mut document: Table = text.parse().ok()?;
    let mut providers = document.get_mut("provider")?.as_array_mut()?.iter_mut().filter_map(Value::as_table_mut);
    let provider = providers.find(|table| table.get("name").and_then(Value::as_str) == Some(&chain.provider))?;
    let mut blocks = advice.blocks.clone();
    if let (Some((_, name)), Some(file)) = (&advice.anchor, anchor) {
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        let values = blocks.iter_mut().flat_map(|block| &mut block.keys).filter(|(key, _)| key == "trust_anchors");
        for anchor in values.filter_map(|(_, value)| value.as_array_mut()).flatten() {
            if anchor.as_str() == Some(name) {
                *anchor = place.as_str().into();
            }
        }
    }
    *provider = apply(&blocks, provider.clone())?;
    toml::to_string(&document).ok()
}
