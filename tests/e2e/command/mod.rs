//! The command line: `check`, `init`, `providers`, and what all commands share.

mod host;
mod init;
mod mistakes;

use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use hookgate_testkit::configuration::{HOST, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::pki::{DAY, KeyKind, Sender};
use hookgate_testkit::process::{Finished, run};

use crate::environment::{BINARY, Environment, SOON, quoted};

pub(crate) fn hookgate(arguments: &[impl AsRef<OsStr>]) -> Finished {
    let mut command = Command::new(BINARY);
    command.args(arguments).env("NO_COLOR", "1").env_remove("CREDENTIALS_DIRECTORY");
    run(command, &[], SOON).unwrap()
}

/// Runs `hookgate check` on a file with this text, its placeholders replaced.
pub(crate) fn run_check(environment: &Environment, text: &str) -> Finished {
    let text = text.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    let file = environment.write("checked.toml", text).unwrap();
    hookgate(&[OsStr::new("check"), OsStr::new("--config"), file.as_os_str()])
}

/// Exit code, standard output and standard error of [`run_check`].
pub(crate) fn check(environment: &Environment, text: &str) -> (Option<i32>, String, String) {
    let finished = run_check(environment, text);
    let code = finished.status.and_then(|status| status.code());
    (code, finished.stdout_text(), finished.stderr_text())
}

/// A configuration without warnings: each provider whose certificate many share demands a proof.
pub(crate) fn good(environment: &Environment) -> Result<String> {
    let secret = environment.write("webhook.secret", "a secret of the sender, 4711")?;
    for path in [&environment.server.key_path, &secret] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    let token = "token = { project_number = \"123456789012\", audiences = [\"https://hooks.example.com/\"] }";
    let mut configuration = environment.configuration();
    configuration.proofs = vec![
        ("pagerduty", format!("signature.secrets = [{{ file = {} }}]", quoted(&secret))),
        ("dialogflow-cx", token.to_owned()),
        ("dialogflow-es", token.to_owned()),
    ];
    let text = configuration.toml() + &environment.any_method_route("");
    Ok(text.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto"))
}

/// The number, from 1, of the line that begins with `start`.
pub(crate) fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.starts_with(start)).unwrap() + 1
}

#[test]
fn check_accepts_a_good_file() {
    let environment = Environment::new().unwrap();
    let (code, stdout, stderr) = check(&environment, &good(&environment).unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.trim_end().ends_with("checked.toml: ok, 4 providers, 5 routes, 0 warnings"), "{stdout}");
}

#[test]
fn check_says_for_each_provider_what_the_end_of_client_auth_changes() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let outlook = |text: &str, provider: &str| {
        let (_, stdout, _) = check(&environment, text);
        let line = stdout.lines().find(|line| line.starts_with(&format!("{provider}: "))).map(str::to_owned);
        assert!(line.is_some(), "{provider}: {stdout}");
        line.unwrap()
    };
    let strict = outlook(&text, "pagerduty");
    assert!(strict.contains("2027-03-01") && strict.contains("digicert-global-root-g2"), "{strict}");
    assert!(outlook(&text, "dialogflow-es").contains("2027-03-01 changes nothing that is known"));
    let ignoring = text.replace("preset = \"pagerduty\"", "preset = \"pagerduty\"\nextended_key_usage = \"ignore\"");
    assert!(outlook(&ignoring, "pagerduty").contains("changes nothing, since"));
}

#[test]
fn check_reports_every_error_with_its_line() {
    let environment = Environment::new().unwrap();
    let good = good(&environment).unwrap();
    let text = good
        .replace("addresses = [\"127.0.0.1:18443\"]", "addresses = [\"localhost:443\"]")
        .replace("preset = \"pagerduty\"", "preset = \"pager-duty\"")
        .replace("path = \"/any/*\"", "pth = \"/any/*\"")
        .replace("[limits]", "[limits]\nmax_headers = 99999\nhandler_timeout_s = 5");
    let (code, stdout, stderr) = check(&environment, &text);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let wrong = ["addresses", "preset = \"pager-duty\"", "pth", "max_headers", "handler_timeout_s"];
    for start in wrong {
        assert!(stderr.contains(&format!("checked.toml:{}: ", line_of(&text, start))), "{start}:\n{stderr}");
    }
    let advice = ["write a number from 1 to 1024", "did you mean \"path\"?", "did you mean \"handler_timeout_ms\"?"];
    assert!(advice.iter().all(|words| stderr.contains(words)), "{stderr}");
}

