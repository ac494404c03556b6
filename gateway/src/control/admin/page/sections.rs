//! The sections of the status page.

use maud::{Markup, html};

use super::super::facts::{
    AcmeFacts, DateFacts, Facts, FilterFacts, FleetFacts, HandlerFacts, HandlerHealth, RefusalFacts, SpoolFacts,
    StoredAt, SuspectFacts,
};
use super::super::history::Minute;
use super::super::plot::plot;
use super::words::{age, ago, counted, day, moment};
use super::{mark, table};
use crate::deliveries::WARN_AT;

/// A certificate that is not renewed is bad with less left than this, in seconds: as for the alert HookgateIssuedCertificateEnds.
const ENDS_SOON: u64 = 24 * 60 * 60;

/// The content of the section with this anchor.
pub(super) fn section(anchor: &str, facts: &Facts) -> Markup {
    match anchor {
        "attention" => attention(facts),
        "traffic" => traffic(&facts.history),
        "refusals" => refusals(&facts.refusals, facts.now),
        "handlers" => handlers(&facts.handlers, facts.now),
        "providers" => providers(facts),
        "routes" => routes(facts),
        "spool" => spool(&facts.spool),
        "dates" => html! { (issued(&facts.acme, facts.now)) (dates(&facts.dates)) },
        _ => filter(&facts.filter),
    }
}

/// What an operator has to do something about.
fn attention(facts: &Facts) -> Markup {
    let load = &facts.configuration;
    let stalled: Vec<usize> =
        (0..).zip(&facts.workers).filter(|(_, worker)| worker.stalled).map(|(index, _)| index).collect();
    let down = facts.handlers.iter().filter(|handler| handler.health == HandlerHealth::Down);
    let ejected = facts.handlers.iter().filter(|handler| handler.health == HandlerHealth::Ejected);
    let warnings = facts.dates.iter().filter_map(|date| Some((date.is_over, date.warning.as_ref()?)));
    let items = html! {
        @if load.result != "ok" {
            li {
                (mark("bad", "not loaded")) " The configuration of " (moment(load.loaded)) " is not in use (" (load.result) "): "
                @for reason in &load.reasons { code { (reason) } " " }
                "Correct " (load.file) " and reload."
            }
        }
        @for worker in stalled {
            li { (mark("bad", "stalled")) " Worker " (worker) " shows no life. Restart hookgate, and look at the log." }
        }
        @if facts.filter.mode == "unavailable" {
            li { (mark("bad", "unfiltered")) " The filter was asked for and does not run: every packet gets in. The log says why." }
        }
        @for handler in down {
            li {
                (mark("bad", "down")) " The handler at " code { (handler.socket) } " does not answer: "
                (handler.reason.as_deref().unwrap_or("no answer")) "."
            }
        }
        @for handler in ejected {
            li {
                (mark("bad", "ejected")) " The handler at " code { (handler.socket) } " failed, and others get its requests: "
                (handler.reason.as_deref().unwrap_or("no answer")) "."
            }
        }
        @if let Some(fleet) = &facts.fleet { (fleet_for_attention(fleet)) }
        @for stored in &facts.spool { (stored_for_attention(stored)) }
        @for certificate in &facts.acme { (certificate_for_attention(certificate, facts.now)) }
        @for chain in &facts.suspects { (suspect(chain, facts.now)) }
        @for (is_over, warning) in warnings {
            li { (mark(if is_over { "bad" } else { "warn" }, if is_over { "over" } else { "ends" })) " " (warning) }
        }
    };
    let items = items.into_string();
    html! {
        @if items.is_empty() { p { (mark("good", "good")) " Nothing needs attention." } }
        @else { ul { (maud::PreEscaped(items)) } }
    }
}

/// The servers of the fleet, as far as they need an operator.
fn fleet_for_attention(fleet: &FleetFacts) -> Markup {
    html! {
        @if !fleet.is_connected {
            li { (mark("bad", "alone")) " There is no connection to the NATS servers of the fleet. The log says why." }
        } @else if let Some(problem) = &fleet.problem {
            li { (mark("bad", "fleet")) " The servers of the fleet store no deliveries: " (problem) }
        }
    }
}

