//! Tests of good and bad configurations with real files, each in a directory of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]
#![expect(clippy::panic, reason = "a check that fails says what it saw")]

mod acme;
mod advice;
mod bad;
mod bad_proofs;
mod client_certificate;
mod documentation;
mod durable;
mod filter;
mod good;
mod handlers;
mod inventory;
mod preset_files;
mod presets;
mod proofs;
mod routes;
mod senders;
mod strength;
mod tickets;
mod warnings;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXUPPER;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;

use super::report::Environment;
use super::{Config, ConfigErrors, FileVersions, Warning};

/// The time of all tests: 2026-06-01, 00:00 UTC.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_780_272_000));

/// The sections of a minimal configuration.
const LISTEN: &str = "[listen]\naddresses = [\"127.0.0.1:0\"]\n";
const CERTIFICATE: &str = "[[certificate]]\nchain = \"fullchain.pem\"\nkey = \"privkey.pem\"\n";
const PROVIDER: &str = "[[provider]]\nname = \"pagerduty\"\nproof = \"certificate\"\npreset = \"pagerduty\"\n";
const ROUTE: &str =
    "[[route]]\npath = \"/pagerduty\"\nproviders = [\"pagerduty\"]\nhandler = \"unix:/run/app/pagerduty.sock\"\n";

/// The content of every secret. No output may contain it.
const SECRET: &str = "xyzzy-plugh-4711";

/// The public key of RFC 7515, appendix A.3, and a symmetric one.
const KEYS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"oct","k":"AAAA"}
]}"#;

/// A minimal configuration.
fn minimal() -> String {
    [LISTEN, CERTIFICATE, PROVIDER, ROUTE].concat()
}

/// A directory with the files that the configurations of these tests name.
struct Fixture {
    directory: TempDir,
}

/// An empty revocation list of `issuer`.
fn list_of(issuer: &CertifiedIssuer<'_, KeyPair>) -> rcgen::CertificateRevocationList {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2027, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).unwrap()
}

/// Writes `server.pem` and `server.key` to `directory`: a self-signed certificate with these names that is valid now.
pub(crate) fn write_server_certificate(directory: &Path, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}

/// The configuration `text`, which is valid now with the files in `directory`.
pub(crate) fn parsed(directory: &Path, text: &str) -> Config {
    let parsed = Config::parse(text, &directory.join("hookgate.toml"), UnixTime::now());
    parsed.map_err(|errors| format!("{errors}\n{text}")).unwrap().0
}

impl Fixture {
    /// Files: `ca.pem` (a root), `bundle.pem` (an intermediate, then that root), `intermediate.pem`, `fullchain.pem` and
    /// `privkey.pem` (hooks.example.com and *.example.net, under that intermediate), `other.key` (of no certificate), `list.crl`
    /// (DER) and `list.pem`, all valid from 2026-01-01 to 2027-01-01; `webhook.secret`; `credentials/webhook`, a credential of
    /// the service manager; `keys.json`, a key set of one P-256 key and one that cannot verify.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixture = Self { directory };
        let root = CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(authority("Test Intermediate"), KeyPair::generate().unwrap(), &root).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = end_entity(&["hooks.example.com", "*.Example.net"]).signed_by(&key, &intermediate).unwrap();
        fixture.write("ca.pem", &root.pem());
        fixture.write("bundle.pem", &format!("{}{}", intermediate.pem(), root.pem()));
        fixture.write("intermediate.pem", &intermediate.pem());
        fixture.write("fullchain.pem", &format!("{}{}", leaf.pem(), intermediate.pem()));
        fixture.write("swapped.pem", &format!("{}{}", intermediate.pem(), leaf.pem()));
        fixture.write("unordered.pem", &format!("{}{}{}", leaf.pem(), root.pem(), intermediate.pem()));
        fixture.write("privkey.pem", &key.serialize_pem());
        fixture.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
        let list = list_of(&intermediate);
        fs::write(fixture.path("list.crl"), list.der()).unwrap();
        fixture.write("list.pem", &list.pem().unwrap());
        fixture.write("webhook.secret", &format!("{SECRET}\n"));
        fs::create_dir(fixture.path("credentials")).unwrap();
        fixture.write("credentials/webhook", SECRET);
        fixture.write("keys.json", KEYS);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `text` with a section whose directory has the preset of Cloudflare, which knows its root by the fingerprint, and here that of `ca.pem`.
    fn knowing_the_root(&self, text: &str) -> String {
        let preset = include_str!("../../presets/cloudflare-origin-pull.toml");
        let (before, rest) = preset.split_once("sha256 = [\"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        let pem = fs::read(self.path("ca.pem")).unwrap();
        let root = CertificateDer::from_pem_slice(&pem).unwrap();
        let known = HEXUPPER.encode(ring::digest::digest(&ring::digest::SHA256, &root).as_ref());
        fs::create_dir_all(self.path("known")).unwrap();
        self.write("known/cloudflare-origin-pull.toml", &format!("{before}sha256 = [\"{known}\"{after}"));
        format!("{text}\n[presets]\ndirectories = [\"known\"]\n")
    }

    fn parse(&self, text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        self.parse_at(text, NOW)
    }

    fn parse_at(&self, text: &str, now: UnixTime) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        let credentials = Some(self.path("credentials"));
        let environment = Environment { credentials, ..Environment::at(now) };
        Config::parse_in(text, &self.path("hookgate.toml"), environment, &mut FileVersions::default())
    }

    /// A configuration that must be good.
    fn good(&self, text: &str) -> Config {
        match self.parse(text) {
            Ok((config, _)) => config,
            Err(errors) => panic!("{text}\n{errors}"),
        }
    }

    /// The errors of a configuration that must be bad, as lines without the path of the file.
    fn errors(&self, text: &str) -> Vec<String> {
        let Err(errors) = self.parse(text) else { panic!("taken for good:\n{text}") };
        self.strip(&errors.to_string())
    }

    /// The warnings of a configuration that must be good, as lines without the path of the file.
    fn warnings_at(&self, text: &str, now: UnixTime) -> Vec<String> {
        match self.parse_at(text, now) {
            Ok((_, warnings)) => warnings.iter().flat_map(|warning| self.strip(&warning.to_string())).collect(),
            Err(errors) => panic!("{text}\n{errors}"),
        }
    }

    fn strip(&self, text: &str) -> Vec<String> {
        let file = self.path("hookgate.toml").display().to_string();
        let strip = |line: &str| line.strip_prefix(&file).map(|rest| rest.trim_start_matches(':').to_owned());
        text.lines().map(|line| strip(line).unwrap_or_else(|| panic!("no path: {line}"))).collect()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = dated(CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn end_entity(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = dated(CertificateParams::new(names).unwrap());
    params.distinguished_name.push(DnType::CommonName, "hooks");
    params
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

/// The time `days` days after [`NOW`].
fn days_later(days: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs() + days * 86_400))
}

fn presets_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("presets")
}
