//! `hookgate explain`: why a request, a certificate or a recent refusal is admitted or not, stage by stage, with the line of the configuration
//! that decides.
//!
//! Owns the subject ([`subject`]), the walk through the stages ([`walk`], [`certificate`]), the lines ([`places`], [`nearest`]), what would help ([`remedy`]), and the output
//! ([`report`]). Decides nothing itself: it builds the snapshot that the daemon would serve, and asks what the data plane asks. Nothing here
//! makes a [`VerifiedChain`](hookgate_core::identity::VerifiedChain) or an
//! [`AuthenticatedRequest`](hookgate_core::auth::AuthenticatedRequest), so nothing is admitted.

mod certificate;
mod nearest;
mod places;
pub mod reasons;
mod remedy;
mod report;
mod step;
mod subject;
mod walk;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use rustls_pki_types::UnixTime;

use self::places::Places;
use self::subject::{Subject, Wanted};
use self::walk::Walk;
use super::inquiry::ControlSocket;
use super::reload::Loader;
use crate::cli::Explain;
use crate::config::{Config, tls_numbers};
use crate::crypto::TlsPolicy;
use hookgate_core::reject::Reject;

/// The exit status if nothing could be explained.
const NOTHING_EXPLAINED: u8 = 2;

/// Explains. Exit code 0 if the subject is admitted, 1 if it is not, 2 if nothing could be explained.
pub fn explain(options: &Explain) -> ExitCode {
    if let Some(reject) = options.what.as_deref().and_then(Reject::of_reason) {
        print!("{}", reasons::entry(reject));
        if let Some(line) = tls_version(options.config.as_path()).filter(|_| reject == Reject::TlsVersion) {
            println!("{line}");
        }
        return ExitCode::SUCCESS;
    }
    match explained(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(NOTHING_EXPLAINED)
        }
    }
}

/// Which versions of TLS the configuration serves, and the line that excludes others. A refusal for its version has no request id to ask for.
/// `None` without a configuration that can be read.
fn tls_version(path: &Path) -> Option<String> {
    let (config, _) = Config::load(path).ok()?;
    let text = fs::read_to_string(path).ok()?;
    let versions = config.tls.versions();
    let (served, is_one) = (tls_numbers(versions.iter().copied()), versions.len() == 1);
    // The other policies have one version, and a group for it.
    let key = if config.tls.policy == TlsPolicy::Intermediate { "key_exchange" } else { "policy" };
    let place = Places::new(path, &text)?.in_section("tls", &[key]);
    let at = match (is_one, place) {
        (true, place) => place.map(|place| format!(", decided by {place}")).unwrap_or_default(),
        (false, _) => "; no line excludes a version that hookgate has".to_owned(),
    };
    Some(format!("- Served by this configuration: TLS {served}{at}"))
}

/// Whether the subject is admitted. A list of the recent refusals counts as that.
fn explained(options: &Explain) -> anyhow::Result<bool> {
    let path = options.config.as_path();
    let config = match Config::load(path) {
        Ok((config, _)) => config,
        Err(_) if subject::is_list(options) && path.exists() => {
            report::list(&subject::ask(&ControlSocket::of_erroneous(path), "recent")?, options.json);
            return Ok(true);
        }
        Err(errors) => return Err(anyhow!("{errors}")),
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let subject = match subject::find(options, &config)? {
        Wanted::List(records) => {
            report::list(&records, options.json);
            return Ok(true);
        }
        Wanted::Subject(subject) => *subject,
    };
    let names: Vec<Arc<str>> = config.providers.iter().map(|provider| Arc::clone(&provider.name)).collect();
    let (explanation, admitted) = walk(path, &text, config, &subject, &names)?;
    report::print(&explanation, options.json);
    Ok(admitted)
}

/// Whether the file was written after this second since 1970.
fn is_written_after(path: &Path, at: u64) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let since_1970 = written.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since_1970.is_some_and(|time| time.as_secs() > at)
}

fn walk<'s>(
    path: &Path,
    text: &str,
    config: Config,
    subject: &'s Subject,
    names: &[Arc<str>],
) -> anyhow::Result<(report::Explanation<'s>, bool)> {
    let places = Places::new(path, text).with_context(|| format!("{} was changed meanwhile", path.display()))?;
    let limits = config.limits;
    let loader = Loader::new(path.to_owned(), &limits, Default::default());
    let (snapshot, filter) = loader.preview(config).with_context(|| path.display().to_string())?;
    let walk = Walk {
        snapshot: &snapshot,
        filter: &filter.policy,
        places: &places,
        subject,
        now: UnixTime::now(),
        limits,
        is_changed: subject.record.as_ref().is_some_and(|record| is_written_after(path, record.at)),
        names,
    };
    let steps = walk.steps();
    let admitted = steps.iter().all(|step| step.said.verdict.is_passed());
    Ok((report::Explanation::new(subject, steps, admitted), admitted))
}
