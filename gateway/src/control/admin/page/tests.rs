//! The page shows what there is, and nothing that a stranger sends is markup.

use super::*;
use crate::control::admin::facts::{
    AcmeFacts, ConfigurationFacts, DateFacts, FilterFacts, FleetFacts, HandlerFacts, InterfaceFacts, PacketFacts,
    ProcessFacts, ProviderFacts, RefusalFacts, RouteFacts, SCHEMA, SetFacts, SpoolFacts, StoredAt, SuspectFacts,
    WorkerFacts,
};
use crate::control::admin::history::{MINUTES, Minute};

const NOW: u64 = 1_796_030_527;
const DAY: u64 = 86_400;

/// A gateway on a bad day.
pub(in crate::control::admin) fn sample() -> Facts {
    let text = str::to_owned;
    let fingerprint = "3f:8a:01:c2:55:9e:7b:d4:10:6f:aa:82:3c:9d:e0:47:5b:21:f6:88:0c:b3:94:de:62:17:ab:59:f0:3e:c8:71";
    let provider = |name: &str, profiles: &[&str], routes: &[&str]| ProviderFacts {
        name: text(name),
        client_certificate: !profiles.is_empty(),
        profiles: profiles.iter().map(|name| text(name)).collect(),
        routes: routes.iter().map(|name| text(name)).collect(),
    };
    let route = |name: &str, path: &str, provider: &str, handler: &str| RouteFacts {
        name: text(name),
        host: Some(text("hooks.example.com")),
        path: text(path),
        methods: vec![text("POST")],
        providers: vec![text(provider)],
        handler: text(handler),
    };
    let handler = |socket: &str, health, reason: Option<&str>, answered: Option<u64>| HandlerFacts {
        socket: text(socket),
        health,
        reason: reason.map(text),
        next_try: (health == HandlerHealth::Ejected).then_some(4),
        last: answered,
        answered,
        in_flight: usize::from(health == HandlerHealth::Up) * 3,
        waiting: 0,
    };
    let date = |kind, name: &str, provider: Option<&str>, days: i64, warning: Option<&str>| DateFacts {
        kind,
        name: text(name),
        provider: provider.map(text),
        until: NOW.saturating_add_signed(days * 86_400),
        days_left: u64::try_from(days).unwrap_or(0),
        is_over: days < 0,
        warning: warning.map(text),
    };
    let failing = |name: &str, until: Option<u64>| AcmeFacts {
        names: vec![text(name)],
        directory: text("https://acme-v02.api.letsencrypt.org/directory"),
        is_in_use: until.is_some(),
        awaited: if until.is_none() { vec![text(name)] } else { Vec::new() },
        until,
        is_running: false,
        last: Some(NOW - 30),
        result: Some("challenge"),
        error: Some(format!("the authority could not verify {name}: connection: Timeout during connect")),
        failures: 4,
        next_attempt: Some(NOW + 77),
    };
    let minute = |index: usize| {
        let wave = ((index * 7) % 23) as f64;
        Minute { end: NOW, requests: 40.0 + 6.0 * wave, refusals: if index % 11 == 3 { 9.0 } else { wave / 12.0 } }
    };
    Facts {
        schema: SCHEMA,
        now: NOW,
        process: ProcessFacts {
            version: "0.1.0",
            crypto: "ring",
            backend: "io_uring_direct",
            started: NOW - 3 * DAY,
            phase: "serving",
        },
        configuration: ConfigurationFacts {
            file: text("/etc/hookgate/hookgate.toml"),
            generation: 7,
            loaded: NOW - 1860,
            result: "weaker",
            reasons: vec![text("it would demand less: route \"alerts\": proof signature is gone")],
        },
        workers: vec![WorkerFacts { connections: 41, stalled: false }, WorkerFacts { connections: 38, stalled: false }],
        connections_limit: 10_000,
        providers: vec![
            provider("pagerduty", &["digicert-global-root-g2", "digicert-tls-rsa4096"], &["alerts"]),
            provider("dialogflow-cx", &["google-trust-services"], &["dialogflow"]),
            provider("github", &[], &["pushes"]),
        ],
        routes: vec![
            route("alerts", "/pagerduty", "pagerduty", "/run/app/events.sock"),
            route("dialogflow", "/dialogflow/*", "dialogflow-cx", "/run/app/dialogflow.sock"),
            route("pushes", "/github", "github", "/run/app/pushes.sock"),
        ],
        handlers: vec![
            handler("/run/app/events.sock", HandlerHealth::Up, None, Some(NOW - 2)),
            handler(
                "/run/app/dialogflow.sock",
                HandlerHealth::Down,
                Some("The handler is unavailable"),
                Some(NOW - 900),
            ),
            handler("/run/app/pushes.sock", HandlerHealth::Unused, None, None),
            handler("/run/app/second.sock", HandlerHealth::Ejected, Some("The handler timed out"), Some(NOW - 9)),
        ],
        spool: vec![SpoolFacts {
            route: text("incidents"),
            stored_at: StoredAt::Disk,
            waiting: 12,
            dead: 3,
            bytes: Some(90_112),
            oldest_age: 540,
            is_paused: true,
            filled_percent: Some(84),
        }],
        fleet: Some(FleetFacts {
            is_connected: true,
            problem: Some(text("stream hookgate-spool-hooks: it lacks subjects")),
        }),
        acme: vec![failing("new.example.com", None), failing("old.example.com", Some(NOW + 9 * DAY))],
        dates: vec![
            date(
                "server certificate",
                "hooks.example.com",
                None,
                9,
                Some(
                    "the certificate of hooks.example.com (/etc/hookgate/certificates/hooks.pem) ends on 2026-12-09, in 9 days: renew it, then reload",
                ),
            ),
            date("client certificate", "the newest that was seen", Some("pagerduty"), 120, None),
            date("trust anchor", "DigiCert Global Root G2 (cb3ccbb7)", Some("pagerduty"), 4066, None),
        ],
        suspects: vec![SuspectFacts {
            provider: text("pagerduty"),
            profile: text("digicert-global-root-g2"),
            reason: text("unknown_issuer"),
            evidence: text("proof"),
            first_seen: NOW - 3600,
            last_seen: NOW - 60,
            fingerprint: text(fingerprint),
        }],
        refusals: vec![
            RefusalFacts {
                at: NOW - 60,
                reason: text("unknown_issuer"),
                blame: text("peer"),
                explanation: text(
                    "The certificate of the client leads to \"CN=New Root\", which is no trust anchor of pagerduty.",
                ),
                what: text("request"),
                status: Some(503),
                providers: vec![text("pagerduty")],
                route: Some(text("alerts")),
                method: Some(text("POST")),
                path: Some(text("/pagerduty")),
                peer: text("192.0.2.17:44120"),
                server_name: Some(text("hooks.example.com")),
                request_id: Some(text("5f0c9a3be1d24f7786aa01c3d95e2b48")),
                subject: Some(text("CN=webhooks.pagerduty.com")),
                issuer: Some(text("CN=New Issuing CA")),
                fingerprint: Some(text(fingerprint)),
            },
            RefusalFacts {
                at: NOW - 300,
                reason: text("no_certificate"),
                blame: text("peer"),
                explanation: text("The peer presented no client certificate."),
                what: text("request"),
                status: Some(403),
                method: Some(text("GET")),
                path: Some(text("/.env")),
                peer: text("[2001:db8::7]:51822"),
                server_name: Some(text("hooks.example.com")),
                ..RefusalFacts::default()
            },
        ],
        filter: FilterFacts {
            mode: "enforce",
            interfaces: vec![InterfaceFacts { name: text("eth0"), attached: "native" }],
            packets: vec![
                PacketFacts { family: "ipv4", verdict: "pass", reason: "range", packets: 918_274 },
                PacketFacts { family: "ipv4", verdict: "drop", reason: "no_range", packets: 40_188 },
            ],
            sets: vec![SetFacts { name: text("pagerduty"), ranges_ipv4: 12, ranges_ipv6: 0, packets: 918_274 }],
        },
        history: (0..MINUTES).map(minute).collect(),
    }
}