#[test]
fn check_needs_every_file_in_the_configuration() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let refused = |text: &str, words: &str| {
        let (code, _, stderr) = check(&environment, text);
        assert!(code == Some(1) && stderr.contains(words), "{words}: {stderr}");
    };
    refused(&text.replace("server.key", "absent.key"), "absent.key cannot be read");
    refused(&text.replace("server.pem", "absent.pem"), "absent.pem cannot be read");
    environment.write("empty.pem", "").unwrap();
    refused(&text.replace("server.pem", "empty.pem"), "empty.pem holds no certificate");
    environment.write("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    refused(&text.replace("server.pem", "damaged.pem"), "damaged.pem");
}

#[test]
fn check_refuses_a_key_of_another_certificate() {
    let environment = Environment::new().unwrap();
    let other = environment.pki.server("other", &[HOST], KeyKind::P256).unwrap();
    let text = good(&environment).unwrap();
    let key = environment.server.key_path.display().to_string();
    let (code, _, stderr) = check(&environment, &text.replace(&key, &other.key_path.display().to_string()));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("other.key is not the key of the first certificate of"), "{stderr}");
    assert!(stderr.contains(&format!("checked.toml:{}: ", line_of(&text, "key = "))), "{stderr}");
}

#[test]
fn check_warns_of_a_chain_out_of_order() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let chain = std::fs::read_to_string(&environment.server.chain_path).unwrap();
    environment
        .write("unordered.pem", chain + &environment.pki.server_root().pem() + &environment.pki.server_root().pem())
        .unwrap();
    let sorted = environment.server.chain_path.display().to_string();
    let unordered = environment.path("unordered.pem").display().to_string();
    // A second root is in order, because the root issued itself. The root directly after the end entity is not.
    let (code, stdout, _) = check(&environment, &text.replace(&sorted, &unordered));
    assert!(code == Some(0) && stdout.contains(" 0 warnings"), "{stdout}");
    let leaf = std::fs::read_to_string(&sorted).unwrap();
    let leaf = leaf.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    environment.write("unordered.pem", leaf + &environment.pki.server_root().pem()).unwrap();
    let (code, stdout, stderr) = check(&environment, &text.replace(&sorted, &unordered));
    assert!(code == Some(0) && stdout.contains(" 1 warning\n"), "{stdout}");
    assert!(
        stderr.contains("unordered.pem lacks the certificate of CN=hookgate throwaway server intermediate"),
        "{stderr}"
    );
    let chain = std::fs::read_to_string(&sorted).unwrap();
    let (leaf, intermediate) = chain.split_at(chain.find("-----END CERTIFICATE-----\n").unwrap() + 26);
    environment.write("unordered.pem", [leaf, &environment.pki.server_root().pem(), intermediate].concat()).unwrap();
    let (code, _, stderr) = check(&environment, &text.replace(&sorted, &unordered));
    assert!(code == Some(0) && stderr.contains("certificate 2 did not issue the one before it"), "{stderr}");
}

#[test]
fn check_warns_of_a_certificate_that_expires_soon() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let until = SystemTime::now() + 10 * DAY + Duration::from_secs(3600);
    let text = environment.with_certificate_until(&text, until).unwrap();
    let (code, stdout, stderr) = check(&environment, &text);
    assert!(code == Some(0) && !stdout.contains(" 0 warnings"), "{stdout}");
    assert!(stderr.contains("expires on") && stderr.contains("in 10 days"), "{stderr}");
}

