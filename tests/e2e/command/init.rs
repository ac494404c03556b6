//! `hookgate init`: for every preset, what it writes is what `hookgate check` accepts, but for files that it names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{KeyKind, Pki};
use hookgate_testkit::process::{Finished, run};
use tempfile::TempDir;

use super::hookgate;
use crate::environment::{BINARY, SOON};

/// A secret that every form of proof takes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn init(directory: &TempDir, arguments: &[&str]) -> Finished {
    let config = directory.path().join("hookgate.toml");
    let fixed = ["init", "--config"].map(OsStr::new).into_iter().chain([config.as_os_str()]);
    hookgate(&fixed.chain(arguments.iter().map(OsStr::new)).collect::<Vec<_>>())
}

fn check(directory: &TempDir) -> Finished {
    hookgate(&[OsStr::new("check"), OsStr::new("--config"), directory.path().join("hookgate.toml").as_os_str()])
}

/// What an operator answers to a value that `init` names as missing.
fn sample(key: &str) -> &'static str {
    match key {
        "identity.subject_cn" => "sender.example",
        "token.project_number" => "123456789012",
        "token.emails" => "sender@project.example",
        "key_source.url" => "https://keys.example.com/jwks.json",
        "unsafe_static_secret_suffices" => "true",
        "replay.id_header" => "x-delivery-id",
        other => unreachable!("no sample for {other}"),
    }
}

/// Runs `init` for a preset, with samples for the values that it names as missing.
fn complete(directory: &TempDir, preset: &str, more: &[&str]) -> Finished {
    let arguments = [&[preset, "--host", HOST], more].concat();
    let finished = init(directory, &arguments);
    if finished.success() {
        return finished;
    }
    let stderr = finished.stderr_text();
    assert!(stderr.starts_with("missing:\n") && stderr.contains("\nnothing was written"), "{preset}: {stderr}");
    assert!(!directory.path().join("hookgate.toml").exists(), "{preset}");
    let keys = stderr.lines().filter_map(|line| line.trim().strip_prefix("--set ")?.split('=').next());
    let values: Vec<String> = keys.map(|key| format!("--set={key}={}", sample(key))).collect();
    let finished = init(directory, &[arguments, values.iter().map(String::as_str).collect()].concat());
    assert!(finished.success(), "{preset}: {}", finished.stderr_text());
    finished
}

/// The files that a run of `init` says are missing.
fn named_missing(finished: &Finished) -> Vec<PathBuf> {
    let stdout = finished.stdout_text();
    let section = stdout.split("\nStill missing, ").nth(1).unwrap_or_default().split("\nLet only").next().unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("- ")?.split(" (line ").next());
    names.map(PathBuf::from).collect()
}

/// Puts what an operator brings into the files.
fn bring(pki: &Pki, files: &[PathBuf], preset: &str) {
    let server = pki.server("brought", &[HOST], KeyKind::P256).unwrap();
    for file in files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        match name {
            "fullchain.pem" => drop(fs::copy(&server.chain_path, file).unwrap()),
            "privkey.pem" => drop(fs::copy(&server.key_path, file).unwrap()),
            name if name.ends_with(".secret") => fs::write(file, SECRET).unwrap(),
            "discord.pem" => public_key(file, &["-algorithm", "ed25519"]),
            "sendgrid.pem" => public_key(file, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
            "wise-production.pem" => public_key(file, &["-algorithm", "RSA"]),
            name if name.ends_with(".pem") => fs::write(file, pki.server_root().pem()).unwrap(),
            name => unreachable!("{preset}: {name}"),
        }
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn public_key(file: &Path, algorithm: &[&str]) {
    let openssl = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new("openssl");
        command.args(arguments);
        let finished = run(command, input, SOON).unwrap();
        assert!(finished.success(), "{arguments:?}: {}", finished.stderr_text());
        finished.stdout
    };
    let private = openssl(&[&["genpkey"], algorithm].concat(), b"");
    fs::write(file, openssl(&["pkey", "-pubout"], &private)).unwrap();
}

/// A sender does not trust a private authority, so a probe that is to succeed names its root.
#[test]
fn the_probe_of_a_private_certificate_names_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    let server = pki.server("server", &[HOST], KeyKind::P256).unwrap();
    fs::write(directory.path().join("github.secret"), SECRET).unwrap();
    let (chain, key) = (server.chain_path.display().to_string(), server.key_path.display().to_string());
    let secret = format!("signature.secrets={}", directory.path().join("github.secret").display());
    let arguments = ["github", "--host", HOST, "--chain", &chain, "--key", &key, "--set", &secret, "--print"];
    let finished = init(&directory, &arguments);
    let stderr = finished.stderr_text();
    assert!(finished.success(), "{stderr}");
    assert!(stderr.contains("--as github --connect 127.0.0.1:443 --root ROOT.pem\n"), "{stderr}");
    assert!(stderr.contains("ROOT.pem is the certificate of CN=hookgate throwaway server root"), "{stderr}");
}

