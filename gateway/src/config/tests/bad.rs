//! Bad configurations: the line, the key and the message of each error.

use super::*;

/// Appends `section` to the minimal configuration without its section of the same name. Expects exactly one error, in this line
/// of `section`, at this key, with a message that contains `words`.
pub(super) fn check(section: &str, line: usize, key: &str, words: &str) {
    let fixture = Fixture::new();
    let header = section.lines().next().unwrap();
    let rest = [LISTEN, CERTIFICATE, PROVIDER, ROUTE].into_iter().filter(|other| !other.starts_with(header));
    let text = rest.chain([section]).collect::<String>();
    // The section is the last of the text, and the first of its name.
    let before = text.lines().count() - section.lines().count();
    let errors = fixture.errors(&text);
    let expected = format!("{}: {key}: ", before + line);
    assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
    assert!(errors[0].starts_with(&expected), "{text}\nexpected {expected}…\n{errors:#?}");
    assert!(errors[0].contains(words), "{text}\nexpected … {words} …\n{errors:#?}");
}

/// As [`check`], for an error without a line.
fn check_without_line(text: &str, expected: &str) {
    let errors = Fixture::new().errors(text);
    assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
    assert!(errors[0].trim_start().starts_with(expected), "{text}\nexpected {expected}…\n{errors:#?}");
}

#[test]
fn syntax_is_reported_with_its_line() {
    let errors = Fixture::new().errors("[listen]\naddresses = [\n\nworkers = = 1\n");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains(": not valid TOML: "), "{errors:#?}");
    let errors = Fixture::new().errors("[provider]\nname = \"a\"\n[[provider]]\nname = \"b\"\n");
    assert!(errors[0].contains("3: not valid TOML: the key provider is already in this table"), "{errors:#?}");
    let single = CERTIFICATE.replace("[[certificate]]", "[certificate]");
    let errors = Fixture::new().errors(&[LISTEN, &single, PROVIDER, ROUTE].concat());
    assert!(errors[0].contains("write [[certificate]] instead of [certificate]"), "{errors:#?}");
}

#[test]
fn missing_sections_are_named() {
    check_without_line(&[CERTIFICATE, PROVIDER, ROUTE].concat(), "listen: missing; write a [listen] section");
    check_without_line(&[LISTEN, PROVIDER, ROUTE].concat(), "certificate: missing; write a [[certificate]] section");
    check_without_line(&[LISTEN, CERTIFICATE, PROVIDER].concat(), "route: missing; write a [[route]] section");
}

#[test]
fn unreadable_files_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let errors = Config::load(&directory.path().join("absent.toml")).unwrap_err().to_string();
    assert!(errors.contains("absent.toml: the configuration cannot be read: No such file"), "{errors}");
    assert!(errors.contains("name another one with --config"), "{errors}");
    fs::write(directory.path().join("latin1.toml"), b"# \xe9\n").unwrap();
    let errors = Config::load(&directory.path().join("latin1.toml")).unwrap_err().to_string();
    assert!(errors.contains("latin1.toml: the configuration cannot be read: invalid utf-8"), "{errors}");
    fs::write(directory.path().join("large.toml"), vec![b'#'; 4 * 1024 * 1024 + 1]).unwrap();
    let errors = Config::load(&directory.path().join("large.toml")).unwrap_err().to_string();
    assert!(errors.contains("larger than 4194304 bytes"), "{errors}");
}

#[test]
fn unknown_keys_and_wrong_types_are_refused() {
    check("[limit]\n", 1, "limit", "did you mean \"limits\"?");
    check("[limits]\nmax_conections = 5\n", 2, "limits.max_conections", "did you mean \"max_connections\"?");
    check(
        "[limits]\nxyz = 5\n",
        2,
        "limits.xyz",
        "unknown key; this table takes max_connections, handshake_timeout_ms",
    );
    check(
        "[limits]\nmax_connections = \"5\"\n",
        2,
        "limits.max_connections",
        "expected an integer (no quotes, no unit)",
    );
    check("[[limits]]\nmax_connections = 5\n", 1, "limits[0]", "write [limits] instead of [[limits]]");
    check(
        "[listen]\nreload = \"watch\"\naddresses = [\"[::]:443\"]\n",
        2,
        "listen.reload",
        "before the first [section]",
    );
    check("[listen]\naddresses = [\"[::]:443\"]\n[metrics.listen]\n", 3, "metrics.listen", "expected a string");
    check("[listen]\naddresses = \"0.0.0.0:443\"\n", 2, "listen.addresses", "expected an array (in brackets)");
    check("[listen]\naddresses = [443]\n", 2, "listen.addresses[0]", "expected a string");
    check(
        "[listen]\naddresses = [\"[::]:443\"]\nio = \"uring\"\n",
        3,
        "listen.io",
        "\"auto\", \"io_uring\", \"io_uring_direct\", \"epoll\"",
    );
    let provider = |line: &str| format!("{PROVIDER}{line}\n");
    check(&provider("identity = [{ subject_cm = \"x\" }]"), 5, "provider[0].identity[0].subject_cm", "\"subject_cn\"?");
    check(&provider("identity = { subject_cn = \"x\" }"), 5, "provider[0].identity", "expected an array");
    check(&provider("identity = [\n  \"x\",\n]"), 6, "provider[0].identity[0]", "write { subject_cn = ");
    check(&provider("identity = [[\"x\"]]"), 5, "provider[0].identity[0]", "invalid type: array, expected a table");
    check(&provider("on_failure = \"drop\""), 5, "provider[0].on_failure", "\"respond\" or \"abort\"");
    check(&provider("refusal = \"503\""), 5, "provider[0].refusal", "\"retry\"");
    check(&provider("extended_key_usage = \"any\""), 5, "provider[0].extended_key_usage", "client-auth-explicit");
    check(&provider("crl_scope = \"leaf\""), 5, "provider[0].crl_scope", "\"chain\" or \"end-entity\"");
    check(&provider("[provider.profiles]\n"), 5, "provider[0].profiles", "expected an array");
}