/// What a route has stored, as far as it needs an operator.
fn stored_for_attention(stored: &SpoolFacts) -> Markup {
    html! {
        @if stored.dead > 0 {
            li {
                (mark("bad", "dead")) " Route " strong { (stored.route) } " has " (counted(usize::try_from(stored.dead).unwrap_or(usize::MAX), "dead letter"))
                ". See " code { "hookgate deliveries list --state dead" } "."
            }
        }
        @if stored.is_paused {
            li {
                (mark("warn", "paused")) " Route " strong { (stored.route) } " is paused: deliveries are stored, and none is attempted. "
                code { "hookgate deliveries resume" } " ends that."
            }
        }
        @if let Some(percent) = stored.filled_percent.filter(|percent| *percent >= WARN_AT) {
            li {
                (mark(if percent >= 100 { "bad" } else { "warn" }, "full")) " The spool of route " strong { (stored.route) } " is at "
                (percent) " % of its bounds. At 100 % its senders get 503."
            }
        }
    }
}

/// A certificate that hookgate asks for, as far as it needs an operator.
fn certificate_for_attention(certificate: &AcmeFacts, now: u64) -> Markup {
    let is_bad = certificate.until.is_none_or(|until| until.saturating_sub(now) < ENDS_SOON);
    html! {
        @if !certificate.awaited.is_empty() {
            li {
                (mark("bad", "awaited")) " There is no certificate: handshakes for " strong { (certificate.awaited.join(", ")) }
                " are refused until it is issued; " (attempts(certificate, now)) "."
            }
        } @else if certificate.failures > 0 {
            li {
                (mark(if is_bad { "bad" } else { "warn" }, "renewal")) " The certificate of " strong { (certificate.names.join(", ")) }
                " cannot be renewed or stored"
                @if let Some(until) = certificate.until { ", and the one in use ends on " (day(until)) }
                "; " (attempts(certificate, now)) "."
            }
        }
    }
}

/// What became of the last attempt, and when the next one is.
fn attempts(certificate: &AcmeFacts, now: u64) -> Markup {
    html! {
        @match (certificate.result, &certificate.error) {
            (Some(step), Some(error)) => {
                "the last attempt failed at " code { (step) }
                @if certificate.failures > 1 { " (" (certificate.failures) " in a row)" } ": " (error)
            },
            (Some(_), None) => "the last attempt succeeded",
            (None, _) if certificate.failures > 0 => { (counted(certificate.failures as usize, "attempt")) " failed before this start" },
            (None, _) => "no attempt has ended yet",
        }
        "; the next is " (next_attempt(certificate, now))
    }
}

fn next_attempt(certificate: &AcmeFacts, now: u64) -> Markup {
    html! {
        @match certificate.next_attempt {
            _ if certificate.is_running => "under way",
            Some(next) => { "in " (age(next.saturating_sub(now))) },
            None => "not planned yet",
        }
    }
}

fn spool(spool: &[SpoolFacts]) -> Markup {
    let rows = html! {
        @for stored in spool {
            tr {
                th scope="row" { (stored.route) }
                td { (if stored.stored_at == StoredAt::Fleet { "fleet" } else { "disk" }) }
                td class="number" { (stored.waiting) }
                td { @if stored.waiting > 0 { (age(stored.oldest_age)) } }
                td class="number" { (stored.dead) }
                td class="number" { @if let Some(percent) = stored.filled_percent { (percent) " %" } }
                td { (if stored.is_paused { mark("warn", "paused") } else { mark("good", "no") }) }
            }
        }
    };
    let columns = ["route", "stored at", "#waiting", "oldest", "#dead", "#filled", "paused"];
    html! {
        @if spool.is_empty() { p { "No route is durable." } }
        @else { (table("Stored deliveries, by route", &columns, &rows)) }
    }
}

fn suspect(chain: &SuspectFacts, now: u64) -> Markup {
    html! {
        li {
            (mark("warn", "rotation")) " A refused chain claims " strong { (chain.provider) } " (profile " (chain.profile) ", "
            code { (chain.reason) } "), and there is evidence that it is genuine (" (chain.evidence) "). Last seen "
            (ago(now, chain.last_seen)) ", SHA-256 " code { (chain.fingerprint) } ". See " code { "hookgate trust pending" } "."
        }
    }
}

