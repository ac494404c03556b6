//! What a test of the service needs: a container, a throwaway PKI, and handlers on the host.
//!
//! Owns the set-up, and the few questions that many tests ask. Must not judge: tests do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookgate_testkit::client::{Curl, CurlOutcome};
use hookgate_testkit::configuration::{FourProviders, HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::metrics::Metrics;
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};
use tempfile::TempDir;

use crate::artifacts;
use crate::container::{Container, SOON};

/// The path of the configuration in the container.
pub(crate) const CONFIGURATION: &str = "/etc/hookgate/hookgate.toml";

/// The path of a route of which the provider is proven by its certificate alone.
pub(crate) const PATH: &str = "/percolate";

/// The address of the metrics endpoint in the container.
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 9464);

/// A container and what the configuration of its service names. The container is the first field, so that it ends first.
pub(crate) struct Environment {
    pub(crate) container: Container,
    /// The handler of [`PATH`].
    pub(crate) handler: Handler,
    _dialogflow: Handler,
    /// The server certificate, for [`HOST`]; see [`Environment::install_certificate`].
    pub(crate) server: ServerIdentity,
    pub(crate) pki: Pki,
    /// A good certificate for [`PATH`].
    pub(crate) identity: ClientIdentity,
    directory: TempDir,
}

impl Environment {
    /// A container without the package.
    pub(crate) fn without_package() -> Self {
        let directory = tempfile::Builder::new().prefix("hookgate-system-").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // The user of the service must read the authorities and reach the handlers.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let pki = Pki::new(directory.path()).unwrap();
        let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
        let handler = start_handler(&at("events.sock"));
        let dialogflow = start_handler(&at("dialogflow.sock"));
        let identity = pki.sender(Sender::Percolate).variant(Variant::Good).unwrap();
        let container = Container::boot(directory.path());
        Self { container, handler, _dialogflow: dialogflow, server, pki, identity, directory }
    }

    /// A container with the package installed and configured, and with socket unit and service started.
    pub(crate) fn started() -> Self {
        let environment = Self::configured();
        environment.container.run(&["systemctl", "start", "hookgate.socket", "hookgate.service"]);
        environment
    }

    /// A container with the package installed and configured, and nothing started.
    pub(crate) fn configured() -> Self {
        let environment = Self::without_package();
        environment.container.install(&artifacts::packages().present);
        environment.install_certificate();
        environment.configure(|_| {});
        environment
    }

    /// A container with the older package installed, configured by `configure`, and with socket unit and service enabled and started.
    pub(crate) fn of_older(configure: impl FnOnce(&Self)) -> Self {
        let environment = Self::without_package();
        environment.container.install(&artifacts::packages().older);
        environment.install_certificate();
        configure(&environment);
        environment.container.run(&["systemctl", "enable", "--now", "hookgate.socket", "hookgate.service"]);
        environment
    }

    /// Installs certificate and key at the path, and with the permissions, that the package documents.
    pub(crate) fn install_certificate(&self) {
        for path in [&self.server.chain_path, &self.server.key_path] {
            let name = path.file_name().unwrap().to_string_lossy();
            self.container.shell(&format!(
                "install --mode=640 --group=hookgate /srv/test/{name} /etc/hookgate/certificates/{name}"
            ));
        }
    }