#[test]
fn a_key_of_another_section_names_it() {
    let http2 = "this key belongs to [listen]; write http2 = true there";
    check("[tls]\nhttp2 = true\n", 2, "tls.http2", http2);
    check("[http2]\n", 1, "http2", http2);
    check(&format!("{ROUTE}http2 = true\n"), 5, "route[0].http2", http2);
    check("[acme]\ndomains = [\"a.example\"]\n", 1, "acme", "belongs to [[certificate]]; write acme = { domains = [");
    check("[limits]\nkey_exchange = []\n", 2, "limits.key_exchange", "belongs to [tls]; write key_exchange = [");
    check("[tls]\nproxy_protocol = {}\n", 2, "tls.proxy_protocol", "belongs to [listen]; write proxy_protocol = {");
}

#[test]
fn a_route_has_one_host() {
    let route = ROUTE.replace("[[route]]\n", "[[route]]\nhost = [\"a.example\", \"b.example\"]\n");
    check(&route, 2, "route[0].host", "expected a string (in quotes); write a [[route]] for each host, or no host for");
}

#[test]
fn log_is_checked() {
    let check = |line: &str, key: &str, part: &str| check(&format!("[log]\n{line}\n"), 2, &format!("log.{key}"), part);
    check("level = \"verbose\"", "level", "\"verbose\" is no level; write off, error, warn, info, debug or trace");
    check("level = \"\"", "level", "\"\" is no level");
    check("level = 3", "level", "expected a string");
    check("format = \"xml\"", "format", "\"text\", \"json\", \"journal\"");
    for access in ["\"none\"", "\"true\"", "1", "[]"] {
        check(&format!("access = {access}"), "access", "write true, false or \"refused\"");
    }
    check("access_per_s = 0", "access_per_s", "from 1 to 1000000");
    check("access_sample = 0", "access_sample", "from 1 to 1000000");
    check("path = \"full\"", "path", "expected true or false (no quotes)");
    check("acess = true", "acess", "did you mean \"access\"?");
}

#[test]
fn listen_is_checked() {
    let listen = |line: &str| format!("{LISTEN}{line}\n");
    check("[listen]\nworkers = 1\n", 1, "listen.addresses", "missing; write addresses = [");
    check("[listen]\naddresses = []\n", 2, "listen.addresses", "empty; write addresses = [");
    check(
        "[listen]\naddresses = [\"localhost:443\"]\n",
        2,
        "listen.addresses[0]",
        "write both, such as \"0.0.0.0:443\"",
    );
    check("[listen]\naddresses = [\"[::]:1\",\n\"[::]:1\"]\n", 3, "listen.addresses[1]", "[::]:1 is already in line");
    check(
        "[listen]\naddresses = [\"[::ffff:192.0.2.1]:443\"]\n",
        2,
        "listen.addresses[0]",
        "written as an IPv6 address; write \"192.0.2.1:443\"",
    );
    let many: Vec<String> = (1..=65).map(|port| format!("\"[::]:{port}\"")).collect();
    let many = format!("[listen]\naddresses = [{}]\n", many.join(","));
    check(&many, 2, "listen.addresses", "65 entries; write at most 64");
    check(&listen("workers = -1"), 3, "listen.workers", "-1 is out of bounds; write a number from 0 to 1024");
    check(&listen("workers = 1025"), 3, "listen.workers", "write a number from 0 to 1024");
    check(&listen("backlog = 0"), 3, "listen.backlog", "write a number from 1 to 65535");
    check("[metrics]\n", 1, "metrics.listen", "missing; write listen = \"127.0.0.1:9464\"");
    check("[metrics]\nlisten = \"9464\"\n", 2, "metrics.listen", "\"9464\" is not an IP address and port");
}