/// Markup in every place that a stranger fills.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;</style></svg>";

#[test]
fn what_a_stranger_sends_is_never_markup() {
    let mut facts = sample();
    let hostile = || Some(HOSTILE.to_owned());
    facts.refusals = vec![RefusalFacts {
        at: NOW,
        reason: HOSTILE.to_owned(),
        blame: HOSTILE.to_owned(),
        explanation: HOSTILE.to_owned(),
        what: HOSTILE.to_owned(),
        status: Some(403),
        providers: vec![HOSTILE.to_owned()],
        route: hostile(),
        method: hostile(),
        path: hostile(),
        peer: HOSTILE.to_owned(),
        server_name: hostile(),
        request_id: hostile(),
        subject: hostile(),
        issuer: hostile(),
        fingerprint: hostile(),
    }];
    for date in &mut facts.dates {
        (date.name, date.provider, date.warning) = (HOSTILE.to_owned(), hostile(), hostile());
    }
    for chain in &mut facts.suspects {
        (chain.provider, chain.profile, chain.reason) = (HOSTILE.to_owned(), HOSTILE.to_owned(), HOSTILE.to_owned());
        (chain.evidence, chain.fingerprint) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    }
    for certificate in &mut facts.acme {
        certificate.error = hostile();
    }
    facts.configuration.reasons = vec![HOSTILE.to_owned()];
    facts.handlers[1].reason = hostile();
    let text = page(&facts).into_string();
    assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
    assert_eq!(text.matches("</style>").count(), 1, "the style sheet ends once");
    assert_eq!(text.matches("</svg>").count(), 2, "both plots end once");
    let escaped = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror='alert(2)'&gt;&amp;amp;&lt;/style&gt;&lt;/svg&gt;";
    // Of the refusal; of dates (the warning stands in the list, the rest in the table); of the chain, the load, and the handler (in both); of what
    // authorities say.
    assert!(text.matches(escaped).count() >= 14 + 9 + 5 + 1 + 2 + 2, "{}", text.matches(escaped).count());
}

