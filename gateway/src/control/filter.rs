//! The pre-filter of the running process: started before anybody listens, reloaded with the rest, and watched.
//!
//! Owns what a failure means (`required`), which changes take a restart, and what the log says about drops. Must not judge packets,
//! nor keep the process from ending.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

use crate::config::{FilterSection, PIN_DIRECTORY};
use crate::metrics;
use hookgate_filter::numbers::SetNumbers;
use hookgate_filter::tables::Tables;
use hookgate_filter::{Address, Filter, Mode, Policy, PolicyError, Reason, Sample, Status, Verdict, pinned, unpin};

/// Most samples that are logged at once; the kernel lets no more than a few a second through on each CPU.
const SAMPLES_LOGGED: usize = 8;

/// The filter, where there is one.
#[derive(Default)]
pub(super) struct FilterKeeper {
    running: Option<Running>,
    /// It was asked for, is not there, and need not be.
    unavailable: bool,
}

struct Running {
    filter: Filter,
    policy: Policy,
    /// Packets of each set that the metrics have, of those that are in the policy.
    published: BTreeMap<String, u64>,
}

/// Tries what can be tried of the section without the kernel.
///
/// # Errors
///
/// Where the policy is beyond its limits.
pub(super) fn check(section: &FilterSection) -> anyhow::Result<()> {
    if section.policy.mode != Mode::Off {
        tables(&section.policy).context("[filter]")?;
    }
    Ok(())
}

/// What the policy says, to be asked without the kernel.
///
/// # Errors
///
/// Where it is beyond its limits.
pub(super) fn tables(policy: &Policy) -> Result<(Tables, SetNumbers), PolicyError> {
    let numbers = SetNumbers::default().after(&policy.sets)?;
    Ok((Tables::new(policy, &numbers)?, numbers))
}

impl FilterKeeper {
    /// Starts the filter that the section asks for; where it is off and `pin` is set, removes the one that is pinned.
    ///
    /// # Errors
    ///
    /// Where it cannot be started and is required, or cannot be removed.
    pub(super) fn start(&mut self, section: &FilterSection) -> anyhow::Result<()> {
        match (section.policy.mode, &section.policy.pin) {
            (Mode::Off, Some(directory)) => {
                for path in unpin(directory)? {
                    tracing::info!(path = %path.display(), "removed a pinned filter, since filter.mode is \"off\"");
                }
                return Ok(());
            }
            (_, None) => warn_of_pinned(&[]),
            (_, Some(_)) => warn_of_pinned(&section.policy.interfaces),
        }
        if section.policy.mode == Mode::Off {
            return Ok(());
        }
        match start(section.policy.clone()) {
            Ok(filter) => {
                let policy = section.policy.clone();
                self.running = Some(Running { filter, policy, published: BTreeMap::new() });
            }
            Err(error) if section.required => {
                return Err(error.context(
                    "the filter cannot be started (filter.required = false starts without it, and lets every packet in)",
                ));
            }
            Err(error) => {
                tracing::warn!(reason = format!("{error:#}"), "serving without the filter: every packet gets in");
                self.unavailable = true;
            }
        }
        self.publish();
        Ok(())
    }

    /// Puts what the section asks for into force.
    ///
    /// # Errors
    ///
    /// Where it cannot be, or would shrink a set too far; then the filter is as it was.
    pub(super) fn reload(&mut self, section: &FilterSection) -> anyhow::Result<()> {
        self.publish(); // what a set that leaves now has counted
        let Some(running) = &mut self.running else {
            if section.policy.mode != Mode::Off {
                tracing::warn!("[filter] is on and the filter does not run; that takes a restart");
            }
            return Ok(());
        };
        // Whatever else has changed: switching it off must always be possible.
        let next = match section.policy.mode {
            Mode::Off => Policy { mode: Mode::Off, ..running.policy.clone() },
            // The listeners stay where they are until a restart, and so does what guards them.
            Mode::Monitor | Mode::Enforce => {
                Policy { destinations: running.policy.destinations.clone(), ..section.policy.clone() }
            }
        };
        let changes = running.filter.reload(next.clone(), section.force_shrink).context("[filter]")?;
        if changes.writes > 0 || running.policy.mode != next.mode {
            tracing::info!(writes = changes.writes, mode = mode_label(next.mode), "filter reloaded");
        }
        let names = |policy: &Policy| policy.sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>();
        let kept = names(&next);
        names(&running.policy)
            .iter()
            .filter(|name| !kept.contains(name))
            .for_each(|name| metrics::filter_set_gone(name));
        running.published.retain(|name, _| kept.contains(name));
        running.policy = next;
        Ok(())
    }