#[test]
fn check_warns_of_a_key_that_every_user_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    std::fs::set_permissions(&environment.server.key_path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, stderr) = check(&environment, &text);
    assert!(code == Some(0) && stderr.contains("server.key is readable by every user"), "{stderr}");
    assert!(stderr.starts_with("warning: "), "{stderr}");
}

#[test]
fn check_resolves_relative_paths_from_the_directory_of_the_file() {
    let environment = Environment::new().unwrap();
    let directory = format!("{}/", environment.directory.path().display());
    let text = good(&environment).unwrap().replace(&format!("unix:{directory}"), "unix:/run/").replace(&directory, "");
    assert!(text.contains("chain = \"server.pem\""), "{text}");
    assert_eq!(check(&environment, &text).0, Some(0));
}

#[test]
fn providers_lists_the_presets() {
    let finished = hookgate(&["providers"]);
    assert!(finished.success());
    let stdout = finished.stdout_text();
    let names: Vec<_> = stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["dialogflow-cx", "meta", "pagerduty", "percolate"].iter().all(|name| names.contains(name)), "{stdout}");
    assert!(names.is_sorted() && stdout.lines().all(|line| line.contains("(compiled in)")), "{stdout}");
    let json = hookgate(&["providers", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout_text()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), names.len());
    for (preset, line) in json.as_array().unwrap().iter().zip(stdout.lines()) {
        let text = |key: &str| preset[key].as_str().unwrap();
        let certificate = if text("client_certificate") == "none" { "  no certificate  " } else { "  certificate  " };
        assert!(line.starts_with(text("name")) && line.contains(text("version")), "{line}");
        assert!(line.contains(certificate) && line.ends_with(&format!("({})", text("origin"))), "{line}");
    }
}

/// What a preset cannot contain: `check` says what to download from where, and compares what it knows.
#[test]
fn check_says_which_files_a_preset_needs_and_compares_fingerprints() {
    let environment = Environment::new().unwrap();
    let good = good(&environment).unwrap();
    let with = |lines: &str| {
        let provider = "[[provider]]\nname = \"more\"\n";
        check(&environment, &[&good, "\n", provider, lines].concat())
    };
    let cloudflare = "preset = \"cloudflare-origin-pull\"\nidentity = [{ subject_cn = \"a\" }]\n";
    let (code, _, stderr) = with(cloudflare);
    let words = "download authenticated_origin_pull_ca.pem from \
                 https://developers.cloudflare.com/ssl/static/authenticated_origin_pull_ca.pem, and write trust_anchors";
    assert!(code == Some(1) && stderr.contains(words), "{stderr}");
    let root = environment.pki.sender(Sender::PagerDuty).root.path();
    let (code, _, stderr) = with(&format!("{cloudflare}trust_anchors = [{}]\n", quoted(root)));
    assert!(code == Some(1) && stderr.contains("SHA-256") && stderr.contains("authenticated_origin_pull"), "{stderr}");
    let wise = "preset = \"wise\"\nclient_certificate = \"none\"\n";
    let (code, _, stderr) = with(wise);
    let words = "write signature = { keys = [{ file = \"wise-production.pem\" }] } (the key stands on \
                 https://docs.wise.com/guides/developer/webhooks/event-handling)";
    assert!(code == Some(1) && stderr.contains(words), "{stderr}");
}

#[test]
fn providers_shows_files_that_replace_presets() {
    let environment = Environment::new().unwrap();
    std::fs::create_dir(environment.path("presets")).unwrap();
    let preset = "schema = 1\nversion = 2027-01-31\ntitle = \"Ours\"\ndocumentation = \"https://ours.example/\"\n";
    environment.write("presets/pagerduty.toml", preset).unwrap();
    let file = environment.write("ours.toml", "[presets]\ndirectories = [\"presets\"]\n").unwrap();
    let providers = || hookgate(&[OsStr::new("providers"), OsStr::new("--config"), file.as_os_str()]);
    let finished = providers();
    let stdout = finished.stdout_text();
    let line = stdout.lines().find(|line| line.starts_with("pagerduty ")).unwrap();
    assert!(
        finished.success()
            && line.contains("2027-01-31  certificate     Ours (")
            && line.ends_with("presets/pagerduty.toml)"),
        "{line}"
    );
    environment.write("presets/pagerduty.toml", preset.replace("schema = 1", "schema = 2")).unwrap();
    let finished = providers();
    assert_eq!(finished.status.unwrap().code(), Some(1));
    assert!(finished.stderr_text().contains("presets/pagerduty.toml:1: schema: "), "{}", finished.stderr_text());
}

