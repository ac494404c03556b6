//! Session tickets of one host that another opens, and what ends them on both.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use hookgate_testkit::client::{OpenSsl, OpenSslOutcome, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::pki::{ClientIdentity, LeafOptions, Sender, Validity, Variant};

use crate::environment::{BINARY, Environment, SOON, quoted};

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// As `openssl rand -hex 32` writes them.
const OLD: &str = "6c3f0f1e9b5f4d8796a5b4c3d2e1f00112233445566778899aabbccddeeff001\n";
const NEW: &str = "00ffeeddccbbaa99887766554433221100f1e2d3c4b5a69787d4f5b9e1f0f3c6\n";

/// Two hosts that say the same in different words: the files of the second are in another directory, and the keys of its tables in another order.
struct Fleet {
    first: Gateway,
    second: Gateway,
    environment: Environment,
}

/// Which of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    First,
    Second,
}

use Host::{First, Second};

impl Fleet {
    /// With these secrets; without any, there is no `[tickets]`.
    fn start(secrets: &[&str]) -> Self {
        let environment = Environment::new().unwrap();
        environment.write("old.secret", OLD).unwrap();
        environment.write("new.secret", NEW).unwrap();
        fs::create_dir(environment.path("second")).unwrap();
        let text = text(&environment, secrets);
        let start =
            |host| Gateway::start(&as_written(&environment, &text, host), &GatewayOptions::new(BINARY)).unwrap();
        Self { first: start(First), second: start(Second), environment }
    }

    fn daemon(&self, host: Host) -> &Gateway {
        if host == First { &self.first } else { &self.second }
    }

    /// Loads `text` on this host.
    fn reload(&self, host: Host, text: &str) {
        self.daemon(host).reload_permitting(&as_written(&self.environment, text, host), SOON).unwrap();
    }

    fn text(&self, secrets: &[&str]) -> String {
        text(&self.environment, secrets)
    }

    /// The number of the trust policy of this host.
    fn policy(&self, host: Host) -> f64 {
        self.daemon(host).metric("hookgate_ticket_policy", &[]).unwrap()
    }

    /// How many handshakes resumed a session on this host.
    fn resumptions(&self, host: Host) -> f64 {
        let metrics = self.daemon(host).metrics().unwrap();
        metrics.sum("hookgate_handshakes_total", &[("result", "ok"), ("resumed", "true")])
    }
}

/// The configuration of the first host.
fn text(environment: &Environment, secrets: &[&str]) -> String {
    let files =
        secrets.iter().map(|name| format!("{{ file = {} }}", quoted(&environment.path(&format!("{name}.secret")))));
    let files = files.collect::<Vec<_>>().join(", ");
    let section = if secrets.is_empty() { String::new() } else { format!("\n[tickets]\nsecrets = [{files}]\n") };
    environment.configuration().toml() + &section
}

/// `text` as this host has it: of the second, with copies of all files.
fn as_written(environment: &Environment, text: &str, host: Host) -> String {
    if host == First {
        return text.to_owned();
    }
    let (from, to) = (environment.directory.path(), environment.path("second"));
    copy_files(from, &to);
    let begin = |path: &Path| format!("\"{}/", path.display());
    let text = text.replace(&begin(from), &begin(&to));
    let reordered = text
        .replace("name = \"pagerduty\"\npreset = \"pagerduty\"\n", "preset = \"pagerduty\"\nname = \"pagerduty\"\n");
    assert_ne!(reordered, text);
    reordered
}

/// Copies the regular files of `from`, and those below it, except for what is in `to`.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() && entry.file_name() != "second" {
            copy_files(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A sender that offers the session of one host to another.
struct Returning<'f> {
    fleet: &'f Fleet,
    identity: &'f ClientIdentity,
    version: TlsVersion,
}

