//! Good configurations: the parsed values.

use std::net::SocketAddr;

use hyper::Method;

use super::*;
use crate::access::{Access, AccessRules};
use crate::config::{
    Admin, AdminAddress, DEFAULT_BACKLOG, DEFAULT_VERIFY_DEPTH, Listen, LogFormat, LogSection, Metrics,
};
use hookgate_core::identity::revocation::{AwaitedLists, RevocationScope};
use hookgate_core::identity::rule::{Condition, IdentityRule};
use hookgate_core::identity::{ExtendedKeyUsage, OnFailure, Provider, ProviderId, RefusalAnswer};
use hookgate_core::limits::Limits;
use hookgate_core::ranges::Ranges;
use hookgate_core::route::{ClientCert, Handler, Handlers, HostPattern, PathPattern};
use hookgate_io::Backend;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rule(conditions: &[Condition]) -> IdentityRule {
    IdentityRule::new(conditions.to_vec()).unwrap()
}

fn profile_names(provider: &Provider) -> Vec<&str> {
    provider.profiles.iter().map(|profile| profile.name.as_ref()).collect()
}

#[test]
fn missing_keys_have_their_defaults() {
    let config = Fixture::new().good(&minimal());
    let addresses = vec![address("127.0.0.1:0")];
    assert_eq!(config.listen, Listen { addresses, workers: 0, io: None, backlog: DEFAULT_BACKLOG });
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.metrics, None);
    let [route] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(route.name.as_ref(), "/pagerduty");
    assert_eq!(route.host, HostPattern::Every);
    assert_eq!(route.path, PathPattern::Exact("/pagerduty".into()));
    assert_eq!(route.methods, [Method::POST]);
    assert_eq!(route.providers, [ProviderId(0)]);
    assert_eq!(route.handlers(), Some(&Handlers::new(Handler::unix("/run/app/pagerduty.sock"), [])));
    assert_eq!(route.client_cert, ClientCert::EndEntity);
    let [provider] = config.providers.as_slice() else { panic!("{:?}", config.providers) };
    assert_eq!(provider.on_failure, OnFailure::Respond);
}

#[test]
fn the_proxies_are_those_that_are_listed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.good(&minimal()).proxies, Ranges::default());
    let from = "proxy_protocol = { from = [\"10.0.1.0/24\", \"10.0.0.0/24\", \"::ffff:192.0.2.7\"] }\n";
    let config = fixture.good(&minimal().replacen(LISTEN, &format!("{LISTEN}{from}"), 1));
    let expected = ["10.0.0.0/23", "192.0.2.7/32"].map(|range| range.parse().unwrap());
    assert_eq!(config.proxies, Ranges::new(&expected));
}

#[test]
fn the_answer_to_a_refusal_is_the_operators_or_else_the_presets() {
    let check = |preset: &str, lines: &str, expected: RefusalAnswer| {
        let mine = format!("preset = \"{preset}\"\nproof = \"certificate\"\n{lines}");
        let provider = format!("[[provider]]\nname = \"pagerduty\"\n{mine}\n");
        let config = Fixture::new().good(&[LISTEN, CERTIFICATE, &provider, ROUTE].concat());
        assert_eq!(config.providers[0].refusal, expected, "{mine}");
    };
    check("pagerduty", "", RefusalAnswer::Retry);
    check("pagerduty", "refusal = \"deny\"", RefusalAnswer::Deny);
    check("pagerduty", "refusal = \"terse\"", RefusalAnswer::Terse);
    check("pagerduty", "on_failure = \"abort\"", RefusalAnswer::Deny);
    check("pagerduty", "on_failure = \"abort\"\nrefusal = \"retry\"", RefusalAnswer::Retry);
    // What their senders do after 503 is not documented, or they want a helpful 403.
    ["dialogflow-cx", "dialogflow-es", "percolate"].iter().for_each(|preset| check(preset, "", RefusalAnswer::Deny));
}

