//! The sender's side: `hookgate probe` and `hookgate send` against nginx, hookgate and OpenSSL.

mod explained;
mod nginx;
mod pages;
mod probe;
mod send;
mod server_chain;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hookgate_testkit::process::{Finished, run};
use serde_json::Value;

use crate::environment::BINARY;

/// How long one look may take: a dozen connections, of which one may wait for a time-out of 5 s.
const LOOK: Duration = Duration::from_secs(60);

/// The host of the receivers.
const HOST: &str = hookgate_testkit::configuration::HOST;

/// Runs `hookgate` in `directory`.
fn hookgate(directory: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory).env("NO_COLOR", "1").env_remove("CREDENTIALS_DIRECTORY");
    run(command, &[], LOOK).unwrap()
}

/// The exit code.
fn code(finished: &Finished) -> i32 {
    let code = finished.status.and_then(|status| status.code());
    assert!(code.is_some(), "it was killed: {finished:?}");
    code.unwrap()
}

/// The JSON document on standard output.
fn json(finished: &Finished) -> Value {
    let parsed = serde_json::from_slice(&finished.stdout);
    assert!(parsed.is_ok(), "{parsed:?}: {}{}", finished.stdout_text(), finished.stderr_text());
    parsed.unwrap()
}

/// A path as text.
fn text(path: &(impl AsRef<OsStr> + ?Sized)) -> &str {
    path.as_ref().to_str().unwrap()
}
