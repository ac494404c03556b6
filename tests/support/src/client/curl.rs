//! curl as a client: one or more requests, over one connection if the server allows it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::TlsVersion;
use crate::documents::Document;
use crate::http::{self, Response};
use crate::pki::ClientIdentity;
use crate::process;

/// How long after its own limit curl is killed.
const GRACE: Duration = Duration::from_secs(2);

/// One or more requests for curl to send.
#[derive(Clone, Debug)]
pub struct Curl {
    host: String,
    port: u16,
    arguments: Vec<OsString>,
    transfers: Vec<PendingTransfer>,
    limit: Duration,
}

#[derive(Clone, Debug)]
struct PendingTransfer {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// How curl ended.
#[derive(Clone, Debug)]
pub struct CurlOutcome {
    /// curl's exit status: 0, or the error that its manual lists (35 TLS connect, 56 receive, 18 partial file, 28 time-out).
    /// `None` if it had to be killed.
    pub exit_code: Option<i32>,
    /// Standard error.
    pub stderr: String,
    /// The requests that got a response, in order.
    pub transfers: Vec<Transfer>,
}

/// One request that got a response.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The response. Its body may be incomplete.
    pub response: Response,
    /// Connections made for this request: 0 if an earlier one was reused.
    pub new_connections: u32,
    /// From start to the last byte.
    pub duration: Duration,
}

impl CurlOutcome {
    /// The first response.
    ///
    /// # Errors
    ///
    /// There is none; curl's standard error is in the message.
    pub fn response(&self) -> Result<&Response> {
        let first = self.transfers.first();
        first.map(|transfer| &transfer.response).with_context(|| format!("curl {:?}: {}", self.exit_code, self.stderr))
    }

    /// The number of the alert that ended the connection (RFC 8446, section 6). curl prints it only with `--verbose`, as
    /// `(IN), TLS alert, certificate expired (557)`: the level, 2 for fatal, times 256, plus the number.
    pub fn alert(&self) -> Option<u8> {
        let mut lines = self.stderr.lines().filter(|line| line.contains("(IN), TLS alert, "));
        lines.find_map(|line| {
            let packed: u16 = line.rsplit('(').next()?.strip_suffix("):")?.parse().ok()?;
            u8::try_from(packed.checked_sub(2 << 8)?).ok()
        })
    }

    /// The status of the first response; `None` if there is none.
    pub fn status(&self) -> Option<u16> {
        self.transfers.first().map(|transfer| transfer.response.status)
    }
}

impl Curl {
    /// Requests to `https://host/`, sent to 127.0.0.1:`port`. Server name and Host are `host`, without the port.
    pub fn new(host: &str, port: u16) -> Self {
        let arguments = ["--silent", "--show-error", "--http1.1"].iter().map(Into::into).collect();
        let limit = Duration::from_secs(15);
        Self { host: host.to_owned(), port, arguments, transfers: Vec::new(), limit }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Trusts this root for the server certificate.
    #[must_use]
    pub fn trusting(self, root: &Path) -> Self {
        self.argument("--cacert").argument(root)
    }

    /// Presents this certificate.
    #[must_use]
    pub fn identity(self, identity: &ClientIdentity) -> Self {
        self.argument("--cert").argument(&identity.chain_path).argument("--key").argument(&identity.key_path)
    }

    /// Allows this version only.
    #[must_use]
    pub fn version(self, version: TlsVersion) -> Self {
        let (least, most) = match version {
            TlsVersion::Tls12 => ("--tlsv1.2", "1.2"),
            TlsVersion::Tls13 => ("--tlsv1.3", "1.3"),
        };
        self.argument(least).argument("--tls-max").argument(most)
    }

    /// Offers these TLS 1.2 suites, in OpenSSL's names.
    #[must_use]
    pub fn ciphers(self, ciphers: &str) -> Self {
        self.argument("--ciphers").argument(ciphers)
    }

    /// Replaces the time limit of 15 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Adds a request without a body.
    #[must_use]
    pub fn request(mut self, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        self.transfers.push(PendingTransfer { method, target, fields: Vec::new(), body: None });
        self
    }

    /// Adds a POST of `body` as JSON.
    #[must_use]
    pub fn post(self, target: &str, body: &[u8]) -> Self {
        self.request("POST", target).field("Content-Type", "application/json").body(body)
    }

    /// Adds the request of a provider's document.
    #[must_use]
    pub fn document(self, document: &Document) -> Self {
        let curl = self.request("POST", document.path).body(document.body.as_bytes());
        document.fields.iter().fold(curl, |curl, (name, value)| curl.field(name, value))
    }

    /// Adds a field to the last request.
    ///
    /// # Panics
    ///
    /// There is no request.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.last().fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body of the last request.
    ///
    /// # Panics
    ///
    /// There is no request.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.last().body = Some(body.to_vec());
        self
    }