impl Returning<'_> {
    fn openssl(&self, host: Host) -> OpenSsl {
        let openssl = self.fleet.daemon(host).openssl(HOST, &self.fleet.environment.pki);
        openssl.version(self.version).identity(self.identity)
    }

    fn post(&self, openssl: OpenSsl) -> OpenSslOutcome {
        openssl.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap()
    }

    fn session(&self) -> PathBuf {
        self.fleet.environment.path(&format!("{:?}.session", self.version))
    }

    /// Is admitted after a full handshake, and keeps the session.
    fn save(&self, host: Host) {
        let outcome = self.post(self.openssl(host).save_session(&self.session()));
        assert!(!outcome.reused(), "{}", outcome.text());
        self.expect(&outcome, 200, "a new session");
    }

    /// Offers the session, and expects that it is resumed or not, and this status.
    #[track_caller]
    fn offer(&self, host: Host, resumes: bool, status: u16, context: &str) {
        let outcome = self.post(self.openssl(host).resume_session(&self.session()));
        let context = format!("{context}, {host:?}, {:?}", self.version);
        assert_eq!(outcome.reused(), resumes, "{context}: {}{}", outcome.stderr, outcome.text());
        self.expect(&outcome, status, &context);
    }

    #[track_caller]
    fn expect(&self, outcome: &OpenSslOutcome, status: u16, context: &str) {
        let seen = outcome.response().map(|response| response.status);
        assert_eq!(seen, Some(status), "{context}: {}{}", outcome.stderr, outcome.text());
    }
}

fn identity(fleet: &Fleet) -> ClientIdentity {
    fleet.environment.identity(Sender::PagerDuty, Variant::Good).unwrap()
}

/// A sender of each version.
fn returning<'f>(fleet: &'f Fleet, identity: &'f ClientIdentity) -> [Returning<'f>; 2] {
    VERSIONS.map(|version| Returning { fleet, identity, version })
}

#[test]
fn a_session_of_one_host_is_resumed_at_another() {
    let fleet = Fleet::start(&["old"]);
    assert!(fleet.policy(First) > 0.0 && fleet.policy(First) == fleet.policy(Second));
    let identity = identity(&fleet);
    for sender in returning(&fleet, &identity) {
        for (from, to) in [(First, Second), (Second, First)] {
            let before = fleet.resumptions(to);
            sender.save(from);
            sender.offer(to, true, 200, "shared");
            assert_eq!(fleet.resumptions(to), before + 1.0);
            let seen = fleet.environment.events.requests();
            let [full, resumed] = [0, 1].map(|place| seen[place].field("client-cert").map(str::to_owned));
            assert!(full.is_some() && full == resumed, "the handler sees the same certificate");
            fleet.environment.events.forget();
        }
    }
    // Without tickets, TLS 1.2 resumes by an id that one host knows.
    let sender = Returning { fleet: &fleet, identity: &identity, version: TlsVersion::Tls12 };
    let without = |openssl: OpenSsl| sender.post(openssl.argument("-no_ticket"));
    without(sender.openssl(First).save_session(&sender.session()));
    assert!(without(sender.openssl(First).resume_session(&sender.session())).reused());
    assert!(!without(sender.openssl(Second).resume_session(&sender.session())).reused());
}

#[test]
fn without_a_common_secret_handshakes_are_full() {
    for secrets in [[&[][..], &[]], [&["old"], &["new"]], [&["old"], &[]]] {
        let fleet = Fleet::start(secrets[0]);
        fleet.reload(Second, &fleet.text(secrets[1]));
        let identity = identity(&fleet);
        for sender in returning(&fleet, &identity) {
            sender.save(First);
            sender.offer(First, true, 200, "its own");
            sender.offer(Second, false, 200, "another's");
        }
    }
}