#[test]
fn every_key_can_be_written() {
    let listen =
        "[listen]\naddresses = [\"0.0.0.0:443\", \"[::]:443\"]\nworkers = 4\nio = \"io_uring\"\nbacklog = 128\n";
    let route = "[[route]]\nname = \"pages\"\nhost = \"Hooks.Example.com\"\npath = \"/pagerduty/*\"\nmethods = [\"POST\", \"PUT\"]\n\
                 providers = [\"percolate\", \"pagerduty\", \"percolate\"]\nhandler = \"unix:/run/app/p.sock\"\nclient_cert_chain = true\n";
    let percolate = "[[provider]]\nname = \"percolate\"\npreset = \"percolate\"\non_failure = \"abort\"\n";
    let metrics = "[metrics]\nlisten = \"[::1]:9464\"\n";
    let admin = "[admin]\nlisten = \"unix:/run/hookgate/admin.sock\"\n";
    let config = Fixture::new().good(&[listen, CERTIFICATE, PROVIDER, percolate, route, metrics, admin].concat());
    let addresses = vec![address("0.0.0.0:443"), address("[::]:443")];
    assert_eq!(config.listen, Listen { addresses, workers: 4, io: Some(Backend::TokioUring), backlog: 128 });
    assert_eq!(config.metrics, Some(Metrics { listen: address("[::1]:9464") }));
    assert_eq!(config.admin, Some(Admin { listen: AdminAddress::Unix("/run/hookgate/admin.sock".into()) }));
    for listen in ["127.0.0.1:9465", "127.8.8.8:9465", "[::1]:9465"] {
        let config = Fixture::new().good(&format!("{}[admin]\nlisten = \"{listen}\"\n", minimal()));
        assert_eq!(config.admin, Some(Admin { listen: AdminAddress::Loopback(address(listen)) }));
    }
    let route = &config.routes[0];
    assert_eq!(route.name.as_ref(), "pages");
    assert_eq!(route.host.as_str(), Some("hooks.example.com"));
    assert_eq!(route.path, PathPattern::Prefix("/pagerduty/".into()));
    assert_eq!(route.methods, [Method::POST, Method::PUT]);
    assert_eq!(route.providers, [ProviderId(0), ProviderId(1)]);
    assert_eq!(route.client_cert, ClientCert::Chain);
    let withheld = Fixture::new().good(&(minimal() + "client_cert = false\n"));
    assert_eq!(withheld.routes[0].client_cert, ClientCert::Withheld);
    assert_eq!(config.providers[1].on_failure, OnFailure::Abort);
}

#[test]
fn every_limit_reaches_its_field() {
    let text = "[limits]\nmax_connections = 1\nhandshake_timeout_ms = 2\nrequest_head_timeout_ms = 3\nrequest_timeout_ms = 4\n\
                handler_timeout_ms = 5\nresponse_timeout_ms = 6\nidle_timeout_ms = 7\ndrain_timeout_ms = 8\n\
                max_head_bytes = 8192\nmax_headers = 10\nmax_body_bytes = 11\nmax_buffered_bytes = 12\n\
                max_unadmitted_bytes = 1048577\nmax_failed_handshakes_per_source_per_s = 7\n\
                max_presented_certificates = 13\nmax_presented_bytes = 1024\nchain_cache_entries = 15\n\
                chain_cache_ttl_s = 16\nhandler_max_in_flight = 17\nhandler_max_waiting = 18\n\
                handler_idle_connections = 19\nhandler_idle_timeout_ms = 20\nreplay_entries = 21\n\
                max_answer_buffer_bytes = 22\nmax_buffered_answer_bytes = 23\n";
    let expected = Limits {
        max_connections: 1,
        handshake_timeout: Duration::from_millis(2),
        request_head_timeout: Duration::from_millis(3),
        request_timeout: Duration::from_millis(4),
        handler_timeout: Duration::from_millis(5),
        response_timeout: Duration::from_millis(6),
        idle_timeout: Duration::from_millis(7),
        drain_timeout: Duration::from_millis(8),
        max_head_bytes: 8192,
        max_headers: 10,
        max_body_bytes: 11,
        max_buffered_bytes: 12,
        max_unadmitted_bytes: 1_048_577,
        max_failed_handshakes_per_source_per_s: 7,
        max_presented_certificates: 13,
        max_presented_bytes: 1024,
        chain_cache_entries: 15,
        chain_cache_ttl: Duration::from_secs(16),
        handler_max_in_flight: 17,
        handler_max_waiting: 18,
        handler_idle_connections: 19,
        handler_idle_timeout: Duration::from_millis(20),
        replay_entries: 21,
        max_answer_buffer_bytes: 22,
        max_buffered_answer_bytes: 23,
    };
    assert_eq!(Fixture::new().good(&(minimal() + text)).limits, expected);
}

