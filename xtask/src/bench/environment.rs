//! Everything around the servers: certificates, the handler, the load generator. It lives as long as a run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{ClientIdentity, KeyKind, LeafOptions, Pki, RevocationListOptions, Sender};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use super::protocol::{self, Floor, Identities, Identity, Reply};
use super::server::Materials;

/// Distinct client certificates: more than hookgate's chain cache holds by default (4,096). They are used in turn, so that
/// least-recently-used eviction removes each before it is used again.
const DISTINCT_CLIENTS: usize = 5_000;

/// Entries of the revocation list.
const REVOKED: usize = 10_000;

/// How long the handler may take to make its socket.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Certificates, handler and load generator.
pub(crate) struct Environment {
    /// What the servers' configurations name.
    pub(crate) materials: Materials,
    identities: Identities,
    load_generator: LoadGenerator,
    handler: KilledOnDrop,
    // Last, because everything above has files in it.
    directory: tempfile::TempDir,
}

impl Environment {
    /// Makes the certificates, and starts the handler and the load generator, both parts of the program `load`, on `client_core`.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or a program does not start.
    pub(crate) fn start(load: &Path, server_core: usize, client_core: usize) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-bench-").tempdir()?;
        let certificates = directory.path().join("pki");
        fs::create_dir(&certificates)?;
        let handler = directory.path().join("handler.sock");
        let (values, identities) = certify(&certificates)?;
        let identities_path = directory.path().join("identities.json");
        fs::write(&identities_path, serde_json::to_vec(&identities)?)?;
        let pinned = |part: &str| {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &client_core.to_string()]).arg(load).arg(part);
            command
        };
        let child =
            pinned("handler").arg("--socket").arg(&handler).spawn().context("starting taskset, of util-linux")?;
        let handler_child = KilledOnDrop(child);
        wait_until("the handler's socket", START_LIMIT, || handler.exists())?;
        let load_generator = LoadGenerator::start(pinned("client").arg("--identities").arg(&identities_path))?;
        let materials = Materials { values, directory: directory.path().to_owned(), handler, core: server_core };
        Ok(Self { materials, identities, load_generator, handler: handler_child, directory })
    }

    /// The directory of every file of the run.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The client that connects again and again.
    pub(crate) fn returning(&self) -> &Identity {
        &self.identities.returning
    }

    /// The name for SNI and `Host`.
    pub(crate) fn server_name(&self) -> &str {
        &self.identities.server_name
    }

    /// The processes of handler and load generator.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.handler.0.id(), self.load_generator.child.0.id()]
    }

    /// Sends a command to the load generator.
    ///
    /// # Errors
    ///
    /// The load generator reports a failure.
    pub(crate) fn ask(&mut self, command: &protocol::Command) -> Result<Reply> {
        self.load_generator.ask(command)
    }
}

/// Makes every certificate. Returns the placeholders of the templates, and the clients' certificates.
fn certify(directory: &Path) -> Result<(Vec<(&'static str, String)>, Identities)> {
    let pki = Pki::new(directory)?;
    let server = pki.server("server", &[HOST], KeyKind::P256)?;
    let sender = pki.sender(Sender::PagerDuty);
    let identity = |name: &str| -> Result<Identity> {
        let ClientIdentity { chain_path, key_path, .. } = sender.leaf(name, &LeafOptions::default())?;
        Ok(Identity { chain: chain_path, key: key_path })
    };
    let options = RevocationListOptions { filler_entries: REVOKED, ..RevocationListOptions::default() };
    let [of_intermediate, of_root] = sender.revocation_lists(&options)?;
    let both = |name: &str, parts: [&Path; 2]| -> Result<PathBuf> {
        let path = directory.join(name);
        fs::write(&path, fs::read_to_string(parts[0])? + &fs::read_to_string(parts[1])?)?;
        Ok(path)
    };
    let server_both = both("server-both.pem", [&server.chain_path, &server.key_path])?;
    let lists_both = both("both.crl", [&of_intermediate, &of_root])?;
    let text = |path: &Path| path.display().to_string();
    let values = vec![
        ("@SERVER_NAME@", HOST.to_owned()),
        ("@SERVER_CHAIN@", text(&server.chain_path)),
        ("@SERVER_KEY@", text(&server.key_path)),
        ("@SERVER_BOTH@", text(&server_both)),
        ("@CLIENT_ROOT@", text(sender.root.path())),
        ("@SUBJECT_CN@", "webhooks.pagerduty.com".to_owned()),
        ("@CRL_INTERMEDIATE@", text(&of_intermediate)),
        ("@CRL_ROOT@", text(&of_root)),
        ("@CRL_BOTH@", text(&lists_both)),
        ("@WORKERS@", "1".to_owned()),
        ("@METRICS@", String::new()),
    ];
    let identities = Identities {
        server: server.chain_path,
        server_name: HOST.to_owned(),
        returning: identity("returning")?,
        distinct: (0..DISTINCT_CLIENTS).map(|index| identity(&format!("distinct-{index}"))).collect::<Result<_>>()?,
    };
    Ok((values, identities))
}

/// The load generator.
pub(crate) struct LoadGenerator {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    child: KilledOnDrop,
}

impl LoadGenerator {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting the load generator")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the load generator was started with pipes");
        };
        Ok(Self { stdin, stdout: BufReader::new(stdout), child: KilledOnDrop(child) })
    }

    /// Sends a command, and waits for the reply.
    ///
    /// # Errors
    ///
    /// The program reports a failure, or has ended.
    pub(crate) fn ask(&mut self, command: &protocol::Command) -> Result<Reply> {
        serde_json::to_writer(&mut self.stdin, command)?;
        self.stdin.write_all(b"\n")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        match serde_json::from_str(&line).context("the load generator ended")? {
            Reply::Failed(reason) => bail!("{reason}"),
            reply => Ok(reply),
        }
    }
}

/// Measures the crypto floor on `core`.
///
/// # Errors
///
/// The program does not run.
pub(crate) fn floor(load: &Path, core: usize) -> Result<Floor> {
    let output = Command::new("taskset").args(["--cpu-list", &core.to_string()]).arg(load).arg("floor").output()?;
    serde_json::from_slice(&output.stdout).context("the crypto floor")
}
