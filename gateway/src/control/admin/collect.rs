//! Fills the facts from what the control loop has.
//!
//! Owns where each fact comes from. Must not wait: it runs in the control loop, for each status that is asked for, at most four times a
//! second.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::facts::{
    AcmeFacts, ConfigurationFacts, DateFacts, FilterFacts, FleetFacts, HandlerFacts, HandlerHealth, InterfaceFacts,
    PacketFacts, ProviderFacts, RefusalFacts, RouteFacts, SetFacts, SpoolFacts, StoredAt, SuspectFacts,
};
use crate::config::Durable;
use crate::control::acme;
use crate::control::pending::advice;
use crate::control::rotation::overview::Ending;
use crate::deliveries::{Level, Levels, Usage};
use crate::fleet::Overview;
use crate::metrics::{self, Load};
use crate::recent::{Refused, fingerprint_text};
use crate::snapshot::Snapshot;
use crate::suspects::Pending;
use crate::worker::Places;
use hookgate_core::identity::{ClientCertificate, Provider};
use hookgate_core::route::{AnsweredBy, Handler, HandlerEntry, Handlers, PathPattern, Route, handlers_of};
use hookgate_filter::Status;

/// Most reasons that are kept of a load that is not in use. The log has all.
const MAXIMUM_REASONS: usize = 8;

/// Most refusals that the status has. More are kept, so that a flood of one reason hides no other: `hookgate explain` finds them.
const MAXIMUM_REFUSALS: usize = 200;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// What became of the last load of the configuration.
#[derive(Clone, Debug)]
pub(in crate::control) struct LastLoad {
    at: u64,
    result: Load,
    reasons: Vec<String>,
}

impl Default for LastLoad {
    /// Before the first load.
    fn default() -> Self {
        Self { at: 0, result: Load::Ok, reasons: Vec::new() }
    }
}

impl LastLoad {
    /// A load ended at `now`, for these reasons if it is not in use.
    pub(in crate::control) fn new(result: Load, reasons: &[String], now: UnixTime) -> Self {
        Self { at: now.as_secs(), result, reasons: reasons.iter().take(MAXIMUM_REASONS).cloned().collect() }
    }

    /// As facts about the configuration in `file`.
    pub(in crate::control) fn facts(&self, file: &Path, generation: u64) -> ConfigurationFacts {
        let (loaded, result, reasons) = (self.at, self.result.label(), self.reasons.clone());
        ConfigurationFacts { file: file.display().to_string(), generation, loaded, result, reasons }
    }
}

/// The providers of the configuration in use.
pub(super) fn providers(snapshot: &Snapshot) -> Vec<ProviderFacts> {
    let routes = snapshot.routes.routes();
    let facts = |(index, provider): (usize, &Provider)| {
        let admits = |route: &&Route| route.providers.iter().any(|id| usize::from(id.0) == index);
        ProviderFacts {
            name: provider.name.to_string(),
            client_certificate: provider.client_certificate == ClientCertificate::Required,
            profiles: provider.profiles.iter().map(|profile| profile.name.to_string()).collect(),
            routes: routes.iter().filter(admits).map(|route| route.name.to_string()).collect(),
        }
    };
    snapshot.identity.providers().iter().enumerate().map(facts).collect()
}

/// The routes of the configuration in use.
pub(super) fn routes(snapshot: &Snapshot) -> Vec<RouteFacts> {
    let facts = |route: &Route| RouteFacts {
        name: route.name.to_string(),
        host: route.host.as_str().map(str::to_owned),
        path: match &route.path {
            PathPattern::Exact(path) => path.to_string(),
            PathPattern::Prefix(prefix) => format!("{prefix}*"),
        },
        methods: route.methods.iter().map(ToString::to_string).collect(),
        providers: route.providers.iter().map(|id| snapshot.identity.provider(*id).name.to_string()).collect(),
        handler: match &route.answered_by {
            AnsweredBy::Handlers(handlers) => handlers_text(handlers),
            AnsweredBy::Gateway(status) => format!("respond {}", status.as_u16()),
        },
    };
    snapshot.routes.routes().iter().map(facts).collect()
}