    /// Whether the filter's maps, where there are any, can be read with the privileges that are left.
    pub(super) fn is_usable(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.filter.status().is_ok())
    }

    /// Publishes what the filter counts, and logs samples of what it dropped.
    pub(super) fn attend(&mut self) {
        self.publish();
        let Some(running) = &mut self.running else { return };
        let samples = running.filter.samples();
        for sample in samples.iter().take(SAMPLES_LOGGED) {
            log(sample, running.filter.set_name(sample));
        }
    }

    fn publish(&mut self) {
        metrics::filter_unavailable(self.unavailable);
        let Some(running) = &mut self.running else { return };
        match running.filter.status() {
            Ok(status) => running.publish(&status),
            Err(error) => tracing::debug!(%error, "the filter's counters cannot be read"),
        }
    }

    /// Detaches the filter, unless it is pinned: what is pinned takes rights to remove that were given up at the start.
    pub(super) fn stop(self) {
        let Some(Running { filter, policy, .. }) = self.running else { return };
        if let Some(directory) = &policy.pin {
            let how = if policy.mode == Mode::Off { "lets everything pass" } else { "drops by its last ranges" };
            tracing::info!(directory = %directory.display(), how, "the filter stays");
            return;
        }
        if let Err(error) = filter.stop() {
            tracing::warn!(
                reason = format!("{:#}", anyhow::Error::from(error)),
                "the filter was not detached in order"
            );
        }
    }
}

impl Running {
    /// The kernel counts from when a set joined, a metric from when the process started: so it is given what is new.
    fn publish(&mut self, status: &Status) {
        metrics::filter(status);
        for set in &status.sets {
            let published = self.published.insert(set.name.clone(), set.packets).unwrap_or(0);
            metrics::filter_set_packets(&set.name, set.packets.saturating_sub(published));
        }
    }
}

/// Says what an earlier process left behind and this one does not take over. It is not removed: it may be another gateway's.
fn warn_of_pinned(taken_over: &[String]) {
    for path in pinned(Path::new(PIN_DIRECTORY), taken_over) {
        tracing::warn!(
            path = %path.display(),
            "a pinned filter goes on dropping by its last ranges; remove the file, or let filter.pin take it over"
        );
    }
}

fn start(policy: Policy) -> anyhow::Result<Filter> {
    if let Some(directory) = &policy.pin {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be made (filter.pin needs a bpffs there)", directory.display()))?;
    }
    let mode = policy.mode;
    let filter = Filter::start(policy)?;
    for attached in filter.status()?.attached {
        let note = attached.note.unwrap_or_default();
        let (interface, attach) = (attached.interface, attached.mode.label());
        tracing::info!(interface, attach, mode = mode_label(mode), note, "filter attached");
    }
    Ok(filter)
}

/// `filter.mode`, as it is written.
fn mode_label(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    }
}

fn log(sample: &Sample, set: Option<&str>) {
    let verdict = Verdict::ALL.into_iter().find(|verdict| *verdict as u8 == sample.verdict).map_or("", Verdict::label);
    let reason = Reason::ALL.into_iter().find(|reason| *reason as u8 == sample.reason).map_or("", Reason::label);
    let set = set.unwrap_or_default();
    let (source, port) = (address(sample.source), sample.destination_port);
    tracing::info!(%source, port, verdict, reason, set, "filter sample");
}

fn address(address: Address) -> IpAddr {
    IpAddr::from(address.to_bytes()).to_canonical()
}