#[test]
fn log_is_read_with_its_defaults() {
    let fixture = Fixture::new();
    let log = |lines: &str| fixture.good(&format!("{}[log]\n{lines}\n", minimal())).log;
    let default = LogSection::default();
    assert_eq!((log(""), fixture.good(&minimal()).log), (default.clone(), default.clone()));
    let rules = AccessRules { access: Access::All, sample: 1, path: true };
    assert_eq!((default.format, default.levels, default.access, default.access_per_second), (None, None, rules, 100));
    for (value, access) in [("true", Access::All), ("false", Access::Off), ("\"refused\"", Access::Refused)] {
        assert_eq!(log(&format!("access = {value}")).access, AccessRules { access, ..rules }, "{value}");
    }
    for (word, format) in [("text", LogFormat::Text), ("json", LogFormat::Json), ("journal", LogFormat::Journal)] {
        assert_eq!(log(&format!("format = \"{word}\"")).format, Some(format));
    }
    let all = log("level = \"warn,rustls=off\"\naccess_per_s = 7\naccess_sample = 9\npath = false");
    let levels = all.levels.map(|levels| levels.to_string());
    assert_eq!((levels.as_deref(), all.access_per_second), (Some("warn,rustls=off"), 7));
    assert_eq!(all.access, AccessRules { access: Access::All, sample: 9, path: false });
}

#[test]
fn our_certificate_comes_with_its_names_and_key() {
    let fixture = Fixture::new();
    let config = fixture.good(&minimal());
    let [certificate] = config.certificates.as_slice() else { panic!("{:?}", config.certificates) };
    let files = certificate.of_files().unwrap();
    assert_eq!(files.chain.len(), 2);
    assert_eq!(files.names, ["hooks.example.com", "*.example.net"]);
    assert_eq!(files.chain_path, fixture.path("fullchain.pem"));
    assert!(!format!("{config:?}").contains("BEGIN"), "a key must not show in logs");
}

