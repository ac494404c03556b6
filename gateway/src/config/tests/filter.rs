//! `[filter]` and the ranges of providers: the parsed values, and the messages of errors.

use super::*;
use crate::config::{FilterSection, PIN_DIRECTORY};
use hookgate_core::ranges::{SourceCheck, parse};
use hookgate_filter::{Action, Attach, Destination, Mode, Policy, RangeSet, Rate, SynLimits};

/// A fixture with files of ranges: `plain`, `pagerduty.json`, `goog.json`, `cloud.json` (a half of it), `empty`, `page`.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("plain", "# ours\n192.0.2.0/24 # all\n2001:db8::/32\n");
    fixture.write("pagerduty.json", r#"["198.51.100.7", "198.51.100.8"]"#);
    fixture.write("goog.json", r#"{"prefixes": [{"ipv4Prefix": "203.0.113.0/24"}]}"#);
    fixture.write("cloud.json", r#"{"prefixes": [{"ipv4Prefix": "203.0.113.0/25"}]}"#);
    fixture.write("empty", "# nothing yet\n");
    fixture.write("page", "<html>\n");
    fixture
}

/// A configuration with these lines in its provider, and this `[filter]`.
fn text(listen: &str, provider: &str, filter: &str) -> String {
    format!("[listen]\naddresses = [{listen}]\n{CERTIFICATE}{PROVIDER}{provider}\n{ROUTE}[filter]\n{filter}\n")
}

fn set(name: &str, action: Action, ranges: &[&str]) -> RangeSet {
    RangeSet { name: name.to_owned(), action, prefixes: ranges.iter().map(|range| parse(range).unwrap()).collect() }
}

#[test]
fn without_a_section_the_filter_is_off() {
    let config = fixture().good(&minimal());
    assert_eq!(config.filter, FilterSection::default());
    assert_eq!(config.filter.policy.mode, Mode::Off);
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.sources[0].check, SourceCheck::Off);
}

#[test]
fn everything_about_the_filter_can_be_said() {
    let filter = "mode = \"enforce\"\ninterfaces = [\"eth0\", \"bond0.7\"]\nattach = \"generic\"\nrequired = false\npin = true\n\
                  allow = [\"10.0.0.0/8\"]\nallow_files = [\"plain\"]\ndeny = [\"10.0.0.1\"]\ndeny_files = [\"pagerduty.json\"]\n\
                  largest_shrink_percent = 10\nforce_shrink = true\nmax_ranges_ipv4 = 10\nmax_ranges_ipv6 = 20\n\
                  max_syn_buckets = 30\nsyn_ipv4_address = { per_second = 5, burst = 9 }\n\
                  syn_ipv6_network = { per_second = 7 }";
    let provider = "source_ranges = [\"192.0.2.7\"]";
    let config = fixture().good(&text("\"192.0.2.10:443\", \"0.0.0.0:8443\", \"[::]:8443\"", provider, filter));
    let expected = Policy {
        mode: Mode::Enforce,
        interfaces: vec!["eth0".to_owned(), "bond0.7".to_owned()],
        attach: Attach::Generic,
        pin: Some(PIN_DIRECTORY.into()),
        destinations: vec![
            Destination { address: None, port: 8443 },
            Destination { address: "192.0.2.10".parse().ok(), port: 443 },
        ],
        sets: vec![
            set("(deny)", Action::Deny, &["10.0.0.1", "198.51.100.7", "198.51.100.8"]),
            set("(allow)", Action::Allow, &["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]),
            set("pagerduty", Action::Allow, &["192.0.2.7"]),
        ],
        syn_limits: SynLimits {
            ipv4_address: Rate::per_second(5, 9),
            ipv4_network: Rate::UNLIMITED,
            ipv6_network: Rate::per_second(7, 7),
        },
        limits: hookgate_filter::Limits {
            ranges_ipv4: 10,
            ranges_ipv6: 20,
            syn_buckets: 30,
            ..Policy::default().limits
        },
        largest_shrink: 0.1,
        ..Policy::default()
    };
    assert_eq!(config.filter, FilterSection { policy: expected, required: false, force_shrink: true });
}

#[test]
fn packets_of_proxies_pass_beside_those_of_providers() {
    let proxies = "\"127.0.0.1:443\"]\nproxy_protocol = { from = [\"10.0.1.0/24\", \"2001:db8:1::/64\"] }";
    let on = "mode = \"enforce\"\ninterfaces = [\"eth0\"]\ndeny = [\"10.0.1.66\"]";
    let listen = |provider: &str| {
        let text = text("@", provider, on).replace("@]", proxies);
        fixture().good(&text).filter.policy.sets
    };
    let denied = set("(deny)", Action::Deny, &["10.0.1.66"]);
    let of_proxies = set("(proxies)", Action::Allow, &["10.0.1.0/24", "2001:db8:1::/64"]);
    let of_provider = set("pagerduty", Action::Allow, &["192.0.2.0/24"]);
    assert_eq!(listen("source_ranges = [\"192.0.2.0/24\"]"), [denied.clone(), of_proxies.clone(), of_provider]);
    // The requests of a provider without ranges come through the proxies.
    assert_eq!(listen(""), [denied, of_proxies]);
}

#[test]
fn ranges_of_a_provider_come_from_lists_and_files() {
    let fixture = fixture();
    let check = |lines: &str, check: SourceCheck, inside: &[&str], outside: &[&str]| {
        let config = fixture.good(&text("\"127.0.0.1:443\"", lines, "mode = \"off\""));
        let sources = &config.sources[0];
        assert_eq!(sources.check, check, "{lines}");
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(sources.ranges.contains(address.parse().unwrap()), expected, "{lines}: {address}");
            }
        }
    };
    check("", SourceCheck::Off, &[], &["192.0.2.1"]);
    check("source_ranges = [\"192.0.2.0/24\"]", SourceCheck::Refuse, &["192.0.2.1"], &["192.0.3.1", "::1"]);
    check(
        "source_range_files = [\"plain\"]\nsource_ranges_check = \"count\"",
        SourceCheck::Count,
        &["2001:db8::1"],
        &["2001:db9::1"],
    );
    let both =
        "source_ranges = [\"192.0.2.1\"]\nsource_range_files = [\"pagerduty.json\"]\nsource_ranges_check = \"off\"";
    check(both, SourceCheck::Off, &["192.0.2.1", "198.51.100.8"], &["198.51.100.9"]);
    let google = "source_range_files = [{ file = \"goog.json\", minus = \"cloud.json\" }, { file = \"plain\" }]";
    check(google, SourceCheck::Refuse, &["203.0.113.128", "192.0.2.1"], &["203.0.113.127"]);
}

/// Expects exactly one error, at this key, with these words.
fn check(listen: &str, provider: &str, filter: &str, key: &str, words: &str) {
    let text = text(listen, provider, filter);
    let errors = fixture().errors(&text);
    assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
    assert!(errors[0].contains(&format!(": {key}: ")), "{text}\nexpected {key}\n{errors:#?}");
    assert!(errors[0].contains(words), "{text}\nexpected {words}\n{errors:#?}");
}

#[test]
fn what_is_wrong_with_the_filter_is_said() {
    let filter = |filter: &str, key: &str, words: &str| {
        check("\"127.0.0.1:443\"", "source_ranges = [\"192.0.2.0/24\"]", filter, &format!("filter{key}"), words);
    };
    filter("mode = \"on\"", ".mode", "unknown word \"on\"");
    filter("mode = \"monitor\"", ".interfaces", "missing; write interfaces = [\"eth0\"]");
    filter("mode = \"monitor\"\ninterfaces = []", ".interfaces", "empty; write interfaces");
    filter("interfaces = [\"eth0\", \"eth0\"]", ".interfaces[1]", "the interface eth0 is already in line");
    filter("interfaces = [\"eth0/1\"]", ".interfaces[0]", "not an interface name");
    filter("interfaces = [\"a-name-of-sixtee\"]", ".interfaces[0]", "not an interface name");
    filter("allow = [\"192.0.2.1/24\"]", ".allow[0]", "write 192.0.2.0/24, or 192.0.2.1");
    filter("deny_files = [\"page\"]", ".deny_files[0]", "page:1: `<html>` is not an IP address");
    filter("largest_shrink_percent = 101", ".largest_shrink_percent", "0 to 100 %");
    filter("max_ranges_ipv4 = 0", ".max_ranges_ipv4", "1 to 10000000");
    filter("syn_ipv4_network = { burst = 1 }", ".syn_ipv4_network.per_second", "missing; write per_second");
    filter("syn_ipv4_network = { per_second = 0 }", ".syn_ipv4_network.per_second", "1 to 15000000");
    let on = "mode = \"enforce\"\ninterfaces = [\"eth0\"]";
    check("\"127.0.0.1:0\"", "source_ranges = [\"192.0.2.0/24\"]", on, "filter", "has port 0");
    let allow_all = "source_ranges = [\"0.0.0.0/0\", \"::/0\"]";
    check("\"127.0.0.1:443\"", "", on, "provider[0].source_ranges", allow_all);
    fixture().good(&text("\"127.0.0.1:443\"", allow_all, on));
    fixture().good(&text("\"127.0.0.1:443\"", "", &on.replace("enforce", "monitor")));
}

#[test]
fn what_is_wrong_with_ranges_is_said() {
    let provider = |lines: &str, key: &str, words: &str| {
        check("\"127.0.0.1:443\"", lines, "", &format!("provider[0].{key}"), words);
    };
    provider("source_ranges = []", "source_ranges", "empty; write ranges");
    provider("source_range_files = []", "source_range_files", "empty; write files");
    provider("source_ranges = [\"192.0.2\"]", "source_ranges[0]", "`192.0.2` is not an IP address");
    provider("source_range_files = [\"absent\"]", "source_range_files[0]", "cannot be read: No such file");
    provider("source_range_files = [\"empty\"]", "source_range_files[0]", "empty holds no range");
    provider("source_range_files = [{ minus = \"plain\" }]", "source_range_files[0].file", "missing; write file");
    let nothing = "source_range_files = [{ file = \"cloud.json\", minus = \"goog.json\" }]";
    provider(nothing, "source_range_files[0]", "cloud.json holds no range");
    provider("source_range_urls = []", "source_range_urls", "empty; write lists");
    provider("source_range_urls = [\"http://a.example/\"]", "source_range_urls[0]", "not an https URL");
    provider(
        "source_range_urls = [{ minus = \"https://a.example/\" }]",
        "source_range_urls[0].url",
        "missing; write url",
    );
    let pointer = "source_range_urls = [{ url = \"https://a.example/\", pointer = \"a\" }]";
    provider(pointer, "source_range_urls[0].pointer", "is not a JSON pointer");
    let plain = "source_range_urls = [{ url = \"https://a.example/\", format = \"plain\", pointer = \"/a\" }]";
    provider(plain, "source_range_urls[0].pointer", "a plain list has no pointer");
    let large = "source_range_urls = [{ url = \"https://a.example/\", max_bytes = 1000000000 }]";
    provider(large, "source_range_urls[0].max_bytes", "16777216");
    provider("source_ranges_check = \"refuse\"", "source_ranges_check", "no ranges to check by");
    provider("source_ranges_check = \"drop\"", "source_ranges_check", "unknown word");
}
