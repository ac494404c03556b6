//! Credentials of a real NATS server with accounts: the operator, accounts and users that it knows are made here, as NATS signs them.
//!
//! Owns these, and the least permissions that hookgate works with, which docs/fleet.md names.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use hookgate_testkit::wait::wait_until;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{Hosts, Nats, own_address, section, unavailable};
use crate::environment::{Environment, SOON, quoted};

/// What hookgate publishes to if the bucket is there.
const USES: [&str; 3] = [
    "$JS.API.STREAM.INFO.KV_hookgate-deliveries-hookgate",
    "$JS.API.DIRECT.GET.KV_hookgate-deliveries-hookgate.>",
    "$KV.hookgate-deliveries-hookgate.>",
];

/// What it publishes to beside these if it makes the bucket.
const MAKES: &str = "$JS.API.STREAM.CREATE.KV_hookgate-deliveries-hookgate";

/// What the log says of servers that do not admit this host.
const REFUSED: &str =
    "the NATS servers refuse this host; correct credentials or certificate in [fleet], and restart hookgate";

/// What it subscribes to.
pub(crate) const HEARS: &str = "_INBOX.>";

/// `claims` about `subject`, signed by `issuer`: a JWT as NATS defines it, which has an algorithm of its own.
fn signed(issuer: &KeyPair, subject: &str, expires: Option<u64>, claims: Value) -> String {
    let encoded = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
    let mut body = json!({ "jti": subject, "iat": issued, "iss": issuer.public_key(), "sub": subject, "nats": claims });
    if let Some(expires) = expires {
        body["exp"] = expires.into();
    }
    let text = format!("{}.{}", encoded(&header), encoded(&body));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// The operator of a server, with two accounts: both may use JetStream, and have nothing in common.
pub(crate) struct Operator {
    accounts: [KeyPair; 2],
    configuration: String,
}

impl Operator {
    pub(crate) fn new(files: &Path) -> Self {
        let operator = KeyPair::new_operator();
        let accounts = [KeyPair::new_account(), KeyPair::new_account()];
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": 0, "disk_storage": 64 << 20, "streams": -1, "consumer": -1,
        });
        let system = KeyPair::new_account();
        let preloaded = |account: &KeyPair, claims: Value| {
            format!("  {}: {}\n", account.public_key(), signed(&operator, &account.public_key(), None, claims))
        };
        let mut known = preloaded(&system, json!({ "type": "account", "version": 2 }));
        for account in &accounts {
            known += &preloaded(account, json!({ "type": "account", "version": 2, "limits": limits }));
        }
        let own = signed(&operator, &operator.public_key(), None, json!({ "type": "operator", "version": 2 }));
        let text = format!(
            "operator: {own}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n{known}}}\n",
            system.public_key()
        );
        let path = files.join("operator.conf");
        fs::write(&path, text).unwrap();
        Self { accounts, configuration: path.display().to_string() }
    }

    /// The file of a server's configuration, as `--config` takes it.
    pub(crate) fn configuration(&self) -> &str {
        &self.configuration
    }

    /// The file, below `directory`, of a user of the first account who may publish to `to` alone.
    pub(crate) fn credentials(&self, directory: &Path, to: &[&str]) -> PathBuf {
        let file = directory.join("user.creds");
        fs::write(&file, self.user(0, to, None)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// A user of an account who may publish to `to` alone, as the content of a file of credentials.
    fn user(&self, account: usize, to: &[&str], expires: Option<u64>) -> String {
        let user = KeyPair::new_user();
        let claims = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": { "allow": to }, "sub": { "allow": [HEARS] },
        });
        let token = signed(&self.accounts[account], &user.public_key(), expires, claims);
        let seed = user.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A server with an operator, and the environment of gateways.
struct Place {
    operator: Operator,
    environment: Environment,
    nats: Nats,
    _files: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let operator = Operator::new(files.path());
        let address = std::net::SocketAddrV4::new(own_address(), 4222);
        let nats = Nats::start(&files.path().join("store"), address, &["--config", operator.configuration()]);
        Self { operator, environment: Environment::new().unwrap(), nats, _files: files }
    }

    /// A `[fleet]` with these credentials.
    fn sections(&self, name: &str, credentials: &str) -> String {
        let file: PathBuf = self.environment.write(name, credentials).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        section(&self.nats.url()) + &format!("credentials = {}\n", quoted(&file))
    }
}