#[test]
fn tickets_outlive_a_reload_and_a_restart_that_change_no_trust() {
    let mut fleet = Fleet::start(&["old"]);
    let identity = identity(&fleet);
    returning(&fleet, &identity).iter().for_each(|sender| sender.save(First));
    let text = fleet.text(&["old"]);
    let limits = text.replace("[limits]\n", "[limits]\nmax_connections = 100\n");
    assert_ne!(limits, text);
    fleet.reload(Second, &limits);
    fleet.reload(First, &(text.clone() + "\n[log]\naccess = false\n"));
    for sender in returning(&fleet, &identity) {
        sender.offer(Second, true, 200, "other limits");
        sender.offer(First, true, 200, "another log");
    }
    fleet.first = Gateway::start(&as_written(&fleet.environment, &text, First), &GatewayOptions::new(BINARY)).unwrap();
    for sender in returning(&fleet, &identity) {
        sender.offer(First, true, 200, "a new process");
    }
}

/// `text` with `from` replaced in the first provider, PagerDuty.
fn changed(text: &str, from: &str, to: &str) -> String {
    let (before, after) = text.split_once(from).unwrap();
    format!("{before}{to}{after}")
}

#[test]
fn after_a_change_of_trust_on_one_host_no_earlier_ticket_is_resumed_there() {
    let fleet = Fleet::start(&["old"]);
    let pki = fleet.environment.pki.sender(Sender::PagerDuty);
    let (identity, other) = (identity(&fleet), pki.leaf("other", &LeafOptions::default()).unwrap());
    let lists = pki.revoke(&[&other]).unwrap().map(|path| quoted(&path)).join(", ");
    let text = fleet.text(&["old"]);
    let preset = "preset = \"pagerduty\"";
    let rule = format!("{preset}\nidentity = [{{ subject_cn = \"elsewhere.pagerduty.com\" }}]");
    let anchors = |sender| quoted(fleet.environment.pki.sender(sender).root.path());
    let two = format!("{}, {}", anchors(Sender::PagerDuty), anchors(Sender::DialogflowNewer));
    let changes = [
        ("a list that revokes another certificate", changed(&text, preset, &format!("{preset}\ncrls = [{lists}]"))),
        ("another depth", changed(&text, preset, &format!("{preset}\nverify_depth = 7"))),
        ("one more anchor", changed(&text, &anchors(Sender::PagerDuty), &two)),
        ("another rule", changed(&text, preset, &rule)),
        (
            "another provider",
            text.replace("\"percolate\"", "\"else\"").replace("preset = \"else\"", "preset = \"percolate\""),
        ),
    ];
    for (what, change) in &changes {
        returning(&fleet, &identity).iter().for_each(|sender| sender.save(First));
        fleet.reload(Second, change);
        for sender in returning(&fleet, &identity) {
            sender.offer(Second, false, if *what == "another rule" { 403 } else { 200 }, what);
            sender.offer(First, true, 200, what);
        }
        assert_ne!(fleet.policy(First), fleet.policy(Second), "{what}");
        fleet.reload(First, change);
        assert_eq!(fleet.policy(First), fleet.policy(Second), "{what}");
        for sender in returning(&fleet, &identity) {
            sender.offer(First, false, if *what == "another rule" { 403 } else { 200 }, what);
        }
        if *what != "another rule" {
            for sender in returning(&fleet, &identity) {
                sender.save(First);
                sender.offer(Second, true, 200, "the same change");
            }
        }
        fleet.reload(First, &text);
        fleet.reload(Second, &text);
    }
}

#[test]
fn a_revoked_certificate_is_refused_on_both_hosts() {
    let fleet = Fleet::start(&["old"]);
    let identity = identity(&fleet);
    returning(&fleet, &identity).iter().for_each(|sender| sender.save(First));
    let lists = fleet.environment.pki.sender(Sender::PagerDuty).revoke(&[&identity]).unwrap();
    let lists = lists.map(|path| quoted(&path)).join(", ");
    let preset = "preset = \"pagerduty\"";
    let change = changed(&fleet.text(&["old"]), preset, &format!("{preset}\ncrls = [{lists}]"));
    let handled = fleet.environment.handled();
    for host in [First, Second] {
        fleet.reload(host, &change);
        returning(&fleet, &identity).iter().for_each(|sender| sender.offer(host, false, 403, "revoked"));
    }
    assert_eq!(fleet.environment.handled(), handled, "a handler saw a request of a revoked certificate");
}