fn traffic(minutes: &[Minute]) -> Markup {
    let values = |which: fn(&Minute) -> f64| minutes.iter().map(which).collect::<Vec<_>>();
    html! {
        div class="plots" {
            (plot("Requests", "requests", &values(|minute| minute.requests)))
            (plot("Refusals", "refused", &values(|minute| minute.refusals)))
        }
    }
}

fn refusals(refusals: &[RefusalFacts], now: u64) -> Markup {
    let rows = html! {
        @for refusal in refusals {
            tr {
                td class="whole" { (moment(refusal.at)) br; small { (ago(now, refusal.at)) } }
                td class="short" {
                    code { (refusal.reason) } br;
                    small {
                        (refusal.what)
                        @if let Some(status) = refusal.status { ", " (status) }
                        ", to act: " (refusal.blame)
                    }
                }
                td class="longest" {
                    (refusal.explanation)
                    br; small { "certificate: " (certificate(refusal)) }
                    br; small { code { "hookgate explain " (what_to_explain(refusal)) } }
                }
                td class="short" {
                    @if refusal.providers.is_empty() { "unknown" } @else { (refusal.providers.join(", ")) }
                    br;
                    small { (refusal.route.as_deref().unwrap_or("no route")) }
                    @if let Some(path) = &refusal.path {
                        br; small { (refusal.method.as_deref().unwrap_or_default()) " " code { (path) } }
                    }
                    br; code { (refusal.peer) }
                    @if let Some(name) = &refusal.server_name { br; small { "for " (name) } }
                }
            }
        }
    };
    let columns = ["time", "reason", "explanation, certificate", "provider, route, peer"];
    html! {
        @if refusals.is_empty() { p { "No refusal since the start." } }
        @else {
            div class="stacked" {
                (table(&format!("{}, the newest first", counted(refusals.len(), "refusal")), &columns, &rows))
            }
        }
    }
}

/// What `hookgate explain` knows the refusal by: of a handshake without a certificate, its reason.
fn what_to_explain(refusal: &RefusalFacts) -> &str {
    refusal.request_id.as_deref().or(refusal.fingerprint.as_deref()).unwrap_or(&refusal.reason)
}

fn certificate(refusal: &RefusalFacts) -> Markup {
    html! {
        @match (&refusal.subject, &refusal.issuer, &refusal.fingerprint) {
            (None, None, None) => "none",
            (subject, issuer, fingerprint) => {
                @if let Some(subject) = subject { code { (subject) } }
                @if let Some(issuer) = issuer { ", issued by " code { (issuer) } }
                @if let Some(fingerprint) = fingerprint { ", SHA-256 " (fingerprint) }
            }
        }
    }
}

fn handlers(handlers: &[HandlerFacts], now: u64) -> Markup {
    let state = |handler: &HandlerFacts| match handler.health {
        HandlerHealth::Up => mark("good", "up"),
        HandlerHealth::Down => mark("bad", "down"),
        HandlerHealth::Unused => mark("idle", "unused"),
        HandlerHealth::Ejected => mark("bad", "ejected"),
    };
    let rows = html! {
        @for handler in handlers {
            tr {
                th scope="row" { code { (handler.socket) } }
                td { (state(handler)) }
                td class="long" {
                    (handler.reason.as_deref().unwrap_or_default())
                    @if let Some(seconds) = handler.next_try { "; a request tries it in " (seconds) " s" }
                }
                td { @if let Some(then) = handler.answered { (ago(now, then)) } @else { "never" } }
                td class="number" { (handler.in_flight) }
                td class="number" { (handler.waiting) }
            }
        }
    };
    let columns = ["handler", "state", "why", "last answer", "#in flight", "#waiting"];
    html! { (table("Handlers, by the outcome of their last request", &columns, &rows)) }
}

