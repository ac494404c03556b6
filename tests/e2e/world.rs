//! What nearly every test begins with: a throwaway PKI, two handlers, and the daemon in front of them.
//!
//! Owns the set-up, and the few questions that many tests ask. Must not judge: tests do.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use hookgate_testkit::client::{Curl, OpenSsl};
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::documents::Document;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};
use tempfile::TempDir;

/// How long anything may take that should be over at once. Generous, for a busy machine; nothing waits that long unless it
/// fails.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The real binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hookgate");

/// Everything around the daemon: what its configuration names.
pub(crate) struct Scene {
    /// Handler of PagerDuty and Percolate.
    pub(crate) events: Handler,
    /// Handler of both Dialogflows.
    pub(crate) dialogflow: Handler,
    /// Our certificate, for [`HOST`].
    pub(crate) server: ServerIdentity,
    /// Everybody's authorities.
    pub(crate) pki: Pki,
    /// Holds all of the files. The last field, so that it is removed last.
    pub(crate) directory: TempDir,
}

impl Scene {
    /// Makes the PKI and starts the handlers, which answer with JSON.
    pub(crate) fn set() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-e2e-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let server = pki.server("server", &[HOST], KeyKind::P256)?;
        let events = Handler::start(&directory.path().join("events.sock"), Behaviour::Json)?;
        let dialogflow = Handler::start(&directory.path().join("dialogflow.sock"), Behaviour::Json)?;
        Ok(Self { events, dialogflow, server, pki, directory })
    }

    /// The configuration for the four providers, to be changed at will. One worker: what a test sees then does not depend on
    /// which worker the kernel gave the connection to, and a small machine starts it faster.
    pub(crate) fn configuration(&self) -> FourProviders<'_> {
        let mut configuration = FourProviders::new(&self.pki, &self.server, self.events.path(), self.dialogflow.path());
        configuration.listen = "workers = 1";
        configuration
    }

    /// A certificate of `sender`. Every call makes a new one in the same files, so ask once for each and keep it.
    pub(crate) fn identity(&self, sender: Sender, variant: Variant) -> Result<ClientIdentity> {
        self.pki.sender(sender).variant(variant)
    }

    /// How many requests reached any handler.
    pub(crate) fn handled(&self) -> u64 {
        self.events.request_count() + self.dialogflow.request_count()
    }

    /// A file in the directory.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<std::path::PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, contents)?;
        Ok(path)
    }

    /// The path of a file in the directory, which need not exist.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

/// A [`Scene`] with the daemon in it.
pub(crate) struct World {
    /// The daemon. The first field, so that it ends before what it was configured with.
    pub(crate) gateway: Gateway,
    /// The rest.
    pub(crate) scene: Scene,
}

impl World {
    /// The daemon with [`Scene::configuration`] as it is.
    pub(crate) fn start() -> Result<Self> {
        Self::configured(|_| {})
    }

    /// The daemon with [`Scene::configuration`] after `change`.
    pub(crate) fn configured(change: impl FnOnce(&mut FourProviders<'_>)) -> Result<Self> {
        Self::written(Scene::set()?, |scene| {
            let mut configuration = scene.configuration();
            change(&mut configuration);
            Ok(configuration.toml())
        })
    }

    /// The daemon with the configuration that `write` makes out of `scene`.
    pub(crate) fn written(scene: Scene, write: impl FnOnce(&Scene) -> Result<String>) -> Result<Self> {
        let gateway = Gateway::start(&write(&scene)?, &GatewayOptions::new(BINARY))?;
        Ok(Self { gateway, scene })
    }

    /// Puts this configuration into the place of the old one, and waits until it is in use.
    pub(crate) fn reload(&self, configuration: &str) -> Result<()> {
        let before = self.gateway.metric("hookgate_config_generation", &[])?;
        self.gateway.write_configuration(configuration)?;
        self.gateway.signal(Signal::HUP)?;
        let now = self.gateway.wait_metric("hookgate_config_generation", &[], before + 1.0, SOON)?;
        ensure!(now == before + 1.0, "one reload led from generation {before} to {now}");
        Ok(())
    }

    /// curl to [`HOST`].
    pub(crate) fn curl(&self) -> Curl {
        self.gateway.curl(HOST, &self.scene.pki)
    }

    /// `s_client` to [`HOST`].
    pub(crate) fn openssl(&self) -> OpenSsl {
        self.gateway.openssl(HOST, &self.scene.pki)
    }

    /// The sum of `hookgate_rejections_total` for this reason.
    pub(crate) fn rejections(&self, reason: &str) -> Result<f64> {
        self.gateway.metric("hookgate_rejections_total", &[("reason", reason)])
    }

    /// Waits until `hookgate_rejections_total` for this reason is at least `least`.
    pub(crate) fn wait_rejections(&self, reason: &str, least: f64) -> Result<f64> {
        self.gateway.wait_metric("hookgate_rejections_total", &[("reason", reason)], least, SOON)
    }

    /// Fails unless a request with a good certificate is answered by its handler: what is to be true after every refusal.
    pub(crate) fn still_serves(&self) -> Result<()> {
        let identity = self.scene.pki.sender(Sender::Percolate).leaf("still-serves", &Default::default())?;
        let before = self.scene.events.request_count();
        let outcome = self.curl().identity(&identity).post("/percolate", b"{}").run()?;
        ensure!(outcome.status() == Some(200), "a good request got {outcome:?}; the log:\n{}", self.gateway.log());
        ensure!(self.scene.events.request_count() > before, "the handler did not see the request");
        Ok(())
    }
}

/// Adds the fields of `document` to the request that was added to `curl` last.
pub(crate) fn with_fields(curl: Curl, document: &Document) -> Curl {
    document.fields.iter().fold(curl, |curl, (name, value)| curl.field(name, value))
}

/// `path` as it stands between quotation marks in TOML.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