    fn last(&mut self) -> &mut PendingTransfer {
        self.transfers.last_mut().expect("request() or post() comes before field() and body()")
    }

    /// Sends the requests.
    ///
    /// # Errors
    ///
    /// curl cannot be started, or there is no request. A failed transfer is no error: see [`CurlOutcome`].
    pub fn run(&self) -> Result<CurlOutcome> {
        ensure!(!self.transfers.is_empty(), "curl has no request to send");
        let directory = tempfile::tempdir()?;
        let mut command = Command::new("curl");
        // Ignores ~/.curlrc. Works as the first argument only.
        command.arg("--disable");
        for (index, transfer) in self.transfers.iter().enumerate() {
            if index > 0 {
                command.arg("--next");
            }
            self.transfer_arguments(&mut command, transfer, &Files::new(directory.path(), index))?;
        }
        let finished = process::run(command, &[], self.limit + GRACE)?;
        let mut transfers = Vec::new();
        for (index, line) in finished.stdout_text().lines().enumerate().take(self.transfers.len()) {
            let files = Files::new(directory.path(), index);
            transfers.extend(read_transfer(line, &files, &self.transfers[index].method)?);
        }
        let exit_code = finished.status.and_then(|status| status.code());
        Ok(CurlOutcome { exit_code, stderr: finished.stderr_text(), transfers })
    }

    /// All options, for each transfer: `--next` resets them.
    fn transfer_arguments(&self, command: &mut Command, transfer: &PendingTransfer, files: &Files) -> Result<()> {
        command.args(&self.arguments);
        command.arg("--connect-to").arg(format!("::127.0.0.1:{}", self.port));
        command.arg("--max-time").arg(self.limit.as_secs_f64().to_string());
        command.arg("--dump-header").arg(&files.head).arg("--output").arg(&files.body);
        command.args(["--write-out", "%{http_code} %{num_connects} %{time_total} %{exitcode}\\n"]);
        match transfer.method.as_str() {
            "HEAD" => command.arg("--head"),
            method => command.args(["--request", method]),
        };
        for (name, value) in &transfer.fields {
            // To curl, "Name:" means to leave the field out, and "Name;" an empty field.
            let field = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
            command.arg("--header").arg(field);
        }
        if let Some(body) = &transfer.body {
            fs::write(&files.upload, body)?;
            let mut argument = OsString::from("@");
            argument.push(&files.upload);
            command.arg("--data-binary").arg(argument);
            // Otherwise curl waits up to a second before it sends a body above 1 MiB.
            command.args(["--header", "Expect:"]);
        }
        command.arg(format!("https://{}{}", self.host, transfer.target));
        Ok(())
    }
}

/// The files of one transfer: what curl receives, and what it sends.
struct Files {
    head: PathBuf,
    body: PathBuf,
    upload: PathBuf,
}

impl Files {
    fn new(directory: &Path, index: usize) -> Self {
        let file = |what: &str| directory.join(format!("{index}-{what}"));
        Self { head: file("head"), body: file("body"), upload: file("upload") }
    }
}

/// The transfer that `line` of the write-out describes; `None` if there was no response.
fn read_transfer(line: &str, files: &Files, method: &str) -> Result<Option<Transfer>> {
    let words: Vec<_> = line.split(' ').collect();
    let [status, connections, seconds, exit_code] = words.as_slice() else { return Ok(None) };
    let status: u16 = status.parse()?;
    if status == 0 {
        return Ok(None);
    }
    // With interim responses there are several heads; the last one counts.
    let heads = fs::read(&files.head).context("reading the head that curl received")?;
    let fields = http::last_fields(&heads).context("in the head that curl received")?;
    // If the body is empty, curl makes no file. For HEAD it writes the head to this file.
    let body = if method == "HEAD" { Vec::new() } else { fs::read(&files.body).unwrap_or_default() };
    let response = Response { status, fields, body, complete: *exit_code == "0" };
    let duration = Duration::from_secs_f64(seconds.parse()?);
    Ok(Some(Transfer { response, new_connections: connections.parse()?, duration }))
}