/// The handlers of a route, in the order of the file.
fn handlers_text(handlers: &Handlers) -> String {
    let text = |entry: &HandlerEntry| format!("{}{}", entry.handler, if entry.backup { " (backup)" } else { "" });
    handlers.entries().iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The handlers of the configuration in use.
pub(super) fn handlers(snapshot: &Snapshot, places: &Places) -> Vec<HandlerFacts> {
    let facts = |handler: &Handler| {
        let state = places.state(handler);
        let last = state.and_then(|state| state.last);
        let absent = handler.socket().and_then(absence);
        let failure = last.and_then(|last| last.failure);
        let ejected = state.and_then(|state| state.ejected);
        let health = match (&absent, last) {
            _ if ejected.is_some() => HandlerHealth::Ejected,
            (Some(_), _) => HandlerHealth::Down,
            (None, Some(_)) if failure.is_some() => HandlerHealth::Down,
            (None, Some(_)) => HandlerHealth::Up,
            (None, None) => HandlerHealth::Unused,
        };
        HandlerFacts {
            socket: handler.to_string(),
            health,
            reason: absent.or_else(|| failure.map(|reject| reject.row().title.to_owned())),
            next_try: ejected.map(|ejected| ejected.next_try.as_secs()),
            last: last.map(|last| last.at),
            answered: last.and_then(|last| last.answered),
            in_flight: state.map_or(0, |state| state.in_flight),
            waiting: state.map_or(0, |state| state.waiting),
        }
    };
    handlers_of(snapshot.routes.routes()).map(facts).collect()
}

/// Why there is no socket at `path`, as far as a look tells; `None` if there is one. A socket may still have no process behind it.
fn absence(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => None,
        Ok(_) => Some("the file is no socket".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("the socket does not exist; start the handler".to_owned())
        }
        Err(error) => Some(format!("the socket cannot be reached: {error}")),
    }
}

/// The metric of the handlers that have ended a request, of which it publishes the changes.
#[derive(Debug, Default)]
pub(in crate::control) struct HandlerGauges(HashMap<Handler, bool>);

impl HandlerGauges {
    /// Publishes which handlers answer.
    pub(in crate::control) fn publish(&mut self, snapshot: &Snapshot, places: &Places) {
        // Those that a reload has removed are forgotten.
        let mut before = std::mem::take(&mut self.0);
        for handler in handlers_of(snapshot.routes.routes()) {
            let Some(last) = places.state(handler).and_then(|state| state.last) else { continue };
            let up = last.failure.is_none();
            let known = before.remove_entry(handler);
            if known.as_ref().is_none_or(|(_, known)| *known != up) {
                metrics::handler_up(handler.label(), up);
            }
            self.0.insert(known.map_or_else(|| handler.clone(), |(handler, _)| handler), up);
        }
    }
}

/// What is stored of each route, on the disk and at the fleet.
pub(super) fn spool(snapshot: &Snapshot, disk: Option<&Levels>, fleet: Option<&Overview>) -> Vec<SpoolFacts> {
    let durable = snapshot.routes.routes().iter().zip(snapshot.durable.iter());
    let rules: BTreeMap<Arc<str>, &Durable> =
        durable.filter_map(|(route, rule)| Some((Arc::clone(&route.name), &**rule.as_ref()?))).collect();
    let stored = |levels: Option<&Levels>, with_every_route: bool| {
        let mut all = levels.map(Levels::all).unwrap_or_default();
        for route in rules.keys().filter(|_| with_every_route) {
            all.entry(Arc::clone(route)).or_default();
        }
        let is_paused = |route: &str| levels.is_some_and(|levels| levels.is_paused(route));
        let facts =
            |(route, level): (Arc<str>, Level)| spool_of(&route, level, is_paused(&route), rules.get(&route).copied());
        all.into_iter().map(facts).collect::<Vec<_>>()
    };
    let Some((levels, of_stream)) = fleet.and_then(|fleet| fleet.spool.as_ref()) else { return stored(disk, true) };
    let at_fleet = |facts: SpoolFacts| {
        let filled_percent = facts.filled_percent.map(|percent| percent.max(*of_stream));
        SpoolFacts { stored_at: StoredAt::Fleet, bytes: None, filled_percent, ..facts }
    };
    // What waits on the disk of a host in a fleet is an exception.
    stored(disk, false).into_iter().chain(stored(Some(levels), true).into_iter().map(at_fleet)).collect()
}