/// `init`, then `check` without the files, then `check` with them: for a preset and an alternative of its proof.
fn round_trip(preset: &str, more: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let pki_directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(pki_directory.path()).unwrap();
    let finished = complete(&directory, preset, more);
    let stdout = finished.stdout_text();
    assert!(stdout.contains(&format!("enter the URL https://{HOST}/{preset}\n")), "{preset}: {stdout}");
    assert!(stdout.contains("\nThen:\n  hookgate check --config "), "{preset}: {stdout}");
    let missing = named_missing(&finished);
    let unchecked = check(&directory);
    let stderr = unchecked.stderr_text();
    let named =
        |line: &str| missing.iter().any(|file| line.contains(&format!(": {} cannot be read: No such", file.display())));
    assert!(stderr.lines().count() == missing.len() && stderr.lines().all(named), "{preset}: {stdout}\n{stderr}");
    bring(&pki, &missing, preset);
    if preset == "cloudflare-origin-pull" {
        // It knows its root by the fingerprint, and no other will do.
        let refused = check(&directory).stderr_text();
        assert!(refused.lines().count() == 1 && refused.contains("but the preset expects"), "{refused}");
        return;
    }
    let checked = check(&directory);
    assert!(checked.success(), "{preset}: {}", checked.stderr_text());
    // The handler runs later. An anchor of another authority than the documented one is told.
    let expected = ["there is no socket /run/hookgate-handlers/", "is not one that the preset knows", "is shared by"];
    let stderr = checked.stderr_text();
    let is_expected = |line: &str| expected.iter().any(|words| line.contains(words));
    assert!(stderr.lines().all(is_expected), "{preset}: {stderr}");
    assert!(
        !checked.stdout_text().contains("this sender waits"),
        "{preset}: the time-out fits: {}",
        checked.stdout_text()
    );
}

