//! `hookgate fetch`. Owns its output and exit code; must not keep what it fetched, nor start anything else.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::jwks::configured_roots;
use super::jwks::fetch::{Fetcher, system_roots, tls_settings};
use super::published::fetch_once;
use crate::config::{Config, KeyOrigin, KeySource, RangeSource, RangeUrl};

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
        Ok(runtime) => runtime.block_on(round(&config)),
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn round(config: &Config) -> ExitCode {
    let mut lists: Vec<&Arc<RangeSource>> = Vec::new();
    for source in config.range_urls.iter().flatten().flat_map(RangeUrl::sources) {
        if !lists.iter().any(|known| Arc::ptr_eq(known, source)) {
            lists.push(source);
        }
    }
    let (mut count, mut failed) = (0, 0);
    let mut tell = |name: &str, outcome: anyhow::Result<(String, Duration)>| {
        count += 1;
        match outcome {
            Ok((what, fresh_for)) => println!("{name}: {what}, fresh for {} s", fresh_for.as_secs()),
            Err(error) => {
                failed += 1;
                eprintln!("{name}: {error:#}");
            }
        }
    };
    for source in lists {
        let outcome = fetch_once(source).await;
        tell(&source.name(), outcome.map(|(ranges, fresh_for)| (format!("{} ranges", ranges.len()), fresh_for)));
    }
    for source in &config.proofs.key_sources {
        if let Some(outcome) = keys(source).await {
            tell(&format!("key source {}", source.name), outcome);
        }
    }
    if count == 0 {
        println!("the configuration names nothing to fetch");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The keys of a source; `None` for a file.
async fn keys(source: &KeySource) -> Option<anyhow::Result<(String, Duration)>> {
    let KeyOrigin::Url { url, limits, roots } = &source.origin else { return None };
    let fetch = async || -> anyhow::Result<(String, Duration)> {
        let roots = match roots {
            Some(roots) => configured_roots(roots),
            None => system_roots()?,
        };
        let fetched = Fetcher::new(url.clone(), tls_settings(roots)?, *limits).fetch().await?;
        Ok((format!("{} keys", fetched.set.usable_keys()), fetched.fresh_for))
    };
    Some(fetch().await)
}