#[test]
fn openssl_keys_of_every_encoding_are_taken() {
    let fixture = Fixture::new();
    let openssl = |arguments: &[&str]| {
        let output =
            std::process::Command::new("openssl").args(arguments).current_dir(fixture.directory.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&["ec", "-in", "privkey.pem", "-out", "sec1.pem"]);
    let rsa =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rsa", "-keyout", "rsa.key", "-out", "rsa.pem"];
    openssl(&rsa);
    openssl(&["rsa", "-traditional", "-in", "rsa.key", "-out", "pkcs1.pem"]);
    for (chain, key, label) in [
        ("fullchain.pem", "privkey.pem", "BEGIN PRIVATE KEY"),
        ("fullchain.pem", "sec1.pem", "BEGIN EC PRIVATE KEY"),
        ("rsa.pem", "rsa.key", "BEGIN PRIVATE KEY"),
        ("rsa.pem", "pkcs1.pem", "BEGIN RSA PRIVATE KEY"),
    ] {
        assert!(fs::read_to_string(fixture.path(key)).unwrap().contains(label), "{key} is not {label}");
        fixture.good(&minimal().replace("fullchain.pem", chain).replace("privkey.pem", key));
    }
}

#[test]
fn a_provider_needs_no_preset() {
    let text = minimal().replace(
        "preset = \"pagerduty\"\n",
        "trust_anchors = [\"ca.pem\", \"builtin:GTS_Root_R1\"]\n\
         identity = [{ subject_cn = \"a\", san_dns = \"b.example.com\" }, { subject = \"/C=US/CN=c\" }]\n\
         extended_key_usage = \"client-auth-explicit\"\ncrls = [\"list.crl\", \"list.pem\"]\ncrl_scope = \"end-entity\"\n",
    );
    let config = Fixture::new().good(&text);
    let [profile] = config.providers[0].profiles.as_slice() else { panic!("{:?}", config.providers) };
    assert_eq!(profile.name.as_ref(), "default");
    assert_eq!(profile.trust_anchors.len(), 2);
    assert_eq!(profile.verify_depth, DEFAULT_VERIFY_DEPTH);
    let both = [Condition::subject_cn("a").unwrap(), Condition::san_dns("b.example.com").unwrap()];
    assert_eq!(profile.identity, [rule(&both), rule(&[Condition::subject("/C=US/CN=c").unwrap()])]);
    assert_eq!(profile.extended_key_usage, ExtendedKeyUsage::ClientAuthExplicit);
    let revocation = profile.revocation.as_ref().unwrap();
    assert_eq!((revocation.lists().len(), revocation.scope()), (2, RevocationScope::EndEntity));
}

#[test]
fn revocation_lists_come_from_files_urls_and_certificates() {
    let fixture = Fixture::new();
    let profile = |lines: &str| {
        let text = "trust_anchors = [\"bundle.pem\"]\nidentity = [{ subject_cn = \"a\" }]\n".to_owned() + lines;
        let mut config = fixture.good(&minimal().replace("preset = \"pagerduty\"\n", &text));
        let (profile, fetched) = (config.providers[0].profiles.remove(0), config.fetched_lists[0].remove(0));
        (profile.revocation, fetched)
    };
    assert!(matches!(profile(""), (None, fetched) if !fetched.any()));
    assert!(matches!(profile("crls = []\n"), (None, _)));
    let (revocation, fetched) = profile(
        "crls = [\"list.pem\"]\ncrl_urls = [\"http://a.example/b.crl\", { url = \"https://c.example/\", \
         ca_file = \"ca.pem\", allow_private = true, timeout_ms = 5, max_bytes = 300 }]\n",
    );
    let revocation = revocation.unwrap();
    assert_eq!((revocation.lists().len(), fetched.intermediates.len()), (1, 1));
    let awaited = AwaitedLists { from_urls: true, incomplete: true, from_certificates: false };
    assert_eq!((revocation.awaited(), fetched.from_certificates), (awaited, None));
    let [plain, tls] = fetched.urls.as_slice() else { panic!("{fetched:?}") };
    assert_eq!(
        (plain.name().as_str(), plain.limits.allow_private, plain.roots.is_none()),
        ("http://a.example/b.crl", false, true)
    );
    assert_eq!((plain.limits.max_bytes, plain.limits.redirects), (8 * 1024 * 1024, 3));
    let bounds = (tls.limits.timeout.as_millis(), tls.limits.max_bytes, tls.limits.allow_private);
    assert_eq!((bounds, tls.roots.as_ref().map(Vec::len)), ((5, 300, true), Some(1)));
    for (line, max_bytes) in [
        ("crls = \"from-certificates\"\n", 8 * 1024 * 1024),
        ("crls = { from = \"certificates\", max_bytes = 4096 }\n", 4096),
    ] {
        let (revocation, fetched) = profile(line);
        let awaited = AwaitedLists { from_certificates: true, ..AwaitedLists::default() };
        assert_eq!(revocation.unwrap().awaited(), awaited);
        assert_eq!(fetched.from_certificates.unwrap().max_bytes, max_bytes);
    }
    // The provider's own key replaces that of its profiles.
    let text = "crl_urls = [\"http://own.example/\"]\n[[provider.profile]]\nname = \"a\"\n\
                trust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"a\" }]\ncrl_urls = [\"http://b.example/\"]\n";
    let config = fixture.good(&minimal().replace("preset = \"pagerduty\"\n", text));
    assert_eq!(config.fetched_lists[0][0].urls[0].name(), "http://own.example/");
}

#[test]
fn profiles_pair_their_own_anchors_with_their_own_identity() {
    let text = minimal().replace(
        "preset = \"pagerduty\"\n",
        "verify_depth = 4\n\
         [[provider.profile]]\nname = \"old\"\ntrust_anchors = [\"ca.pem\"]\nidentity = [{ subject_cn = \"old\" }]\n\
         [[provider.profile]]\nname = \"new\"\nuntil = 2030-01-01\nverify_depth = 3\n\
         trust_anchors = [\"builtin:GTS_Root_R1\", \"builtin:GTS_Root_R2\"]\nidentity = [{ subject_cn = \"new\" }]\n",
    );
    let config = Fixture::new().good(&text);
    let [old, new] = config.providers[0].profiles.as_slice() else { panic!("{:?}", config.providers) };
    assert_eq!((old.name.as_ref(), old.trust_anchors.len()), ("old", 1));
    assert_eq!(old.identity, [rule(&[Condition::subject_cn("old").unwrap()])]);
    assert_eq!((new.name.as_ref(), new.trust_anchors.len()), ("new", 2));
    assert_eq!(new.identity, [rule(&[Condition::subject_cn("new").unwrap()])]);
    assert_eq!((old.verify_depth, new.verify_depth), (4, 4), "the provider's own field replaces those of its profiles");
}

#[test]
fn profile_tables_beside_a_preset_are_added_to_its_profiles() {
    let fixture = Fixture::new();
    let table = "[[provider.profile]]\nname = \"rotated\"\ntrust_anchors = [\"ca.pem\"]\nverify_depth = 1\n\
                 identity = [{ subject_cn = \"webhooks.pagerduty.com\" }]\n";
    let with = |lines: &str| {
        let text = [LISTEN, CERTIFICATE, ROUTE, PROVIDER, lines, table].concat();
        fixture.good(&text).providers.remove(0)
    };
    let original = fixture.good(&minimal()).providers.remove(0);
    let provider = with("");
    let shown = |profiles: &[_]| format!("{profiles:?}");
    assert_eq!(shown(&provider.profiles[..2]), shown(&original.profiles), "those of the preset stay as they are");
    let added = &provider.profiles[2];
    assert_eq!((added.name.as_ref(), added.trust_anchors.len(), added.verify_depth), ("rotated", 1, 1));
    assert_eq!(added.identity, [rule(&[Condition::subject_cn("webhooks.pagerduty.com").unwrap()])]);
    // `profiles` chooses among those of the preset; a key of the provider replaces that of every profile.
    let chosen = with("profiles = [\"digicert-global-root-g2\"]\nextended_key_usage = \"ignore\"\n");
    assert_eq!(profile_names(&chosen), ["digicert-global-root-g2", "rotated"]);
    assert!(chosen.profiles.iter().all(|profile| profile.extended_key_usage == ExtendedKeyUsage::Ignore));
    // A preset without profiles has none beside them.
    let github = "[[provider]]\nname = \"pagerduty\"\npreset = \"github\"\nclient_certificate = \"required\"\n\
                  signature.secrets = [{ file = \"webhook.secret\" }]\n";
    let own = fixture.good(&[LISTEN, CERTIFICATE, ROUTE, github, table].concat());
    assert_eq!(profile_names(&own.providers[0]), ["rotated"]);
}

#[test]
fn each_field_of_a_preset_can_be_replaced() {
    let fixture = Fixture::new();
    let original = fixture.good(&minimal());
    let replaced = |line: &str| fixture.good(&minimal().replace("preset =", &format!("{line}\npreset =")));
    let chosen = replaced("profiles = [\"digicert-global-root-g2\"]");
    assert_eq!(profile_names(&chosen.providers[0]), ["digicert-global-root-g2"]);
    // Each replaces its own field only.
    let both = profile_names(&original.providers[0]);
    let lines = [
        ("trust_anchors = [\"ca.pem\"]", "trust_anchors"),
        ("verify_depth = 5", "verify_depth"),
        ("identity = [{ subject_cn = \"x\" }]", "identity"),
        ("extended_key_usage = \"ignore\"", "extended_key_usage"),
        ("crls = [\"list.pem\"]", "revocation"),
    ];
    for (line, replaced_field) in lines {
        let config = replaced(line);
        assert_eq!(profile_names(&config.providers[0]), both);
        for (profile, before) in config.providers[0].profiles.iter().zip(&original.providers[0].profiles) {
            for (field, same) in [
                ("trust_anchors", profile.trust_anchors == before.trust_anchors),
                ("verify_depth", profile.verify_depth == before.verify_depth),
                ("identity", profile.identity == before.identity),
                ("extended_key_usage", profile.extended_key_usage == before.extended_key_usage),
                ("revocation", profile.revocation.is_some() == before.revocation.is_some()),
            ] {
                assert_eq!(same, field != replaced_field, "{line} and {field}");
            }
        }
    }
}

#[test]
fn the_issuer_in_a_bundle_is_the_anchor() {
    let fixture = Fixture::new();
    let anchors = |files: &str| -> Vec<Vec<u8>> {
        let lines = format!("trust_anchors = [{files}]\nidentity = [{{ subject_cn = \"x\" }}]\n");
        let config = fixture.good(&minimal().replace("preset = \"pagerduty\"\n", &lines));
        let anchors = &config.providers[0].profiles[0].trust_anchors;
        anchors.iter().map(|anchor| anchor.subject.to_vec()).collect()
    };
    let (root, intermediate) = (anchors("\"ca.pem\""), anchors("\"intermediate.pem\""));
    assert_eq!((root.len(), intermediate.len()), (1, 1), "an intermediate that is named alone is an anchor");
    assert_ne!(root, intermediate);
    assert_eq!(anchors("\"bundle.pem\""), root, "the intermediate of a bundle is none");
    assert_eq!(anchors("\"intermediate.pem\", \"ca.pem\", \"ca.pem\""), root, "whichever files they stand in");

    let key = KeyPair::generate().unwrap();
    let root = authority("Spelled Root").self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority("SPELLED  root"), key);
    let intermediate = authority("Below").signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    fixture.write("spelled.pem", &root.pem());
    fixture.write("below.pem", &format!("{}{}", intermediate.pem(), root.pem()));
    assert_eq!(anchors("\"below.pem\""), anchors("\"spelled.pem\""), "however the intermediate spells its issuer");

    // A root that was made anew: its intermediate is not below the root of the same name.
    let other = authority("Spelled Root").self_signed(&KeyPair::generate().unwrap()).unwrap();
    fixture.write("other.pem", &other.pem());
    fixture.write("alone.pem", &intermediate.pem());
    assert_eq!(anchors("\"other.pem\", \"alone.pem\"").len(), 2);
    assert_eq!(anchors("\"other.pem\", \"alone.pem\", \"spelled.pem\"").len(), 2, "with its issuer, it is below it");
}