    /// Writes the configuration of the four providers, after `change`.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut FourProviders<'_>)) {
        self.configure_text(change, |text| text);
    }

    /// The same, after a change to the text too, which has the paths of the host.
    pub(crate) fn configure_text(
        &self,
        change: impl FnOnce(&mut FourProviders<'_>),
        change_text: impl FnOnce(String) -> String,
    ) {
        let mut configuration =
            FourProviders::new(&self.pki, &self.server, self.handler.path(), self._dialogflow.path());
        change(&mut configuration);
        self.container.write(CONFIGURATION, &self.as_installed(&change_text(configuration.toml())));
    }

    /// Makes a directory that the container sees too.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// `configuration` with the paths of the container.
    fn as_installed(&self, configuration: &str) -> String {
        let directory = self.directory.path().display();
        let ours = |name: &str| (format!("{directory}/{name}"), format!("/etc/hookgate/certificates/{name}"));
        let replaced = [
            ours("server.pem"),
            ours("server.key"),
            (directory.to_string(), "/srv/test".to_owned()),
            (format!("\"127.0.0.1:{LISTEN_PORT}\""), "\"0.0.0.0:443\", \"[::]:443\"".to_owned()),
            (METRICS_PORT.to_owned(), METRICS.1.to_string()),
            (IO.to_owned(), "auto".to_owned()),
        ];
        replaced.iter().fold(configuration.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// The present configuration in the container.
    pub(crate) fn configuration(&self) -> String {
        self.container.run(&["cat", CONFIGURATION])
    }

    /// A client with `identity`, and without a request.
    pub(crate) fn client(&self, identity: &ClientIdentity) -> Curl {
        Curl::new(HOST, 443).trusting(self.pki.server_root().path()).identity(identity)
    }

    /// Sends the requests of `client` in the network of the container.
    pub(crate) fn send(&self, client: &Curl) -> CurlOutcome {
        self.container.in_network(|| client.run()).unwrap()
    }

    /// Posts to [`PATH`] with `identity`.
    pub(crate) fn post(&self, identity: &ClientIdentity) -> CurlOutcome {
        self.send(&self.client(identity).post(PATH, b"{}"))
    }

    /// Starts a handler whose socket is in the directory that the container sees too.
    pub(crate) fn start_handler(&self, name: &str) -> Handler {
        start_handler(&self.directory.path().join(name))
    }

    /// Fails unless the handler answers a good request.
    pub(crate) fn expect_served(&self) {
        let outcome = self.post(&self.identity);
        assert_eq!(outcome.status(), Some(200), "{outcome:?}\n{}", self.container.journal());
    }

    /// Waits until the handler answers a good request.
    pub(crate) fn wait_served(&self) {
        self.container.wait_for("a request that is served", SOON, || {
            (self.post(&self.identity).status() == Some(200)).then_some(())
        });
    }

    /// A sum of a new scrape, as [`Metrics::sum`].
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.container.in_network(|| Metrics::scrape(METRICS.into())).unwrap().sum(name, labels)
    }

    /// Waits until the sum is at least `least`: the daemon counts a request after the client has the response.
    pub(crate) fn wait_metric(&self, name: &str, labels: &[(&str, &str)], least: f64) {
        self.container.wait_for(name, SOON, || (self.metric(name, labels) >= least).then_some(()));
    }

    /// Reloads, which must succeed. Waits until the new configuration is in use, which systemd before 253 does not.
    pub(crate) fn reload(&self) {
        let generation = self.metric("hookgate_config_generation", &[]);
        self.container.run(&["systemctl", "reload", "hookgate.service"]);
        self.wait_metric("hookgate_config_generation", &[], generation + 1.0);
    }

    /// Waits until the service has a main process, and returns its id in the container. Between two starts it has none.
    pub(crate) fn wait_process(&self) -> String {
        let main = || self.container.property("hookgate.service", "MainPID");
        self.container.wait_for("a main process", SOON, || Some(main()).filter(|process| process != "0"))
    }

    /// How often systemd has restarted the service by itself.
    pub(crate) fn automatic_restarts(&self) -> u32 {
        self.container.property("hookgate.service", "NRestarts").parse().unwrap()
    }
}

/// Starts a handler that the user of the service may connect to.
fn start_handler(path: &Path) -> Handler {
    let handler = Handler::start(path, Behaviour::Json).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    handler
}

/// How long a test keeps the load before and after its action.
pub(crate) const MOMENT: Duration = Duration::from_millis(500);