#[test]
fn every_preset_gives_a_configuration_that_check_accepts() {
    let json = hookgate(&["providers", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout_text()).unwrap();
    let names: Vec<&str> = json.as_array().unwrap().iter().map(|preset| preset["name"].as_str().unwrap()).collect();
    assert!(names.len() >= 26, "{names:?}");
    for preset in names {
        round_trip(preset, &[]);
    }
}

#[test]
fn every_alternative_of_a_proof_gives_one_too() {
    round_trip("gitlab", &["--proof", "secret"]);
    round_trip("gitlab", &["--proof", "signature"]);
    round_trip("dialogflow-cx", &["--proof", "session-parameter"]);
    round_trip("dialogflow-es", &["--proof", "session-parameter"]);
}

#[test]
fn init_says_what_is_missing_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let finished = init(&directory, arguments);
        let stderr = finished.stderr_text();
        assert_eq!((finished.status.unwrap().code(), finished.stdout_text().as_str()), (Some(1), ""), "{stderr}");
        assert!(words.iter().all(|words| stderr.contains(words)), "{arguments:?}: {stderr}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
    };
    refused(&[], &["missing: PRESET", "hookgate init pagerduty --host hooks.example.com"]);
    refused(&["pager-duty"], &["there is no preset \"pager-duty\"; the presets are alertmanager, "]);
    refused(&["pagerduty"], &["missing:\n  --host: the host of the webhook's URL"]);
    refused(&["wise", "--host", HOST], &["--set identity.subject_cn=…: the common name"]);
    refused(&["pubsub-push"], &["--host: ", "--set token.emails=…: the email address"]);
    refused(&["github", "--host", HOST, "--proof", "token"], &["--proof token: not a proof of the preset \"github\""]);
    refused(&["gitlab", "--host", HOST, "--proof", "basic"], &["write --proof with one of signature, secret"]);
    refused(&["github", "--host", HOST, "--set", "token.emails=a"], &["here you can set signature.secrets"]);
    let twice = ["github", "--host", HOST, "--set", "signature.secrets=a", "--set", "signature.secrets=b"];
    refused(&twice, &["--set signature.secrets is there twice"]);
    refused(&["alertmanager", "--host", HOST], &["--set unsafe_static_secret_suffices=true: a copy of one request"]);
    let no = ["alertmanager", "--host", HOST, "--set", "unsafe_static_secret_suffices=false"];
    refused(&no, &["unsafe_static_secret_suffices is written on purpose or not at all"]);
    // What a value must be, the parser of the configuration says.
    let words = ["--host: \"https://a\" is not a valid host; write it without a scheme", "nothing was written"];
    refused(&["github", "--host", "https://a"], &words);
    refused(&["github", "--host", HOST, "--path", "hook"], &["--path: ", "it does not begin with \"/\""]);
    refused(&["github", "--host", HOST, "--listen", "443"], &["--listen: \"443\" is not an IP address"]);
    refused(&["github", "--host", HOST, "--handler", "app.sock"], &["--handler: ", "is not absolute"]);
    refused(&["github", "--host", HOST, "--name", "a b"], &["--name: "]);
    // A text cannot leave its string.
    refused(&["github", "--host", "a\"\n[x]\n"], &["--host: "]);
    let finished = init(&directory, &["github", "--host", HOST, "--set", "signature"]);
    assert_eq!(finished.status.unwrap().code(), Some(2), "{}", finished.stderr_text());
}

#[test]
fn init_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hookgate.toml");
    fs::write(&path, "# mine\n").unwrap();
    let finished = init(&directory, &["github", "--host", HOST]);
    let stderr = finished.stderr_text();
    assert!(
        finished.status.unwrap().code() == Some(1) && stderr.contains("exists, and init overwrites nothing"),
        "{stderr}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
    // Nor through a symbolic link that leads nowhere.
    fs::remove_file(&path).unwrap();
    let target = directory.path().join("target.toml");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(!init(&directory, &["github", "--host", HOST]).success() && !target.exists());
    // What is printed can be added by hand.
    let finished = init(&directory, &["github", "--host", HOST, "--print"]);
    assert!(finished.success() && !target.exists(), "{}", finished.stderr_text());
    let (stdout, stderr) = (finished.stdout_text(), finished.stderr_text());
    let parsed: toml::Table = toml::from_str(&stdout).unwrap();
    assert!(
        parsed.contains_key("provider") && stderr.contains("At the sender (GitHub webhooks), enter the URL"),
        "{stderr}"
    );
    fs::remove_file(&path).unwrap();
    let elsewhere = hookgate(&["init", "github", "--host", HOST, "--config", "/nonexistent/hookgate.toml"]);
    let stderr = elsewhere.stderr_text();
    assert!(elsewhere.status.unwrap().code() == Some(1) && stderr.contains("its directory does not exist"), "{stderr}");
}

