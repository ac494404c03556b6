//! Certificates that the daemon asks a real ACME server for: challenge, use, renewal, and failure of each step.

mod authority;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXUPPER};
use hookgate_testkit::client::OpenSsl;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::http;
use hookgate_testkit::pki::{KeyKind, Sender, Variant};
use hookgate_testkit::process::run;
use hookgate_testkit::wait::wait_until;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use self::authority::{
    Authority, CERTIFICATE, CHALLENGE, DIRECTORY, FINALIZE, Fault, NEW_ACCOUNT, NEW_ORDER, ORDER, RENEWAL, nowhere,
    problem,
};
use crate::admin::{ask, json as facts, with_admin};
use crate::environment::{BINARY, Environment, PATH, SOON, quoted};
use crate::tls_client::TlsClient;

/// A name that no file has a certificate for.
const DOMAIN: &str = "acme.example.com";
const OTHER: &str = "more.example.com";

/// For several attempts on a busy host.
const LATER: Duration = Duration::from_secs(40);

/// The alert for a name without a certificate (RFC 6066, section 3), and for no protocol in common (RFC 7301, section 3.2).
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A daemon that asks an authority. The daemon ends first.
struct Asking {
    daemon: Gateway,
    authority: Authority,
    environment: Environment,
}

fn toml(environment: &Environment, authority: &Authority, certificates: &str) -> String {
    let state = quoted(&environment.state_directory());
    with_admin(environment, &authority.listening(&environment.toml("", "")))
        + &format!("\n[state]\ndirectory = {state}\n\n{certificates}")
}

fn start_daemon(environment: &Environment, authority: &Authority, certificates: &str) -> Gateway {
    Gateway::start(&toml(environment, authority, certificates), &GatewayOptions::new(BINARY)).unwrap()
}

impl Asking {
    /// For [`DOMAIN`], at an authority with these members of its configuration, which `prepare` may break before.
    fn start(members: &str, prepare: impl FnOnce(&Authority)) -> Self {
        Self::start_with(members, "", prepare)
    }

    /// The same, with these keys added to `acme`.
    fn start_with(members: &str, keys: &str, prepare: impl FnOnce(&Authority)) -> Self {
        let environment = Environment::new().unwrap();
        let authority = Authority::start(&environment, members);
        prepare(&authority);
        let daemon = start_daemon(&environment, &authority, &authority.acme(&[DOMAIN], keys));
        Self { daemon, authority, environment }
    }

    fn openssl(&self, name: &str) -> OpenSsl {
        self.daemon.openssl(name, &self.environment.pki)
    }

    /// The chain that a client with this server name gets, in PEM; empty if the handshake ends before.
    fn chain(&self, name: &str) -> Vec<String> {
        self.openssl(name).until("Server certificate").run().unwrap().server_certificates()
    }

    fn attempts(&self, result: &str) -> f64 {
        self.daemon.metric("hookgate_acme_attempts_total", &[("result", result)]).unwrap()
    }

    /// When it is asked for next, in seconds since 1970; 0 if that is not known yet.
    fn next_attempt(&self) -> f64 {
        let certificate = [("certificate", DOMAIN)];
        self.daemon.metric("hookgate_acme_next_attempt_timestamp_seconds", &certificate).unwrap_or(0.0)
    }

    fn wait_attempts(&self, result: &str, least: f64) {
        self.daemon.wait_metric("hookgate_acme_attempts_total", &[("result", result)], least, LATER).unwrap();
    }

    /// Waits until [`DOMAIN`] has a certificate other than `before`, and returns its chain.
    fn wait_other(&self, before: &[String]) -> Vec<String> {
        let mut chain = Vec::new();
        let is_other = || {
            chain = self.chain(DOMAIN);
            !chain.is_empty() && chain != before
        };
        wait_until("another certificate", LATER, is_other).unwrap();
        chain
    }

    fn reload(&self, certificates: &str) {
        let toml = toml(&self.environment, &self.authority, certificates);
        self.daemon.reload(&toml, SOON).unwrap();
    }
}

/// What `openssl x509` prints of a certificate.
fn printed(pem: &str, option: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", option]);
    run(command, pem.as_bytes(), SOON).unwrap().stdout_text()
}