#[test]
fn hookgate_works_with_the_permissions_that_the_page_names() {
    let place = Place::new();
    let makes = place.sections("makes.creds", &place.operator.user(0, &[&USES[..], &[MAKES]].concat(), None));
    let uses = place.sections("uses.creds", &place.operator.user(0, &USES, None));
    let page = include_str!("../../../docs/fleet.md");
    for subject in USES.iter().chain([&MAKES, &HEARS]) {
        assert!(page.contains(subject), "docs/fleet.md does not name {subject}");
    }
    let hosts = Hosts::start(place.environment, &[&makes, &uses]);
    (0..2).for_each(|host| hosts.wait_connected(host));
    assert_eq!(hosts.send(0, "one").status, 200, "this one makes the bucket");
    assert_eq!(hosts.send(1, "one").status, 208);
    assert_eq!(hosts.send(1, "two").status, 200);
    assert_eq!(hosts.send(0, "two").status, 208);
    let released = |id: &str| {
        hosts.environment.events.set_behaviour(hookgate_testkit::handler::Behaviour::status(500, "later"));
        assert_eq!(hosts.send(1, id).status, 500);
        hosts.environment.events.set_behaviour(hookgate_testkit::handler::Behaviour::Json);
        wait_until("the release", SOON, || hosts.send(0, id).status == 200).unwrap();
    };
    released("three");
}

#[test]
fn each_of_these_permissions_is_needed() {
    let place = Place::new();
    let all = [&USES[..], &[MAKES]].concat();
    let user = |name: &str, to: &[&str]| place.sections(name, &place.operator.user(0, to, None));
    let whole = user("whole.creds", &all);
    let without: Vec<String> = (0..USES.len())
        .map(|left_out| {
            let others: Vec<&str> =
                all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, to)| *to).collect();
            user(&format!("without-{left_out}.creds"), &others)
        })
        .collect();
    let sections: Vec<&str> = [&whole].into_iter().chain(&without).map(String::as_str).collect();
    let hosts = &Hosts::start(place.environment, &sections);
    (0..sections.len()).for_each(|host| hosts.wait_connected(host));
    assert_eq!(hosts.send(0, "one").status, 200);
    std::thread::scope(|scope| {
        for host in 1..sections.len() {
            scope.spawn(move || {
                // A copy is looked up; what is new is written.
                let id = if host == USES.len() { "two" } else { "one" };
                assert_eq!(hosts.outcome(host, id), unavailable(), "without {}", USES[host - 1]);
                hosts.gateways[host].wait_log("Permissions Violation for Publish to", SOON).unwrap();
            });
        }
    });
}

#[test]
fn credentials_that_the_servers_refuse_are_told_and_nothing_is_handed_over() {
    let place = Place::new();
    let all = [&USES[..], &[MAKES]].concat();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let foreign = Operator::new(place.nats.directory.as_path());
    let expired = place.sections("expired.creds", &place.operator.user(0, &all, Some(now - 30)));
    let unknown = place.sections("unknown.creds", &foreign.user(0, &all, None));
    let none = section(&place.nats.url());
    let hosts = Hosts::start(place.environment, &[&expired, &unknown, &none]);
    for host in 0..3 {
        hosts.gateways[host].wait_log(REFUSED, SOON).unwrap();
        assert_eq!(hosts.outcome(host, "one"), unavailable());
        assert_eq!(hosts.gateways[host].metric("hookgate_fleet_connected", &[]).unwrap(), 0.0);
    }
    assert!(hosts.handled().is_empty());
}

#[test]
fn another_account_has_a_memory_of_its_own() {
    let place = Place::new();
    let all = [&USES[..], &[MAKES]].concat();
    let sections = [0, 1]
        .map(|account| place.sections(&format!("account-{account}.creds"), &place.operator.user(account, &all, None)));
    let hosts = Hosts::start(place.environment, &[&sections[0], &sections[1]]);
    (0..2).for_each(|host| hosts.wait_connected(host));
    // Hosts of two accounts are two fleets.
    assert_eq!([hosts.send(0, "one").status, hosts.send(1, "one").status], [200, 200]);
    assert_eq!([hosts.send(0, "one").status, hosts.send(1, "one").status], [208, 208]);
}

#[test]
fn credentials_that_expire_end_the_connection_and_say_so() {
    let place = Place::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let all = [&USES[..], &[MAKES]].concat();
    let sections = place.sections("soon.creds", &place.operator.user(0, &all, Some(now + 12)));
    let hosts = Hosts::start(place.environment, &[&sections]);
    hosts.wait_connected(0);
    assert_eq!(hosts.send(0, "one").status, 200);
    hosts.gateways[0].wait_log(REFUSED, 2 * SOON).unwrap();
    hosts.gateways[0].wait_log("User Authentication Expired", SOON).unwrap();
    wait_until("the loss of the connection", SOON, || hosts.outcome(0, "two") == unavailable()).unwrap();
}