#[test]
fn init_takes_every_value_from_its_options() {
    let directory = tempfile::tempdir().unwrap();
    let options = [
        "pagerduty",
        "--host",
        "a.example",
        "--path",
        "/hook",
        "--name",
        "pd",
        "--listen",
        "127.0.0.1:8443",
        "--listen",
        "[::1]:8443",
        "--handler",
        "/run/pd.sock",
        "--chain",
        "chain.pem",
        "--key",
        "key.pem",
        "--set",
        "signature.secrets=pd.key",
    ];
    let finished = init(&directory, &options);
    let stdout = finished.stdout_text();
    assert!(
        finished.success() && stdout.contains("enter the URL https://a.example:8443/hook\n"),
        "{}",
        finished.stderr_text()
    );
    assert!(
        stdout.contains("Turn on mutual TLS for the webhook.") && stdout.contains("https://github.com/PagerDuty/"),
        "{stdout}"
    );
    assert!(stdout.contains("--as pagerduty --connect 127.0.0.1:8443"), "{stdout}");
    let text = fs::read_to_string(directory.path().join("hookgate.toml")).unwrap();
    for line in [
        "addresses = [\"127.0.0.1:8443\", \"[::1]:8443\"]",
        "chain = \"chain.pem\"",
        "key = \"key.pem\"",
        "name = \"pd\"",
        "preset = \"pagerduty\"",
        "# The secret that PagerDuty shows when you make the subscription.",
        "signature.secrets = [{ file = \"pd.key\" }]",
        "host = \"a.example\"",
        "path = \"/hook\"",
        "providers = [\"pd\"]",
        "handler = \"unix:/run/pd.sock\"",
        "handler_timeout_ms = 5000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let named: Vec<PathBuf> = ["chain.pem", "key.pem", "pd.key"].map(|name| directory.path().join(name)).to_vec();
    assert_eq!(named_missing(&finished), named);
    let secret = stdout.lines().find(|line| line.contains("pd.key (line ")).unwrap();
    assert!(
        secret.ends_with("provider[0].signature.secrets[0].file): a file with the secret that the sender signs with"),
        "{secret}"
    );
}

/// On a terminal, `init` asks for what the options leave open, and takes an empty answer for the usual value.
#[test]
fn init_asks_on_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let ask = |name: &str, answers: &str| {
        let mut command = Command::new("script");
        let line = format!("{BINARY} init --config {}/{name}", directory.path().display());
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("NO_COLOR", "1");
        run(command, answers.as_bytes(), SOON).unwrap()
    };
    let finished = ask("a.toml", "githup\ngithub\nhooks.example.com\n\n\n\n\ngithub.secret\n");
    let shown = finished.stdout_text();
    assert!(finished.success(), "{shown}");
    for words in [
        "The sender, as the name of a preset",
        "there is no preset \"githup\"",
        "Its path [/github]: ",
        "The socket of the handler [/run/hookgate-handlers/github.sock]: ",
        "[certificates/fullchain.pem]: ",
        "A file with the secret that the sender signs with [certificates/github.secret]: ",
        "enter the URL https://hooks.example.com/github",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    let text = fs::read_to_string(directory.path().join("a.toml")).unwrap();
    assert!(text.contains("signature.secrets = [{ file = \"github.secret\" }]"), "{text}");
    // An answer that is needed and does not come ends it.
    let finished = ask("b.toml", "github\n\n\n\n");
    assert!(!finished.success() && finished.stdout_text().contains("no usable answer"), "{}", finished.stdout_text());
    assert!(!directory.path().join("b.toml").exists());
    let finished = ask("c.toml", "alertmanager\nhooks.example.com\n\n\n\n\n\n\nno\nno\nno\n");
    assert!(
        !finished.success() && finished.stdout_text().contains("on purpose or not at all"),
        "{}",
        finished.stdout_text()
    );
    assert!(!directory.path().join("c.toml").exists());
}