#[test]
fn a_certificate_is_issued_used_and_kept_over_a_restart() {
    let asking = Asking::start("", |_| {});
    let chain = asking.wait_other(&[]);
    assert_eq!(chain.len(), 3, "the end entity and its issuers");
    assert!(printed(&chain[0], "-text").contains(&format!("DNS:{DOMAIN}")));
    assert!(printed(&chain[0], "-issuer").contains("Pebble Intermediate CA"));
    assert_eq!(asking.chain(HOST).len(), 2, "the certificate of files serves its own name");
    asking.wait_attempts("ok", 1.0);
    assert!(asking.daemon.metric("hookgate_acme_challenges_total", &[]).unwrap() >= 1.0);
    let ends = [("kind", "server"), ("name", DOMAIN)];
    assert!(asking.daemon.metric("hookgate_certificate_not_after_timestamp_seconds", &ends).unwrap() > 1.7e9);
    let Asking { daemon, authority, environment } = asking;
    let kept = files(&environment.state_directory());
    assert_eq!(kept.iter().filter(|name| name.starts_with("acme-")).count(), 2, "{kept:?}");
    drop(daemon);
    authority.set("/", Fault::Away);
    let daemon = start_daemon(&environment, &authority, &authority.acme(&[DOMAIN], ""));
    let asking = Asking { daemon, authority, environment };
    assert_eq!(asking.chain(DOMAIN), chain, "from the first connection on");
    assert!(!asking.daemon.metrics().unwrap().has("hookgate_acme_attempts_total", &[]), "it is asked for once");
}

#[test]
fn a_restart_keeps_the_back_off_and_a_reload_ends_it() {
    // An attempt that failed, and one that is not over when the process ends.
    let refused = |authority: &Authority| authority.set(NEW_ORDER, problem(429, "rateLimited", "too many"));
    let failed = |asking: &Asking| asking.wait_attempts("order", 1.0);
    let held = |authority: &Authority| authority.set(CHALLENGE, Fault::Hold);
    let holds = |asking: &Asking| {
        let is_held = || asking.authority.requests(CHALLENGE) > 0;
        wait_until("the challenge", LATER, is_held).unwrap();
    };
    let check = |prepare: &dyn Fn(&Authority), wait: &dyn Fn(&Asking)| {
        let Asking { mut daemon, authority, environment } = {
            let asking = Asking::start("", prepare);
            wait(&asking);
            asking
        };
        for _ in 0..2 {
            // The one before ends first: both have the state directory.
            drop(daemon);
            daemon = start_daemon(&environment, &authority, &authority.acme(&[DOMAIN], ""));
            daemon.wait_log("so the next one waits", SOON).unwrap();
        }
        let asking = Asking { daemon, authority, environment };
        assert_eq!(asking.daemon.metric("hookgate_acme_failures", &[]).unwrap(), 1.0);
        assert!(asking.next_attempt() > 0.0);
        let page = ask(&asking.environment.path("admin.sock"), "/status").1;
        assert!(page.contains("until it is issued; 1 attempt failed before this start; the next is in "), "{page}");
        assert_eq!(asking.authority.requests(NEW_ORDER), 1);
        asking.authority.mend();
        asking.reload(&asking.authority.acme(&[DOMAIN], ""));
        asking.wait_other(&[]);
        asking.wait_attempts("ok", 1.0);
        let kept = files(&asking.environment.state_directory());
        assert!(!kept.iter().any(|name| name.starts_with("acme-failures-")), "{kept:?}");
    };
    check(&refused, &failed);
    check(&held, &holds);
}

/// The names of the files in a directory, all of which only this user can read.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let name = |entry: fs::DirEntry| {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        entry.file_name().into_string().unwrap()
    };
    entries.map(name).collect()
}

#[test]
fn a_certificate_is_renewed_while_connections_and_sessions_stay() {
    let asking = Asking::start("\"certificateValidityPeriod\": 8", |_| {});
    let first = asking.wait_other(&[]);
    let identity = asking.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let client = TlsClient::new(asking.daemon.port(), &asking.environment.pki, &identity).unwrap();
    let mut connection = client.connect().unwrap();
    let mut answered = || connection.ask(http::request("GET", PATH, HOST, &[], b"")).unwrap().status;
    assert_eq!(answered(), 200);
    let session = asking.environment.path("session.pem");
    let request = http::request("GET", PATH, HOST, &[("connection", "close")], b"");
    let openssl = || asking.openssl(HOST).identity(&identity).send(&request);
    openssl().save_session(&session).run().unwrap();
    let second = asking.wait_other(&first);
    assert_ne!(printed(&first[0], "-serial"), printed(&second[0], "-serial"));
    asking.wait_attempts("ok", 2.0);
    assert_eq!(answered(), 200, "the connection of before");
    assert!(openssl().resume_session(&session).run().unwrap().reused());
    assert_eq!(asking.daemon.metric("hookgate_config_generation", &[]).unwrap(), 1.0);
    assert_eq!(asking.authority.requests(NEW_ACCOUNT), 1, "the account is used again");
}