#[test]
fn hosts_and_paths_are_taken_as_they_are_sent() {
    let fixture = Fixture::new();
    for (host, path, expected_host, expected_path) in [
        ("hooks", "/", "hooks", PathPattern::Exact("/".into())),
        ("192.0.2.1", "/*", "192.0.2.1", PathPattern::Prefix("/".into())),
        ("[2001:DB8::1]", "/a%20b/", "[2001:db8::1]", PathPattern::Exact("/a%20b/".into())),
        ("*.Example.com", "/a", "*.example.com", PathPattern::Exact("/a".into())),
        ("xn--exmple-cua.com", "/a/b/*", "xn--exmple-cua.com", PathPattern::Prefix("/a/b/".into())),
    ] {
        let text = minimal().replace("path = \"/pagerduty\"", &format!("host = \"{host}\"\npath = \"{path}\""));
        let config = fixture.good(&text);
        assert_eq!(config.routes[0].host, HostPattern::new(expected_host));
        assert_eq!(config.routes[0].path, expected_path);
        assert_eq!(config.routes[0].name.as_ref(), format!("{expected_host}{path}"));
    }
}

#[test]
fn distinct_methods_share_a_path() {
    let config = Fixture::new().good(&(minimal() + ROUTE + "methods = [\"PUT\"]\n"));
    assert_eq!(config.routes.len(), 2);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("conf")).unwrap();
    let text = minimal().replace("fullchain.pem", "../fullchain.pem").replace("privkey.pem", "../privkey.pem");
    fs::write(fixture.path("conf/hookgate.toml"), text).unwrap();
    let (config, _) = Config::load(&fixture.path("conf/hookgate.toml")).unwrap();
    assert_eq!(config.certificates[0].of_files().unwrap().chain_path, fixture.path("conf/../fullchain.pem"));
}