#[test]
fn metrics_take_no_address_of_ours() {
    let text = minimal().replace("127.0.0.1:0", "127.0.0.1:443") + "[metrics]\nlisten = \"127.0.0.1:443\"\n";
    let errors = Fixture::new().errors(&text);
    assert!(errors.len() == 1 && errors[0].contains("metrics.listen: 127.0.0.1:443 is an address of"), "{errors:#?}");
}

#[test]
fn the_admin_side_is_of_this_host_alone() {
    check("[admin]\n", 1, "admin.listen", "missing; write listen = \"unix:/run/hookgate/admin.sock\"");
    let check = |listen: &str, part: &str| {
        check(&format!("[admin]\nlisten = \"{listen}\"\n"), 2, "admin.listen", part);
    };
    for address in ["0.0.0.0:9465", "[::]:9465", "192.0.2.1:9465", "[2001:db8::1]:9465"] {
        check(address, &format!("other hosts can reach {address}"));
        check(address, "write \"unix:/run/hookgate/admin.sock\", or a loopback address");
    }
    check("localhost:9465", "is not an IP address and port");
    check("[::ffff:127.0.0.1]:9465", "write \"127.0.0.1:9465\"");
    check("9465", "is not an IP address and port");
    check("unix:admin.sock", "the path of the socket is not absolute");
    check("unix:/run/hookgate/", "ends with \"/\"");
    check(&format!("unix:/{}", "a".repeat(107)), "longer than 107 bytes");
}

#[test]
fn the_admin_side_takes_no_address_of_another_section() {
    let check = |text: String, part: &str| {
        let errors = Fixture::new().errors(&text);
        assert!(errors.len() == 1 && errors[0].contains(part), "{errors:#?}");
    };
    let admin = "[admin]\nlisten = \"127.0.0.1:443\"\n";
    check(
        minimal().replace("127.0.0.1:0", "127.0.0.1:443") + admin,
        "admin.listen: 127.0.0.1:443 is an address of [listen]",
    );
    let metrics = "[metrics]\nlisten = \"127.0.0.1:443\"\n";
    check(minimal() + metrics + admin, "admin.listen: 127.0.0.1:443 is an address of [metrics]");
}

#[test]
fn certificates_are_checked() {
    let both = |chain: &str, key: &str| format!("[[certificate]]\nchain = \"{chain}\"\nkey = \"{key}\"\n");
    check("[[certificate]]\nkey = \"privkey.pem\"\n", 1, "certificate[0].chain", "missing; write chain =");
    check("[[certificate]]\nchain = \"fullchain.pem\"\n", 1, "certificate[0].key", "missing; write key =");
    check(&both("absent.pem", "privkey.pem"), 2, "certificate[0].chain", "absent.pem cannot be read: No such file");
    check(
        &both("privkey.pem", "privkey.pem"),
        2,
        "certificate[0].chain",
        "(-----BEGIN CERTIFICATE-----); name the file",
    );
    check(&both("fullchain.pem", "fullchain.pem"), 3, "certificate[0].key", "holds no private key in PEM form");
    check(&both("fullchain.pem", "other.key"), 3, "certificate[0].key", "other.key is not the key of the first");
    check(&both("swapped.pem", "privkey.pem"), 3, "certificate[0].key", "it is the key of certificate 2: move that");
}

