//! `hookgate trust`: the refused chains that may be genuine, as the daemon keeps them in the state directory.
//!
//! Owns the output and the exit codes. Reads only: it trusts nothing, and tells what to compare and to write.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustls_pki_types::UnixTime;

use super::pending::advice::{Written, advise, describe, fingerprint};
use super::pending::{record, trial};
use crate::config::{Config, day_of};
use crate::suspects::{MAXIMUM, Pending};

/// Where the service keeps its state (`StateDirectory=` of the unit), if neither the configuration nor the environment says it.
pub(super) const SERVICE_DIRECTORY: &str = "/var/lib/hookgate";

/// The configuration that is read unless another one is named.
const DEFAULT_CONFIGURATION: &str = "/etc/hookgate/hookgate.toml";

/// Prints one line for each chain. Exit code 0, or 1 if there is an error.
pub fn pending(configuration: &Path) -> ExitCode {
    report(chains(configuration).map(|(_, chains)| {
        if chains.is_empty() {
            println!("no chain is pending");
        }
        for (number, chain) in (1..).zip(&chains) {
            let (provider, reason, evidence) = (&chain.provider, &chain.reason, &chain.evidence);
            let certificate = chain.certificates.first().map(|certificate| describe(certificate)).unwrap_or_default();
            let since = day_of(chain.first_seen);
            println!("{number}  {provider}  {reason}  evidence {evidence}  since {since}  {certificate}");
        }
    }))
}

/// Prints the chain with this number and what to write to admit it, or with `anchor` its new trust anchor alone, as PEM. Exit code 0, or 1 if
/// there is an error.
pub fn show(configuration: &Path, number: usize, anchor: bool) -> ExitCode {
    report(chains(configuration).and_then(|(config, chains)| {
        let Some(chain) = number.checked_sub(1).and_then(|index| chains.get(index)) else {
            bail!("there is no chain {number}; hookgate trust pending lists them");
        };
        let advice = advise(chain, Written::read(configuration, &chain.provider).as_ref());
        if anchor {
            let Some((anchor, _)) = advice.anchor else {
                bail!("chain {number} needs no new trust anchor, or its sender did not present one: {}", advice.check);
            };
            print!("{}", record::pem(&anchor));
            return Ok(());
        }
        print_chain(chain);
        println!("# Nothing of this is trusted. First: {}", advice.check);
        if let Some((anchor, file)) = &advice.anchor {
            println!("# The trust anchor: {}", describe(anchor));
            println!("# hookgate trust show {number} --anchor{} > {file}", option(configuration));
            print!("{}", record::pem(anchor));
        }
        advice.note.iter().for_each(|note| println!("# {note}."));
        for block in &advice.blocks {
            println!("# Then {}:", block.place());
            block.lines().iter().for_each(|line| println!("{line}"));
        }
        if !advice.blocks.is_empty() {
            println!("# {}", trial::verdict(configuration, &config, chain, &advice, UnixTime::now()));
        }
        Ok(())
    }))
}

/// ` -c FILE`, as a shell takes it, unless the file is the one that is read without it.
fn option(configuration: &Path) -> String {
    if configuration == Path::new(DEFAULT_CONFIGURATION) {
        return String::new();
    }
    let path = configuration.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match path.bytes().all(is_plain) {
        true => format!(" -c {path}"),
        false => format!(" -c '{}'", path.replace('\'', "'\\''")),
    }
}

fn print_chain(chain: &Pending) {
    let Pending { provider, profile, reason, evidence, fingerprint: digest, .. } = chain;
    println!("# A chain that claims {provider} was refused (profile {profile}, {reason}); evidence: {evidence}.");
    println!("# First seen on {}. SHA-256 of its end entity: {}", day_of(chain.first_seen), fingerprint(digest));
    let count = chain.certificates.len();
    for (number, certificate) in (1..).zip(&chain.certificates) {
        println!("# Certificate {number} of {count}: {}", describe(certificate));
        print!("{}", record::pem(certificate));
    }
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, and the chains in its state directory, the oldest first.
fn chains(configuration: &Path) -> anyhow::Result<(Config, Vec<Pending>)> {
    let (config, _) = Config::load(configuration).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let (directory, hint) = match config.state.directory.clone() {
        Some(directory) => (directory, "[state] or STATE_DIRECTORY names it"),
        None => (
            PathBuf::from(SERVICE_DIRECTORY),
            "it is the service's, since the configuration names none; without a state directory no chain is kept: write [state] directory, \
             and see the lines \"rotation suspected\" in the log",
        ),
    };
    let entries = fs::read_dir(&directory)
        .with_context(|| format!("cannot read the state directory {}; {hint}", directory.display()))?;
    let is_record = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(record::PREFIX) && name.ends_with(".json"))
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_record).take(MAXIMUM);
    let mut chains = Vec::new();
    for path in paths {
        match read(&path)? {
            Some(chain) => chains.push(chain),
            None => eprintln!("{}: no record of a chain", path.display()),
        }
    }
    chains.sort_by_key(|chain| (chain.first_seen, chain.fingerprint));
    Ok((config, chains))
}

/// The record in a file; `None` if it is none.
fn read(path: &Path) -> anyhow::Result<Option<Pending>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(record::MAXIMUM_BYTES).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(record::parse(&bytes, UnixTime::now().as_secs()))
}