/// The challenge is shown while the authority is kept from looking.
#[test]
fn a_challenge_opens_nothing_but_itself() {
    let asking = Asking::start("", |authority| authority.set(CHALLENGE, Fault::Hold));
    let at_challenge = || asking.authority.requests(CHALLENGE) > 0;
    wait_until("the challenge", LATER, at_challenge).unwrap();
    let request = http::request("GET", PATH, HOST, &[("connection", "close")], b"");
    let session = asking.environment.path("challenge.pem");
    for version in ["-tls1_3", "-tls1_2"] {
        let openssl = asking.openssl(DOMAIN).argument(version).application_protocols("acme-tls/1");
        let outcome = openssl.clone().save_session(&session).send(&request).run().unwrap();
        let text = outcome.text();
        assert_eq!(outcome.application_protocol().as_deref(), Some("acme-tls/1"), "{text}");
        let shown = &outcome.server_certificates()[0];
        assert!(printed(shown, "-text").contains("1.3.6.1.5.5.7.1.31: critical"), "{text}");
        assert!(text.contains("No client certificate CA names sent") && outcome.authority_names().is_empty(), "{text}");
        assert!(outcome.responses().is_empty() && !text.contains("HTTP/1.1"), "no request is answered: {text}");
        assert!(!text.contains("Post-Handshake New Session Ticket") && !outcome.timed_out, "{text}");
        if session.exists() {
            assert!(!openssl.resume_session(&session).run().unwrap().reused(), "no session is resumed");
        }
    }
    for (name, protocols, alert) in [
        // Another protocol beside it: an ordinary handshake, for which there is no certificate yet.
        (DOMAIN, Some("acme-tls/1,http/1.1"), UNRECOGNIZED_NAME),
        (DOMAIN, Some("http/1.1"), UNRECOGNIZED_NAME),
        (DOMAIN, None, UNRECOGNIZED_NAME),
        // Another name.
        (HOST, Some("acme-tls/1"), NO_APPLICATION_PROTOCOL),
        (OTHER, Some("acme-tls/1"), NO_APPLICATION_PROTOCOL),
    ] {
        let openssl = asking.openssl(name);
        let openssl = protocols.into_iter().fold(openssl, OpenSsl::application_protocols);
        assert_eq!(openssl.run().unwrap().alert(), Some(alert), "{name} {protocols:?}");
    }
    assert_eq!(asking.environment.events.requests().len(), 0);
    assert!(!asking.daemon.metrics().unwrap().has("hookgate_requests_total", &[]));
    asking.authority.mend();
    let issued = asking.wait_other(&[]);
    let after = asking.openssl(DOMAIN).application_protocols("acme-tls/1").run().unwrap();
    assert_eq!(after.alert(), Some(NO_APPLICATION_PROTOCOL), "the challenge is withdrawn");
    let beside = asking.openssl(DOMAIN).application_protocols("acme-tls/1,http/1.1").until("Server certificate");
    assert_eq!(beside.run().unwrap().server_certificates(), issued);
}

#[test]
fn a_name_without_a_certificate_is_refused_and_others_are_served() {
    let asking = Asking::start("", |authority| authority.set(DIRECTORY, Fault::Away));
    asking.wait_attempts("directory", 1.0);
    assert_eq!(asking.openssl(DOMAIN).run().unwrap().alert(), Some(UNRECOGNIZED_NAME));
    let refused = [("reason", "certificate_awaited")];
    asking.daemon.wait_metric("hookgate_rejections_total", &refused, 1.0, SOON).unwrap();
    asking.daemon.wait_log("certificate_awaited", SOON).unwrap();
    assert!(asking.daemon.log().contains("no certificate was issued, and there is none"), "{}", asking.daemon.log());
    assert_eq!(asking.chain(HOST).len(), 2);
    asking.authority.mend();
    asking.wait_other(&[]);
}