fn providers(facts: &Facts) -> Markup {
    let suspected = |name: &str| facts.suspects.iter().filter(|chain| chain.provider == name).count();
    let rows = html! {
        @for provider in &facts.providers {
            tr {
                th scope="row" { (provider.name) }
                td { (if provider.client_certificate { "required" } else { "none" }) }
                td { (provider.profiles.join(", ")) }
                td { (provider.routes.join(", ")) }
                td {
                    @match suspected(&provider.name) {
                        0 => "no",
                        count => (mark("warn", &counted(count, "chain"))),
                    }
                }
            }
        }
    };
    let columns = ["provider", "client certificate", "profiles", "routes", "rotation suspected"];
    html! { (table("Providers of the configuration in use", &columns, &rows)) }
}

fn routes(facts: &Facts) -> Markup {
    let rows = html! {
        @for route in &facts.routes {
            tr {
                th scope="row" { (route.name) }
                td { (route.host.as_deref().unwrap_or("every host")) }
                td { code { (route.path) } }
                td { (route.methods.join(", ")) }
                td { (route.providers.join(", ")) }
                td { code { (route.handler) } }
            }
        }
    };
    let columns = ["route", "host", "path", "methods", "providers", "handler"];
    html! { (table("Routes of the configuration in use", &columns, &rows)) }
}

fn issued(certificates: &[AcmeFacts], now: u64) -> Markup {
    let state = |certificate: &AcmeFacts| match certificate {
        AcmeFacts { awaited, .. } if !awaited.is_empty() => mark("bad", "awaited"),
        AcmeFacts { failures: 0, .. } => mark("good", "good"),
        _ => mark("warn", "fails"),
    };
    let rows = html! {
        @for certificate in certificates {
            tr {
                th scope="row" { (certificate.names.join(", ")) }
                td { (state(certificate)) }
                td { @if let Some(until) = certificate.until { (day(until)) } @else { "none in use" } }
                td class="long" {
                    @if let Some(then) = certificate.last { (certificate.result.unwrap_or_default()) ", " (ago(now, then)) }
                    @else { "none" }
                }
                td class="number" { (certificate.failures) }
                td { (next_attempt(certificate, now)) }
            }
        }
    };
    let columns = ["names", "state", "ends on", "last attempt", "#failures in a row", "next attempt"];
    html! {
        @if !certificates.is_empty() { (table("Certificates that hookgate asks an authority for", &columns, &rows)) }
    }
}

fn dates(dates: &[DateFacts]) -> Markup {
    let state = |date: &DateFacts| match (date.is_over, &date.warning) {
        (true, _) => mark("bad", "over"),
        (false, Some(_)) => mark("warn", "soon"),
        (false, None) => mark("good", "good"),
    };
    let rows = html! {
        @for date in dates {
            tr {
                th scope="row" { (date.name) }
                td { (date.kind) }
                td { (date.provider.as_deref().unwrap_or("hookgate")) }
                td { (day(date.until)) }
                td class="number" { (date.days_left) }
                td { (state(date)) }
            }
        }
    };
    let columns = ["name", "kind", "of", "ends on", "#days left", "state"];
    html! {
        @if dates.is_empty() { p { "Nothing ends." } }
        @else { (table("What ends, the first to end first", &columns, &rows)) }
    }
}

fn filter(filter: &FilterFacts) -> Markup {
    let packets = html! {
        @for count in &filter.packets {
            tr {
                th scope="row" { (count.verdict) }
                td { (count.reason) }
                td { (count.family) }
                td class="number" { (count.packets) }
            }
        }
    };
    let sets = html! {
        @for set in &filter.sets {
            tr {
                th scope="row" { (set.name) }
                td class="number" { (set.ranges_ipv4) }
                td class="number" { (set.ranges_ipv6) }
                td class="number" { (set.packets) }
            }
        }
    };
    html! {
        p {
            "Mode: " (mark(match filter.mode { "enforce" => "good", "unavailable" => "bad", _ => "idle" }, filter.mode))
            @for interface in &filter.interfaces { ", " code { (interface.name) } " (" (interface.attached) ")" }
        }
        @if !filter.packets.is_empty() {
            (table("Packets since the filter was loaded", &["verdict", "reason", "family", "#packets"], &packets))
        }
        @if !filter.sets.is_empty() {
            (table("Ranges in force", &["set", "#IPv4 ranges", "#IPv6 ranges", "#packets"], &sets))
        }
    }
}
