//! The code blocks of a page, and the files that its configurations name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{KeyKind, Pki, Sender};
use tempfile::TempDir;

/// Where configurations put certificates and secrets beside themselves.
const CERTIFICATES: &str = "certificates";

/// The blocks of `page` in this language, without the fences.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(|block| format!("{block}\n")).collect()
}

/// Everything that a configuration of the documentation names beside itself.
pub(crate) struct Files {
    pub(crate) pki: Pki,
    pub(crate) directory: TempDir,
}

impl Files {
    /// A server certificate and secrets, both in the directory itself and in `certificates`.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hookgate-docs-").tempdir().unwrap();
        let pki = Pki::new(directory.path()).unwrap();
        let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
        fs::create_dir(directory.path().join(CERTIFICATES)).unwrap();
        for folder in ["", CERTIFICATES] {
            let place = |name: &str| directory.path().join(folder).join(name);
            fs::copy(&server.chain_path, place("fullchain.pem")).unwrap();
            fs::copy(&server.key_path, place("privkey.pem")).unwrap();
            for sender in ["pagerduty", "github"] {
                fs::write(place(&format!("{sender}.secret")), "a secret of some length\n").unwrap();
            }
            fs::copy(&server.chain_path, place("receiver.pem")).unwrap();
            fs::copy(&server.key_path, place("receiver.key")).unwrap();
            fs::write(place("stripe.secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        }
        for folder in ["", CERTIFICATES] {
            for file in fs::read_dir(directory.path().join(folder)).unwrap().map(|file| file.unwrap().path()) {
                if file.is_file() {
                    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
                }
            }
        }
        // What `hookgate send --as pagerduty` makes.
        let throwaway = directory.path().join("hookgate-throwaway/pagerduty");
        fs::create_dir_all(&throwaway).unwrap();
        fs::copy(pki.sender(Sender::PagerDuty).root.path(), throwaway.join("root.pem")).unwrap();
        Self { pki, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