#[test]
fn the_status_page_tells_of_a_certificate_that_is_awaited_and_of_one_that_is_not_renewed() {
    let limited = || problem(429, "rateLimited", "too <b>many</b> orders");
    let asking = Asking::start("\"certificateValidityPeriod\": 3600", |authority| authority.set(NEW_ORDER, limited()));
    let socket = asking.environment.path("admin.sock");
    let certificate = || facts(&socket)["acme"][0].clone();
    let attention = || {
        let page = ask(&socket, "/status").1;
        let (_, attention) = page.split_once("<section id=\"attention\"").unwrap();
        attention.split("</section>").next().unwrap().to_owned()
    };
    wait_until("the failure", LATER, || certificate()["failures"] == 1).unwrap();
    let told = certificate();
    let next = told["next_attempt"].as_u64().unwrap() - told["last"].as_u64().unwrap();
    assert!((29..=61).contains(&next), "{told}");
    assert_eq!((&told["names"], &told["awaited"]), (&json!([DOMAIN]), &json!([DOMAIN])));
    assert_eq!((&told["is_in_use"], &told["until"], &told["is_running"]), (&json!(false), &json!(null), &json!(false)));
    assert_eq!((&told["result"], &told["error"]), (&json!("order"), &json!("rateLimited: too <b>many</b> orders")));
    let refused = "handshakes for <strong>acme.example.com</strong> are refused until it is issued; the last attempt failed at \
                   <code>order</code>: rateLimited: too &lt;b&gt;many&lt;/b&gt; orders; the next is in ";
    assert!(attention().contains(refused), "{}", attention());
    asking.authority.mend();
    asking.reload(&asking.authority.acme(&[DOMAIN], ""));
    asking.wait_attempts("ok", 1.0);
    wait_until("the next attempt", SOON, || certificate()["next_attempt"].is_u64()).unwrap();
    let told = certificate();
    assert_eq!((&told["awaited"], &told["failures"], &told["result"]), (&json!([]), &json!(0), &json!("ok")));
    assert!(told["until"].as_u64() > told["next_attempt"].as_u64() && told["is_in_use"] == true, "{told}");
    assert!(attention().contains("Nothing needs attention."), "{}", attention());
    // Another profile is another certificate; the one in use stays for its name.
    asking.authority.set(NEW_ORDER, limited());
    asking.reload(&asking.authority.acme(&[DOMAIN], ", profile = \"other\""));
    wait_until("the failure", LATER, || certificate()["failures"] == 1).unwrap();
    let page = attention();
    let not_renewed = "<span class=\"mark bad\">renewal</span> The certificate of <strong>acme.example.com</strong> cannot be renewed";
    assert!(page.contains(not_renewed) && page.contains("failed at <code>order</code>: rateLimited"), "{page}");
    assert_eq!((&certificate()["awaited"], &certificate()["is_in_use"]), (&json!([]), &json!(true)));
}

