//! `hookgate probe`. Owns its exit status.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hookgate_client::finding::Severity;
use hookgate_client::probe::Look;
use hookgate_client::target::Target;
use hookgate_client::{attempt, pki};

use crate::{cli, crypto};

/// The exit statuses, beside 0.
const WARNINGS: u8 = 1;
const FAULTS: u8 = 2;
const NOT_LOOKED: u8 = 3;

/// Looks at a receiver, and prints what was found. Exit code 0 if nothing needs action, 1 for warnings, 2 for faults or a wrong command line, 3 if the arguments lead
/// nowhere: no such preset, a file that cannot be read.
pub fn probe(arguments: &cli::Probe) -> ExitCode {
    match look(arguments) {
        Ok(None | Some(Severity::Note)) => ExitCode::SUCCESS,
        Ok(Some(Severity::Warning)) => ExitCode::from(WARNINGS),
        Ok(Some(Severity::Fault)) => ExitCode::from(FAULTS),
        Err(error) => super::failed(&error, NOT_LOOKED),
    }
}

/// Returns the worst severity.
fn look(arguments: &cli::Probe) -> Result<Option<Severity>> {
    let receiver = &arguments.receiver;
    let target = Target::parse(&arguments.url, receiver.connect.as_deref())?;
    let sender = super::sender(receiver)?;
    let roots = super::roots(receiver)?;
    let provider = crypto::provider();
    let foreign = sender
        .certificate
        .as_ref()
        .map(|shape| -> Result<_> { Ok(attempt::certified(&pki::foreign(shape)?, &provider)?) });
    let own = arguments.client_cert.as_deref().zip(arguments.client_key.as_deref()).map(|(chain, key)| -> Result<_> {
        attempt::certified(&super::identity(chain, key)?, &provider).context("--client-key")
    });
    let look = Look {
        target: &target,
        sender: &sender,
        roots: &roots,
        foreign: foreign.transpose()?,
        own: own.transpose()?,
        provider: &provider,
    };
    let report = super::block_on(look.probe())?;
    if receiver.json {
        println!("{}", report.json(&look));
    } else {
        print!("{}", report.text(&look));
    }
    Ok(report.worst())
}
