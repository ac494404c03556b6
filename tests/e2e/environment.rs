//! What a test needs around the daemon: a throwaway PKI, two handlers, a directory, and configuration files that name them.
//!
//! Owns these, and not the daemon. Must not judge: tests do.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use hookgate_testkit::configuration::{FourProviders, HOST};
use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::pki::{ClientIdentity, KeyKind, Pki, Sender, ServerIdentity, Variant};
use tempfile::TempDir;

/// The limit for everything that should happen at once. Generous, for a busy machine: only a failure takes that long.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The real binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hookgate");

/// A path under the route of [`Environment::any_method_route`].
pub(crate) const PATH: &str = "/any/hook";

/// Everything that the daemon's configuration names.
pub(crate) struct Environment {
    /// Handler of PagerDuty and Percolate.
    pub(crate) events: Handler,
    /// Handler of Dialogflow CX and ES.
    pub(crate) dialogflow: Handler,
    /// The server certificate, for [`HOST`].
    pub(crate) server: ServerIdentity,
    /// The authorities of all senders and of the server.
    pub(crate) pki: Pki,
    /// Holds all files. The last field, so that it is removed last.
    pub(crate) directory: TempDir,
}

impl Environment {
    /// Makes the PKI and starts the handlers, which answer with JSON.
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("hookgate-e2e-").tempdir()?;
        let pki = Pki::new(directory.path())?;
        let server = pki.server("server", &[HOST], KeyKind::P256)?;
        let events = Handler::start(&directory.path().join("events.sock"), Behaviour::Json)?;
        let dialogflow = Handler::start(&directory.path().join("dialogflow.sock"), Behaviour::Json)?;
        Ok(Self { events, dialogflow, server, pki, directory })
    }

    /// A state directory, made at the first call.
    pub(crate) fn state_directory(&self) -> PathBuf {
        let state = self.path("state");
        DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
        state
    }

    /// The configuration for the four providers, to be changed. It has one worker: what a test sees does not depend on which
    /// worker the kernel gave a connection to, and a small machine starts it faster.
    pub(crate) fn configuration(&self) -> FourProviders<'_> {
        let mut configuration = FourProviders::new(&self.pki, &self.server, self.events.path(), self.dialogflow.path());
        configuration.listen = "workers = 1";
        configuration
    }

    /// [`Environment::configuration`] with these lines in `[limits]`, and [`Environment::any_method_route`] with the lines `route`.
    pub(crate) fn toml(&self, limits: &str, route: &str) -> String {
        let mut configuration = self.configuration();
        configuration.limits = limits;
        configuration.toml() + &self.any_method_route(route)
    }

    /// A `[[route]]` for [`PATH`] that admits Percolate with every usual method, with these lines added.
    pub(crate) fn any_method_route(&self, lines: &str) -> String {
        let handler = handler_socket(&self.events);
        format!(
            "\n[[route]]\nname = \"any\"\nhost = \"{HOST}\"\npath = \"/any/*\"\n\
             methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"DELETE\"]\nproviders = [\"percolate\"]\n\
             handler = {handler}\n{lines}\n"
        )
    }

    /// `toml` with a self-signed server certificate, `soon.pem`, that expires at `until`.
    pub(crate) fn with_certificate_until(&self, toml: &str, until: SystemTime) -> Result<String> {
        let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()])?;
        params.not_after = until.into();
        let key = rcgen::KeyPair::generate()?;
        let chain = self.write("soon.pem", params.self_signed(&key)?.pem())?;
        let key = self.write("soon.key", key.serialize_pem())?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let replace = |text: &str, old: &Path, new: &Path| text.replace(&quoted(old), &quoted(new));
        let text = replace(toml, &self.server.chain_path, &chain);
        Ok(replace(&text, &self.server.key_path, &key))
    }

    /// A certificate of `sender`. Each call makes a new one in the same files: ask once for each variant, and keep it.
    pub(crate) fn identity(&self, sender: Sender, variant: Variant) -> Result<ClientIdentity> {
        self.pki.sender(sender).variant(variant)
    }

    /// How many requests reached the handlers.
    pub(crate) fn handled(&self) -> u64 {
        self.events.request_count() + self.dialogflow.request_count()
    }

    /// Writes a file in the directory.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, contents)?;
        Ok(path)
    }

    /// The path of a file in the directory, which need not exist.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// `path` as a TOML string.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// The value of `handler` in a `[[route]]`.
pub(crate) fn handler_socket(handler: &Handler) -> String {
    format!("\"unix:{}\"", handler.path().display())
}