#[test]
fn damaged_and_encrypted_files_are_told_apart() {
    let fixture = Fixture::new();
    let check = |chain: &str, key: &str, words: &str| {
        let text = minimal().replace("fullchain.pem", chain).replace("privkey.pem", key);
        let errors = fixture.errors(&text);
        assert!(errors.len() == 1 && errors[0].contains(words), "{words}: {errors:#?}");
    };
    fixture
        .write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    check("fullchain.pem", "encrypted.key", "is encrypted; decrypt it with `openssl pkey");
    fixture.write("junk.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    check("fullchain.pem", "junk.key", "junk.key cannot be used: ");
    fixture.write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    check("junk.pem", "privkey.pem", "certificate 1 of ");
    check("junk.pem", "privkey.pem", "cannot be parsed: it is damaged, or not X.509");
    fixture.write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    check("cut.pem", "privkey.pem", "cut.pem is damaged: section 1 (line 1) has no -----END line");
    let read = |name: &str| fs::read_to_string(fixture.path(name)).unwrap();
    let (chain, key) = (read("fullchain.pem"), read("privkey.pem"));
    fixture.write("two.key", &format!("{key}{key}"));
    check("fullchain.pem", "two.key", "two.key: section 2 (line 6) is another private key; leave the one");
    let headers = "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n";
    fixture.write("traditional.key", &key.replacen("PRIVATE KEY-----\n", headers, 1));
    check("fullchain.pem", "traditional.key", "traditional.key is encrypted; decrypt it");
    fixture.write("marked.key", &format!("\u{feff}{key}"));
    check(
        "fullchain.pem",
        "marked.key",
        "marked.key begins with a byte order mark, so it is UTF-8 with a mark; save it",
    );
    fixture.write("marked.pem", &format!("\u{feff}{chain}"));
    check("marked.pem", "privkey.pem", "marked.pem begins with a byte order mark");
    fixture.write("trusted.pem", &chain.replace(" CERTIFICATE", " TRUSTED CERTIFICATE"));
    check(
        "trusted.pem",
        "privkey.pem",
        "is a TRUSTED CERTIFICATE, which is not used here; convert it with `openssl x509",
    );
}

#[test]
fn providers_are_checked() {
    let anchors = "trust_anchors = [\"ca.pem\"]";
    let identity = "identity = [{ subject_cn = \"x\" }]";
    let provider = |lines: &[&str]| format!("[[provider]]\nname = \"pagerduty\"\n{}\n", lines.join("\n"));
    let place = |key: &str| format!("provider[0].{key}");
    let check = |lines: &[&str], line, key: &str, words| check(&provider(lines), line, &place(key), words);
    check(&[identity], 1, "trust_anchors", "missing; write trust_anchors = [");
    check(&[anchors], 1, "identity", "missing; write identity = [{");
    check(&["trust_anchors = []", identity], 3, "trust_anchors", "empty; write trust_anchors = [");
    check(&[anchors, "identity = []"], 4, "identity", "empty; write identity = [{");
    check(&[anchors, "identity = [{}]"], 4, "identity[0]", "this entry has no condition; write one or more of");
    check(&[anchors, "identity = [{ subject_cn = \"\" }]"], 4, "identity[0].subject_cn", "");
    check(&[anchors, "identity = [{ spki_sha256 = \"ab\" }]"], 4, "identity[0].spki_sha256", "");
    check(&[anchors, "identity = [{ subject_cn = \"x\", subject = \"y\" }]"], 4, "identity[0].subject", "");
    check(&[anchors, identity, "verify_depth = 0"], 5, "verify_depth", "write a number from 1 to 10");
    check(&[anchors, identity, "verify_depth = 11"], 5, "verify_depth", "write a number from 1 to 10");
    check(&["trust_anchors = [\"absent.pem\"]", identity], 3, "trust_anchors[0]", "absent.pem cannot be read");
    check(
        &["trust_anchors = [\"privkey.pem\"]", identity],
        3,
        "trust_anchors[0]",
        "section 1 (line 1) is a PRIVATE KEY, which is not used here; remove the section",
    );
    let builtin = "trust_anchors = [\"builtin:GTS_Root_R5\"]";
    check(
        &[builtin, identity],
        3,
        "trust_anchors[0]",
        "no built-in trust anchor \"GTS_Root_R5\" (did you mean \"GTS_Root_R",
    );
    check(
        &[anchors, identity, "crls = [\"ca.pem\"]"],
        5,
        "crls[0]",
        "section 1 (line 1) is a CERTIFICATE, which is not used here",
    );
    for (line, key, words) in [
        ("crls = \"ca.crl\"", "crls", "write \"from-certificates\" to fetch the lists"),
        ("crls = 5", "crls", "expected an array of files or \"from-certificates\""),
        ("crls = { from = \"chains\" }", "crls.from", "write \"certificates\""),
        ("crls = { allow_private = true }", "crls.from", "missing; write from = \"certificates\""),
        ("crls = { from = \"certificates\", max_bytes = 1 }", "crls.max_bytes", "from 256 to 67108864 bytes"),
        ("crls = { from = \"certificates\", url = \"http://a/\" }", "crls.url", "this table takes"),
        ("crl_urls = []", "crl_urls", "empty; write URLs of revocation lists"),
        ("crl_urls = [\"ldap://a.example/ca\"]", "crl_urls[0]", "is not an http or https URL"),
        ("crl_urls = [{ allow_private = true }]", "crl_urls[0].url", "missing; write url = "),
        ("crl_urls = [{ url = \"http://a.example/ca#b\" }]", "crl_urls[0].url", "without a fragment"),
        ("crl_urls = [{ url = \"https://a.example/\", ca_file = \"no.pem\" }]", "crl_urls[0].ca_file", "No such file"),
        ("crl_urls = \"http://a.example/ca.crl\"", "crl_urls", "expected an array"),
    ] {
        check(&[anchors, identity, line], 5, key, words);
    }
    let many = format!("crl_urls = [{}]", "\"http://a.example/\", ".repeat(17));
    check(&[anchors, identity, &many], 5, "crl_urls", "17");
    check(&["preset = \"pagerdutty\""], 3, "preset", "did you mean \"pagerduty\"?); there are alertmanager");
    check(&["preset = \"percolate\"", "profiles = []"], 4, "profiles", "empty; write the profiles to keep");
    check(&["preset = \"percolate\"", "profiles = [\"g3\"]"], 4, "profiles[0]", "this preset has digicert-assured-id");
    check(&["profiles = [\"g3\"]"], 3, "profiles", "profiles selects among the profiles of a preset");
}

#[test]
fn profiles_are_checked() {
    let provider = |lines: &[&str]| format!("[[provider]]\nname = \"pagerduty\"\n{}\n", lines.join("\n"));
    let profile =
        ["[[provider.profile]]", "name = \"a\"", "trust_anchors = [\"ca.pem\"]", "identity = [{ subject_cn = \"x\" }]"];
    let twice = [profile, profile].concat();
    check(&provider(&twice), 8, "provider[0].profile[1].name", "the profile \"a\" is already in line");
    let beside = |lines: &[&str]| provider(&[&["preset = \"percolate\""], lines].concat());
    let known = [profile[0], "name = \"digicert-assured-id\"", profile[2], profile[3]];
    check(&beside(&known), 5, "provider[0].profile[0].name", "the preset has a profile \"digicert-assured-id\"; write");
    check(&beside(&profile[..3]), 4, "provider[0].profile[0].identity", "missing; write identity");
    let tables: Vec<String> =
        (0..16).map(|index| profile.join("\n").replace("\"a\"", &format!("\"{index}\""))).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    check(&beside(&tables), 4, "provider[0].profile[0]", "17 entries; write at most 16");
    check(&provider(&[profile[0], profile[2], profile[3]]), 3, "provider[0].profile[0].name", "missing; write name =");
    check(
        &provider(&[profile[0], "name = \"a b\"", profile[2], profile[3]]),
        4,
        "provider[0].profile[0].name",
        "is not a valid name",
    );
    check(&provider(&profile[..3]), 3, "provider[0].profile[0].identity", "missing; write identity");
    for until in ["until = 2026-12-01T00:00:00Z", "until = 12:00:00", "until = 1969-12-31"] {
        let dated = [&profile[..], &[until]].concat();
        check(&provider(&dated), 7, "provider[0].profile[0].until", "such as 2027-01-31");
    }
    let deep = [&profile[..], &["verify_depth = 99"]].concat();
    check(&provider(&deep), 7, "provider[0].profile[0].verify_depth", "write a number from 1 to 10");
}

#[test]
fn provider_names_are_unique_and_fit_for_headers() {
    check(&format!("{PROVIDER}{PROVIDER}"), 6, "provider[1].name", "the provider \"pagerduty\" is already in line");
    check(&format!("{PROVIDER}[[provider]]\npreset = \"percolate\"\n"), 5, "provider[1].name", "missing; write name =");
    let named = |name: &str| format!("{PROVIDER}[[provider]]\nname = \"{name}\"\npreset = \"percolate\"\n");
    check(&named(""), 6, "provider[1].name", "is not a valid name");
    check(&named("a\\nb"), 6, "provider[1].name", "write 1 to 64 of the characters a-z A-Z 0-9 . _ -");
    check(&named(&"x".repeat(65)), 6, "provider[1].name", "is not a valid name");
}

#[test]
fn routes_are_checked() {
    let lines = ROUTE.lines().collect::<Vec<_>>();
    let without = |key: &str| -> String {
        lines.iter().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect()
    };
    let with = |key: &str, value: &str| format!("{}{key} = {value}\n", without(key));
    check(&without("path"), 1, "route[0].path", "missing; write path = \"/pagerduty\"");
    check(&without("providers"), 1, "route[0].providers", "missing; write providers = [");
    check(&without("handler"), 1, "route[0].handler", "missing; write handler = \"unix:");
    check(&with("path", "\"pagerduty\""), 4, "route[0].path", "does not begin with \"/\"; write \"/pagerduty\"");
    check(&with("path", "\"/a*\""), 4, "route[0].path", "only after the last \"/\"; write \"/pagerduty/*\"");
    check(&with("path", "\"/*/a\""), 4, "route[0].path", "only after the last \"/\"");
    check(&with("path", "\"/a?b=c\""), 4, "route[0].path", "write the path only");
    check(&with("path", "\"/ä\""), 4, "route[0].path", "percent-encode");
    for path in ["/a/../b", "/a/./b", "/a/%2e%2E/*", "/..%2fa", "/a/.;b/*"] {
        check(&with("path", &format!("\"{path}\"")), 4, "route[0].path", "segment, plain or encoded; write it without");
    }
    check(&with("path", "\"/100%\""), 4, "route[0].path", "write \"%25\" for the character");
    check(&with("path", "\"/a%00\""), 4, "route[0].path", "control character");
    check(&with("path", "\"/a%ff\""), 4, "route[0].path", "not UTF-8");
    check(&with("path", "\"/a;b%2fc\""), 4, "route[0].path", "write it without \";\"");
    check(&with("path", "\"/a%3fb/*\""), 4, "route[0].path", "would begin the query");
    check(&with("path", &format!("\"/{}\"", "a".repeat(1024))), 4, "route[0].path", "longer than 1024 bytes");
    check(&with("providers", "[]"), 4, "route[0].providers", "empty; write providers");
    check(&with("providers", "[\"pagerdty\"]"), 4, "route[0].providers[0]", "did you mean \"pagerduty\"?); this file");
    check(&with("handler", "\"/run/a.sock\""), 4, "route[0].handler", "\"unix:\"; write \"unix:/run/a.sock\"");
    check(
        &with("handler", "\"unix:a.sock\""),
        4,
        "route[0].handler",
        "not absolute; write \"unix:/run/app/hook.sock\"",
    );
    check(&with("handler", "\"unix:/run/\""), 4, "route[0].handler", "ends with \"/\"");
    check(&with("handler", &format!("\"unix:/{}\"", "a".repeat(107))), 4, "route[0].handler", "107 bytes");
    check(&with("methods", "[]"), 5, "route[0].methods", "empty; write methods = [\"POST\"]");
    check(&with("methods", "[\"PO ST\"]"), 5, "route[0].methods[0]", "write a method such as");
    check(&with("methods", "[\"post\"]"), 5, "route[0].methods[0]", "upper case; write \"POST\"");
    check(&with("methods", "[\"CONNECT\"]"), 5, "route[0].methods[0]", "tunnel");
    check(&with("methods", "[\"PUT\", \"PUT\"]"), 5, "route[0].methods[1]", "the method PUT is already in line");
    check(&with("name", "\"\""), 5, "route[0].name", "printable ASCII");
    for (host, words) in [
        ("https://example.com", "without a scheme"),
        ("example.com:443", "without a port"),
        ("*", "only as the whole first label, such as \"*.example.com\""),
        ("a*.example.com", "only as the whole first label"),
        ("*.*.example.com", "only as the whole first label"),
        ("hooks.*.com", "only as the whole first label"),
        ("*.0.2.1", "a wildcard is for names"),
        ("*.exa mple.com", "write a host name such as"),
        ("*.", "without the trailing dot"),
        ("example.com.", "without the trailing dot"),
        ("exämple.com", "xn--"),
        ("example..com", "write a host name such as"),
        ("[::zz]", "IPv6 address between the brackets"),
        ("", "write a host name such as"),
    ] {
        check(&with("host", &format!("\"{host}\"")), 5, "route[0].host", words);
    }
}

#[test]
fn routes_do_not_overlap() {
    let again = |lines: &str| format!("{ROUTE}{}{lines}\n", ROUTE);
    check(&again(""), 5, "route[1]", "already takes POST on this host and path");
    check(&again("methods = [\"PUT\", \"POST\"]"), 5, "route[1]", "already takes POST");
    // Paths that a handler can take for each other.
    let prefix = |path: &str| ROUTE.replace("\"/pagerduty\"", &format!("\"{path}\""));
    check(
        &format!("{}{}", prefix("/a/*"), prefix("/%61;x//*")),
        5,
        "route[1]",
        "already takes POST on this host and path",
    );
    let named = format!("{ROUTE}name = \"a\"\n{ROUTE}name = \"a\"\nmethods = [\"PUT\"]\n");
    check(&named, 10, "route[1].name", "the name \"a\" is already in line");
}

#[test]
fn limits_have_bounds() {
    check("[limits]\nhandshake_timeout_ms = 0\n", 2, "limits.handshake_timeout_ms", "from 1 to 3600000 ms");
    check("[limits]\nmax_head_bytes = 8191\n", 2, "limits.max_head_bytes", "from 8192 to 1048576 bytes");
    check("[limits]\nmax_connections = 1000001\n", 2, "limits.max_connections", "from 1 to 1000000");
    check("[limits]\nmax_headers = 9223372036854775808\n", 2, "limits.max_headers", "out of bounds; write a smaller");
    check("[limits]\nmax_headers = 99999999999999999999\n", 2, "limits.max_headers", "out of bounds; write a smaller");
    let text = "[limits]\nmax_buffered_bytes = 1000\n";
    check(text, 2, "limits.max_buffered_bytes", "max_buffered_bytes (1000) is less than max_body_bytes (1048576)");
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = r#"[listen]
addresses = ["nowhere"]
worker = 3
[[certificate]]
chain = "absent.pem"
key = 5
[[provider]]
name = "pagerduty"
trust_anchors = "ca.pem"
verify_depth = 40
[[provider]]
preset = "unknown"
[[route]]
path = "hook"
providers = ["pagerduty"]
handler = "unix:relative"
[limits]
max_headers = 0
idle_timeout = 5
[metrics]
listen = 9464
"#;
    let errors = Fixture::new().errors(text);
    let places: Vec<&str> = errors.iter().map(|error| error.rsplitn(2, ": ").last().unwrap()).collect();
    let starts = [
        "2: listen.addresses[0]",
        "3: listen.worker",
        "5: certificate[0].chain",
        "6: certificate[0].key",
        "7: provider[0].identity",
        "9: provider[0].trust_anchors",
        "10: provider[0].verify_depth",
        "11: provider[1].name",
        "12: provider[1].preset",
        "14: route[0].path",
        "16: route[0].handler",
        "18: limits.max_headers",
        "19: limits.idle_timeout",
        "21: metrics.listen",
    ];
    assert_eq!(errors.len(), starts.len(), "{errors:#?}");
    for (error, start) in places.iter().zip(starts) {
        assert!(error.starts_with(start), "expected {start}\n{errors:#?}");
    }
}

#[test]
fn errors_are_bounded() {
    let routes: String = (0..200).map(|_| "[[route]]\npath = 1\n").collect();
    let errors = Fixture::new().errors(&format!("{LISTEN}{CERTIFICATE}{PROVIDER}{routes}"));
    assert_eq!(errors.len(), 101, "{errors:#?}");
    assert!(errors.iter().any(|error| error.contains("more than 100 errors")), "{errors:#?}");
}

/// Cuts a configuration at every byte. The parser must accept or refuse the rest, and never panic.
#[test]
fn no_cut_file_makes_us_panic() {
    let fixture = Fixture::new();
    let own = "[[provider]]\nname = \"own\"\n[[provider.profile]]\nname = \"a\"\nuntil = 2030-01-01\n\
               trust_anchors = [\"ca.pem\"]\nidentity = [{ subject = \"/C=US/CN=c\" }]\ncrls = [\"list.crl\"]\n";
    let text = minimal() + own + "[limits]\nmax_headers = 7\n[metrics]\nlisten = \"[::1]:9464\"\n";
    fixture.good(&text);
    let refused = (0..text.len()).filter(|end| fixture.parse(&text[..*end]).is_err()).count();
    assert!(refused > text.len() / 2, "{refused} of {}", text.len());
}

#[test]
fn what_tls_cannot_be_is_refused() {
    let fixture = Fixture::new();
    let check = |lines: &str, line: usize, key: &str, words: &str| {
        let errors = fixture.errors(&format!("[tls]\n{lines}\n{}", minimal()));
        let found = errors.iter().find(|error| error.starts_with(&format!("{line}: {key}")));
        assert!(found.is_some_and(|error| error.contains(words)), "{lines}: {errors:?}");
    };
    check("policy = \"strict\"", 2, "tls.policy", "\"intermediate\", \"modern\", \"pagerduty\"");
    check("key_exchange = []", 2, "tls.key_exchange", "empty; write key_exchange = [\"X25519\"");
    check("key_exchange = \"X25519\"", 2, "tls.key_exchange", "array");
    check("key_exchange = [\"X448\"]", 2, "tls.key_exchange", "unknown word \"X448\"; write one of \"X25519MLKEM768\"");
    for (name, meant) in [
        ("prime256v1", "P-256"),
        ("secp256r1", "P-256"),
        ("SECP384R1", "P-384"),
        ("p384", "P-384"),
        ("x25519", "X25519"),
        ("x25519mlkem768", "X25519MLKEM768"),
    ] {
        let words = format!("unknown word \"{name}\" (did you mean \"{meant}\"?); write one of");
        check(&format!("key_exchange = [\"{name}\"]"), 2, "tls.key_exchange", &words);
    }
    check("key_exchange = [\"P-256\", \"X25519\", \"P-256\"]", 2, "tls.key_exchange", "P-256 is there twice");
    check("policy = \"pagerduty\"\nkey_exchange = [\"X25519MLKEM768\"]", 3, "tls.key_exchange", "add \"X25519\"");
    check("versions = [\"1.3\"]", 2, "tls.versions", "policy, key_exchange");
    #[cfg(not(feature = "aws-lc"))]
    check("key_exchange = [\"X25519MLKEM768\"]", 2, "tls.key_exchange", "not in this build");
}

#[test]
fn the_beginning_of_a_problem_type_is_a_url_that_ends_before_the_reason() {
    for (base, words) in [
        ("hooks.example.com/", "it is not an https URL; write at most 200 characters, such as \"https://"),
        ("http://hooks.example.com/", "it is not an https URL"),
        ("https://", "it is not an https URL"),
        ("https:///reasons/", "it is not an https URL"),
        ("https://hooks.example.com/reasons", "so it must end in / or #"),
        ("https://hooks.example.com/my reasons/", "a character that no URL has"),
    ] {
        check(&format!("[problem]\nbase = \"{base}\"\n"), 2, "problem.base", words);
    }
    let long = format!("[problem]\nbase = \"https://{}/\"\n", "a".repeat(200));
    check(&long, 2, "problem.base", "it is too long");
    let fixture = Fixture::new();
    let own = format!("{}[problem]\nbase = \"https://hooks.example.com/reasons#\"\n", minimal());
    let reason = hookgate_core::reject::Reject::NoRoute;
    assert_eq!(fixture.good(&own).problem_types.uri(reason), "https://hooks.example.com/reasons#no_route");
    assert_eq!(fixture.good(&minimal()).problem_types.uri(reason), "urn:hookgate:reason:no_route");
}

#[test]
fn a_chain_without_its_first_certificate_is_refused() {
    let text = [ROUTE, "client_cert = false\nclient_cert_chain = true\n"].concat();
    let line = text.lines().count();
    check(&text, line, "route[0].client_cert_chain", "RFC 9440 allows no Client-Cert-Chain without it");
}

#[test]
fn a_fleet_that_cannot_be_trusted_or_named_is_refused() {
    let of = |line: &str| format!("[fleet]\nnats = [\"tls://nats.example.com\"]\n{line}\n");
    check("[fleet]\nname = \"a\"\n", 1, "fleet.nats", "missing; write nats = [");
    check("[fleet]\nnats = []\n", 2, "fleet.nats", "write nats = [");
    check(
        "[fleet]\nnats = [\"nats.example.com:4222\"]\n",
        2,
        "fleet.nats[0]",
        "write \"tls://nats-1.example.com:4222\"",
    );
    check("[fleet]\nnats = [\"nats://192.0.2.1\"]\n", 2, "fleet.nats[0]", "is without TLS");
    check(&of("name = \"a.b\""), 3, "fleet.name", "is no name of a fleet");
    check(&of("keep_s = 119"), 3, "fleet.keep_s", "120");
    check(&of("replicas = 6"), 3, "fleet.replicas", "5");
    check(&of("trust_anchors = [\"absent.pem\"]"), 3, "fleet.trust_anchors[0]", "absent.pem");
    check(&of("credentials = \"ca.pem\""), 3, "fleet.credentials", "has no user JWT and no NKEY seed");
    check(&of("certificate = { chain = \"fullchain.pem\" }"), 3, "fleet.certificate.key", "missing");
    check(&of("certificate = { chain = \"fullchain.pem\", key = \"ca.pem\" }"), 3, "fleet.certificate.key", "ca.pem");
    check(&of("user = \"a\""), 3, "fleet.user", "unknown key");
}

#[test]
fn what_is_wrong_with_proxy_protocol_is_said() {
    let proxies = |value: &str, key: &str, words: &str| {
        let section = format!("[listen]\naddresses = [\"[::]:443\"]\nproxy_protocol = {value}\n");
        check(&section, 3, &format!("listen.proxy_protocol{key}"), words);
    };
    proxies("{}", ".from", "missing; write from = [\"10.0.1.0/24\"]: the addresses of the proxies");
    proxies("{ from = [] }", ".from", "empty; write from");
    proxies("{ from = [\"10.0.1.7/24\"] }", ".from[0]", "write 10.0.1.0/24, or 10.0.1.7 for the one address");
    proxies("{ from = [\"10.0.1.0/33\"] }", ".from[0]", "`33` is not a prefix length");
    proxies("{ from = [\"10.0.1.0/24\", \"balancer\"] }", ".from[1]", "`balancer` is not an IP address");
    proxies("{ from = \"10.0.1.0/24\" }", ".from", "expected an array");
    proxies("{ from = [7] }", ".from[0]", "expected a string");
    proxies("{ from = [\"10.0.1.1\"], version = 2 }", ".version", "unknown key");
    proxies("true", "", "expected a table");
    proxies(&format!("{{ from = [{}] }}", "\"10.0.1.1\", ".repeat(1025)), ".from", "1025");
}

#[test]
fn a_permission_that_no_reload_asks_for_is_reported() {
    for written in ["", "yes", "0f31c2a4d5e6978", "0F31C2A4D5E69788", "0f31c2a4d5e6978g"] {
        let text = [&*format!("accept_weaker = \"{written}\"\n"), LISTEN, CERTIFICATE, PROVIDER, ROUTE].concat();
        let errors = Fixture::new().errors(&text);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(
            errors[0].starts_with("1: accept_weaker: permits nothing: write the 16 hexadecimal digits"),
            "{errors:#?}"
        );
    }
}

#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    check(
        "[[certificate]]\nchain = \"fullchain.pem\"\nkeey = \"privkey.pem\"\n",
        3,
        "certificate[0].keey",
        "did you mean \"key\"",
    );
    let errors =
        Fixture::new().errors(&[LISTEN, CERTIFICATE, PROVIDER, &ROUTE.replace("handler =", "handlr =")].concat());
    assert_eq!(errors.len(), 1, "{errors:#?}");
}