#[test]
fn what_needs_attention_comes_first() {
    let text = page(&sample()).into_string();
    let (_, attention) = text.split_once("<section id=\"attention\"").unwrap_or_default();
    let attention = attention.split("</section>").next().unwrap_or_default();
    for part in [
        "is not in use (weaker)",
        "/run/app/dialogflow.sock",
        "claims <strong>pagerduty</strong>",
        "ends on 2026-12-09, in 9 days",
        "Route <strong>incidents</strong> has 3 dead letters. See <code>hookgate deliveries list --state dead</code>",
        "Route <strong>incidents</strong> is paused",
        "The spool of route <strong>incidents</strong> is at 84 % of its bounds",
        "The servers of the fleet store no deliveries: stream hookgate-spool-hooks: it lacks subjects",
        "handshakes for <strong>new.example.com</strong> are refused until it is issued; the last attempt failed at <code>challenge</code> (4 in a row): \
         the authority could not verify new.example.com: connection: Timeout during connect; the next is in 77 s.",
        "<strong>old.example.com</strong> cannot be renewed or stored, and the one in use ends on 2026-12-09; the last attempt failed at",
    ] {
        assert!(attention.contains(part), "{part}: {attention}");
    }
    assert!(!attention.contains("Nothing needs attention"), "{attention}");
}

