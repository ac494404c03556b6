//! The end of a rotation: the operator does what `hookgate trust show` prints, and the sender's next attempt is taken.
//!
//! Owns that part. Its beginning, the answer 503 to a certificate of an authority that nobody knows, is one of the requests of the environment.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::operator;
use hookgate_testkit::pki::Variant;

use super::environment::{Environment, Expected, Request};
use super::table::Row;

/// The limit for a reload.
const SOON: Duration = Duration::from_secs(10);

/// The section `[state]`, and its directory, where the gateway keeps refused chains for `hookgate trust`.
pub(super) fn state(directory: &Path) -> Result<String> {
    let path = directory.join("state");
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    Ok(format!("\n[state]\ndirectory = \"{}\"\n", path.display()))
}

impl Environment {
    /// Admits the chain of the unknown authority as an operator would, and sends again.
    pub(super) fn send_after_rotation(&self, rows: &mut Vec<Row>) -> Result<()> {
        let pending = self.trust(&["pending"])?;
        let of_authority = |line: &&str| line.contains("  unknown_issuer  ") && line.contains("Stranger CA");
        let line = pending.lines().find(of_authority).with_context(|| format!("no such chain:\n{pending}"))?;
        let number = line.split(' ').next().unwrap_or_default();
        let shown = self.trust(&["show", number])?;
        let run = &mut |arguments: &[&str]| self.trust(arguments);
        let configuration = operator::follow(&shown, &self.configuration, self.gateway.directory(), run)?;
        self.gateway.reload(&configuration, SOON)?;
        let identity = self.pki.sender(PAGERDUTY.sender).variant(Variant::Stranger)?;
        let with = "the unknown CA, after the lines of hookgate trust show";
        let again = Request::new(PAGERDUTY, with, Some(&identity)).field("X-Webhook-Id", "rotation");
        rows.push(self.row(&again, &Expected::Admitted(PAGERDUTY.provider))?);
        Ok(())
    }

    fn trust(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg("trust").args(arguments);
        // A command that is printed names the file itself.
        if !arguments.contains(&"-c") {
            command.arg("-c").arg(self.gateway.configuration_path());
        }
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}
