//! `docs/configuration.md` says what the code does.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::hmac;
use toml::Table;

use super::*;
use crate::config::preset::Presets;
use crate::config::proof::{DEFAULT_LEEWAY_SECONDS, DEFAULT_TOLERANCE_SECONDS, DEFAULT_WINDOW_SECONDS};
use crate::config::strength::Comparison;
use crate::config::{DEFAULT_BACKLOG, DEFAULT_VERIFY_DEPTH, FetchLimits, LogSection, anchor};
use hookgate_core::auth::testing::{Request, reason};
use hookgate_core::auth::{KeySets, ReplayGuard};
use hookgate_core::limits::Limits;
use hookgate_filter::Policy;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    fs::read_to_string(path).unwrap()
}

/// The TOML blocks of the page.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// The cells of the table row that begins with `key`.
fn row(page: &str, key: &str) -> Vec<String> {
    let start = format!("| `{key}` |");
    let line = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row for {key}"));
    line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// A block together with the sections that it lacks.
fn complete(block: &str) -> String {
    // The directories of the host.
    let block = &block.replace("/usr/share/hookgate/presets", "presets").replace("/etc/hookgate/", "");
    let table: Table = block.parse().unwrap();
    let provider = table.get("provider").map(|providers| providers[0]["name"].as_str().unwrap().to_owned());
    let route = ROUTE.replace("[\"pagerduty\"]", &format!("[\"{}\"]", provider.unwrap_or("pagerduty".to_owned())));
    let sections =
        [("listen", LISTEN), ("certificate", CERTIFICATE), ("provider", PROVIDER), ("route", route.as_str())];
    let missing = sections.iter().filter(|(section, _)| !table.contains_key(*section)).map(|(_, text)| *text);
    std::iter::once(block.as_str()).chain(missing).collect()
}

/// The key of the example of sendgrid-python, `test/unit/test_eventwebhook.py`.
const SENDGRID_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";

/// A fixture with the files that the examples name.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    for (name, as_name) in [("ca.pem", "meta-ca.pem"), ("ca.pem", "billing-ca.pem"), ("list.crl", "meta-ca.crl")] {
        fs::copy(fixture.path(name), fixture.path(as_name)).unwrap();
    }
    for name in ["relay-ca.pem", "slack-ca.pem"] {
        fs::copy(fixture.path("ca.pem"), fixture.path(name)).unwrap();
    }
    fs::copy(fixture.path("list.crl"), fixture.path("DigiCertSHA2AssuredIDCA.crl")).unwrap();
    for name in [
        "pagerduty",
        "pagerduty-new",
        "session",
        "github",
        "meta-app",
        "slack",
        "stripe",
        "square",
        "gitlab",
        "gitlab-new",
        "alertmanager",
    ] {
        fixture.write(&format!("{name}.secret"), "secret\n");
    }
    for name in ["tickets", "tickets-new"] {
        fixture.write(&format!("{name}.secret"), &format!("{name:-<64}"));
    }
    fixture.write("sendgrid.key", SENDGRID_KEY);
    fixture.write("discord.key", "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8\n");
    fixture.write("billing.whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    fixture.write("credentials/github-new", "secret");
    fixture.write("pagerduty-us.json", "[\"192.0.2.10\"]");
    fixture.write("goog.json", "{\"prefixes\": [{\"ipv4Prefix\": \"192.0.2.0/24\"}]}");
    fixture.write("cloud.json", "{\"prefixes\": [{\"ipv4Prefix\": \"192.0.2.0/25\"}]}");
    for directory in ["presets", "presets.d"] {
        fs::create_dir(fixture.path(directory)).unwrap();
    }
    for directory in ["other.example.net", "hooks.example.com"] {
        fs::create_dir(fixture.path(directory)).unwrap();
        for name in ["fullchain.pem", "privkey.pem"] {
            fs::copy(fixture.path(name), fixture.path(&format!("{directory}/{name}"))).unwrap();
        }
    }
    fixture
}

/// And a reload that changes nothing is no weaker.
#[test]
fn every_example_parses() {
    let fixture = fixture();
    let blocks = blocks(&page());
    assert!(blocks.len() >= 20, "only {} examples", blocks.len());
    for block in blocks {
        let load = || fixture.good(&complete(&block).replace("/etc/letsencrypt/live/", "")).strength;
        assert_eq!(load().compare(&load()), Comparison::NotWeaker, "{block}");
        let reloaded = load().after(load()).after(load());
        assert_eq!(reloaded.compare(&load()), Comparison::NotWeaker, "{block}");
    }
}

#[test]
fn every_preset_and_every_root_is_on_the_page() {
    let page = page();
    for preset in Presets::compiled_in().usable() {
        let profiles: Vec<String> = preset.profile_names().map(|name| format!("`{name}`")).collect();
        let expected = if preset.has_certificate() { profiles.join(", ") } else { "`no certificate`".to_owned() };
        assert_eq!(format!("`{}`", row(&page, preset.name())[1]), expected, "{}", preset.name());
    }
    for (name, _) in anchor::ROOTS {
        assert!(page.contains(&format!("`builtin:{name}`")), "no word of builtin:{name}");
    }
}