/// A session is no verdict: the chain in it is judged again.
#[test]
fn a_certificate_that_expired_is_refused_though_its_ticket_opens() {
    let fleet = Fleet::start(&["old"]);
    let until = SystemTime::now() + Duration::from_secs(4);
    let validity = Validity::Between(SystemTime::now() - Duration::from_secs(3600), until);
    let options = LeafOptions { validity, ..LeafOptions::default() };
    let identity = fleet.environment.pki.sender(Sender::PagerDuty).leaf("short", &options).unwrap();
    returning(&fleet, &identity).iter().for_each(|sender| sender.save(First));
    // notAfter is the last valid second, and the clock of workers is coarse.
    let wait = until.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_millis(1500);
    thread::sleep(wait);
    returning(&fleet, &identity).iter().for_each(|sender| sender.offer(Second, true, 403, "expired"));
}

#[test]
fn secrets_are_rotated_without_a_full_handshake() {
    let fleet = Fleet::start(&["old"]);
    let identity = identity(&fleet);
    let all = |check: &dyn Fn(&Returning<'_>)| returning(&fleet, &identity).iter().for_each(check);
    let load = |host, secrets: &[&str]| fleet.reload(host, &fleet.text(secrets));
    all(&|sender| sender.save(First));
    // Every host opens the new one before a host seals with it.
    load(First, &["old", "new"]);
    all(&|sender| sender.offer(First, true, 200, "old before new, at one"));
    all(&|sender| sender.offer(Second, true, 200, "old before new, at one"));
    load(Second, &["old", "new"]);
    load(First, &["new", "old"]);
    all(&|sender| sender.offer(First, true, 200, "new before old, at one"));
    all(&|sender| sender.save(First));
    all(&|sender| sender.offer(Second, true, 200, "of new, at a host that seals with old"));
    load(Second, &["new", "old"]);
    all(&|sender| sender.offer(Second, true, 200, "new before old"));
    load(First, &["new"]);
    load(Second, &["new"]);
    all(&|sender| sender.offer(Second, true, 200, "new alone"));
    // A ticket of a secret that is gone.
    load(First, &["old"]);
    all(&|sender| sender.save(First));
    all(&|sender| sender.offer(Second, false, 200, "of a secret that is gone"));
}

#[test]
fn a_secret_is_reloaded_and_never_logged() {
    let fleet = Fleet::start(&["old"]);
    let identity = identity(&fleet);
    let all = |check: &dyn Fn(&Returning<'_>)| returning(&fleet, &identity).iter().for_each(check);
    let generation = |host| fleet.daemon(host).metric("hookgate_config_generation", &[]).unwrap();
    all(&|sender| sender.save(First));
    let file = fleet.environment.write("old.secret", NEW).unwrap();
    let before = generation(First);
    fleet.first.signal(Signal::HUP).unwrap();
    fleet.first.wait_metric("hookgate_config_generation", &[], before + 1.0, SOON).unwrap();
    all(&|sender| sender.offer(First, false, 200, "another secret in the file"));
    let line = format!("tickets.secret {}: changed", file.display());
    fleet.first.wait_log(&line, SOON).unwrap();
    // A file that is cut makes no reload.
    fleet.environment.write("old.secret", &NEW[..20]).unwrap();
    fleet.first.signal(Signal::HUP).unwrap();
    fleet.first.wait_log("the secret has 20 bytes; write at least 32", SOON).unwrap();
    all(&|sender| sender.save(First));
    all(&|sender| sender.offer(First, true, 200, "the secret before"));
    assert_eq!(generation(First), before + 1.0);
    for host in [First, Second] {
        let log = fleet.daemon(host).log();
        assert!([OLD, NEW].iter().all(|secret| !log.contains(&secret[..16])), "{log}");
    }
}