fn spool_of(route: &str, level: Level, is_paused: bool, rule: Option<&Durable>) -> SpoolFacts {
    let Level { usage: Usage { waiting, dead, bytes }, oldest } = level;
    SpoolFacts {
        route: route.to_owned(),
        stored_at: StoredAt::Disk,
        waiting,
        dead,
        bytes: Some(bytes),
        oldest_age: if waiting == 0 { 0 } else { oldest.as_secs() },
        is_paused,
        filled_percent: rule.map(|rule| rule.filled_percent(waiting + dead, bytes)),
    }
}

/// The servers of the fleet.
pub(super) fn fleet(overview: Overview) -> FleetFacts {
    let Overview { is_connected, problem, .. } = overview;
    FleetFacts { is_connected, problem }
}

/// The certificates that hookgate asks for.
pub(super) fn acme(certificates: Vec<acme::Overview>, snapshot: &Snapshot) -> Vec<AcmeFacts> {
    let facts = |certificate: acme::Overview| {
        let acme::Overview { names, directory, is_in_use, until, is_running, last, failures, next } = certificate;
        // Another certificate may have a name by a wildcard, so the handshake decides.
        let is_awaited = |name: &&String| snapshot.lacks_certificate(Some(name.as_str()));
        let awaited = names.iter().filter(is_awaited).cloned().collect();
        let (last, result, error) = match last {
            Some(acme::Ended { at, result, error }) => (Some(at), Some(result), error),
            None => (None, None, None),
        };
        let next_attempt = next;
        AcmeFacts {
            names,
            directory,
            is_in_use,
            awaited,
            until,
            is_running,
            last,
            result,
            error,
            failures,
            next_attempt,
        }
    };
    certificates.into_iter().map(facts).collect()
}

/// What ends, as of `now`.
pub(super) fn dates(endings: Vec<Ending>, now: u64) -> Vec<DateFacts> {
    let facts = |ending: Ending| DateFacts {
        kind: ending.kind,
        name: ending.name,
        provider: ending.provider,
        until: ending.until,
        days_left: ending.until.saturating_sub(now) / DAY,
        is_over: ending.is_over,
        warning: ending.warning,
    };
    endings.into_iter().map(facts).collect()
}

/// The refused chains that may be genuine.
pub(super) fn suspects(chains: Vec<Pending>) -> Vec<SuspectFacts> {
    let facts = |chain: Pending| SuspectFacts {
        provider: chain.provider.to_string(),
        profile: chain.profile.to_string(),
        reason: chain.reason.to_string(),
        evidence: chain.evidence.to_string(),
        first_seen: chain.first_seen,
        last_seen: chain.last_seen,
        fingerprint: advice::fingerprint(&chain.fingerprint),
    };
    chains.into_iter().map(facts).collect()
}