/// Sets one key to one number in an otherwise minimal configuration.
fn with_limit(fixture: &Fixture, key: &str, value: u64) -> Result<Limits, ConfigErrors> {
    // max_buffered_bytes must not be less than max_body_bytes.
    let room = match key {
        "max_body_bytes" => "max_buffered_bytes = 1099511627776\n",
        "max_buffered_bytes" => "max_body_bytes = 1\n",
        _ => "",
    };
    let text = format!("{}[limits]\n{room}{key} = {value}\n", minimal());
    fixture.parse(&text).map(|(config, _)| config.limits)
}

#[test]
fn every_limit_has_the_default_and_the_bounds_that_the_page_says() {
    let page = page();
    let table = page.split("## `[limits]`").nth(1).unwrap().split("```toml").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let keys: Vec<&str> = rows.map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 25, "one row for each field of Limits");
    let fixture = Fixture::new();
    for key in keys {
        let cells = row(table, key);
        let number = |cell: usize| -> u64 { cells[cell].parse().unwrap() };
        let (default, minimum, maximum) = (number(1), number(2), number(3));
        let said = with_limit(&fixture, key, default).unwrap();
        // `with_limit` sets the other key of these two.
        let expected = match key {
            "max_body_bytes" => Limits { max_buffered_bytes: said.max_buffered_bytes, ..Limits::default() },
            "max_buffered_bytes" => Limits { max_body_bytes: said.max_body_bytes, ..Limits::default() },
            _ => Limits::default(),
        };
        assert_eq!(said, expected, "the default of {key}");
        for (value, good) in [(minimum, true), (maximum, true), (maximum + 1, false)] {
            assert_eq!(with_limit(&fixture, key, value).is_ok(), good, "{key} = {value}");
        }
        if minimum > 0 {
            assert!(with_limit(&fixture, key, minimum - 1).is_err(), "{key} = {}", minimum - 1);
        }
    }
}

#[test]
fn other_defaults_are_the_ones_that_the_page_says() {
    let page = page();
    assert_eq!(row(&page, "backlog")[2], DEFAULT_BACKLOG.to_string());
    let log = LogSection::default();
    assert_eq!(row(&page, "access_per_s")[2], log.access_per_second.to_string());
    assert_eq!(row(&page, "access_sample")[2], log.access.sample.to_string());
    assert_eq!(row(&page, "verify_depth")[2], DEFAULT_VERIFY_DEPTH.to_string());
    assert_eq!(row(&page, "tolerance_s")[2], DEFAULT_TOLERANCE_SECONDS.to_string());
    assert_eq!(row(&page, "leeway_s")[2], DEFAULT_LEEWAY_SECONDS.to_string());
    assert_eq!(row(&page, "window_s")[2], DEFAULT_WINDOW_SECONDS.to_string());
    let policy = Policy::default();
    assert_eq!(row(&page, "largest_shrink_percent")[2], (policy.largest_shrink * 100.0).to_string());
    assert_eq!(row(&page, "max_ranges_ipv4")[2], policy.limits.ranges_ipv4.to_string());
    assert_eq!(row(&page, "max_ranges_ipv6")[2], policy.limits.ranges_ipv6.to_string());
    assert_eq!(row(&page, "max_syn_buckets")[2], policy.limits.syn_buckets.to_string());
    let limits = FetchLimits::default();
    let page = page.split("## `[[key_source]]`").nth(1).unwrap();
    assert_eq!(row(page, "timeout_ms")[2], limits.timeout.as_millis().to_string());
    assert_eq!(row(page, "max_bytes")[2], limits.max_bytes.to_string());
    assert_eq!(row(page, "max_stale_s")[2], limits.max_stale.as_secs().to_string());
}