#[test]
fn providers_describes_each_of_them() {
    for (name, words) in [
        ("pagerduty", "webhooks.pagerduty.com"),
        ("dialogflow-cx", "*.dialogflow.com"),
        ("dialogflow-es", "*.dialogflow.com"),
        ("percolate", "percolate"),
    ] {
        let finished = hookgate(&["providers", name]);
        let stdout = finished.stdout_text();
        assert!(finished.success() && stdout.starts_with(&format!("{name}: ")), "{stdout}");
        assert!(stdout.contains(words), "{name}: {stdout}");
        for heading in ["trust anchor", "SHA-256", "verify depth", "extended key usage", "identity", "https://"] {
            assert!(stdout.contains(heading), "{name} without {heading}: {stdout}");
        }
        if name != "pagerduty" {
            assert!(
                stdout.contains("TLS of the sender: its versions and cipher suites are not documented"),
                "{stdout}"
            );
        }
    }
}

#[test]
fn providers_says_which_tls_a_sender_has_and_which_policies_fit() {
    let stdout = hookgate(&["providers", "pagerduty"]).stdout_text();
    let lines: Vec<&str> = stdout.lines().collect();
    let start = lines.iter().position(|line| *line == "TLS of the sender, as it documents it").expect(&stdout);
    let (shown, _) = lines[start + 1..].split_at(lines[start + 1..].iter().position(|line| line.is_empty()).unwrap());
    assert_eq!(shown[0], "  versions            1.2");
    assert_eq!(shown[1], "  cipher suites       TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    assert_eq!(shown[2], "                      TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
    // The version, the 37 entries of the documentation but for the signal of renegotiation, and the policies.
    assert_eq!(shown.len(), 1 + 36 + 3, "{shown:#?}");
    assert_eq!(
        shown[37..],
        [
            "  policy in [tls]     intermediate  TLS 1.2, 4 of these suites",
            "                      modern        no handshake: nothing in common",
            "                      pagerduty     TLS 1.2, 4 of these suites",
        ]
    );
}

#[test]
fn providers_refuses_an_unknown_name() {
    let finished = hookgate(&["providers", "nobody"]);
    assert_eq!(finished.status.unwrap().code(), Some(1));
    let stderr = finished.stderr_text();
    assert!(stderr.contains("\"nobody\"") && stderr.contains("dialogflow-cx, dialogflow-es, "), "{stderr}");
    assert_eq!(finished.stdout_text(), "");
}

#[test]
fn version_and_help_go_to_standard_output() {
    let finished = hookgate(&["--version"]);
    assert!(finished.success());
    assert_eq!(finished.stdout_text(), format!("hookgate {}\n", env!("CARGO_PKG_VERSION")));
    let finished = hookgate(&["--help"]);
    let stdout = finished.stdout_text();
    assert!(finished.success() && ["run", "check", "providers"].iter().all(|word| stdout.contains(word)), "{stdout}");
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    for arguments in [&["serve"][..], &["check", "--confg", "x"], &[]] {
        let finished = hookgate(arguments);
        assert_eq!(finished.status.unwrap().code(), Some(2), "{arguments:?}");
        assert!(finished.stderr_text().contains("Usage: hookgate"), "{arguments:?}: {}", finished.stderr_text());
    }
}

#[test]
fn a_missing_file_is_named_with_the_option_that_names_it() {
    let environment = Environment::new().unwrap();
    let file = environment.write("checked.toml", good(&environment).unwrap()).unwrap();
    let absent = environment.path("absent.toml");
    let check = |options: &[&OsStr]| {
        let finished = hookgate(&[&[OsStr::new("check")], options].concat());
        (finished.status.unwrap().code(), finished.stderr_text())
    };
    let (config, against) = (OsStr::new("--config"), OsStr::new("--against"));
    let (code, stderr) = check(&[config, file.as_os_str(), against, absent.as_os_str()]);
    assert!(code == Some(1) && stderr.contains("name another one with --against"), "{stderr}");
    let (code, stderr) = check(&[config, absent.as_os_str()]);
    assert!(code == Some(1) && stderr.contains("name another one with --config"), "{stderr}");
}

/// Runs `hookgate check --against`: the first file would replace the second. Its exit code and standard error.
fn check_against(environment: &Environment, text: &str, other: &str) -> (Option<i32>, String) {
    let file = environment.write("checked.toml", text).unwrap();
    let in_force = environment.write("in-force.toml", other).unwrap();
    let options = ["check", "--config"].map(OsStr::new).into_iter();
    let options: Vec<&OsStr> =
        options.chain([file.as_os_str(), OsStr::new("--against"), in_force.as_os_str()]).collect();
    let finished = hookgate(&options);
    (finished.status.unwrap().code(), finished.stderr_text())
}

#[test]
fn a_file_that_cannot_be_in_force_is_one_error() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let broken =
        text.replace("server.pem", "absent.pem").replace("server.key", "absent.key").replace("[limits]", "[limit]");
    let (code, stderr) = check_against(&environment, &text, &broken);
    let line = host::one_line(&stderr);
    assert!(code == Some(1) && line.contains("in-force.toml: hookgate cannot run with this file"), "{line}");
    assert!(line.contains("nothing to compare with: it has 3 errors, first ") && line.contains("--against"), "{line}");
}

