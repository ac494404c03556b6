//! OpenSSL's `s_client`: handshakes, alerts, resumption, and raw bytes inside TLS.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::TlsVersion;
use crate::http::{self, Response};
use crate::pki::ClientIdentity;
use crate::process;

use super::OpenSslConnection;

/// The number of the alert in `text`, the standard error of `s_client`.
pub(super) fn alert_number(text: &str) -> Option<u8> {
    let (_, rest) = text.split_once("SSL alert number ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// A connection for `openssl s_client` to make.
#[derive(Clone, Debug)]
pub struct OpenSsl {
    /// The program, and what comes before its arguments.
    program: Vec<OsString>,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    until: Option<Vec<u8>>,
    limit: Duration,
}

/// How `s_client` ended, and its output.
#[derive(Clone, Debug)]
pub struct OpenSslOutcome {
    /// Standard output, which includes what the server sent.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Exit status; `None` if it was killed.
    pub exit_code: Option<i32>,
    /// Whether the time limit passed.
    pub timed_out: bool,
}

impl OpenSsl {
    /// A connection to 127.0.0.1:`port` with this server name.
    pub fn new(server_name: &str, port: u16) -> Self {
        // -ign_eof: the connection outlives the input, and no letter of the input is a command.
        let arguments = ["s_client", "-ign_eof", "-showcerts", "-servername"].iter().map(Into::into).collect();
        let program = vec!["openssl".into()];
        let client = Self { program, arguments, input: Vec::new(), until: None, limit: Duration::from_secs(10) };
        client.argument(server_name).argument("-connect").argument(format!("127.0.0.1:{port}"))
    }

    /// By this program, with these arguments before its own.
    #[must_use]
    pub fn by(self, program: Vec<OsString>) -> Self {
        Self { program, ..self }
    }

    fn command(&self) -> Command {
        let mut words = self.program.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new("openssl"), OsString::as_os_str));
        command.args(words).args(&self.arguments);
        command
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Trusts this root, and ends if the server certificate does not verify.
    #[must_use]
    pub fn trusting(self, root: &Path) -> Self {
        self.argument("-CAfile").argument(root).argument("-verify_return_error")
    }

    /// Presents this certificate.
    #[must_use]
    pub fn identity(self, identity: &ClientIdentity) -> Self {
        let client =
            self.argument("-cert").argument(&identity.certificate_path).argument("-key").argument(&identity.key_path);
        match &identity.issuers_path {
            None => client,
            Some(issuers) => client.argument("-cert_chain").argument(issuers),
        }
    }

    /// Allows this version only.
    #[must_use]
    pub fn version(self, version: TlsVersion) -> Self {
        self.argument(match version {
            TlsVersion::Tls12 => "-tls1_2",
            TlsVersion::Tls13 => "-tls1_3",
        })
    }

    /// Offers these TLS 1.2 suites, in OpenSSL's names.
    #[must_use]
    pub fn ciphers(self, ciphers: &str) -> Self {
        self.argument("-cipher").argument(ciphers)
    }

    /// Offers these application protocols (RFC 7301), separated by commas.
    #[must_use]
    pub fn application_protocols(self, protocols: &str) -> Self {
        self.argument("-alpn").argument(protocols)
    }

    /// Writes the session to `file`. With TLS 1.3 it arrives after the handshake: send a request too.
    #[must_use]
    pub fn save_session(self, file: &Path) -> Self {
        self.argument("-sess_out").argument(file)
    }

    /// Offers the session in `file` for resumption.
    #[must_use]
    pub fn resume_session(self, file: &Path) -> Self {
        self.argument("-sess_in").argument(file)
    }

    /// Adds bytes to send after the handshake.
    #[must_use]
    pub fn send(mut self, bytes: &[u8]) -> Self {
        self.input.extend_from_slice(bytes);
        self
    }

    /// Adds a POST of `body` with `Connection: close`, so that the server ends the connection.
    #[must_use]
    pub fn post(self, host: &str, target: &str, body: &[u8]) -> Self {
        let fields = [("Content-Type", "application/json"), ("Connection", "close")];
        self.send(&http::request("POST", target, host, &fields, body))
    }

    /// Ends as soon as `text` is on standard output, not only when the server closes.
    #[must_use]
    pub fn until(mut self, text: &str) -> Self {
        self.until = Some(text.as_bytes().to_vec());
        self
    }

    /// Replaces the time limit of 10 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Connects and stays connected, for tests that act between two requests. Sends first what `send` and `post` added. Ignores
    /// `until` and `limit`.
    ///
    /// # Errors
    ///
    /// `openssl` cannot be started.
    pub fn keep_open(&self) -> Result<OpenSslConnection> {
        let mut command = self.command();
        // -quiet: standard output has only what the server sends.
        command.arg("-quiet");
        OpenSslConnection::start(command, &self.input)
    }

    /// Connects, sends, and reads until the server closes, the text of `until` arrives, or the limit passes.
    ///
    /// # Errors
    ///
    /// `openssl` cannot be started. A failed handshake is no error: see [`OpenSslOutcome`].
    pub fn run(&self) -> Result<OpenSslOutcome> {
        let command = self.command();
        let enough = |stdout: &[u8]| self.until.as_ref().is_some_and(|text| find(stdout, text).is_some());
        let finished = process::run_until(command, &self.input, self.limit, enough)?;
        Ok(OpenSslOutcome {
            exit_code: finished.status.and_then(|status| status.code()),
            timed_out: finished.timed_out,
            stderr: finished.stderr_text(),
            stdout: finished.stdout,
        })
    }
}

impl OpenSslOutcome {
    /// Standard output as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Whether the client completed the handshake. With TLS 1.3 a server may refuse the client certificate after that: see
    /// [`OpenSslOutcome::alert`].
    pub fn connected(&self) -> bool {
        self.protocol().is_some()
    }

    /// Whether the session was resumed.
    pub fn reused(&self) -> bool {
        self.summary().is_some_and(|line| line.starts_with("Reused, "))
    }

    /// The protocol, such as `TLSv1.3`; `None` without a handshake.
    pub fn protocol(&self) -> Option<String> {
        let line = self.summary()?;
        let protocol = line.split(", ").nth(1)?;
        (protocol != "(NONE)").then(|| protocol.to_owned())
    }

    /// The cipher suite, in OpenSSL's name.
    pub fn cipher(&self) -> Option<String> {
        let cipher = self.summary()?.rsplit("Cipher is ").next()?.to_owned();
        (cipher != "(NONE)").then_some(cipher)
    }

    /// `New, TLSv1.3, Cipher is …` or `Reused, …`.
    fn summary(&self) -> Option<String> {
        self.text().lines().find(|line| line.contains(", Cipher is ")).map(str::to_owned)
    }

    /// The number of the alert that the server sent (RFC 8446, section 6).
    pub fn alert(&self) -> Option<u8> {
        alert_number(&self.stderr)
    }

    /// The distinguished names in the CertificateRequest, as OpenSSL prints them.
    pub fn authority_names(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().skip_while(|line| *line != "Acceptable client certificate CA names").skip(1);
        lines.take_while(|line| line.contains('=')).map(str::to_owned).collect()
    }

    /// The certificates of the server as PEM, in the order sent.
    pub fn server_certificates(&self) -> Vec<String> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let text = self.text();
        // After this line `s_client` prints the end entity again.
        let chain = text.split("\nServer certificate\n").next().unwrap_or_default();
        let pieces = chain.split(BEGIN).skip(1);
        pieces.filter_map(|piece| Some(format!("{BEGIN}{}{END}\n", piece.split_once(END)?.0))).collect()
    }

    /// The negotiated application protocol.
    pub fn application_protocol(&self) -> Option<String> {
        self.text().lines().find_map(|line| line.strip_prefix("ALPN protocol: ").map(str::to_owned))
    }

    /// Every HTTP response. `s_client` writes its own text to the same pipe, which can follow a body that ends with the connection;
    /// a body with Content-Length or in chunks is exact.
    pub fn responses(&self) -> Vec<Response> {
        let Some(start) = find(&self.stdout, b"HTTP/1.") else { return Vec::new() };
        Response::read_all(&self.stdout[start..])
    }

    /// The first HTTP response.
    pub fn response(&self) -> Option<Response> {
        self.responses().into_iter().next()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