/// A certificate of four seconds is to be renewed all the time. A reload asks for the next attempt.
#[test]
fn each_step_can_fail_and_the_certificate_in_use_stays() {
    let asking = Asking::start("\"certificateValidityPeriod\": 4", |_| {});
    let authority = &asking.authority;
    let first = asking.wait_other(&[]);
    asking.wait_attempts("ok", 1.0);
    authority.set(DIRECTORY, Fault::Away);
    // The one that was used before the fault, if a renewal began at once.
    asking.wait_attempts("directory", 1.0);
    let used = asking.chain(DOMAIN);
    assert!(!used.is_empty() && !first.is_empty());
    let process = Pid::from_raw(i32::try_from(asking.daemon.process_id()).unwrap());
    let foreign = asking.environment.pki.server("foreign", &[DOMAIN], KeyKind::P256).unwrap();
    let foreign = fs::read_to_string(&foreign.chain_path).unwrap();
    let html = Fault::Answer(502, "text/html", "<html>".to_owned());
    let steps: [(&str, &'static str, Fault, &str); 10] = [
        ("directory", DIRECTORY, html, "status 502"),
        ("directory", DIRECTORY, Fault::Answer(200, "application/json", "{}".to_owned()), "it has no newNonce"),
        (
            "order",
            NEW_ORDER,
            problem(429, "rateLimited", "too many certificates"),
            "rateLimited: too many certificates",
        ),
        (
            "order",
            NEW_ORDER,
            Fault::Answer(201, "application/json", "[]".to_owned()),
            "the answer cannot be understood",
        ),
        ("challenge", CHALLENGE, problem(403, "unauthorized", "not today"), "unauthorized: not today"),
        ("finalize", FINALIZE, problem(403, "badCSR", "a bad request"), "badCSR: a bad request"),
        ("certificate", CERTIFICATE, Fault::Replace(foreign), "is for another key"),
        ("certificate", CERTIFICATE, Fault::Replace("-----BEGIN".to_owned()), "cannot be read"),
        (
            "certificate",
            CERTIFICATE,
            Fault::Rewrite(with_issuers_exchanged),
            "certificate 2 of the chain did not issue",
        ),
        ("certificate", CERTIFICATE, Fault::Rewrite(with_issuers_repeated), "the chain has 103 certificates"),
    ];
    for (step, path, fault, words) in steps {
        // Never without a fault: an attempt of its own may be on its way.
        authority.set(path, fault);
        authority.mend_others(path);
        fails(&asking, step, words, &used);
    }
    authority.resolve(DOMAIN, nowhere());
    fails(&asking, "challenge", "could not verify acme.example.com: unauthorized: Failed to connect", &used);
    let room = prlimit(process, Resource::Fsize, Rlimit { current: Some(0), maximum: None }).unwrap();
    authority.resolve(DOMAIN, authority.address);
    authority.mend();
    let orders = authority.requests(NEW_ORDER);
    fails(&asking, "state", "cannot write", &used);
    assert_eq!(authority.requests(NEW_ORDER), orders, "without a place for it, nothing is asked for");
    prlimit(process, Resource::Fsize, room).unwrap();
    assert!(asking.daemon.metric("hookgate_acme_failures", &[]).unwrap() >= 10.0);
    asking.reload(&authority.acme(&[DOMAIN], ""));
    asking.wait_other(&used);
    let is_mended = || asking.daemon.metric("hookgate_acme_failures", &[]).is_ok_and(|failures| failures == 0.0);
    wait_until("no failure", LATER, is_mended).unwrap();
}

/// The chain of an end entity, its issuer and another, out of order.
fn with_issuers_exchanged(chain: &str) -> String {
    let mut certificates: Vec<&str> = chain.split_inclusive("-----END CERTIFICATE-----\n").collect();
    certificates.swap(1, 2);
    certificates.concat()
}

/// The chain of an end entity and two issuers, with the last one 100 times more: longer than what OpenSSL reads.
fn with_issuers_repeated(chain: &str) -> String {
    let issuer = chain.split_inclusive("-----END CERTIFICATE-----\n").last().unwrap();
    chain.to_owned() + &issuer.repeat(100)
}

/// As acme2certifier does it: the authorization and its challenge are invalid, and the order stays pending.
#[test]
fn a_name_that_is_refused_ends_the_attempt_though_the_order_stays_pending() {
    let asking = Asking::start("", |authority| {
        authority.resolve(DOMAIN, nowhere());
        authority.set(ORDER, Fault::Rewrite(pending));
    });
    let began = Instant::now();
    asking.wait_attempts("challenge", 1.0);
    asking.daemon.wait_log("could not verify acme.example.com: unauthorized: Failed to connect", SOON).unwrap();
    assert!(began.elapsed() < LATER, "the time for a verification is longer");
    asking.authority.resolve(DOMAIN, asking.authority.address);
    asking.authority.mend();
    asking.reload(&asking.authority.acme(&[DOMAIN], ""));
    asking.wait_other(&[]);
}

/// An order that is not decided.
fn pending(order: &str) -> String {
    let mut order: serde_json::Value = serde_json::from_str(order).unwrap();
    order["status"] = "pending".into();
    order.as_object_mut().unwrap().remove("error");
    order.to_string()
}

/// Asks for an attempt, which must fail at `step` and change nothing.
fn fails(asking: &Asking, step: &str, words: &str, used: &[String]) {
    let before = asking.attempts(step);
    asking.reload(&asking.authority.acme(&[DOMAIN], ""));
    asking.wait_attempts(step, before + 1.0);
    asking.daemon.wait_log(words, SOON).unwrap();
    let log = asking.daemon.log();
    let line = log.lines().rfind(|line| line.contains(words)).unwrap();
    assert!(line.contains("WARN") && line.contains(&format!("step={step}")), "{line}");
    assert!(line.contains("the one in use stays") && line.contains("next_s="), "{line}");
    assert_eq!(asking.chain(DOMAIN), used, "{step}: {words}");
}

#[test]
fn an_account_that_the_authority_refuses_or_forgets_is_a_clear_failure_or_made_again() {
    let keys = "\"externalAccountBindingRequired\": true, \"externalAccountMACKeys\": \
                {\"kid-1\": \"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\"}";
    let asking = Asking::start(keys, |_| {});
    asking.wait_attempts("account", 1.0);
    asking.daemon.wait_log("externalAccountRequired", SOON).unwrap();
    let with_key = |key: &str| {
        let path = asking.environment.path("eab.key");
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let eab = format!(", eab = {{ key_id = \"kid-1\", hmac_key_file = {} }}", quoted(&path));
        asking.reload(&asking.authority.acme(&[DOMAIN], &eab));
    };
    with_key("AAAA");
    asking.wait_attempts("account", 2.0);
    assert!(asking.chain(DOMAIN).is_empty());
    with_key("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n");
    asking.wait_other(&[]);
    assert!(!asking.daemon.log().contains("zWNDZM6e"), "the key is not logged");
}

#[test]
fn an_account_without_a_usable_url_is_not_kept() {
    let without = |fields| Fault::Answer(201, fields, "{}".to_owned());
    let steps = [
        "application/json\r\nlocation: ",
        "application/json\r\nlocation: ht tp://x",
        "application/json\r\nlocation: /rel",
        "application/json\r\nlocation: file:///etc/passwd",
    ];
    let asking = Asking::start("", |authority| authority.set(NEW_ACCOUNT, without(steps[0])));
    asking.wait_attempts("account", 1.0);
    for (attempts, fields) in [2.0, 3.0, 4.0].into_iter().zip(&steps[1..]) {
        asking.authority.set(NEW_ACCOUNT, without(fields));
        asking.reload(&asking.authority.acme(&[DOMAIN], ""));
        asking.wait_attempts("account", attempts);
    }
    asking.daemon.wait_log("the authority gives an account whose URL cannot be used", SOON).unwrap();
    let kept = files(&asking.environment.state_directory());
    assert!(!kept.iter().any(|name| name.starts_with("acme-account-")), "{kept:?}");
    asking.authority.mend();
    asking.reload(&asking.authority.acme(&[DOMAIN], ""));
    asking.wait_other(&[]);
    // One that is kept already, from before.
    let name = account_file(&asking);
    let record = fs::read_to_string(&name).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["credentials"]["id"] = "/rel".into();
    fs::write(&name, record.to_string()).unwrap();
    asking.reload(&asking.authority.acme(&[DOMAIN, OTHER], ""));
    wait_until("a certificate of another account", LATER, || !asking.chain(OTHER).is_empty()).unwrap();
    assert!(asking.daemon.log().contains("another is made"), "{}", asking.daemon.log());
}

#[test]
fn an_authority_that_has_forgotten_the_account_gets_another() {
    let asking = Asking::start("\"certificateValidityPeriod\": 3600", |_| {});
    let first = asking.wait_other(&[]);
    // It is used before it is kept.
    asking.wait_attempts("ok", 1.0);
    let Asking { daemon, authority, environment } = asking;
    drop(daemon);
    drop(authority);
    // As Pebble does with each start, and a private authority after a loss.
    let authority = Authority::start(&environment, "");
    let daemon = start_daemon(&environment, &authority, &authority.acme(&[DOMAIN], ", profile = \"x\""));
    let asking = Asking { daemon, authority, environment };
    assert_eq!(asking.chain(DOMAIN), first, "that of another directory serves until there is one");
    asking.wait_other(&first);
    let name = account_file(&asking);
    let record = fs::read_to_string(&name).unwrap();
    fs::write(&name, record.replace("my-account/", "my-account/0")).unwrap();
    asking.reload(&asking.authority.acme(&[DOMAIN, OTHER], ""));
    wait_until("a certificate of another account", LATER, || !asking.chain(OTHER).is_empty()).unwrap();
    assert_eq!(asking.authority.requests(NEW_ACCOUNT), 2);
}

/// The file of the newest account.
fn account_file(asking: &Asking) -> std::path::PathBuf {
    let state = asking.environment.state_directory();
    let accounts = files(&state).into_iter().filter(|name| name.starts_with("acme-account-"));
    let modified = |name: &String| fs::metadata(state.join(name)).unwrap().modified().unwrap();
    state.join(accounts.max_by_key(modified).unwrap())
}

#[test]
fn a_reload_adds_and_removes_names_without_a_gap() {
    let asking = Asking::start("", |_| {});
    let first = asking.wait_other(&[]);
    asking.authority.set(CHALLENGE, Fault::Hold);
    asking.reload(&asking.authority.acme(&[DOMAIN, OTHER], ", contact = [\"mailto:ops@example.com\"]"));
    let holds = || asking.authority.requests(CHALLENGE) > 1;
    wait_until("the challenge", LATER, holds).unwrap();
    assert_eq!(asking.chain(DOMAIN), first, "the old certificate serves the names that it has");
    assert_eq!(asking.openssl(OTHER).run().unwrap().alert(), Some(UNRECOGNIZED_NAME), "and no others");
    asking.authority.mend();
    let second = asking.wait_other(&first);
    assert_eq!(asking.chain(OTHER), second);
    assert_eq!(asking.authority.requests(NEW_ACCOUNT), 1, "the account stays, with another contact");
    asking.authority.set(CHALLENGE, Fault::Hold);
    asking.reload(&asking.authority.acme(&[OTHER], ""));
    assert_eq!(asking.chain(OTHER), second);
    assert_ne!(asking.chain(DOMAIN), second, "a name that is gone has no certificate of an authority");
    asking.reload("");
    let default = asking.chain(HOST);
    assert_eq!((asking.chain(OTHER), asking.chain(DOMAIN)), (default.clone(), default));
}

#[test]
fn a_certificate_is_renewed_when_the_authority_advises_it() {
    let advised = |authority: &Authority| authority.advise("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    let keys = ", profile = \"shortlived\"";
    let asking = Asking::start_with("\"certificateValidityPeriod\": 80", keys, advised);
    let first = asking.wait_other(&[]);
    // Two thirds of the lifetime are 53 s; the advice is in force after a twentieth, 4 s.
    asking.wait_other(&first);
    let id = renewal_id(&first[0]);
    assert!(asking.authority.requests(&format!("{RENEWAL}/{id}")) >= 1);
    let orders = asking.authority.payloads(NEW_ORDER);
    let mut expected = json!({ "identifiers": [{ "type": "dns", "value": DOMAIN }], "profile": "shortlived" });
    assert_eq!(orders[0], expected);
    expected["replaces"] = id.into();
    assert_eq!(orders[1], expected);
}

/// The id of a certificate in renewals: its issuer's key and its serial number (RFC 9773, section 4.1).
fn renewal_id(pem: &str) -> String {
    let encoded = |hexadecimal: &str, is_number: bool| {
        let mut bytes = HEXUPPER.decode(hexadecimal.replace(':', "").as_bytes()).unwrap();
        // A number in DER has a sign (X.690, section 8.3).
        if is_number && bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        BASE64URL_NOPAD.encode(&bytes)
    };
    let text = printed(pem, "-text");
    let (_, issuer) = text.split_once("X509v3 Authority Key Identifier:").unwrap();
    let issuer = issuer.split_whitespace().next().unwrap().trim_start_matches("keyid:");
    let serial = printed(pem, "-serial");
    format!("{}.{}", encoded(issuer, false), encoded(serial.trim().trim_start_matches("serial="), true))
}

#[test]
fn a_certificate_that_is_late_in_its_lifetime_when_it_comes_causes_no_further_order() {
    let prepare = |authority: &Authority| authority.set(CERTIFICATE, Fault::Rewrite(backdated));
    let asking = Asking::start("\"certificateValidityPeriod\": 864000", prepare);
    let is_in_days = |asking: &Asking| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        // Two thirds of ten days, or up to a twentieth of them before.
        wait_until("the next attempt", LATER, || asking.next_attempt() > now + 6.0 * 86400.0).unwrap();
        assert_eq!(asking.authority.requests(NEW_ORDER), 1);
    };
    asking.wait_attempts("ok", 1.0);
    is_in_days(&asking);
    let log = asking.daemon.log();
    let line = log.lines().rfind(|line| line.contains("lifetime are over")).unwrap();
    assert!(line.contains("WARN") && line.contains("check the clock of this host"), "{line}");
    let Asking { daemon, authority, environment } = asking;
    drop(daemon);
    let daemon = start_daemon(&environment, &authority, &authority.acme(&[DOMAIN], ""));
    is_in_days(&Asking { daemon, authority, environment });
}

/// The chain with the beginning of its first certificate a year earlier. Its signature, which only senders verify, is invalid then.
fn backdated(chain: &str) -> String {
    let (first, issuers) = chain.split_once("-----END").unwrap();
    let body: String = first.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = BASE64.decode(body.as_bytes()).unwrap();
    // The first UTCTime: two digits of the year, and eleven characters more (RFC 5280, section 4.1.2.5.1).
    let begins = der.windows(2).position(|start| start == [0x17, 13]).unwrap() + 2;
    let year: u32 = std::str::from_utf8(&der[begins..begins + 2]).unwrap().parse().unwrap();
    der[begins..begins + 2].copy_from_slice(format!("{:02}", year - 1).as_bytes());
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END{issuers}", BASE64.encode(&der))
}

#[test]
fn advice_that_is_none_stops_no_renewal() {
    let failing = Some(problem(500, "serverInternal", "not now"));
    std::thread::scope(|scope| {
        for (fault, end) in [(failing, "2020-01-02T00:00:00Z"), (None, "2019-12-31T00:00:00Z")] {
            scope.spawn(move || {
                let asking = Asking::start("\"certificateValidityPeriod\": 8", |authority| {
                    authority.advise("2020-01-01T00:00:00Z", end);
                    fault.into_iter().for_each(|fault| authority.set(RENEWAL, fault));
                });
                let first = asking.wait_other(&[]);
                asking.wait_other(&first);
                assert!(asking.authority.requests(RENEWAL) >= 1, "{end}");
            });
        }
    });
}

#[test]
fn the_next_attempt_is_told_after_a_success_and_after_a_failure() {
    // A window that ends before it begins is no advice.
    let asking = Asking::start("\"certificateValidityPeriod\": 3600", |authority| {
        authority.advise("2020-01-02T00:00:00Z", "2020-01-01T00:00:00Z");
    });
    asking.wait_attempts("ok", 1.0);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64().floor();
    wait_until("the next attempt", LATER, || asking.next_attempt() > now() + 60.0).unwrap();
    let ends = [("kind", "server"), ("name", DOMAIN)];
    let ends = asking.daemon.metric("hookgate_certificate_not_after_timestamp_seconds", &ends).unwrap();
    let left = ends - asking.next_attempt();
    // A third of the lifetime, and up to a twentieth of it. The lifetime is a second shorter, or not.
    assert!((1195.0..=1385.0).contains(&left), "{left}");
    assert!(asking.authority.requests(RENEWAL) >= 1);
    asking.authority.set(NEW_ORDER, problem(429, "rateLimited", "too many certificates"));
    let before = now();
    asking.reload(&asking.authority.acme(&[DOMAIN], ", profile = \"other\""));
    asking.wait_attempts("order", 1.0);
    // The first wait after a failed order is 30 to 60 s.
    let is_told = || (before + 30.0..=now() + 60.0).contains(&asking.next_attempt());
    wait_until("the attempt after a failure", SOON, is_told).unwrap();
}

#[test]
fn hookgate_check_says_what_would_be_asked_and_asks_nobody() {
    let environment = Environment::new().unwrap();
    let authority = Authority::start(&environment, "");
    let text = toml(&environment, &authority, &authority.acme(&[DOMAIN, OTHER], ""));
    let text = text.replace("@LISTEN_PORT@", "443").replace("@METRICS_PORT@", "9464").replace("@IO@", "auto");
    let file = environment.write("checked.toml", text).unwrap();
    let mut command = Command::new(BINARY);
    command.arg("check").arg("--config").arg(file);
    let outcome = run(command, b"", SOON).unwrap();
    let said = outcome.stdout_text();
    assert!(outcome.success(), "{said}{}", outcome.stderr_text());
    assert!(
        said.contains("note: ") && said.contains("for a certificate for acme.example.com, more.example.com"),
        "{said}"
    );
    assert_eq!(authority.requests("/"), 0);
    assert!(!files(&environment.state_directory()).iter().any(|name| name.starts_with("acme")));
}
