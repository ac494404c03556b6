//! What surrounds the daemon in a soak: certificates, a handler that can be killed, the load generator, configurations.
//!
//! Owns the processes. Must not judge what they report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use hookgate_testkit::client::Curl;
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use crate::bench::environment::LoadGenerator;
use crate::bench::protocol::{Command as LoadCommand, Identities, Identity, Load, Reply};

/// Short time-outs, so that a round ends soon.
const LIMITS: &str = "handshake_timeout_ms = 2000\nrequest_head_timeout_ms = 2000\nidle_timeout_ms = 4000\n\
     handler_timeout_ms = 5000\nhandler_idle_timeout_ms = 1000\n";

/// How long the handler may take to make its socket.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Everything but the daemon.
pub(super) struct Environment {
    pki: Pki,
    certificate: ServerIdentity,
    identity: ClientIdentity,
    load_program: PathBuf,
    load_generator: LoadGenerator,
    handler: Option<KilledOnDrop>,
    // Last, because everything above has files in it.
    directory: tempfile::TempDir,
}

impl Environment {
    /// Makes the certificates, and starts the handler and the load generator of `programs`.
    ///
    /// # Errors
    ///
    /// A file cannot be written, or a program does not start.
    pub(super) fn start(programs: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-soak-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let certificate = pki.server("server", &[HOST], KeyKind::P256)?;
        let identity = pki.sender(Sender::PagerDuty).variant(Variant::Good)?;
        let returning = Identity { chain: identity.chain_path.clone(), key: identity.key_path.clone() };
        let identities = Identities {
            server: certificate.chain_path.clone(),
            server_name: HOST.to_owned(),
            distinct: vec![returning.clone()],
            returning,
        };
        let path = directory.path().join("identities.json");
        fs::write(&path, serde_json::to_vec(&identities)?)?;
        let load_program = programs.join("hookgate-load");
        let load_generator =
            LoadGenerator::start(Command::new(&load_program).arg("client").arg("--identities").arg(&path))?;
        let mut environment =
            Self { pki, certificate, identity, load_program, load_generator, handler: None, directory };
        environment.start_handler()?;
        Ok(environment)
    }

    /// Starts the daemon with the first configuration.
    ///
    /// # Errors
    ///
    /// It does not become ready.
    pub(super) fn gateway(&self, binary: &Path) -> Result<Gateway> {
        Gateway::start(&self.configurations()[0], &GatewayOptions::new(binary))
    }

    /// Configurations that a reload changes between: both admit the same sender.
    pub(super) fn configurations(&self) -> [String; 2] {
        let socket = self.socket();
        let mut configuration = FourProviders::new(&self.pki, &self.certificate, &socket, &socket);
        let other = format!("{LIMITS}max_body_bytes = 65536\n");
        [LIMITS, &other].map(|limits| {
            configuration.limits = limits;
            // A borrow of `other` ends with this text.
            configuration.toml()
        })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("handler.sock")
    }

    /// Starts the handler, and waits until its socket exists.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) fn start_handler(&mut self) -> Result<()> {
        let socket = self.socket();
        drop(fs::remove_file(&socket));
        let handler = Command::new(&self.load_program).arg("handler").arg("--socket").arg(&socket).spawn()?;
        self.handler = Some(KilledOnDrop(handler));
        wait_until("the handler's socket", START_LIMIT, || socket.exists())
    }

    /// Kills the handler with SIGKILL: its connections break, and its socket stays without a listener.
    pub(super) fn kill_handler(&mut self) {
        self.handler = None;
    }

    /// Runs a load to its end, and returns the number of its units.
    ///
    /// # Errors
    ///
    /// A handshake was refused, a response had another status than 200 or was missing.
    pub(super) fn load(&mut self, load: Load) -> Result<u64> {
        match self.load_generator.ask(&LoadCommand::Run(load))? {
            Reply::Measured(measured) => Ok(measured.units),
            other => bail!("the load generator replied {other:?}"),
        }
    }

    /// A client that the gateway admits.
    pub(super) fn client(&self, gateway: &Gateway) -> Curl {
        self.stranger(gateway).identity(&self.identity).post(PAGERDUTY.path, b"{}")
    }

    /// curl without a certificate.
    pub(super) fn stranger(&self, gateway: &Gateway) -> Curl {
        gateway.curl(HOST, &self.pki)
    }

    /// A certificate of an unknown authority with the right names.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn foreign(&self) -> Result<ClientIdentity> {
        self.pki.sender(Sender::PagerDuty).variant(Variant::Stranger)
    }

    /// The certificate of [`Environment::client`].
    pub(super) fn identity(&self) -> &ClientIdentity {
        &self.identity
    }
}
