//! What nearly every test begins with: the daemon, what is around it, and a client that it admits.
//!
//! Owns the set-up, and the few questions that many tests ask. Must not judge: tests do.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hookgate_testkit::client::{Curl, OpenSsl};
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::Handler;
use hookgate_testkit::http::Response;
use hookgate_testkit::pki::{ClientIdentity, Sender, Variant};
use hookgate_testkit::wait::wait_until;

use crate::environment::{BINARY, Environment, SOON};
use crate::tls_client::{TlsClient, TlsConnection};

/// A running daemon in its environment.
pub(crate) struct TestGateway {
    /// The daemon. The first field, so that it ends before what it was configured with.
    pub(crate) daemon: Gateway,
    /// What its configuration names.
    pub(crate) environment: Environment,
    /// A good certificate, of Percolate unless [`TestGateway::new`] was told otherwise.
    pub(crate) identity: ClientIdentity,
    /// Makes connections with [`TestGateway::identity`].
    pub(crate) client: TlsClient,
}

impl TestGateway {
    /// A daemon that runs already, with a client that is `sender`.
    pub(crate) fn new(daemon: Gateway, environment: Environment, sender: Sender) -> Result<Self> {
        let identity = environment.identity(sender, Variant::Good)?;
        let client = TlsClient::new(daemon.port(), &environment.pki, &identity)?;
        Ok(Self { daemon, environment, identity, client })
    }

    /// The daemon with [`Environment::configuration`] as it is.
    pub(crate) fn start() -> Result<Self> {
        Self::configured(|_| {})
    }

    /// The daemon with [`Environment::configuration`] after `change`.
    pub(crate) fn configured(change: impl FnOnce(&mut FourProviders<'_>)) -> Result<Self> {
        Self::with_toml(|environment| {
            let mut configuration = environment.configuration();
            change(&mut configuration);
            configuration.toml()
        })
    }

    /// The daemon with [`Environment::toml`], these lines in `[limits]`.
    pub(crate) fn with_limits(limits: &str) -> Result<Self> {
        Self::with_toml(|environment| environment.toml(limits, ""))
    }

    /// The daemon with the configuration that `write` makes.
    pub(crate) fn with_toml(write: impl FnOnce(&Environment) -> String) -> Result<Self> {
        Self::in_environment(Environment::new()?, write)
    }

    /// The daemon with the configuration that `write` makes from `environment`.
    pub(crate) fn in_environment(environment: Environment, write: impl FnOnce(&Environment) -> String) -> Result<Self> {
        let daemon = Gateway::start(&write(&environment), &GatewayOptions::new(BINARY))?;
        Self::new(daemon, environment, Sender::Percolate)
    }

    /// Replaces the configuration, and waits until the new one is in use.
    pub(crate) fn reload(&self, configuration: &str) -> Result<()> {
        self.daemon.reload(configuration, SOON)
    }

    /// As [`TestGateway::reload`], also for a configuration that demands less than the one in use.
    pub(crate) fn reload_permitting(&self, configuration: &str) -> Result<()> {
        self.daemon.reload_permitting(configuration, SOON)
    }

    /// The number of successful (`ok`) or failed (`error`) loads of a configuration.
    pub(crate) fn reloads(&self, result: &str) -> Result<f64> {
        self.daemon.metric("hookgate_config_reloads_total", &[("result", result)])
    }

    /// The handler behind every path that Percolate is admitted to.
    pub(crate) fn handler(&self) -> &Handler {
        &self.environment.events
    }

    /// curl to [`HOST`], without a certificate.
    pub(crate) fn curl(&self) -> Curl {
        self.daemon.curl(HOST, &self.environment.pki)
    }

    /// `s_client` to [`HOST`], without a certificate.
    pub(crate) fn openssl(&self) -> OpenSsl {
        self.daemon.openssl(HOST, &self.environment.pki)
    }

    /// curl to [`HOST`] with [`TestGateway::identity`].
    pub(crate) fn admitted_curl(&self) -> Curl {
        self.curl().identity(&self.identity)
    }

    /// `s_client` to [`HOST`] with [`TestGateway::identity`].
    pub(crate) fn admitted_openssl(&self) -> OpenSsl {
        self.openssl().identity(&self.identity)
    }

    /// A connection with [`TestGateway::identity`].
    pub(crate) fn connect(&self) -> Result<TlsConnection> {
        self.client.connect()
    }

    /// Sends `bytes` with [`TestGateway::admitted_openssl`], reads until the daemon closes, and returns the one response.
    pub(crate) fn exchange(&self, bytes: impl AsRef<[u8]>) -> Result<Response> {
        let outcome = self.admitted_openssl().send(bytes.as_ref()).run()?;
        let responses = outcome.responses();
        ensure!(responses.len() == 1 && !outcome.timed_out, "{responses:?}; {}", outcome.text());
        responses.into_iter().next().context("there is one")
    }

    /// The sum of `hookgate_rejections_total` for this reason.
    pub(crate) fn rejections(&self, reason: &str) -> Result<f64> {
        self.daemon.metric("hookgate_rejections_total", &[("reason", reason)])
    }

    /// Waits until `hookgate_rejections_total` for this reason is at least `least`.
    pub(crate) fn wait_rejections(&self, reason: &str, least: f64) -> Result<f64> {
        self.daemon.wait_metric("hookgate_rejections_total", &[("reason", reason)], least, SOON)
    }

    /// Waits until the daemon has no open connection.
    pub(crate) fn wait_no_connection(&self) -> Result<()> {
        let active = || self.daemon.metric("hookgate_connections_active", &[]).is_ok_and(|active| active == 0.0);
        wait_until("the end of all connections", SOON, active)
    }

    /// Seconds of CPU that the daemon has used (proc(5), /proc/pid/stat: utime and stime).
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.process_id()))?;
        let fields: Vec<_> = stat.rsplit_once(')').context("no name of a program")?.1.split_whitespace().collect();
        let ticks = fields.get(11..13).context("too few fields")?.iter().map(|field| field.parse::<f64>());
        // USER_HZ is 100 on every architecture that Linux has today.
        Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
    }

    /// Fails unless a handler answers a request with a good certificate, as it must after every refusal.
    pub(crate) fn still_serves(&self) -> Result<()> {
        let identity = self.environment.pki.sender(Sender::Percolate).leaf("still-serves", &Default::default())?;
        let before = self.handler().request_count();
        let ask = || self.curl().identity(&identity).post("/percolate", b"{}").run();
        let (mut outcome, deadline) = (ask()?, Instant::now() + SOON);
        // On a busy machine, curl may be slower than the short handshake_timeout_ms of a test.
        while outcome.status().is_none() && Instant::now() < deadline {
            outcome = ask()?;
        }
        ensure!(outcome.status() == Some(200), "a good request got {outcome:?}; the log:\n{}", self.daemon.log());
        ensure!(self.handler().request_count() > before, "the handler did not see the request");
        Ok(())
    }
}