/// The newest refusals, the newest first.
pub(super) fn refusals(refused: &[Arc<Refused>]) -> Vec<RefusalFacts> {
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    let facts = |refused: &Arc<Refused>| {
        let Refused { note, end_entity, .. } = &**refused;
        let row = note.reject.row();
        let certificate = end_entity.as_ref();
        RefusalFacts {
            at: note.at,
            what: note.what.label().to_owned(),
            reason: row.reason.to_owned(),
            blame: row.blame.label().to_owned(),
            status: note.status,
            explanation: note.explanation.to_string(),
            providers: note.providers.iter().map(ToString::to_string).collect(),
            route: note.route.as_deref().map(str::to_owned),
            method: text(&note.method),
            path: text(&note.path),
            peer: note.peer.to_string(),
            server_name: text(&note.server_name),
            request_id: text(&note.request_id),
            subject: certificate.map(|certificate| certificate.subject.to_string()),
            issuer: certificate.map(|certificate| certificate.issuer.to_string()),
            fingerprint: certificate.map(|certificate| fingerprint_text(&certificate.fingerprint)),
        }
    };
    refused.iter().take(MAXIMUM_REFUSALS).map(facts).collect()
}

/// The filter, of which `status` is known if it runs.
pub(in crate::control) fn filter(mode: &'static str, status: Option<Status>) -> FilterFacts {
    let Some(status) = status else { return FilterFacts { mode, ..FilterFacts::default() } };
    let interface = |attached: hookgate_filter::Attached| {
        let attached_as = attached.mode.label();
        InterfaceFacts { name: attached.interface, attached: attached_as }
    };
    let packets = status.packets.iter().map(|count| PacketFacts {
        family: count.family.label(),
        verdict: count.verdict.label(),
        reason: count.reason.label(),
        packets: count.packets,
    });
    let sets = status.sets.iter().map(|set| SetFacts {
        name: set.name.clone(),
        ranges_ipv4: set.ranges_ipv4,
        ranges_ipv6: set.ranges_ipv6,
        packets: set.packets,
    });
    let (packets, sets) = (packets.collect(), sets.collect());
    FilterFacts { mode, interfaces: status.attached.into_iter().map(interface).collect(), packets, sets }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_look_tells_why_there_is_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        let (absent, file, socket) = ("absent", "file", "socket");
        let path = |name: &str| directory.path().join(name);
        fs::write(path(file), "").unwrap();
        let _listener = UnixListener::bind(path(socket)).unwrap();
        assert_eq!(absence(&path(socket)), None);
        assert_eq!(absence(&path(file)).unwrap(), "the file is no socket");
        assert!(absence(&path(absent)).unwrap().contains("start the handler"));
        let below = absence(&path(file).join("below")).unwrap();
        assert!(below.contains("cannot be reached"), "{below}");
    }

    #[test]
    fn the_larger_bound_tells_how_full_a_spool_is() {
        let rule = Durable { max_entries: 10, max_bytes: 1000, ..Durable::default() };
        let usage = Usage { waiting: 6, dead: 2, bytes: 100 };
        let level = Level { usage, oldest: std::time::Duration::from_secs(7) };
        let facts = spool_of("a", level, true, Some(&rule));
        assert_eq!((facts.filled_percent, facts.oldest_age, facts.is_paused), (Some(80), 7, true));
        assert_eq!(
            spool_of("a", Level { usage: Usage { bytes: 990, ..usage }, ..level }, false, Some(&rule)).filled_percent,
            Some(99)
        );
        assert_eq!(spool_of("a", level, false, None).filled_percent, None);
        // The age is of the last look, before the handler took the last one.
        assert_eq!(
            spool_of("a", Level { usage: Usage { waiting: 0, ..usage }, ..level }, false, Some(&rule)).oldest_age,
            0
        );
    }

    #[test]
    fn a_load_that_failed_keeps_its_first_reasons() {
        let reasons: Vec<String> = (0..100).map(|number| format!("reason {number}")).collect();
        let facts =
            LastLoad::new(Load::Weaker, &reasons, UnixTime::since_unix_epoch(std::time::Duration::from_secs(7)))
                .facts(Path::new("/etc/hookgate/hookgate.toml"), 3);
        assert_eq!((facts.loaded, facts.result, facts.generation), (7, "weaker", 3));
        assert_eq!(facts.reasons, reasons[..MAXIMUM_REASONS]);
    }
}