#[test]
fn what_a_change_demands_less_has_the_line_of_its_section() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let weaker = text.replace("signature.secrets", "proof = \"certificate\" #");
    let (code, stderr) = check_against(&environment, &weaker, &text);
    // The header stands above the name.
    let line = line_of(&weaker, "name = \"pagerduty\"") - 1;
    let words = format!("checked.toml:{line}: demands less: provider pagerduty: ");
    assert!(code == Some(1) && stderr.contains(&words), "{words}: {stderr}");
}

/// What this kernel confines, a reload cannot loosen.
#[test]
fn what_a_reload_cannot_apply_has_the_line_of_its_section() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let at_port = |port: u16| {
        let route = format!(
            "[[route]]\nname = \"port\"\npath = \"/port\"\nproviders = [\"pagerduty\"]\nhandler = \"http://127.0.0.1:{port}\"\n"
        );
        text.clone() + &route
    };
    let (old, new) = (at_port(18092), at_port(18093));
    let line = line_of(&new, "name = \"port\"") - 1;
    let words = format!("checked.toml:{line}: needs a restart: the handler http://127.0.0.1:18093 is at a port");
    let (code, stderr) = check_against(&environment, &new, &old);
    if code == Some(0) && !stderr.contains("needs a restart") {
        eprintln!("SKIPPED: to forbid to connect takes Landlock of Linux 6.7");
    } else {
        assert!(code == Some(1) && stderr.contains(&words), "{words}: {stderr}");
    }
    assert_eq!(check_against(&environment, &old, &old).0, Some(0));
    // The start of the filter is no part of a reload, which is not refused.
    let filter = "[filter]\nmode = \"monitor\"\ninterfaces = [\"lo\"]\n";
    let (code, stderr) = check_against(&environment, &(text.clone() + filter), &text);
    assert_eq!((code, stderr.contains("needs a restart")), (Some(0), false), "{stderr}");
    let other = filter.replace("\"lo\"", "\"eth0\"");
    let (code, stderr) = check_against(&environment, &(text.clone() + &other), &(text.clone() + filter));
    assert!(code == Some(1) && stderr.contains("needs a restart: `interfaces` cannot change"), "{stderr}");
}