/// Every key that the parser lists for a section is on the page.
#[test]
fn every_key_has_a_row() {
    let page = page();
    let fixture = Fixture::new();
    let sections = [
        "[[key_source]]\n",
        "[[provider]]\n[provider.replay]\n",
        "[[provider]]\n[provider.token]\n",
        "[[provider]]\n[provider.session_parameter]\n",
        "[[provider]]\n[provider.signature]\n",
        "[[provider]]\n[provider.secret]\n",
        "[[provider]]\n[provider.basic]\n",
        "",
        "[presets]\n",
        "[listen]\n",
        "[listen]\n[listen.proxy_protocol]\n",
        "[[certificate]]\n",
        "[[provider]]\n",
        "[[provider]]\n[[provider.profile]]\n",
        "[[route]]\n",
        "[limits]\n",
        "[metrics]\n",
        "[admin]\n",
        "[log]\n",
        "[state]\n",
        "[problem]\n",
        "[tls]\n",
        "[tickets]\n",
        "[filter]\n",
        "[filter]\n[filter.syn_ipv4_address]\n",
    ];
    let mut keys = 0;
    for section in sections.into_iter().chain([
        "[[provider]]\nidentity = [{ zzz = 1 }]\n",
        "[[provider]]\nsignature.secrets = [{ zzz = 1 }]\n",
        "[tickets]\nsecrets = [{ zzz = 1 }]\n",
        "[[provider]]\nsignature.keys = [{ zzz = 1 }]\n",
        "[[provider]]\nsource_range_files = [{ zzz = 1 }]\n",
        "[[provider]]\nsource_range_urls = [{ zzz = 1 }]\n",
        "[[provider]]\ncrl_urls = [{ zzz = 1 }]\n",
        "[[provider]]\ncrls = { zzz = 1 }\n",
        "[[certificate]]\nacme = { zzz = 1 }\n",
        "[[certificate]]\nacme = { eab = { zzz = 1 } }\n",
    ]) {
        let errors = fixture.errors(&format!("{section}zzz = 1\n"));
        let known = errors.iter().filter_map(|error| error.split_once("this table takes ").map(|(_, known)| known));
        for key in known.flat_map(|known| known.split(", ")) {
            keys += 1;
            // Profile tables have a paragraph of their own, and the parts of a preset's proof a row of their own.
            let is_section = section.is_empty() && page.contains(&format!("[{key}]"));
            if !is_section && !["profile", "token", "session_parameter", "signature", "secret", "basic"].contains(&key)
            {
                row(&page, key);
            }
        }
    }
    assert!(keys >= 134, "only {keys} keys: has the parser stopped listing them?");
}

/// The examples of proofs accept the examples that the senders publish, or requests made by their description.
#[test]
fn the_examples_of_proofs_take_what_the_senders_send() {
    let fixture = fixture();
    let page = page();
    let tag = |message: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
    };
    let check = |provider: &str, (file, secret): (&str, &str), headers: &[(&str, &str)], body: &str, time: u64| {
        fixture.write(file, secret);
        let name = format!("name = \"{provider}\"\n");
        let block = blocks(&page).into_iter().find(|block| block.contains(&name) && block.contains("proof.signature"));
        let config = fixture.good(&complete(&block.unwrap_or_else(|| panic!("no example of {provider}"))));
        let judge = |headers: &[(&str, &str)]| {
            let request = Request::new(headers, body).at(time);
            let guard = Arc::new(ReplayGuard::new(8));
            reason(config.proofs.providers[0].check(&request.view(), &KeySets::default(), &guard))
        };
        assert_eq!(judge(headers), "ok", "{provider}");
        assert_eq!(judge(&[]), "signature_missing", "{provider}");
    };
    // GitHub documentation, "Validating webhook deliveries".
    let github = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("x-hub-signature-256", github), ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")];
    let secret = "It's a Secret to Everybody";
    check("github-relay", ("github.secret", secret), &headers, "Hello, World!", 0);
    check("meta", ("meta-app.secret", secret), &headers, "Hello, World!", 0);
    let signature = format!("v0={}", tag("v0:1531420618:a=b"));
    let headers = [("x-slack-request-timestamp", "1531420618"), ("x-slack-signature", &signature)];
    check("slack", ("slack.secret", SECRET), &headers, "a=b", 1_531_420_918);
    let signature = format!("t=1492774577,v1={},v0={}", tag("1492774577.{\"id\":\"evt_1\"}"), "6".repeat(64));
    check(
        "stripe-relay",
        ("stripe.secret", SECRET),
        &[("stripe-signature", &signature)],
        "{\"id\":\"evt_1\"}",
        1_492_774_577,
    );
    // Standard Webhooks, the vector of its reference libraries.
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let secret = ("billing.whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    check("billing", secret, &headers, r#"{"test": 2432232314}"#, 1_614_265_330);
    // The example of sendgrid-python, whose body ends with a line break that counts.
    let body = "[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n";
    let signature = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    let headers = [
        ("x-twilio-email-event-webhook-signature", signature),
        ("x-twilio-email-event-webhook-timestamp", "1600112502"),
    ];
    check("sendgrid-relay", ("sendgrid.key", SENDGRID_KEY), &headers, body, 1_600_112_502);
    // Computed with OpenSSL.
    let event = "{\"id\":\"evt_1\",\"n\":1}";
    let key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
    let signature = "b1644a24336e5db810885385cd6327111eb612abeaf117726232e4fb91a005252c477a5a073b65092b8580c32e70ebbd9b19e40fd7b2fc2c02e257eb8a989c0b";
    let headers = [("x-signature-ed25519", signature), ("x-signature-timestamp", "1700000000")];
    check("discord-relay", ("discord.key", key), &headers, event, 1_700_000_000);
    let headers = [("x-square-hmacsha256-signature", "LEPZPM0OcCSk8+QXioQtQkCaI97lrg/NKr3vb+9I0NU=")];
    check("square-relay", ("square.secret", "sq-key"), &headers, event, 0);
}
