//! Rows that are sent by `hookgate send`, the sender of the product itself: another client than curl, with the shape that a preset documents.

use std::process::Command;

use anyhow::{Context, Result};
use hookgate_testkit::configuration::HOST;
use serde_json::Value;

use super::environment::Environment;
use super::table::Row;

/// What `hookgate send` sends, for the table, and the arguments for it.
const SENT: [(&str, &[&str]); 2] =
    [("hookgate send, as GitHub", &[]), ("hookgate send --wrong changed-body", &["--wrong", "changed-body"])];

impl Environment {
    /// Sends as GitHub, which has no client certificate.
    pub(super) fn send_by_hookgate(&self, rows: &mut Vec<Row>) -> Result<()> {
        for (what, arguments) in SENT {
            let mut send = Command::new(&self.binary);
            send.args(["send", &format!("https://{HOST}/github"), "--as", "github", "--json"]).args(arguments);
            send.arg("--connect").arg(self.gateway.address().to_string());
            send.arg("--root").arg(self.pki.server_root().path()).arg("--secret-file").arg(self.file("github.secret"));
            self.events.forget();
            let output = send.output().context("starting hookgate send")?;
            let report: Value = serde_json::from_slice(&output.stdout)
                .with_context(|| format!("hookgate send printed {}", String::from_utf8_lossy(&output.stderr)))?;
            let answer = &report["answer"];
            let seen = self.events.requests();
            let provider = seen.first().and_then(|request| request.field("x-hookgate-provider"));
            let is_admitted = arguments.is_empty();
            rows.push(Row {
                sent: format!("github: {what}"),
                answer: format!("{} {}", answer["status"], answer["reason"].as_str().unwrap_or_default())
                    .trim_end()
                    .to_owned(),
                handler_got: match seen.first() {
                    Some(request) => format!("{} from {}", request.target, provider.unwrap_or_default()),
                    None => "nothing".into(),
                },
                as_expected: output.status.success()
                    && report["as_expected"] == true
                    && seen.len() == usize::from(is_admitted),
            });
        }
        Ok(())
    }
}
