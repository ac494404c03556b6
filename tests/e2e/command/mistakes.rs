//! Ten mistakes of a new operator. Each ends in one message, with the file, the line and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{KeyKind, RevocationListOptions, Sender};
use hookgate_testkit::process::run;

use super::host::one_line;
use super::{check, good, line_of};
use crate::environment::{BINARY, Environment, SOON, handler_socket, quoted};

/// Changes the good configuration by `change`, and expects one message about the line that begins with `start`: an error, or a warning.
#[track_caller]
fn mistake(change: impl Fn(&Environment, &str) -> String, start: &str, kind: Kind, words: &[&str]) {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    assert_eq!(check(&environment, &text).2, "", "the configuration is good before the mistake");
    let text = change(&environment, &text);
    let (code, _, stderr) = check(&environment, &text);
    let message = one_line(&stderr);
    let (expected, prefix) = if kind == Kind::Error { (1, "/") } else { (0, "warning: /") };
    assert!(code == Some(expected) && message.starts_with(prefix), "{code:?} {message}");
    assert!(message.contains(&format!("checked.toml:{}: ", line_of(&text, start))), "{start}: {message}\n{text}");
    assert!(words.iter().all(|words| message.contains(words)), "{words:?}: {message}");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
}

#[test]
fn a_wrong_path() {
    let change = |_: &Environment, text: &str| text.replace("server.pem", "sever.pem");
    let words =
        ["certificate[0].chain: ", "sever.pem cannot be read", "put the file there, or write the path of another one"];
    mistake(change, "chain = ", Kind::Error, &words);
}

#[test]
fn a_mismatched_key() {
    let change = |environment: &Environment, text: &str| {
        let other = environment.pki.server("other", &[HOST], KeyKind::P256).unwrap();
        fs::set_permissions(&other.key_path, fs::Permissions::from_mode(0o600)).unwrap();
        text.replace(&quoted(&environment.server.key_path), &quoted(&other.key_path))
    };
    let words =
        ["certificate[0].key: ", "other.key is not the key of the first certificate of", "name the file of the key"];
    mistake(change, "key = ", Kind::Error, &words);
}

#[test]
fn a_missing_intermediate() {
    let change = |environment: &Environment, text: &str| {
        let chain = fs::read_to_string(&environment.server.chain_path).unwrap();
        let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let leaf = environment.write("leaf.pem", leaf).unwrap();
        text.replace(&quoted(&environment.server.chain_path), &quoted(&leaf))
    };
    let words = [
        "certificate[0].chain: ",
        "leaf.pem lacks the certificate of CN=hookgate throwaway",
        "append that certificate",
    ];
    mistake(change, "chain = ", Kind::Warning, &words);
}

#[test]
fn a_mistyped_common_name() {
    let line = "identity = [{ subject_cn = \"webhooks.pagerduty.con\" }]";
    let change = |_: &Environment, text: &str| {
        text.replace("preset = \"pagerduty\"", &format!("preset = \"pagerduty\"\n{line}"))
    };
    let words = ["identity[0].subject_cn: ", "did you mean \"webhooks.pagerduty.com\"?", "remove it to accept these"];
    mistake(change, line, Kind::Warning, &words);
}

#[test]
fn an_expired_revocation_list() {
    let change = |environment: &Environment, text: &str| {
        let pki = environment.pki.sender(Sender::PagerDuty);
        let [of_intermediate, _] = pki.revocation_lists(&RevocationListOptions::expired()).unwrap();
        let expired = fs::read(&of_intermediate).unwrap();
        let [of_intermediate, of_root] = pki.revocation_lists(&RevocationListOptions::default()).unwrap();
        fs::write(&of_intermediate, expired).unwrap();
        let lists = format!("crls = [{},\n{}]", quoted(&of_root), quoted(&of_intermediate));
        text.replace("preset = \"pagerduty\"", &format!("preset = \"pagerduty\"\n{lists}"))
    };
    let words = ["crls[1]: ", "has expired: certificates of this issuer are refused; get a new list"];
    mistake(change, "\"/", Kind::Warning, &words);
}

#[test]
fn a_secret_that_everyone_can_read() {
    let change = |environment: &Environment, text: &str| {
        fs::set_permissions(environment.path("webhook.secret"), fs::Permissions::from_mode(0o644)).unwrap();
        text.to_owned()
    };
    let words =
        ["signature.secrets[0].file: ", "webhook.secret is readable by every user of this host; chmod 0600 or 0640"];
    mistake(change, "signature.secrets", Kind::Warning, &words);
}

/// What the start of the daemon says in one line of its log.
#[test]
fn a_port_in_use() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap() + "\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (old, key) in [
        ("127.0.0.1:18443", "listen.addresses[0]: "),
        ("127.0.0.1:19464", "metrics.listen: "),
        ("127.0.0.1:0", "admin.listen: "),
    ] {
        let text = text.replace(old, &taken.to_string());
        // The other ports are free for whoever asks first.
        let text = text.replace("127.0.0.1:18443", "127.0.0.1:0").replace("127.0.0.1:19464", "127.0.0.1:0");
        let line = text.lines().position(|line| line.contains(&taken.to_string())).unwrap() + 1;
        let file = environment.write("checked.toml", &text).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(&file).env("NO_COLOR", "1").env_remove("HOOKGATE_LOG");
        let finished = run(command, &[], SOON).unwrap();
        let stderr = finished.stderr_text();
        let errors: Vec<&str> = stderr.lines().filter(|line| line.contains("ERROR")).collect();
        let place = format!("checked.toml:{line}: {key}");
        assert!(finished.status.unwrap().code() == Some(1) && errors.len() == 1, "{stderr}");
        assert!(errors[0].contains(&place) && errors[0].contains(&taken.to_string()), "{place}: {}", errors[0]);
        let said = errors[0].to_lowercase().matches("already in use").count();
        assert!(
            said == 1 && errors[0].contains("another process listens") && errors[0].contains("; "),
            "{}",
            errors[0]
        );
    }
}

#[test]
fn an_unknown_key() {
    let change = |_: &Environment, text: &str| text.replace("[limits]", "[limits]\nhandler_timeout = 5");
    mistake(
        change,
        "handler_timeout",
        Kind::Error,
        &["limits.handler_timeout: ", "did you mean \"handler_timeout_ms\"?"],
    );
}

#[test]
fn a_wrong_type() {
    let change = |_: &Environment, text: &str| text.replace("[limits]", "[limits]\nhandler_timeout_ms = \"5s\"");
    let words = ["limits.handler_timeout_ms: ", "expected an integer (no quotes, no unit)"];
    mistake(change, "handler_timeout_ms", Kind::Error, &words);
}

#[test]
fn a_missing_socket() {
    let change = |environment: &Environment, text: &str| {
        text.replace(&handler_socket(&environment.dialogflow), "\"unix:/run/hookgate-no-such-handler.sock\"")
    };
    let words =
        ["handler: ", "there is no socket /run/hookgate-no-such-handler.sock", "start the handler, or write the path"];
    mistake(change, "handler = \"unix:/run/hookgate-no-such", Kind::Warning, &words);
}
