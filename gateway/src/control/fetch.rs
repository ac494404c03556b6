//! `hookgate fetch`. Owns its output and exit code; must not keep what it fetched, nor start anything else.

use std::path::Path;
use std::process::ExitCode;

use rustls_pki_types::UnixTime;

use super::fetcher::FetchError;
use super::keys;
use super::published::{self, Content, Source, Terms, fetch_once};
use super::ranges::WrittenRanges;
use super::reload::users;
use super::revocation::Revocation;
use crate::config::{Config, FetchedLists};
use crate::state::StateDirectory;

/// Fetches everything that the configuration at `path` names by URL once, one after the other, and judges it as `run` does: by the kept copies
/// too, if this user can read them. Prints a line for each source: to standard output what came, to standard error why nothing did. Exit code 0, or 1 if a source failed or the configuration has
/// an error.
pub fn fetch(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok((config, _)) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(round(config)),
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn round(mut config: Config) -> ExitCode {
    // Only its owner can read it. Without it, everything counts as fetched for the first time.
    let state = config.state.directory.as_deref().and_then(|path| StateDirectory::open_to_read(path).ok());
    let learns = learning(&config);
    let keys = keys::Keys::default().prepare(std::mem::take(&mut config.proofs.key_sources));
    let ranges = WrittenRanges::take(&mut config);
    let lists = Revocation::default().prepare(&mut config);
    let sources: Vec<(Source, Terms)> =
        ranges.sources().into_iter().chain(lists.sources()).chain(keys.sources()).collect();
    let kept = |source: &Source| published::kept(source, state.as_ref()?);
    let mut failed = false;
    for (source, terms) in &sources {
        let name = match users(&ranges, &lists, source) {
            providers if !providers.is_empty() => format!("{} ({providers})", source.name()),
            _ => named(source),
        };
        let before = kept(source);
        let outcome = fetch_once(source, terms, before.as_deref()).await.and_then(|(what, fresh_for)| {
            let checked = lists.check_replacement(&kept, source, &what, UnixTime::now());
            checked.map_err(FetchError::Refused)?;
            Ok((what, fresh_for))
        });
        match outcome {
            Ok((what, fresh_for)) => {
                println!("{name}: {what}, fresh for {} s", fresh_for.as_secs());
                print_use(&lists, source, &what);
            }
            Err(error) => {
                failed = true;
                let stays = if before.is_some() { "; the kept copy stays in use" } else { "" };
                eprintln!("{name}: {error:#}{stays}");
            }
        }
    }
    for provider in &learns {
        println!("provider {provider}: further revocation lists are fetched when a chain names them");
    }
    if sources.is_empty() && learns.is_empty() {
        println!("the configuration names nothing to fetch");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A source that no provider names.
fn named(source: &Source) -> String {
    match source {
        Source::Keys(_) => format!("key source {} ({})", source.name(), source.feed().name()),
        Source::Ranges(_) | Source::List(_) => source.name(),
    }
}

/// Says of a revocation list whose issuer no configured authority is that it may help nobody.
fn print_use(lists: &Revocation, source: &Source, what: &Content) {
    let Content::List(list) = what else { return };
    if !lists.knows_issuer(source, list) {
        println!(
            "  {} is none of the authorities in trust_anchors: this list covers no certificate, unless a chain shows that authority",
            list.issuer()
        );
    }
}

/// The providers with `crls = "from-certificates"`, whose lists only chains name.
fn learning(config: &Config) -> Vec<String> {
    let learns = |lists: &Vec<FetchedLists>| lists.iter().any(|lists| lists.from_certificates.is_some());
    let providers = config.providers.iter().zip(&config.fetched_lists);
    providers.filter(|(_, lists)| learns(lists)).map(|(provider, _)| provider.name.to_string()).collect()
}
