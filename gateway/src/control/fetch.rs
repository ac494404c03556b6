//! `hookgate fetch`. Owns its output and exit code; must not keep what it fetched, nor start anything else.

use std::path::Path;
use std::process::ExitCode;

use super::keys;
use super::published::{Source, Terms, fetch_once};
use super::ranges::WrittenRanges;
use super::revocation::Revocation;
use crate::config::{Config, FetchedLists};

/// Fetches everything that the configuration at `path` names by URL once, as `run` does, one after the other. Prints a line for each
/// source: to standard output what came, to standard error why nothing did. Exit code 0, or 1 if a source failed or the configuration has
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
    let learns = learning(&config);
    let keys = keys::Keys::default().prepare(std::mem::take(&mut config.proofs.key_sources));
    let ranges = WrittenRanges::take(&mut config);
    let lists = Revocation::default().prepare(&mut config);
    let sources: Vec<(Source, Terms)> =
        ranges.sources().into_iter().chain(lists.sources()).chain(keys.sources()).collect();
    let mut failed = false;
    for (source, terms) in &sources {
        let kind = match source {
            Source::Keys(_) => "key source ",
            Source::Ranges(_) | Source::List(_) => "",
        };
        let name = source.name();
        match fetch_once(source, terms).await {
            Ok((what, fresh_for)) => println!("{kind}{name}: {what}, fresh for {} s", fresh_for.as_secs()),
            Err(error) => {
                failed = true;
                eprintln!("{kind}{name}: {error:#}");
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

/// The providers with `crls = "from-certificates"`, whose lists only chains name.
fn learning(config: &Config) -> Vec<String> {
    let learns = |lists: &Vec<FetchedLists>| lists.iter().any(|lists| lists.from_certificates.is_some());
    let providers = config.providers.iter().zip(&config.fetched_lists);
    providers.filter(|(_, lists)| learns(lists)).map(|(provider, _)| provider.name.to_string()).collect()
}