#[test]
fn a_certificate_that_is_asked_for_needs_attention_if_it_is_awaited_or_not_renewed() {
    let check = |change: fn(&mut AcmeFacts), expected: Option<&str>, words: &str| {
        let mut certificate = sample().acme.swap_remove(1);
        change(&mut certificate);
        let mut facts = Facts { acme: vec![certificate], ..sample() };
        good(&mut facts);
        let text = page(&facts).into_string();
        let (_, attention) = text.split_once("<section id=\"attention\"").unwrap_or_default();
        let attention = attention.split("</section>").next().unwrap_or_default();
        match expected {
            Some(marked) => assert!(attention.contains(marked) && attention.contains(words), "{words}: {attention}"),
            None => assert!(attention.contains("Nothing needs attention."), "{attention}"),
        }
        assert!(text.contains("<th scope=\"row\">old.example.com</th>"), "{text}");
    };
    let (bad, warn) =
        (Some("<span class=\"mark bad\">renewal</span>"), Some("<span class=\"mark warn\">renewal</span>"));
    check(|_| {}, warn, "the next is in 77 s");
    check(|certificate| certificate.until = Some(NOW + DAY), warn, "");
    check(|certificate| certificate.until = Some(NOW + DAY - 1), bad, "");
    check(|certificate| certificate.until = Some(NOW - 1), bad, "");
    check(|certificate| certificate.failures = 1, warn, "the last attempt failed at");
    check(|certificate| certificate.is_running = true, warn, "; the next is under way.");
    check(|certificate| certificate.next_attempt = None, warn, "; the next is not planned yet.");
    check(|certificate| certificate.result = None, warn, "; 4 attempts failed before this start; the next is in 77 s.");
    let ok = |certificate: &mut AcmeFacts| {
        (certificate.failures, certificate.result, certificate.error) = (0, Some("ok"), None);
    };
    check(ok, None, "");
    let first = |certificate: &mut AcmeFacts| {
        (certificate.failures, certificate.last, certificate.result, certificate.error) = (0, None, None, None);
        (certificate.is_in_use, certificate.until, certificate.is_running) = (false, None, true);
        certificate.awaited.clone_from(&certificate.names);
    };
    let awaited = Some("<span class=\"mark bad\">awaited</span>");
    check(first, awaited, "are refused until it is issued; no attempt has ended yet; the next is under way.");
    // One in use that lacks a name which a reload has added.
    check(
        |certificate| certificate.awaited = vec!["more.example.com".to_owned()],
        awaited,
        "<strong>more.example.com</strong>",
    );
}

/// Takes away what needs attention, but for certificates that are asked for.
fn good(facts: &mut Facts) {
    facts.configuration.result = "ok";
    facts.handlers.retain(|handler| !matches!(handler.health, HandlerHealth::Down | HandlerHealth::Ejected));
    facts.dates.retain(|date| date.warning.is_none());
    (facts.spool[0].dead, facts.spool[0].is_paused, facts.spool[0].filled_percent) = (0, false, Some(79));
    facts.fleet = Some(FleetFacts { is_connected: true, problem: None });
    facts.suspects.clear();
}

#[test]
fn a_good_day_says_so() {
    let mut facts = sample();
    good(&mut facts);
    (facts.acme, facts.refusals, facts.history) = (Vec::new(), Vec::new(), Vec::new());
    let text = page(&facts).into_string();
    for part in ["Nothing needs attention.", "No refusal since the start.", "No minute is complete yet."] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_policy_admits_the_style_sheet_of_the_page_alone() {
    let text = page(&sample()).into_string();
    let (_, rest) = text.split_once("<style>").unwrap_or_default();
    let style = rest.split("</style>").next().unwrap_or_default();
    let hash = BASE64.encode(digest(&SHA256, style.as_bytes()).as_ref());
    let policy = content_security_policy();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains(&format!("style-src 'sha256-{hash}'")), "{policy}");
    for foreign in ["style=\"", "<script", "onclick", "http://", "https://", "<link", "@import", "url("] {
        assert!(!text.contains(foreign), "{foreign}");
    }
}

#[test]
fn every_section_has_its_anchor_and_every_id_is_there_once() {
    let text = page(&sample()).into_string();
    let ids: Vec<&str> = text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    for (anchor, heading) in SECTIONS {
        assert!(ids.contains(&anchor) && text.contains(&format!(">{heading}</h2>")), "{anchor}");
    }
}

/// If the variable names a file, the page of the sample is written there, to be looked at.
#[test]
fn the_sample_can_be_looked_at() -> std::io::Result<()> {
    match std::env::var_os("HOOKGATE_WRITE_PAGE") {
        Some(path) => std::fs::write(path, page(&sample()).into_string()),
        None => Ok(()),
    }
}

#[test]
fn a_refusal_says_how_it_is_explained() {
    let text = page(&sample()).into_string();
    assert!(text.contains("hookgate explain 5f0c9a3be1d24f7786aa01c3d95e2b48"), "{text}");
    // Without an id and a certificate, the reason is what can be asked for.
    assert!(text.contains("hookgate explain no_certificate"), "{text}");
    let place = |anchor: &str| text.find(&format!("id=\"{anchor}\""));
    assert!(place("handlers").is_some() && place("handlers") < place("refusals") && place("dates") < place("refusals"));
}
